"""The breakdown of the AP into six types of error, and COCO's numbers: their tables, and what a terminal shows."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.text import Text

from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run
from analysis.evaluation.error_types import ERROR_TYPES, SPECIAL
from analysis.evaluation.settings import Settings, ap_name
from analysis.render.screen import dimmed, fact_list, plain_console
from analysis.render.table import Cell, Column, Table, Value, best
from analysis.render.takeaways import counts_sentence, error_takeaways, settings_sentence, source_sentence

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


def errors_table(ground_truth: GroundTruth, settings: Settings, runs: Sequence[Run], *, paper: bool = False) -> Table:
    """A row a run, a column an error type; the highest AP and the smallest loss of each type in bold."""
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
    return Table(
        f"{name}, and the points of it to gain by fixing one type of error alone",
        tuple(columns),
        tuple(zip(*values, strict=True)),
        notes=(
            f"Points of {name} to gain by fixing one type of error alone; they do not add up, because fixing one "
            "changes what the others cost.",
            source_sentence(ground_truth, settings),
        ),
        label="errors",
    )


def types_table(settings: Settings, runs: Sequence[Run]) -> Table:
    """A row an error type, three columns a run: the points lost, a bar, the count."""
    name = ap_name(settings.iou)
    columns = [Column("error", kind="text"), Column("what it is", kind="text")]
    score: list[Value] = [Cell(name, style="bold"), Cell("average precision, of 100", style="bold")]
    for run in runs:
        columns += [
            Column(run.name, precision=2),
            Column("", kind="bar"),
            Column("count", attached=True, missing=""),
        ]
        score += [Cell(run.breakdown.ap, f"{run.breakdown.ap:.1f}", style="bold"), None, None]
    rows: list[tuple[Value, ...] | str] = [tuple(score), f"{name} to gain if this error alone were fixed:"]
    for error, one in ERROR_TYPES.items():
        row: list[Value] = [Cell(one.label, style=one.colour), one.description]
        for run in runs:
            value, count = run.breakdown.delta_ap[error], run.breakdown.count.get(error)
            row += [value, None if count is None else Cell(value, style=one.colour), Cell(count, style="dim")]
        rows += ["or if all of a kind were fixed:"] * (error == SPECIAL[0])
        rows.append(tuple(row))
    return Table("", tuple(columns), tuple(rows), gap=1)


def metrics_table(metrics: Sequence[tuple[str, dict[str, float]]]) -> Table:
    """COCO's numbers, a row a run; the highest of each in bold. COCO's -1 is a missing value."""
    names = list(metrics[0][1])
    values: list[Sequence[Value]] = [
        [run for run, _ in metrics],
        *(best([known_metric(numbers[name]) for _, numbers in metrics], ap_column(name)) for name in names),
    ]
    columns = (Column("run", kind="text"), *map(ap_column, names))
    return Table("", columns, tuple(zip(*values, strict=True)))


def errors_screen(ground_truth: GroundTruth, settings: Settings, runs: Sequence[Run]) -> list[RenderableType]:
    """Everything that ``analyze errors`` shows: runs as columns with bars where there is room, else as rows."""
    console, name = plain_console(), ap_name(settings.iou)
    table = types_table(settings, runs)
    tables: list[RenderableType] = [table]
    if len(runs) > SIDE_BY_SIDE or (console.is_terminal and table.width > console.width):
        meanings = [(Text(one.label, style=one.colour), one.description) for one in ERROR_TYPES.values()]
        by_run = replace(errors_table(ground_truth, settings, runs), title="", notes=())
        tables = [by_run, Text(""), fact_list(meanings)]
    return [
        fact_list([*read_facts(ground_truth, [(run.name, run.detections) for run in runs]),
                   ("compared", settings_sentence(settings))]),
        Text(""),
        *tables,
        dimmed(
            f"Each number is the {name} gained when that one error is fixed everywhere: a wrong category or box is put "
            "right, a spurious detection is removed, a missed object is no longer asked for. They do not add up to "
            "100: fixing one changes what the others cost. miss: objects that nothing points at; FN: all objects that "
            "were not found, also those that a cls or loc error points at."
        ),
        Text(""),
        Text("What to look at next", style="bold underline"),
        fact_list([(run.name, sentence) for run in runs for sentence in error_takeaways(ground_truth, run)]),
    ]  # fmt: skip


def ap_screen(
    ground_truth: GroundTruth, iou_type: str, metrics: Sequence[tuple[str, Detections, dict[str, float]]]
) -> list[RenderableType]:
    """Everything that ``analyze ap`` shows: a row a run."""
    return [
        fact_list(read_facts(ground_truth, [(name, detections) for name, detections, _ in metrics])),
        Text(""),
        metrics_table([(name, numbers) for name, _, numbers in metrics]),
        dimmed(
            f"COCO's numbers for {'boxes' if iou_type == 'bbox' else 'masks'}, in points. AP: mean over IoU 0.50 to "
            "0.95; s, m, l: objects up to 32 x 32, up to 96 x 96 and larger, in pixels; AR: recall with at most 1, 10 "
            "or 100 detections an image and category; -: no object to measure."
        ),
    ]


def read_facts(ground_truth: GroundTruth, runs: Sequence[tuple[str, Detections]]) -> list[tuple[str, str]]:
    """What was read: ground truth and predictions."""
    return [
        ("ground truth", counts_sentence(ground_truth, "categories")),
        *(("predictions", f"{name}: {len(detections):,} detections") for name, detections in runs),
    ]
