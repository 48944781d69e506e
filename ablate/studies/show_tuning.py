"""A tuning for people: where it is, every setting with its distance to the best, the heat map, and what was chosen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from rich.console import RenderableType
from rich.text import Text

from ablate.execute.evaluation import IOU, read_evaluation
from ablate.runs.folder import SCHEMA, Workspace
from ablate.studies.results import read_validation
from ablate.studies.study import state_in_words
from ablate.studies.tune import PlannedTuning
from ablate.studies.tuning import Point, Stage
from analysis.coco.detections import read_detections
from analysis.evaluation.settings import Settings
from analysis.render.figure_style import SCREEN, FigureStyle, Picture, drawing, finish, new_figure
from analysis.render.screen import NOTE, dimmed, fact_list
from analysis.render.table import Cell, Column, Table, csv_text
from analysis.stats.compare import Candidate, compare
from analysis.stats.intervals import Difference

EQUAL = "≈"  # marks what does not differ from the best
OPTIMISTIC = (
    "settings are chosen and measured on the same images, so the best AP is optimistic; --tune-split 0.1 chooses on "
    "held-out training images"
)
WINNER = (
    "The best of many settings is partly the best by chance: its AP and its lead over the others are overestimates."
)
Against = Mapping[Point, Difference]  # of each point to the best of its stage


class Measured(NamedTuple):
    """A stage that is over.

    Attributes:
        points: that were tried in it.
        best: of them.
        against: the differences of the others to it, with their intervals, where they came to a result.
    """

    points: tuple[Point, ...]
    best: Point
    against: Against

    @property
    def equal(self) -> list[Point]:
        """The others that do not differ from the best: their interval holds 0."""
        return [point for point, one in self.against.items() if one.low <= 0 <= one.high]


def measure_stages(
    planned: PlannedTuning, workspace: Workspace, progress: Callable[[int], None] | None = None
) -> dict[Stage, Measured]:
    """Every stage that is over, each of its points compared with its best on the same images, seed by seed.

    Args:
        planned: the tuning.
        workspace: above `results/`.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: predictions or annotations that cannot be read, or have changed.
    """
    return {
        stage: Measured(points, best, _against(points, best, planned, workspace, progress))
        for stage, best in planned.step.best.items()
        for points in [points_of(planned, stage)]
    }


def points_of(planned: PlannedTuning, stage: Stage) -> tuple[Point, ...]:
    """The points of a stage."""
    protocol, cell = planned.tuning.protocol, planned.step.best.get("grid")
    if stage == "grid" or cell is None:
        return planned.step.cells
    place = cell.lr_doublings, cell.weight_decay_doublings
    larger = stage == "larger model"
    return tuple(Point(larger, *place, rate, protocol.drop_path_length) for rate in protocol.drop_paths)


def _against(
    points: Sequence[Point],
    best: Point,
    planned: PlannedTuning,
    workspace: Workspace,
    progress: Callable[[int], None] | None,
) -> Against:
    study, protocol = planned.study, planned.tuning.protocol
    names = {point.name(protocol): point for point in points if planned.results.get(point) is not None}
    if len(names) < 2:
        return {}
    runs = {name: study.runs_of(name) for name in names}
    ground_truth = read_validation(workspace, study, runs[best.name(protocol)][0])
    candidates = [
        Candidate(
            name,
            tuple(read_detections(workspace.run(run.run_id).predictions, ground_truth) for run in own),
            tuple(run.seed for run in own),
        )
        for name, own in runs.items()
    ]
    cap = read_evaluation(workspace.run(runs[best.name(protocol)][0].run_id).evaluation).max_dets
    comparison = compare(
        ground_truth,
        candidates,
        Settings("bbox", IOU, max_dets=cap),
        baseline=best.name(protocol),
        designs=True,
        progress=progress,
    )
    return {names[one.name]: one.differences["AP"] for one in comparison.vs_baseline}


def tuning_screen(
    planned: PlannedTuning, stages: Mapping[Stage, Measured], workspace: Workspace, written: Mapping[str, str]
) -> list[RenderableType]:
    """The state of a tuning, every setting that was tried, and the findings.

    Args:
        planned: the tuning.
        stages: those that are over.
        workspace: above `results/`.
        written: what was written, and where.
    """
    study, tuning = planned.study, planned.tuning
    facts = [
        ("study", f"{study.name}: {study.title}"),
        ("base", f"{study.base}, {tuning.initialisation} weights"),
        (
            "chosen on",
            f"{100 * tuning.held_out:.0f} % of the training images" if tuning.held_out else "validation images",
        ),
        ("stage", _stage_in_words(planned)),
        *written.items(),
        (NOTE, "synthetic data: demonstration only, not evidence" * study.synthetic),
        (NOTE, OPTIMISTIC * (not tuning.held_out)),
        (NOTE, _far_from_base(planned)),
    ]
    sentences = [sentence for stage, one in stages.items() for sentence in findings(planned, stage, one)]
    return [
        fact_list([(name, fact) for name, fact in facts if fact]),
        Text(""),
        tuning_table(planned, stages, workspace),
        *map(dimmed, [_legend(planned)] * bool(stages)),
        *(Text(f"\n{sentence}") for sentence in sentences),
        *map(dimmed, [WINNER] * bool(stages)),
    ]


def _far_from_base(planned: PlannedTuning) -> str:
    """Advice if the first grid is far from the base's own learning rate."""
    own, protocol = planned.base.train.lr, planned.tuning.protocol
    if protocol.lr / 2 <= own <= protocol.lr * 2:
        return ""
    return f"the base's own learning rate {own:g} is outside the first grid; --centre base starts there"


