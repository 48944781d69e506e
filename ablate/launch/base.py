"""What a launcher and its workers share: jobs, devices and options.

A launcher starts `python -m ablate.launch.worker JOB` for the runs of a study that are not done.
A worker locks its run folder, so however many launchers there are, a run is never carried out twice; and a launcher
learns how a run went from the run folder, not from the worker. A worker stops politely when its launcher dies.

Every device of this machine is locked too, so that only one run at a time uses it, from any launcher.
"""

import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from ablate.runs.lock import LockHeld, Owner, holding, owners
from ablate.runs.signals import scheduler_job
from analysis.exceptions import BadInput, DetablateError
from analysis.files import part_folder

if TYPE_CHECKING:
    from ablate.launch.status import RunStatus

BUSY = 75  # exit code of a worker that did nothing, because another process uses the run or the device
LOG = "log.txt"  # of a run folder: the output of its workers
CPU = "cpu"
PATIENCE_SECONDS = 1.0  # between two looks for a device that is free


class SomeFailed(DetablateError):
    """Not every run of the study has a result."""

    exit_code = 3


class Stopped(DetablateError):
    """The user or a signal asked the launcher to stop."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How a study is launched; nothing here changes a result.

    Attributes:
        device: auto, cpu or cuda.
        gpus_per_run: GPUs that train one run together.
        parallel: runs side by side on a CPU; where there are several, each computes in one thread.
        retry: run again what failed, diverged or ran out of memory.
        fail_fast: stop everything at the first failure.
        loaders: processes that load images, for each that trains; none leaves it to the engine.
        checkpoint_minutes: between checkpoints.
    """

    device: str = "auto"
    gpus_per_run: int = 1
    parallel: int = 1
    retry: bool = False
    fail_fast: bool = False
    loaders: int | None = None
    checkpoint_minutes: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Drain:
    """The limits of a launch that works on a study together with others, on any hosts that share the disk.

    It waits for no run that another launch works on, unless a run that it may start needs that one.

    Attributes:
        max_runs: that it starts; none: as many as there are.
        stop_after: seconds, after which what runs is saved and given back; none: no limit.
        limit: the same as it was written, for a sentence.
    """

    max_runs: int | None = None
    stop_after: float | None = None
    limit: str = ""


