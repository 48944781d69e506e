"""The breakdown of the AP into six types of error: its tables, and what a terminal shows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run, RunAnalysis
from analysis.evaluation.average_precision import MAX_DETS
from analysis.evaluation.cap import OverCap
from analysis.evaluation.error_types import ERROR_TYPES, SHAPES, SPECIAL
from analysis.evaluation.matched_run import UNCHECKED
from analysis.evaluation.selection import LowScores, is_class_agnostic
from analysis.evaluation.settings import Settings, ap_name
from analysis.render.advice import (
    COSTLY_MEANS,
    cap_matters,
    error_takeaways,
    low_scores_sentence,
    over_cap_sentence,
)
from analysis.render.screen import NOTE, dimmed, fact_list, fixed_width
from analysis.render.table import Cell, Column, Table, Value, best, without_bold
from analysis.render.takeaways import (
    counts_sentence,
    interval_text,
    resampled_sentence,
    settings_sentence,
    source_sentence,
)
from analysis.stats.intervals import Interval

if TYPE_CHECKING:
    from analysis.stats.compare import Comparison

COUNTS = "costly/all"  # the head over the counts of errors
SIDE_BY_SIDE = 3  # up to so many runs stand as columns, with bars; more stand as rows


def error_column(error: str) -> Column:
    """A column of points to gain by fixing one type of error."""
    return Column(ERROR_TYPES[error].label, precision=2, style=ERROR_TYPES[error].colour)


def ap_column(name: str, *, paper: bool = False, hint: str | None = None) -> Column:
    """A column of AP in points: one decimal in a terminal, two in a paper."""
    return Column(name, precision=2 if paper else 1, hint=hint)


def known_metric(number: float) -> float | None:
    """One of COCO's numbers; its -1 is a missing value."""
    return number if number >= 0 else None


def errors_table(
    ground_truth: GroundTruth,
    settings: Settings,
    runs: Sequence[Run],
    measured: "Comparison | None" = None,
    *,
    paper: bool = False,
) -> Table:
    """A row a run, a column an error type; the highest AP and the smallest loss of each type in bold.

    Args:
        ground_truth: of all runs.
        settings: of all runs.
        runs: with their breakdowns.
        measured: the intervals of the numbers, which then stand beside them.
        paper: whether AP has two decimals, and nothing is in bold, since one model does not predict another training.
    """
    name = ap_name(settings.iou)
    columns = [Column("run", kind="text"), ap_column(name, paper=paper), *map(error_column, ERROR_TYPES)]
    values: list[Sequence[Value]] = [
        [run.name for run in runs],
        best([run.breakdown.ap for run in runs], columns[1]),
        *(
            best([run.breakdown.delta_ap[error] for run in runs], column, low=True)
            for error, column in zip(ERROR_TYPES, columns[2:], strict=True)
        ),
    ]
    notes: tuple[str, ...] = (
        f"Points of {name} to gain by fixing one type of error alone; they do not add up, because fixing one "
        "changes what the others cost.",
        source_sentence(ground_truth, settings),
    )
    if measured:
        notes = (f"In brackets: 95 % intervals, {resampled_sentence(measured)}.", *notes)
        known = {one.name: one.numbers for one in measured.candidates}
        values[1:] = [
            [_with_interval(value, known[run.name][number]) for value, run in zip(column, runs, strict=True)]
            for number, column in zip((name, *ERROR_TYPES), values[1:], strict=True)
        ]
    table = Table(
        f"{name}, and the points of it to gain by fixing one type of error alone",
        tuple(columns),
        tuple(zip(*values, strict=True)),
        notes=notes,
        label="errors",
    )
    return without_bold(table) if paper else table


def _with_interval(value: Value, number: Interval) -> Cell:
    cell = Cell.of(value)
    return replace(cell, text=interval_text(number))


def types_table(settings: Settings, runs: Sequence[RunAnalysis]) -> Table:
    """A row an error type, three columns a run: the points lost, a bar, how many are costly and how many there are."""
    name = ap_name(settings.iou)
    columns = [Column("error", kind="text"), Column("meaning", kind="text")]
    score: list[Value] = [Cell(name, style="bold"), Cell("average precision (0 to 100)", style="bold")]
    for run in runs:
        columns += [
            Column(run.name, precision=2),
            Column("", kind="bar"),
            Column(COUNTS, attached=True, missing=""),
        ]
        score += [Cell(run.breakdown.ap, f"{run.breakdown.ap:.1f}", style="bold"), None, None]
    rows: list[tuple[Value, ...] | str] = [tuple(score), f"{name} gained if only this type is fixed:"]
    for error, one in ERROR_TYPES.items():
        row: list[Value] = [Cell(one.label, style=one.colour), one.described(settings.iou_type)]
        for run in runs:
            value, counts = run.breakdown.delta_ap[error], counts_cell(run, error)
            row += [value, Cell(value, style=one.colour) if counts.value is not None else None, counts]
        rows += [f"{name} gained if all FP or all FN are fixed:"] * (error == SPECIAL[0])
        rows.append(tuple(row))
    return Table("", tuple(columns), tuple(rows), gap=1)


