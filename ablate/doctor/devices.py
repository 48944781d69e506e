"""PyTorch as it is installed here, the GPUs that it sees, and those that the driver has and it does not see."""

import importlib
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING

import msgspec

from ablate.doctor.check import Check

if TYPE_CHECKING:
    from types import ModuleType

GIB = 2**30
AREA = "engine vision"
DRIVER_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
DRIVER_SECONDS = 20  # a driver that hangs must not hang the doctor


class Driver(msgspec.Struct, frozen=True):
    """What the NVIDIA driver says without PyTorch."""

    version: str
    gpus: tuple[str, ...]
    fault: str = ""


def ask_driver() -> Driver | None:
    """The driver's version and GPUs; None where the machine has none, or only none of NVIDIA's."""
    if shutil.which(DRIVER_QUERY[0]) is None:
        return None
    try:
        done = subprocess.run(DRIVER_QUERY, capture_output=True, text=True, timeout=DRIVER_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return Driver("", (), str(error))
    rows = [line.split(", ") for line in done.stdout.splitlines() if ", " in line]
    if done.returncode or not rows:
        return Driver("", (), " ".join((done.stdout + done.stderr).split()) or f"exit code {done.returncode}")
    return Driver(rows[0][-1], tuple(row[0] for row in rows))


def check_torch() -> tuple[list[Check], str]:
    """PyTorch and torchvision imported, and the devices; with the default device in words, empty where it is broken."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import torch

            importlib.import_module("torchvision.ops")  # fails where it was built for another torch

            there = torch.cuda.is_available()
    except Exception as error:  # whatever a broken library raises
        remedy = "install torch and torchvision of one release, as pytorch.org pairs them"
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return [Check(area=AREA, name="import torch", state="broken", found=fault, remedy=remedy)], ""
    if there:
        return _gpus(torch)
    complaint = next((str(warning.message) for warning in caught if "driver" in str(warning.message)), "")
    return [_no_gpu(torch.version.cuda, ask_driver(), complaint)], "CPU, fp32"


def _gpus(torch: "ModuleType") -> tuple[list[Check], str]:
    driver = ask_driver()
    checks = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        total = properties.total_memory / GIB
        try:
            free = torch.cuda.mem_get_info(index)[0] / GIB
        except RuntimeError as error:  # in exclusive use by another, or faulty
            found = f"{properties.name}, {total:.0f} GiB: {str(error).splitlines()[0]}"
            remedy = f"free it, or hide it by CUDA_VISIBLE_DEVICES; nvidia-smi -i {index} says who is on it"
            checks.append(Check(area=AREA, name=f"GPU {index}", state="warning", found=found, remedy=remedy))
            continue
        busy = free < 0.5 * total
        checks.append(
            Check(
                area=AREA,
                name=f"GPU {index}",
                state="warning" if busy else "ok",
                found=f"{properties.name}, {total:.0f} GiB, {free:.0f} GiB free",
                remedy=f"more than half of its memory is taken: nvidia-smi -i {index} says by whom" if busy else "",
            )
        )
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    version = driver.version if driver is not None and driver.version else "unknown"
    checks += [
        Check(
            area=AREA,
            name="driver",
            state="ok",
            found=f"{version}; torch {torch.__version__} is built for CUDA {torch.version.cuda}",
        ),
        Check(
            area=AREA,
            name="bf16",
            state="ok" if bf16 else "absent",
            found="yes; train.precision=auto takes it" if bf16 else "not on this GPU; train.precision=auto takes fp16",
        ),
    ]
    count = torch.cuda.device_count()
    return checks, f"{count} GPU{'s' if count > 1 else ''}, {'bf16' if bf16 else 'fp16'}"


def _no_gpu(built_for: str | None, driver: Driver | None, complaint: str) -> Check:
    """Why PyTorch sees no GPU, as far as can be told."""
    if driver is None:
        return Check(area=AREA, name="GPU", state="absent", found="none: training runs on the CPU, in fp32")
    if driver.fault:
        found, remedy = (
            f"the driver does not answer ({driver.fault[:120]})",
            "reload the driver, or restart the machine",
        )
    elif built_for is None:
        found = f"{len(driver.gpus)} x {driver.gpus[0]}, but this torch is built for the CPU alone"
        remedy = "install a build of torch for CUDA, as pytorch.org offers it"
    else:
        found = f"{len(driver.gpus)} x {driver.gpus[0]}, which torch (CUDA {built_for}) cannot use with driver "
        found += driver.version + (f": {' '.join(complaint.split())[:160]}" if complaint else "")
        remedy = (
            "update the driver, or install a torch for an older CUDA"
            if complaint
            else "see whether CUDA_VISIBLE_DEVICES hides the GPUs, and whether the container was started with them"
        )
    return Check(area=AREA, name="GPU", state="warning", found=found, remedy=remedy)
