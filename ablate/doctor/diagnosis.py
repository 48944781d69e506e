"""All findings together and what follows from them: which engines work, for a program and on a terminal.

On a terminal every finding has a mark, and below what is wrong stands the sentence that mends it.
"""

import sys
from pathlib import Path

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ablate.doctor.check import Check, State
from ablate.doctor.detectron2 import check_detectron2
from ablate.doctor.machine import ENGINE_AREA, check_cores, check_disk, check_shared_memory, check_torch
from ablate.doctor.requirements import check_core, check_packages, check_python, declared
from ablate.doctor.slurm import check_slurm
from analysis.shell import shell_command

ANALYSIS, OPTIONAL = "analysis", "optional"


class EngineStatus(msgspec.Struct, frozen=True):
    """Whether an engine works here, and on what."""

    works: bool
    where: str = ""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What ``doctor --json`` prints."""

    engines: dict[str, EngineStatus]
    analysis: bool
    checks: tuple[Check, ...]
    schema: int = 1

    @property
    def exit_code(self) -> int:
        """0 where an engine works, the default one or another; else 5."""
        return 0 if any(engine.works for engine in self.engines.values()) else 5


def diagnose(root: Path, python: str | None = None, job_seconds: float | None = None) -> Diagnosis:
    """Look at everything.

    Args:
        root: under which results would be written.
        python: the interpreter in whose environment detectron2 is looked for; see ``check_detectron2``.
        job_seconds: submit a job to Slurm, and wait so long for it.
    """
    analysis = [check_python(ANALYSIS), *check_packages(ANALYSIS, declared()), check_core(ANALYSIS)]
    training = check_packages(ENGINE_AREA, declared("train"), "train")
    device = ""
    if _sound(training):
        devices, device = check_torch()
        training += devices
    detectron2 = check_detectron2(python)
    machine = [check_cores(), check_shared_memory(), check_disk(root)]
    optional = [
        *check_packages(OPTIONAL, declared("verify"), "verify", state="absent"),
        *check_slurm(root, job_seconds),
    ]
    optional = [msgspec.structs.replace(c, name="--verify") if c.name == "packages" else c for c in optional]
    base = _sound(analysis)
    where = next((check.found for check in detectron2 if check.name == "Python"), sys.executable)
    found = any(check.name == "detectron2" and check.state == "ok" for check in detectron2)
    return Diagnosis(
        engines={
            "vision": EngineStatus(base and _sound(training) and _sound(machine), device),
            "detectron2": EngineStatus(
                base and found and _sound(detectron2) and _sound(machine), where if found else ""
            ),
        },
        analysis=base,
        checks=(*analysis, *training, *detectron2, *machine, *optional),
    )


def _sound(checks: list[Check]) -> bool:
    return all(check.state != "broken" for check in checks)


MARKS: dict[State, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "absent": ("–", "dim"),
    "warning": ("!", "yellow"),
    "broken": ("✗", "bold red"),
}


def doctor_screen(diagnosis: Diagnosis) -> list[RenderableType]:
    """Everything that ``doctor`` shows."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column("area", style="bold", no_wrap=True)
    table.add_column("mark", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("found", overflow="fold")
    area = ""
    for check in diagnosis.checks:
        mark, style = MARKS[check.state]
        table.add_row(
            "" if check.area == area else check.area,
            Text(mark, style=style),
            check.name,
            Text(check.found, style="dim" if check.state == "absent" else ""),
        )
        if check.remedy:
            table.add_row("", "", "", Text(f"→ {check.remedy}", style="cyan"))
        area = check.area
    return [table, Text(""), *_verdict(diagnosis)]


def _verdict(diagnosis: Diagnosis) -> list[RenderableType]:
    vision, detectron2 = diagnosis.engines["vision"], diagnosis.engines["detectron2"]
    wanted = any(check.area == "engine detectron2" and check.state == "broken" for check in diagnosis.checks)
    absent = "is not installed; only configs with engine: detectron2 need it"
    following = Text(
        f"\nNext, a small study on embedded data: {shell_command('ablate', 'attention', '--launch')}", style="dim"
    )
    return [
        _line(diagnosis.analysis, "analyze", "on any COCO predictions"),
        _line(vision.works, "engine vision (the default)", f"on {vision.where}"),
        _line(detectron2.works, "engine detectron2", f"in Python {detectron2.where}")
        if detectron2.works or wanted
        else _marked("absent", "engine detectron2", absent),
        *([following] if vision.works else []),
    ]


def _line(works: bool, name: str, where: str) -> Text:
    return _marked("ok", name, f"works, {where}") if works else _marked("broken", name, "does not work (see ✗ above)")


def _marked(state: State, name: str, words: str) -> Text:
    mark, style = MARKS[state]
    return Text.assemble((f"{mark} ", style), (name, "bold"), f" {words}")
