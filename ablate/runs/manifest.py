"""The manifest of a run: code, packages, hardware and data. It is recorded once and changes no identity."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from ablate.config.identity import COMMAND_REVISION, EVALUATION_REVISION, PRETRAINING_REVISION, TRAINING_REVISION
from ablate.runs.folder import SCHEMA, PretrainingFolder, RunFolder, now, read_json
from analysis.exceptions import BadInput

SNAPSHOT = "snapshot.json"  # of a copy of this program: the state of the repository that it was taken of
PACKAGES = ("detablate", "torch", "torchvision", "numpy", "pillow", "pycocotools", "msgspec", "detectron2")


Kind = Literal["detector", "command", "adopted"]  # what was run


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
    training_data: str  # digests of the annotations; of the images for a pre-training
    validation_data: str
    training_images: str = ""  # digests of the image files; empty: made before they entered the identity
    validation_images: str = ""
    training_revision: int = 0  # of the rules (`ablate.config.identity`); 0: made before they were recorded, or none
    evaluation_revision: int = 0
    weights: str | None  # digest of the initial weights; None: random
    initialisation: str = "random"  # as published tables call it; empty where the weights do not tell
    git: Git | None  # None: not run from a repository
    packages: dict[str, str]
    python: str
    hardware: Hardware
    argv: tuple[str, ...]
    started: str
    kind: Kind = "detector"
    sources: str = ""  # of a command: digest of its sources
    schema: int = SCHEMA


def make_manifest(
    *,
    training: str,
    evaluation: str,
    seed: int,
    training_data: str,
    validation_data: str,
    training_images: str,
    validation_images: str,
    training_revision: int = TRAINING_REVISION,
    weights: str | None = None,
    initialisation: str = "random",
    kind: Kind = "detector",
    sources: str = "",
    gpus: bool = True,
) -> Manifest:
    """The manifest of a run, or with its own revision of a pre-training, that starts here and now.

    Its GPUs are those that torch sees; none is looked for unless ``gpus``, and torch is not imported.
    """
    return Manifest(
        training=training,
        evaluation=evaluation,
        seed=seed,
        training_data=training_data,
        validation_data=validation_data,
        training_images=training_images,
        validation_images=validation_images,
        training_revision=training_revision,
        evaluation_revision=EVALUATION_REVISION,
        weights=weights,
        initialisation=initialisation,
        git=git_state(Path(__file__).resolve().parents[1]),
        packages=package_versions(),
        python=platform.python_version(),
        hardware=hardware(look_for_gpus=gpus),
        argv=tuple(sys.argv),
        started=now(),
        kind=kind,
        sources=sources,
    )


class _Rules(msgspec.Struct):
    """The revisions of the rules in a manifest; the defaults are those of `Manifest`."""

    schema: int
    training_images: str = ""
    training_revision: int = 0
    evaluation_revision: int = 0
    kind: Kind = "detector"


def older_rule(folder: RunFolder) -> str:
    """By which older rule a run or a pre-training was made; empty for one made by the rules of this version.

    Such a run can be read and shown, and has an identity that no config has any more: nothing takes it for its own.
    """
    try:
        made = read_json(folder.manifest, _Rules)
    except BadInput:
        return ""  # not started it, or it is damaged, which is reported elsewhere
    is_run = not isinstance(folder, PretrainingFolder)
    if made.kind != "detector":
        old = made.evaluation_revision < EVALUATION_REVISION
        old |= made.kind == "command" and made.training_revision < COMMAND_REVISION
        return f"made by older rules (revision {made.training_revision})" if old else ""
    if not made.training_images:
        return "made before image contents entered the run id"
    if made.training_revision < (TRAINING_REVISION if is_run else PRETRAINING_REVISION):
        return f"made by older rules of training (revision {made.training_revision})"
    if is_run and made.evaluation_revision < EVALUATION_REVISION:
        return f"made by older rules of evaluation (revision {made.evaluation_revision})"
    return ""


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a number."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def git_state(folder: Path) -> Git | None:
    """Commit of the repository that tracks ``folder`` and whether tracked files differ from it; None without one.

    Of a snapshot (`ablate.launch.snapshot`) it is what the snapshot was taken of.
    """
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder.parent / SNAPSHOT).read_bytes(), type=Git | None)
    if not (folder.parent / ".git").exists():  # an installed package may lie inside another repository
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    try:
        return Git(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.SubprocessError):
        return None


def hardware(*, look_for_gpus: bool = True) -> Hardware:
    """This machine and the GPUs that torch sees, where they are looked for."""
    return Hardware(
        system=platform.platform(),
        processor=_processor(),
        cores=usable_cores(),
        memory_gib=_memory_gib(),
        gpus=_gpus() if look_for_gpus else (),
    )


def _gpus() -> tuple[Gpu, ...]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = map(torch.cuda.get_device_properties, range(count))
    return tuple(Gpu(device.name, round(device.total_memory / 2**30, 2)) for device in devices)


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