def counts_cell(run: RunAnalysis, error: str) -> Cell:
    """How many errors of a type are costly, and how many there are; empty for a total."""
    count = run.breakdown.count.get(error)
    if count is None or run.at_stake is None:
        return Cell(count, style="dim")
    return Cell(count, f"{int(run.at_stake.costly[error].sum()):,}/{count:,}", style="dim")


def errors_screen(ground_truth: GroundTruth, settings: Settings, runs: Sequence[RunAnalysis]) -> list[RenderableType]:
    """Everything that ``analyze errors`` shows: runs as columns with bars where there is room, else as rows."""
    room, name = fixed_width(), ap_name(settings.iou)
    table = types_table(settings, runs)
    tables: list[RenderableType] = [table]
    counts = f"{COUNTS}: number of costly errors / of all errors of the type. "
    if len(runs) > SIDE_BY_SIDE or (room is not None and table.width > room):
        meanings = [
            (Text(one.label, style=one.colour), one.described(settings.iou_type)) for one in ERROR_TYPES.values()
        ]
        by_run = replace(errors_table(ground_truth, settings, runs), title="", notes=())
        tables, counts = [by_run, Text(""), fact_list(meanings)], ""
    return [
        fact_list([*read_facts(ground_truth, [(run.name, run.detections) for run in runs]),
                   ("settings", settings_sentence(settings)),
                   *(fact for run in runs if run.at_stake
                     for fact in left_out(run.name, settings, run.at_stake.over_cap, run.at_stake.low_scores, name,
                                     unchecked_detections(run)))]),
        Text(""),
        *tables,
        dimmed(
            f"Each number is the {name} gained if all errors of that type are fixed and nothing else changes: a wrong "
            f"category or {SHAPES[settings.iou_type]} is corrected, a spurious detection is removed, a missed object "
            "is removed from the ground truth. The numbers do not add up to 100, because fixing one type changes the "
            "cost of the others. miss: objects without a match or a near match (a near match is a cls or loc error); "
            "FN: all objects without a match. "
            + f"{counts}{COSTLY_MEANS}." + _one_category(ground_truth)
        ),
        Text(""),
        Text("What to look at next", style="bold underline"),
        fact_list([(run.name, sentence) for run in runs for sentence in error_takeaways(ground_truth, run)]),
    ]  # fmt: skip


def _one_category(ground_truth: GroundTruth) -> str:
    """The note on the error types that cannot occur with a single category."""
    if len(ground_truth.category_id) > 1:
        return ""
    kinds = "All categories are taken as one" if is_class_agnostic(ground_truth) else "There is one category"
    return f" {kinds}, so errors of cls and both cannot occur."


def unchecked_detections(run: Run) -> int:
    """How many detections are of a category that was not looked for in their image."""
    return int((run.breakdown.labels.error == UNCHECKED).sum())


def left_out(
    run: str, settings: Settings, over: OverCap | None, low: LowScores | None, score: str, unchecked: int = 0
) -> list[tuple[str, str]]:
    """What is not measured of a run, for the cap or for a low score; a warning where the cap decides."""
    facts = []
    if unchecked:
        facts.append(
            (
                "left out",
                f"{run}: {unchecked:,} detections of categories that were not checked in their image (LVIS's rules)",
            )
        )
    if low:
        facts.append(("left out", f"{run}: {low_scores_sentence(settings, low, score)}"))
    if over:
        facts.append((NOTE if cap_matters(over) else "cap", f"{run}: {over_cap_sentence(settings, over, score)}"))
    return facts


def ap_at(max_dets: int) -> str:
    """What COCO's AP is called under a cap: AP alone under that of COCO.

    >>> ap_at(100), ap_at(300)
    ('AP', 'AP@300')
    """
    return "AP" if max_dets == MAX_DETS[-1] else f"AP@{max_dets}"


def read_facts(ground_truth: GroundTruth, runs: Sequence[tuple[str, Detections]]) -> list[tuple[str, str]]:
    """The ground truth and the predictions that were read, as facts for a screen."""
    return [
        ("ground truth", counts_sentence(ground_truth)),
        *(("predictions", f"{name}: {len(detections):,} detections") for name, detections in runs),
    ]
