"""What a run ran on and from: code, packages, hardware, data. Recorded once, changes no identity."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import msgspec

from ablate.runs.folder import SCHEMA, now

PACKAGES = ("detablate", "torch", "torchvision", "numpy", "pillow", "pycocotools", "msgspec", "detectron2")


class Gpu(msgspec.Struct, frozen=True):
    """One device as its driver names it."""

    name: str
    memory_gib: float


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """The machine; costs are compared only where this agrees."""

    system: str
    processor: str
    cores: int  # that this process may use
    memory_gib: float | None
    gpus: tuple[Gpu, ...]


class Git(msgspec.Struct, frozen=True):
    """State of the source tree."""

    sha: str
    dirty: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest.json``."""

    training: str  # identities, 64 hex digits
    evaluation: str
    seed: int
    training_data: str  # digests
    validation_data: str
    weights: str | None  # digest of the initial weights; None: random
    initialisation: str = "random"  # as published tables call it; empty where the weights do not tell
    git: Git | None  # None: not run from a repository
    packages: dict[str, str]
    python: str
    hardware: Hardware
    argv: tuple[str, ...]
    started: str
    schema: int = SCHEMA


def make_manifest(
    *,
    training: str,
    evaluation: str,
    seed: int,
    training_data: str,
    validation_data: str,
    weights: str | None = None,
    initialisation: str = "random",
) -> Manifest:
    """The manifest of a run that starts here and now."""
    return Manifest(
        training=training,
        evaluation=evaluation,
        seed=seed,
        training_data=training_data,
        validation_data=validation_data,
        weights=weights,
        initialisation=initialisation,
        git=git_state(Path(__file__).resolve().parent),
        packages=package_versions(),
        python=platform.python_version(),
        hardware=hardware(),
        argv=tuple(sys.argv),
        started=now(),
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a number."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def git_state(folder: Path) -> Git | None:
    """Commit of the repository that tracks ``folder`` and whether tracked files differ from it; None without one."""
    if not (folder.parent / ".git").exists():  # an installed package may lie inside somebody else's repository
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    try:
        return Git(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.SubprocessError):
        return None


def hardware() -> Hardware:
    """This machine and the GPUs that torch sees."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = map(torch.cuda.get_device_properties, range(count))
    return Hardware(
        system=platform.platform(),
        processor=_processor(),
        cores=usable_cores(),
        memory_gib=_memory_gib(),
        gpus=tuple(Gpu(device.name, round(device.total_memory / 2**30, 2)) for device in devices),
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError):
        return None