def _stage_in_words(planned: PlannedTuning) -> str:
    step = planned.step
    done = sum(point in planned.results for point in step.points)
    what = f"{done} of {len(step.points)} settings have a result"
    if step.trouble == "no result":
        return f"{step.stage}: none of its runs has a result"
    if step.trouble:
        return f"{step.stage}: stopped, the next settings would be more runs than --max-runs allows"
    return f"done, {what}" if step.stage == "done" else f"{step.stage}, {what}"


def findings(planned: PlannedTuning, stage: Stage, one: Measured) -> Iterator[str]:
    """The findings of a stage, in sentences."""
    protocol, results = planned.tuning.protocol, planned.results
    value = results[one.best]
    others, equal = len(one.against), len(one.equal)
    lost = [point for point in one.points if results.get(point) is None]
    what = "cells" if stage == "grid" else "rates"
    yield (
        f"{stage.capitalize()}: best is {one.best.name(protocol)}, box AP {value:.1f}. "
        + (
            f"Flat: none of the other {others} {what} differs significantly from it."
            if equal == others > 0
            else f"{equal} of the other {others} {what} do not differ significantly from it."
        )
        + (f" {len(lost)} have no result (diverged or out of memory)." if lost else "")
    )
    if stage != "grid" and one.best.drop_path == max(protocol.drop_paths):
        yield f"{stage.capitalize()}: the best rate is the highest that was tried; a higher one may be better."


def _legend(planned: PlannedTuning) -> str:
    seeds = len(planned.study.seeds)
    over = f"over {seeds} seeds" if seeds > 1 else "over images (n = 1: another seed may reverse any of them)"
    return (
        f"box AP in points, 0 to 100; against the best of the stage, with the paired 95 % interval {over}. "
        f"{EQUAL} the interval contains 0: no significant difference from the best."
    )


