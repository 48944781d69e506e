"""All findings together, and what follows from them: which engines work."""

import sys
from pathlib import Path

import msgspec

from ablate.doctor.check import Check
from ablate.doctor.detectron2 import check_detectron2
from ablate.doctor.devices import AREA as VISION
from ablate.doctor.devices import check_torch
from ablate.doctor.machine import check_cores, check_disk, check_shared_memory, check_slurm
from ablate.doctor.requirements import check_packages, check_python, declared

ANALYSIS, OPTIONAL = "analysis", "optional"
SCHEMA = 1
NO_ENGINE = 5


class Works(msgspec.Struct, frozen=True):
    """Whether an engine works here, and on what."""

    works: bool
    where: str = ""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What ``doctor --json`` prints."""

    engines: dict[str, Works]
    analysis: bool
    checks: tuple[Check, ...]
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        """0 where an engine works, the default one or another."""
        return 0 if any(engine.works for engine in self.engines.values()) else NO_ENGINE


def examine(root: Path, python: str | None = None) -> Diagnosis:
    """Look at everything.

    Args:
        root: under which results would be written.
        python: the interpreter in whose environment detectron2 is looked for; see ``check_detectron2``.
    """
    analysis = [check_python(ANALYSIS), *check_packages(ANALYSIS, declared())]
    training = check_packages(VISION, declared("train"), "train")
    device = ""
    if _sound(training):
        devices, device = check_torch()
        training += devices
    detectron2 = check_detectron2(python)
    machine = [check_cores(), check_shared_memory(), check_disk(root)]
    optional = [*check_packages(OPTIONAL, declared("verify"), "verify", state="absent"), check_slurm()]
    optional = [msgspec.structs.replace(c, name="--verify") if c.name == "packages" else c for c in optional]
    base = _sound(analysis)
    where = next((check.found for check in detectron2 if check.name == "Python"), sys.executable)
    found = any(check.name == "detectron2" and check.state == "ok" for check in detectron2)
    return Diagnosis(
        engines={
            "vision": Works(base and _sound(training) and _sound(machine), device),
            "detectron2": Works(base and found and _sound(detectron2) and _sound(machine), where if found else ""),
        },
        analysis=base,
        checks=(*analysis, *training, *detectron2, *machine, *optional),
    )


def _sound(checks: list[Check]) -> bool:
    return all(check.state != "broken" for check in checks)
