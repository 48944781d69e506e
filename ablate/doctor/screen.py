"""The diagnosis on a terminal: a mark, what was found, and under what is wrong the sentence that mends it."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ablate.doctor.check import State

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ablate.doctor.diagnosis import Diagnosis

MARKS: dict[State, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "absent": ("–", "dim"),
    "warning": ("!", "yellow"),
    "broken": ("✗", "bold red"),
}


def doctor_screen(diagnosis: "Diagnosis") -> "list[RenderableType]":
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


def _verdict(diagnosis: "Diagnosis") -> "list[RenderableType]":
    vision, detectron2 = diagnosis.engines["vision"], diagnosis.engines["detectron2"]
    asked = any(check.area == "engine detectron2" and check.state == "broken" for check in diagnosis.checks)
    lines: list[RenderableType] = [
        _line("ok", "analyze", "works, on any COCO predictions")
        if diagnosis.analysis
        else _line("broken", "analyze", f"does not work {SEE}"),
        _line("ok", "engine vision (the default)", f"works, on {vision.where}")
        if vision.works
        else _line("broken", "engine vision (the default)", f"does not work {SEE}"),
    ]
    if detectron2.works:
        lines.append(_line("ok", "engine detectron2", f"works, in Python {detectron2.where}"))
    elif asked:
        lines.append(_line("broken", "engine detectron2", f"does not work {SEE}"))
    else:
        lines.append(_line("absent", "engine detectron2", "is not here; only configs with engine: detectron2 need it"))
    if vision.works:
        lines.append(Text("\nNext: ablate attention --launch runs a small study on embedded data.", style="dim"))
    return lines


SEE = "(see ✗ above)"


def _line(state: State, name: str, words: str) -> Text:
    mark, style = MARKS[state]
    return Text.assemble((f"{mark} ", style), (name, "bold"), f" {words}")
