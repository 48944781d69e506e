"""The AP lost to errors, split by class, size, IoU threshold and crowding, and by confused classes: tables and screen.

Every slice is one table, built once: a terminal shows its first rows, ``--out`` writes more of them for papers, and the
report adds charts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from analysis.arrays import Floats, Ints
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.confusion import Confusion
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.outcomes import FOUND, IGNORED, OUTCOME_NAMES
from analysis.evaluation.settings import Settings, ap_name, iou_name
from analysis.evaluation.slices import ClassErrors, CrowdingBins, IouErrors, Size, SizeErrors
from analysis.render.advice import COSTLY_MEANS
from analysis.render.errors import SIDE_BY_SIDE, ap_column, error_column
from analysis.render.screen import fact_list
from analysis.render.table import Cell, Column, Table, Value, without_bold
from analysis.render.takeaways import OUTCOMES, slice_takeaways, source_sentence

PAPER_ROWS = 20  # classes and confused pairs of a run in a paper; the CSV has all
ON_SCREEN, IN_PAPER = "--all shows all classes", "the CSV file has all classes"
FIRST_ROWS = 10  # in a terminal; with many runs fewer
FIRST_OF_MANY = 5

Rows = list[tuple[Value, ...]]


def slices_screen(
    ground_truth: GroundTruth,
    settings: Settings,
    analyses: Sequence[RunAnalysis],
    everything: bool = False,
    min_objects: int = 0,
) -> list[RenderableType]:
    """The slices one below the other, each with its takeaways; ``everything``: all classes and pairs."""
    most = None if everything else FIRST_ROWS if len(analyses) <= SIDE_BY_SIDE else FIRST_OF_MANY
    takeaways = [slice_takeaways(ground_truth, one) for one in analyses]
    screen: list[RenderableType] = []
    for name, table in slice_tables(ground_truth, settings, analyses, most, min_objects).items():
        part = name.removeprefix("by_")
        facts = [(one.name, own[part]) for one, own in zip(analyses, takeaways, strict=True) if part in own]
        screen += [Text(""), Text(table.title, style="bold underline")]
        screen += [fact_list(facts), Text("")] if facts else []
        screen.append(replace(table, title=""))
    return screen


def slice_tables(
    ground_truth: GroundTruth,
    settings: Settings,
    analyses: Sequence[RunAnalysis],
    most: int | None = PAPER_ROWS,
    min_objects: int = 0,
    *,
    paper: bool = False,
) -> dict[str, Table]:
    """The table of each slice that was computed and has rows, by the name of its file.

    Args:
        ground_truth: of all runs.
        settings: of all runs.
        analyses: of each run.
        most: classes and confused pairs of each run; none: all.
        min_objects: classes with fewer are left out.
        paper: whether AP has two decimals and the note says what it was made from.
    """
    makers: dict[str, tuple[str, Callable[..., Table]]] = {
        "by_class": ("classes", partial(class_table, most=most, min_objects=min_objects)),
        "by_size": ("sizes", size_table),
        "by_iou": ("ious", iou_table),
        "by_crowding": ("crowding", crowding_table),
        "confusion": ("confusion", partial(confusion_table, ground_truth, settings, most=most)),
    }
    made_from = (source_sentence(ground_truth, settings),) if paper else ()
    tables = {}
    for name, (part, make) in makers.items():
        if parts := parts_of(analyses, part):
            table = make(parts, paper=paper)
            table = without_bold(table) if paper else table  # it is the largest of a row, as its colour says
            tables[name] = replace(table, notes=(*table.notes, *made_from))
    return {name: table for name, table in tables.items() if table.rows}


def parts_of(analyses: Sequence[RunAnalysis], name: str) -> list[tuple[str, Any]]:
    """One part of each analysis with the name of its run; nothing where it was not computed."""
    return [(one.name, part) for one in analyses if (part := getattr(one, name)) is not None]


def class_table(
    parts: Sequence[tuple[str, ClassErrors]],
    most: int | None = None,
    *,
    chosen: Sequence[int] | None = None,
    min_objects: int = 0,
    paper: bool = False,
) -> Table:
    """A row a class: its own AP, and the points of it to gain.

    Args:
        parts: the classes of each run, with its name.
        most: classes of each run, those with the most to gain from a single type; none: all.
        chosen: categories to show in this order instead.
        min_objects: classes with fewer are left out.
        paper: as in :func:`slice_tables`.
    """
    ap, first = ap_name(parts[0][1].settings.iou), parts[0][1]

    def rows(classes: ClassErrors) -> Rows:
        gains = _gains(classes.delta_ap)
        shown = classes.costliest(most, min_objects).tolist() if chosen is None else chosen
        return [(classes.names[c], int(classes.positives[c]), float(classes.ap[c]), *gains[c]) for c in shown]

    known = len(first.costliest())
    enough = len(first.costliest(None, min_objects))
    of = f"{enough:,} classes of {min_objects} objects or more" if enough < known else f"{known:,} classes"
    if most and enough > most:
        note = f"The {most} of {of} with the most to gain from a single type"
    else:
        note = f"The {of}, of {known:,}" if enough < known else ""
    return _by_run(
        f"By class: points of the class's own {ap} to gain by fixing all errors of one type",
        "by-class",
        (Column("class", kind="text"), Column("objects"), ap_column(ap, paper=paper), *map(error_column, ERRORS)),
        [(run, rows(classes)) for run, classes in parts],
        notes=(f"{note}." if paper or not (most and enough > most) else f"{note}; {ON_SCREEN}.",) if note else (),
        always=paper,
    )


def size_table(parts: Sequence[tuple[str, SizeErrors]], *, paper: bool = False) -> Table:
    """A row a size of objects: the share that was found, and the points to gain by fixing its errors alone."""

    def rows(sizes: SizeErrors) -> Rows:
        each = zip(sizes.sizes, sizes.objects.tolist(), sizes.found.tolist(), _gains(sizes.delta_ap), strict=True)
        return [(size.name, objects, _percent(found, objects), *gains) for size, objects, found, gains in each]

    settings = parts[0][1].settings
    return _by_run(
        f"By size: points of {ap_name(settings.iou)} to gain by fixing only the errors of one type and size",
        "by-size",
        (
            Column("size", kind="text"),
            Column("objects"),
            Column("found", unit="%", precision=0),
            *map(error_column, ERRORS),
        ),
        [(run, rows(sizes)) for run, sizes in parts],
        notes=(size_sentence(parts[0][1].sizes, settings.convention),),
        always=paper,
    )


def iou_table(parts: Sequence[tuple[str, IouErrors]], *, paper: bool = False) -> Table:
    """A row a threshold and their mean; of many runs in a terminal the mean alone."""
    special, iou = SPECIAL if paper else (), iou_name(parts[0][1].settings.iou_type)

    def rows(ious: IouErrors) -> Rows:
        mean, gains = ious.mean_delta_ap, _gains(ious.delta_ap)
        each: Rows = [
            (f"{iou:.2f}", float(ious.ap[t]), *gains[t], *(float(ious.delta_ap[e][t]) for e in special))
            for t, iou in enumerate(ious.ious.tolist())
        ]
        names = (Cell("mean", style="bold"), Cell(ious.mean_ap, style="bold"))
        last: tuple[Value, ...] = (
            *names,
            *_gains({e: np.array([mean[e]]) for e in ERRORS})[0],
            *(mean[e] for e in special),
        )
        return [*each, last] if paper or len(parts) <= SIDE_BY_SIDE else [last]

    return _by_run(
        f"By {iou} threshold: points of AP to gain by fixing all errors of one type",
        "by-iou",
        (Column(iou, kind="text", key="IoU"), ap_column("AP", paper=paper), *map(error_column, (*ERRORS, *special))),
        [(run, rows(ious)) for run, ious in parts],
        always=paper,
    )


def crowding_table(parts: Sequence[tuple[str, CrowdingBins]], *, paper: bool = False) -> Table:
    """A row a range of crowding and one for all objects: what became of them."""
    kinds = [i for i in range(len(OUTCOME_NAMES)) if i != IGNORED]

    def row(name: str, outcome: Ints, duplicates: int) -> tuple[Value, ...]:
        objects, found = int(outcome.sum() - outcome[IGNORED]), int(outcome[FOUND])
        shares = (_percent(int(outcome[i]), objects) for i in kinds)
        return (name, objects, *shares, duplicates / found if found else None)

    def rows(bins: CrowdingBins) -> Rows:
        total = row("all", bins.outcome.sum(axis=0), int(bins.duplicates.sum()))
        return [*map(row, bins.names, bins.outcome, bins.duplicates.tolist()), total]

    return _by_run(
        "By crowding: outcome of objects by their highest box IoU with another object of the same class",
        "by-crowding",
        (
            Column("box IoU", kind="text", key="IoU"),
            Column("objects"),
            *(Column(OUTCOME_NAMES[i], precision=0) for i in kinds),
            Column("dup", precision=2),
        ),
        [(run, rows(bins)) for run, bins in parts],
        notes=(f"Outcomes in % of the objects; {OUTCOMES}; dup: duplicate detections per found object.",),
        always=paper,
    )


def confusion_table(
    ground_truth: GroundTruth,
    settings: Settings,
    parts: Sequence[tuple[str, Confusion]],
    most: int | None = None,
    *,
    paper: bool = False,
) -> Table:
    """A row a pair of classes, the costliest first."""
    names = ground_truth.category_name

    def row(pairs: Confusion, i: int) -> tuple[Value, ...]:
        assert pairs.cost is not None
        assert pairs.costly is not None
        return (
            names[pairs.true[i]],
            names[pairs.predicted[i]],
            float(pairs.cost[i]),
            int(pairs.count[i]),
            int(pairs.costly[i]),
            int(pairs.objects[i]),
        )

    return _by_run(
        f"Confusion: points of {ap_name(settings.iou)} to gain if objects of one class were not predicted as another",
        "confusion",
        (
            Column("class", kind="text"),
            Column("predicted as", kind="text", key="taken for"),
            Column("to gain", precision=2),
            Column("detections"),
            Column("costly"),
            Column("lost"),
        ),
        [(run, [row(pairs, i) for i in pairs.wrong(most).tolist()]) for run, pairs in parts],
        notes=(f"{COSTLY_MEANS}; lost: objects not found that fixing this pair would recover.",),
        names=2,
        always=paper,
    )


def _by_run(
    title: str,
    label: str,
    columns: tuple[Column, ...],
    by_run: Sequence[tuple[str, Rows]],
    *,
    notes: tuple[str, ...] = (),
    names: int = 1,
    always: bool = False,
) -> Table:
    """A table of the rows of some runs, the run in its first column where there are several, or ``always``."""
    if len(by_run) < 2 and not always:
        return Table(title, columns, tuple(row for _, rows in by_run for row in rows), notes, label, names)
    rows = tuple((Cell(run, style="bold"), *row) for run, rows in by_run for row in rows)
    return Table(title, (Column("run", kind="text"), *columns), rows, notes, label, names + 1, grouped=True)


def _gains(delta_ap: dict[str, Floats]) -> list[tuple[Cell, ...]]:
    """The points to gain of each row, one cell an error type; the largest of a row stands out."""
    values = np.array([delta_ap[error] for error in ERRORS])
    largest = (values == np.nanmax(values, axis=0, initial=0.0)) & (values > 0)
    colours = [ERROR_TYPES[error].colour for error in ERRORS]
    return [
        tuple(Cell(v, bold=b, style=colour * b) for v, b, colour in zip(row, bold, colours, strict=True))
        for row, bold in zip(values.T.tolist(), largest.T.tolist(), strict=True)
    ]


def points_text(points: float) -> str:
    """Points in a cell of a matrix: what rounds to nothing is a bare 0.

    >>> points_text(0.403), points_text(0.004)
    ('0.40', '0')
    """
    return f"{points:.2f}" if points >= 0.005 else "0"


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def size_sentence(sizes: Sequence[Size], convention: str) -> str:
    """What the names of the sizes mean, and of what they are.

    >>> from analysis.evaluation.slices import COCO_SIZES
    >>> print(size_sentence(COCO_SIZES, "coco").partition(". ")[0])
    Area (as in COCO, in pixels): small: up to 32 x 32, medium: 32 x 32 to 96 x 96, large: above 96 x 96
    """
    ranges = []
    for size in sizes:
        low, high = (f"{side:g} x {side:g}" for side in (size.low, size.high))
        limits = f"{low} to {high}" if size.low else f"up to {high}"
        ranges.append(f"{size.name}: {f'above {low}' if math.isinf(size.high) else limits}")
    return (
        f"Area ({'of the box' if convention == 'tidecv' else 'as in COCO'}, in pixels): {', '.join(ranges)}. It is the "
        "area of the object for cls, loc and miss, and of the detection for both, dup and bg."
    )
