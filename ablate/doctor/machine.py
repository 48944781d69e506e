"""Checks of the resources for a run: cores, memory, shared memory, disk, PyTorch and GPUs.

GPUs are those that PyTorch sees, and where it sees none, those that the driver has, with the reason.
"""

import importlib
import os
import shutil
import subprocess
import warnings
from pathlib import Path
from types import ModuleType

import msgspec

from ablate.doctor.check import Check

GIB = 2**30
AREA = "machine"
ENGINE_AREA = "engine vision"
LITTLE_SHARED = 1 * GIB  # Docker gives 64 MiB; eight loaders of 1024 x 1024 px images hold some hundreds of MB
LITTLE_DISK = 10 * GIB  # two checkpoints of a ViT-L Mask R-CNN with AdamW's moments take 8 GB


def check_cores() -> Check:
    """Cores that this process may use, and main memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.0f} GiB of memory"
    except (ValueError, OSError):
        memory = ""
    return Check(AREA, "cores", "ok", f"{cores} usable{memory}")


def check_shared_memory(place: Path = Path("/dev/shm")) -> Check:
    """The shared memory through which loader processes pass images."""
    if not place.is_dir():
        return Check(AREA, "shared memory", "ok", f"{place} is not used on this system")
    usage = shutil.disk_usage(place)
    return Check.unless(
        usage.total >= LITTLE_SHARED,
        AREA,
        "shared memory",
        found=f"{_size(usage.total)} in {place}, {_size(usage.free)} free",
        remedy="processes that load images share them through it: start the container with --shm-size=8g, or train "
        "with --workers 0",
    )


def check_disk(root: Path) -> Check:
    """Whether results can be written under a root, and how much."""
    results = root / "results"
    place = next(path for path in (results, *results.absolute().parents) if path.is_dir())
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = "choose a folder that can be written: --root FOLDER, for this and every command"
        return Check(AREA, "disk", "broken", f"{place.absolute()} cannot be written", remedy)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(AREA, "disk", "warning", f"{place.absolute()}: {error.strerror}")
    return Check.unless(
        free >= LITTLE_DISK,
        AREA,
        "disk",
        found=f"{_size(free)} free for {results.absolute()}",
        remedy="a ViT-L run keeps two checkpoints of 4 GB each: free some space, or choose another --root",
    )


def _size(number: float) -> str:
    if number < GIB:
        return f"{number / 2**20:,.0f} MiB"
    return f"{number / GIB:,.0f} GiB" if number >= 10 * GIB else f"{number / GIB:.1f} GiB"


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
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        remedy = "install matching releases of torch and torchvision; see pytorch.org"
        return [Check(ENGINE_AREA, "import torch", "broken", fault, remedy)], ""
    if there:
        return _gpus(torch)
    complaint = next((str(warning.message) for warning in caught if "driver" in str(warning.message)), "")
    return [_no_gpu(torch.version.cuda, ask_driver(), complaint)], "CPU, fp32"


def _gpus(torch: ModuleType) -> tuple[list[Check], str]:
    driver = ask_driver()
    checks = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        total = properties.total_memory / GIB
        try:
            free = torch.cuda.mem_get_info(index)[0] / GIB
        except RuntimeError as error:  # in exclusive use by another, or faulty
            found = f"{properties.name}, {total:.0f} GiB: {str(error).splitlines()[0]}"
            remedy = f"free it, or hide it with CUDA_VISIBLE_DEVICES; nvidia-smi -i {index} lists its processes"
            checks.append(Check(ENGINE_AREA, f"GPU {index}", "warning", found, remedy))
        else:
            found = f"{properties.name}, {total:.0f} GiB, {free:.0f} GiB free"
            remedy = f"more than half of its memory is in use: nvidia-smi -i {index} lists its processes"
            checks.append(Check.unless(free >= 0.5 * total, ENGINE_AREA, f"GPU {index}", found, remedy))
    version = driver.version if driver is not None and driver.version else "unknown"
    found = f"{version}; torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    usable = "yes; train.precision=auto uses it" if bf16 else "not on this GPU; train.precision=auto uses fp16"
    checks += [
        Check(ENGINE_AREA, "driver", "ok", found),
        Check(ENGINE_AREA, "bf16", "ok" if bf16 else "absent", usable),
    ]
    count = torch.cuda.device_count()
    return checks, f"{count} GPU{'s' if count > 1 else ''}, {'bf16' if bf16 else 'fp16'}"


def _no_gpu(built_for: str | None, driver: Driver | None, complaint: str) -> Check:
    """Why PyTorch sees no GPU, as far as known."""
    if driver is None:
        return Check(ENGINE_AREA, "GPU", "absent", "none: training runs on the CPU, in fp32")
    if driver.fault:
        found = f"the driver does not answer ({driver.fault[:120]})"
        remedy = "reload the driver, or restart the machine"
    elif built_for is None:
        found = f"{len(driver.gpus)} x {driver.gpus[0]}, but this torch is built for CPUs only"
        remedy = "install a build of torch for CUDA; see pytorch.org"
    else:
        found = (
            f"{len(driver.gpus)} x {driver.gpus[0]}, which torch (CUDA {built_for}) cannot use with driver "
            f"{driver.version}{complaint and ': '}{' '.join(complaint.split())[:160]}"
        )
        remedy = (
            "update the driver, or install a torch for an older CUDA"
            if complaint
            else "check whether CUDA_VISIBLE_DEVICES hides the GPUs, and whether the container was started with GPUs"
        )
    return Check(ENGINE_AREA, "GPU", "warning", found, remedy)
