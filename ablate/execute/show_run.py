"""What `ablate run` shows in the end: how a run went, what its predictions are worth, and where the AP went."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ablate.execute.evaluation import Evaluation, Measured, read_evaluation
from ablate.runs.folder import RunFolder, Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def run_screen(folder: RunFolder) -> "list[RenderableType]":
    """The summary of a run in whatever state it is."""
    from rich.text import Text

    status = folder.read_status() or Status(state="prepared")
    parts: list[RenderableType] = [_facts(folder, status)]
    if status.state == "finished":
        evaluation = read_evaluation(folder.evaluation)
        parts += [
            Text(""),
            _metrics_table(evaluation),
            Text(""),
            _errors_table(evaluation),
            Text(_legend(evaluation), style="dim"),
        ]
        if folder.read_config().data.validation.__struct_config__.tag == "shapes":
            parts.append(Text("Synthetic data, n = 1: shows the tool, is no evidence about detectors.", style="dim"))
    return parts


def _facts(folder: RunFolder, status: Status) -> "Table":
    from rich.table import Table
    from rich.text import Text

    colour = {"finished": "green", "running": "cyan", "prepared": "cyan"}.get(status.state, "yellow")
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text("run", style="bold"), str(folder.path))
    grid.add_row(Text("state", style="bold"), Text(status.state.replace("_", " "), style=colour))
    if status.message:
        grid.add_row(Text("because", style="bold"), status.message)
    for name, value in _cost(folder):
        grid.add_row(Text(name, style="bold"), value)
    return grid


def _cost(folder: RunFolder) -> Iterator[tuple[str, str]]:
    trained = [event for event in folder.read_events() if event["event"] == "trained"]
    if not trained:
        return
    seconds, iterations, peak = (trained[-1][key] for key in ("seconds", "iterations", "peak_gib"))
    each = f", {seconds / iterations:.3f} s each" if iterations else ""
    yield "training", f"{iterations:,} iterations in {_clock(seconds)}{each}"
    what = "allocated on the GPU" if trained[-1]["device"] == "cuda" else "kept for the backward pass"
    yield "peak memory", f"{peak:.2f} GiB {what}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _rows(evaluation: Evaluation) -> Iterator[tuple[str, Measured]]:
    yield "boxes", evaluation.box
    if evaluation.mask is not None:
        yield "masks", evaluation.mask


def _metrics_table(evaluation: Evaluation) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for name in METRICS:
        table.add_column(name, justify="right")
    for name, measured in _rows(evaluation):
        values = (measured.metrics[key] for key in METRICS)
        table.add_row(name, *("-" if value < 0 else f"{value:.1f}" for value in values))
    return table


def _errors_table(evaluation: Evaluation) -> "Table":
    from rich.table import Table

    from analysis.evaluation.error_types import ERROR_TYPES

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"AP{evaluation.iou * 100:.0f} to gain")
    for one in ERROR_TYPES.values():
        table.add_column(one.label, justify="right")
    for name, measured in _rows(evaluation):
        table.add_row(name, *(f"{measured.delta_ap[key]:.1f}" for key in ERROR_TYPES))
    return table


def _legend(evaluation: Evaluation) -> str:
    return (
        f"\nPoints, 0 to 100; {evaluation.images:,} images, {evaluation.objects:,} objects, "
        f"{evaluation.detections:,} detections. AP to gain: what AP at IoU {evaluation.iou:.2f} would rise by if this "
        "error alone were fixed;\ncls: wrong class, loc: poor place, both, dup: second on one object, bg: on nothing, "
        "miss: object not found; FP, FN: all false positives, all misses."
    )