def tuning_table(planned: PlannedTuning, stages: Mapping[Stage, Measured], workspace: Workspace) -> Table:
    """A row a setting and stage, in the order in which they were asked for."""
    study, protocol, results = planned.study, planned.tuning.protocol, planned.results
    columns = (
        Column("stage", kind="text"),
        Column("lr", kind="text"),
        Column("weight decay", kind="text"),
        Column("drop path", kind="text"),
        Column(protocol.unit, kind="text"),
        Column("box AP", precision=1),
        Column("against the best", precision=1, signed=True),
        Column("", kind="text"),
    )
    rows = []
    for stage, point in _in_order(planned):
        measured = stages.get(stage)
        against = None if measured is None else measured.against.get(point)
        value = results.get(point)
        best = measured is not None and point == measured.best
        runs = study.runs_of(point.name(protocol))
        states = dict.fromkeys(
            state_in_words(workspace.run(run.run_id).read_status() if run.run_id else None) for run in runs
        )
        mark = "best" if best else EQUAL if measured is not None and point in measured.equal else ""
        rows.append(
            (
                protocol.larger if point.larger else stage,
                f"{point.lr(protocol):.4g}",
                f"{point.weight_decay(protocol):.4g}",
                f"{point.drop_path:g}",
                f"{point.length:g}",
                Cell(value, style="bold" * best),
                Cell(None, "")
                if against is None
                else Cell(against.value, f"{against.value:+.1f} [{against.low:+.1f}, {against.high:+.1f}]"),
                mark if value is not None else ", ".join(states),
            )
        )
    return Table("Settings that were tried", columns, tuple(rows))


def tuning_csv(table: Table) -> str:
    """The table as CSV, with units in the header."""
    columns = (
        replace(one, unit="points" if one.name in ("box AP", "against the best") else "", key=one.name or "remark")
        for one in table.columns
    )
    return csv_text(replace(table, columns=tuple(columns)))


def _in_order(planned: PlannedTuning) -> Iterator[tuple[Stage, Point]]:
    """Every point under each stage that tries it."""
    stages: list[Stage] = ["grid", "drop path"]
    if planned.tuning.protocol.larger:
        stages.append("larger model")
    seen = set(planned.step.points)
    for stage in stages:
        if stage == "grid" or "grid" in planned.step.best:
            points = points_of(planned, stage)
            ordered = sorted(points) if stage == "grid" else points
            yield from ((stage, point) for point in ordered if point in seen)


def tuning_document(planned: PlannedTuning, stages: Mapping[Stage, Measured]) -> dict[str, object]:
    """``--json``."""
    protocol, step = planned.tuning.protocol, planned.step
    points = []
    for stage, point in _in_order(planned):
        measured = stages.get(stage)
        against = None if measured is None else measured.against.get(point)
        points.append(
            {
                "stage": stage,
                "variant": point.name(protocol),
                "lr": point.lr(protocol),
                "weight_decay": point.weight_decay(protocol),
                "drop_path": point.drop_path,
                protocol.unit: point.length,
                "run": point in planned.results,
                "box_AP": planned.results.get(point),
                "best": measured is not None and point == measured.best,
                "against_best": None if against is None else [against.value, against.low, against.high],
                "differs_from_best": None if against is None else not against.low <= 0 <= against.high,
            }
        )
    return {
        "schema": SCHEMA,
        "study": planned.study.name,
        "synthetic": planned.study.synthetic,
        "initialisation": planned.tuning.initialisation,
        "held_out": planned.tuning.held_out,
        "stage": step.stage,
        "trouble": step.trouble,
        "next": [point.name(protocol) for point in step.missing],
        "best": {stage: point.name(protocol) for stage, point in step.best.items()},
        "points": points,
    }


def tuning_figure(
    planned: PlannedTuning, stages: Mapping[Stage, Measured], style: FigureStyle = SCREEN
) -> Picture | None:
    """The heat map of the grid, and box AP by drop path beside it; none before the grid is over."""
    if "grid" not in stages or not any(planned.results.get(point) is not None for point in stages["grid"].points):
        return None
    rates: dict[Stage, Measured] = {stage: one for stage, one in stages.items() if stage != "grid"}
    grid = stages["grid"]
    across = 1 + len({point.weight_decay_doublings for point in grid.points})
    panels = 1 + bool(rates)
    with drawing(style):
        if style.narrow:
            figure = new_figure(style.wide(), 2.3 * panels)
            axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
        else:
            figure = new_figure(style.wide(1.0 + 0.85 * across + 3.0 * bool(rates)), 3.2)
            axes = figure.subplots(1, panels, width_ratios=[across, 4][:panels], squeeze=False)[0]
        _heat_map(axes[0], planned, grid, style)
        if rates:
            _curves(axes[1], planned, rates, style)
        return finish(figure, _caption(planned, rates), style)


