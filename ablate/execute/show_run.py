"""The screen at the end of `ablate run`: state and cost of the run, its metrics, and the AP lost to each error."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from ablate.config.foreign import validation_of
from ablate.config.schema import Shapes
from ablate.execute.evaluation import METRICS, Evaluation, read_evaluation
from ablate.runs.folder import SCHEMA, RunFolder, Status, state_words
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.render.errors import ap_at
from analysis.render.table import Column, Table

if TYPE_CHECKING:
    from ablate.train.loop import TrainStats  # imports torch


def run_screen(folder: RunFolder) -> list[RenderableType]:
    """The summary of a run in any state."""
    status = folder.read_status() or Status(state="prepared")
    parts: list[RenderableType] = [fact_grid(_facts(folder, status))]
    if status.state == "finished":
        evaluation = read_evaluation(folder.evaluation)
        metrics, errors = _tables(evaluation)
        parts += [Text(""), metrics, Text(""), errors, Text(_legend(evaluation), style="dim")]
        if isinstance(validation_of(folder.read_any_config()), Shapes):
            parts.append(Text("Synthetic data, n = 1: demonstration only, not evidence about detectors.", style="dim"))
    return parts


def run_document(folder: RunFolder) -> dict[str, object]:
    """The JSON document of a run: its folder, its status and, once it is finished, its evaluation."""
    status = folder.read_status() or Status(state="prepared")
    evaluation = read_evaluation(folder.evaluation) if status.state == "finished" else None
    return {"schema": SCHEMA, "run": str(folder.path), "status": status, "evaluation": evaluation}


def fact_grid(facts: Iterable[tuple[str, RenderableType]]) -> RenderableType:
    """Facts below each other, their names in bold."""
    grid = Grid.grid(padding=(0, 2))
    for name, value in facts:
        grid.add_row(Text(name, style="bold"), value)
    return grid


def _facts(folder: RunFolder, status: Status) -> Iterator[tuple[str, RenderableType]]:
    colour = {"finished": "green", "running": "cyan", "prepared": "cyan"}.get(status.state, "yellow")
    yield "run", str(folder.path)
    yield "state", Text(state_words(status.state), style=colour)
    if status.message:
        yield "reason", status.message
    trained = _last_training(folder)
    if trained:
        seconds, iterations = trained.seconds, trained.iterations
        hours, rest = divmod(round(seconds), 3600)
        clock = f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
        batch = folder.read_config().train.batch_size
        each = f"; {seconds / iterations:.3f} s per iteration of the whole run" if iterations else ""
        yield "training", f"{iterations:,} iterations of {batch} images in {clock}{each}, data loading included"
        what = "allocated on the GPU" if trained.device == "cuda" else "kept for the backward pass"
        yield "peak memory", f"{trained.peak_gib:.2f} GiB {what}"


def _last_training(folder: RunFolder) -> "TrainStats | None":
    """The cost of training, from the last event that records it."""
    from ablate.train.loop import TrainStats

    for event in reversed(folder.read_events()):
        if event["event"] == "trained":
            with suppress(msgspec.ValidationError):
                return msgspec.convert(event, TrainStats)
    return None


def _tables(evaluation: Evaluation) -> tuple[Table, Table]:
    """COCO's metrics, and the AP to gain by fixing each type of error alone."""
    measured = (("boxes", evaluation.box), ("masks", evaluation.mask))
    parts = [(name, part) for name, part in measured if part is not None]
    metrics = (*METRICS, f"AR{evaluation.max_dets}")
    heads = {key: ap_at(evaluation.max_dets) if key == "AP" else key for key in metrics}
    errors = [Column(one.label, precision=1) for one in ERROR_TYPES.values()]
    return (
        Table(
            "",
            (Column("", kind="text"), *(Column(head, precision=1) for head in heads.values())),
            tuple(
                (name, *(None if part.metrics[key] < 0 else part.metrics[key] for key in metrics))
                for name, part in parts
            ),
        ),
        Table(
            "",
            (Column(f"AP{evaluation.iou * 100:.0f} to gain", kind="text"), *errors),
            tuple((name, *(part.delta_ap[key] for key in ERROR_TYPES)) for name, part in parts),
        ),
    )


def _legend(evaluation: Evaluation) -> str:
    return (
        f"\nPoints, 0 to 100; {evaluation.images:,} images, {evaluation.objects:,} objects, "
        f"{evaluation.detections:,} detections. AP to gain: what AP at IoU {evaluation.iou:.2f} would rise by if this "
        "error alone were fixed;\ncls: wrong category; loc: too little overlap with the object; both: both of these; "
        "dup: second detection of one object; bg: no object there; miss: object that no detection matches or nearly "
        "matches; FP, FN: all false positives, all false negatives."
    )