class WorkerJob(msgspec.Struct, frozen=True, kw_only=True):
    """The instructions of a worker, passed as one JSON argument."""

    root: str  # absolute
    study: str
    run: str  # its name in the study: a run id, or pretraining/<id>
    again: bool = False  # also where it failed, diverged or ran out of memory before
    launcher: Owner | None = None  # the worker stops when this process dies
    devices: tuple[str, ...] = ()  # of this machine, that the worker needs for itself
    options: LaunchOptions = LaunchOptions()
    python: str = ""  # the interpreter of the worker; empty: that of the launcher


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a launch ended.

    Attributes:
        statuses: of every run of the study.
        failed: sentences, one for each run without a result that is not blocked.
        stopped: who asked to stop: a signal's name, or a command; empty where all was done.
        at_once: asked twice, so that runs were killed before they could save what they had.
        time_is_up: it was a drain that stopped after its ``--stop-after``.
        left: runs that this launch has not tried and that may still get a result, here or elsewhere.
    """

    statuses: "list[RunStatus]"
    failed: list[str]
    stopped: str
    at_once: bool = False
    time_is_up: bool = False
    left: int = 0


class View(Protocol):
    """Shows the progress of a launch; lines that stay on the screen go through `logging`."""

    def update(self, statuses: "list[RunStatus]", stopping: str) -> None:
        """The status of every run now; ``stopping`` says who asked to stop."""


def worker_command(job: WorkerJob, processes: int) -> list[str]:
    """The command line of a worker."""
    return module_command("ablate.launch.worker", job, processes, job.python)


def module_command(
    module: str, argument: msgspec.Struct, processes: int, python: str = "", *, together: bool = False
) -> list[str]:
    """The command line of one of our modules, with one JSON argument; that of `ranks` where several processes train.

    Args:
        module: to run.
        argument: of it.
        processes: that train on this machine.
        python: the interpreter; empty: this one.
        together: they train with those of other machines.
    """
    starter = ["ablate.launch.ranks", str(processes)] if processes > 1 or together else []
    return [python or sys.executable, "-m", *starter, module, msgspec.json.encode(argument).decode()]


def is_cpu(device: str) -> bool:
    """Whether a device is the CPU, or a slot of it beside the first."""
    return device.partition("-")[0] == CPU


def worker_environment(devices: Collection[str], options: LaunchOptions) -> dict[str, str]:
    """The settings by which a process sees these GPUs alone, or computes in one thread beside others on the CPU.

    It is alone, too, where the launcher itself is a task of Slurm beside others; who starts several says so anew.
    """
    alone = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    if not all(map(is_cpu, devices)):
        return {**alone, "CUDA_VISIBLE_DEVICES": ",".join(devices)}
    return {**alone, **({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if options.parallel > 1 else {})}


def device_folder(device: str) -> Path:
    """The folder in which processes of this user on this machine lock a device.

    Args:
        device: as `devices_of` names it.
    """
    folder = _folder_of_user() / (device if is_cpu(device) else f"gpu-{device.replace('/', '_')}")
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """A folder of this user alone, which is removed in the end, or, after a kill, by the next who needs one.

    Args:
        what: it is for; a part of its name.
    """
    with part_folder(_folder_of_user() / what) as folder:
        yield folder


def _folder_of_user() -> Path:
    """A folder that only this user can write to: in XDG_RUNTIME_DIR where the system has made one, else in /tmp.

    Raises:
        BadInput: another user has made it, or a link in its place.
    """
    given = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    private = given.is_absolute() and given.is_dir() and given.stat().st_uid == os.getuid()
    folder = given / "detablate" if private else Path(tempfile.gettempdir()) / f"detablate-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            if stat.S_IMODE(found.st_mode) & 0o077:  # as older versions made it
                folder.chmod(0o700)
            return folder
    except OSError as error:
        raise BadInput(f"{folder}: cannot be created ({error.strerror}); set TMPDIR to a folder of your own") from None
    raise BadInput(f"{folder}: is not a folder of this user's, so it is not used; set TMPDIR to a folder of your own")


def devices_of(device: str, gpus_per_run: int, parallel: int = 1) -> tuple[str, ...]:
    """The names of the devices to run on: visible GPUs, as CUDA_VISIBLE_DEVICES takes them, or slots of the CPU.

    GPUs are named by their UUIDs: processes that see different ones of them count them differently.

    Args:
        device: auto, cpu or cuda.
        gpus_per_run: GPUs that one run needs.
        parallel: runs side by side on a CPU.

    Raises:
        BadInput: GPUs are demanded that are not there.
    """
    gpus: tuple[str, ...] = ()
    if device != "cpu":
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        given = tuple(named.split(",") if named is not None else map(str, range(count)))[:count]
        gpus = tuple(map(_named_by_uuid, range(count), given))
    if device == "cuda" and not gpus:
        raise BadInput("--device cuda: no CUDA device is visible to PyTorch; choose --device cpu or auto")
    if gpus_per_run > max(1, len(gpus)):
        raise BadInput(f"--gpus-per-run {gpus_per_run}: {len(gpus)} GPUs are visible here; choose at most that many")
    if gpus and parallel > 1:
        raise BadInput(
            f"--parallel {parallel}: is for runs at the same time on a CPU, but each GPU takes one run; leave it out, "
            "or choose --device cpu"
        )
    return gpus or _cpu_slots(parallel)


def _cpu_slots(parallel: int) -> tuple[str, ...]:
    """The CPU of this machine, or what a scheduler gives its job of it, which shares the machine with other jobs."""
    job = re.sub(r"[^\w.]+", "_", scheduler_job())
    first = f"{CPU}-{job}" if job else CPU
    return (first, *(f"{first}-{number}" for number in range(2, parallel + 1)))


def _named_by_uuid(index: int, given: str) -> str:
    """A visible GPU by its UUID; a part of one (MIG) keeps the name that it was given."""
    import torch

    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    return given if uuid is None or given.startswith("MIG") else f"GPU-{uuid}"


def free_devices(devices: Collection[str], taken: Collection[str]) -> list[str]:
    """The devices that neither this launch nor another process uses."""
    return [device for device in devices if device not in taken and not owners(device_folder(device))]


@contextmanager
def holding_devices(devices: Collection[str]) -> Iterator[None]:
    """Lock devices of this machine for this process.

    Raises:
        LockHeld: another process uses one of them.
    """
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(holding(device_folder(device), f"device {device}"))
        yield


@contextmanager
def waiting_for_first(device: str) -> Iterator[None]:
    """Wait until the device that torch uses by default (the first GPU, or the CPU) is free, and lock it.

    Args:
        device: auto, cpu or cuda.
    """
    first = devices_of(device, 1)[:1]
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(holding_devices(first))
                break
            except LockHeld:
                time.sleep(PATIENCE_SECONDS)
        yield