def _heat_map(axis: Axes, planned: PlannedTuning, grid: Measured, style: FigureStyle) -> None:
    """A cell a pair of learning rate (upwards) and weight decay, with its AP; the best in a frame."""
    protocol, results = planned.tuning.protocol, planned.results
    rows = sorted({point.lr_doublings for point in grid.points})
    columns = sorted({point.weight_decay_doublings for point in grid.points})
    values = np.full((len(rows), len(columns)), np.nan)
    cells = {}
    for point in grid.points:
        place = rows.index(point.lr_doublings), columns.index(point.weight_decay_doublings)
        cells[place] = point
        value = results.get(point)
        values[place] = np.nan if value is None else value
    axis.imshow(np.ma.masked_invalid(values), origin="lower", cmap="viridis", aspect="auto")
    axis.set_facecolor("0.85")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), point in cells.items():
        value = values[row, column]
        text = "no result" if np.isnan(value) else f"{value:.1f}{f' {EQUAL}' * (point in grid.equal)}"
        dark = not np.isnan(value) and value < middle
        axis.text(
            column, row, text, ha="center", va="center", color="white" if dark else "black",
            fontsize=style.size(7 if np.isnan(value) else 9), fontweight="bold" if point == grid.best else "normal",
        )  # fmt: skip
        if point == grid.best:
            axis.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor="red", linewidth=2))
    lrs = [protocol.lr * 2.0**row for row in rows]
    decays = [protocol.weight_decay * 2.0**column for column in columns]
    axis.set_yticks(range(len(rows)), [f"{lr:.3g}" for lr in lrs])
    axis.set_xticks(range(len(columns)), [f"{decay:.3g}" for decay in decays])
    axis.grid(visible=False)
    axis.set(xlabel="weight decay", ylabel="learning rate")
    axis.set_title(f"box AP, {protocol.grid_length:g} {protocol.unit}", fontsize=style.size(9))


def _curves(axis: Axes, planned: PlannedTuning, stages: Mapping[Stage, Measured], style: FigureStyle) -> None:
    """AP by drop path, a line a model; bars are the interval of the difference to the best."""
    protocol = planned.tuning.protocol
    for stage, one in stages.items():
        best = planned.results[one.best]
        assert best is not None
        found = {point: value for point in one.points if (value := planned.results.get(point)) is not None}
        label = protocol.larger if stage == "larger model" else "the base's model"
        line = axis.plot([point.drop_path for point in found], list(found.values()), "o-", label=label, markersize=4.5)[
            0
        ]
        for point, difference in one.against.items():
            axis.plot(
                [point.drop_path] * 2, [best + difference.low, best + difference.high], "-", color=line.get_color(),
                linewidth=1, alpha=0.6,
            )  # fmt: skip
        axis.plot([one.best.drop_path], [best], "o", markersize=10, fillstyle="none", color="red")
    axis.set_xticks(protocol.drop_paths)
    axis.set(xlabel="drop path", ylabel="box AP (points)")
    axis.set_title(f"{protocol.drop_path_length:g} {protocol.unit}", fontsize=style.size(9))
    if len(stages) > 1:
        axis.legend(fontsize=style.size(8), frameon=False)


def _caption(planned: PlannedTuning, rates: Mapping[Stage, Measured]) -> str:
    """The caption: what the figure shows, on which data, and the meaning of its marks."""
    study, held_out, protocol = planned.study, planned.tuning.held_out, planned.tuning.protocol
    where = (
        f"chosen on {100 * held_out:.0f} % of the training images"
        if held_out
        else "chosen on the validation images: optimistic"
    )
    facts = [study.name, "synthetic data: demonstration only, not evidence" * study.synthetic, where]
    shows = "Box AP by learning rate and weight decay" + ", and by drop path" * bool(rates)
    return (
        f"{shows}, of {', '.join(filter(None, facts))}; one run per setting, {protocol.grid_length:g} {protocol.unit}. "
        f"{EQUAL} no significant difference from the best (paired 95 % interval, shown as bars); frame or ring: the "
        "best."
    )
