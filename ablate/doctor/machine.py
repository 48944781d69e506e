"""What the machine gives a run besides its GPUs: cores, memory, shared memory, disk, a queue."""

import os
import shutil
import subprocess
from pathlib import Path

from ablate.doctor.check import Check

GIB = 2**30
AREA = "machine"
SHARED_MEMORY = Path("/dev/shm")
LITTLE_SHARED = 1 * GIB  # Docker gives 64 MiB; eight loaders of 1024 x 1024 px images hold some hundreds of MB
LITTLE_DISK = 10 * GIB  # two checkpoints of a ViT-L Mask R-CNN with AdamW's moments take 8 GB
SLURM_SECONDS = 10


def check_cores() -> Check:
    """Cores that this process may use, and main memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.0f} GiB of memory"
    except (ValueError, OSError):
        memory = ""
    return Check(area=AREA, name="cores", state="ok", found=f"{cores} usable{memory}")


def check_shared_memory(place: Path = SHARED_MEMORY) -> Check:
    """The space through which loaders hand on images."""
    if not place.is_dir():
        return Check(area=AREA, name="shared memory", state="ok", found=f"{place} is not used on this system")
    usage = shutil.disk_usage(place)
    found = f"{_size(usage.total)} in {place}, {_size(usage.free)} free"
    if usage.total >= LITTLE_SHARED:
        return Check(area=AREA, name="shared memory", state="ok", found=found)
    remedy = "loaders hand images on through it: start the container with --shm-size=8g, or train with --workers 0"
    return Check(area=AREA, name="shared memory", state="warning", found=found, remedy=remedy)


def check_disk(root: Path) -> Check:
    """Whether results can be written under a root, and how much."""
    results = root / "results"
    place = next(path for path in (results, *results.absolute().parents) if path.is_dir())
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = "choose a folder that can be written: --root FOLDER, for this and every command"
        return Check(
            area=AREA, name="disk", state="broken", found=f"{place.absolute()} cannot be written", remedy=remedy
        )
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(area=AREA, name="disk", state="warning", found=f"{place.absolute()}: {error.strerror}")
    found = f"{_size(free)} free for {results.absolute()}"
    if free >= LITTLE_DISK:
        return Check(area=AREA, name="disk", state="ok", found=found)
    remedy = "a run of a ViT-L keeps two checkpoints of 4 GB each: free some space, or choose another --root"
    return Check(area=AREA, name="disk", state="warning", found=found, remedy=remedy)


def check_slurm() -> Check:
    """Whether jobs can be handed to Slurm from here."""
    program = shutil.which("sbatch")
    if program is None:
        found = "no sbatch on the PATH: runs start on this machine alone"
        return Check(area="optional", name="Slurm", state="absent", found=found, remedy=ON_A_CLUSTER)
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=SLURM_SECONDS)
        answer = " ".join((done.stdout or done.stderr).split())
    except (OSError, subprocess.SubprocessError) as error:
        answer, done = str(error), None
    if done is None or done.returncode:
        found = f"{program} does not answer: {answer[:120]}"
        return Check(area="optional", name="Slurm", state="warning", found=found, remedy="ask whoever runs the cluster")
    return Check(area="optional", name="Slurm", state="ok", found=f"{answer}, {program}")


ON_A_CLUSTER = "where there is a cluster, run doctor on its login node"


def _size(number: float) -> str:
    if number < GIB:
        return f"{number / 2**20:,.0f} MiB"
    return f"{number / GIB:,.0f} GiB" if number >= 10 * GIB else f"{number / GIB:.1f} GiB"
