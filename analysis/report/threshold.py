"""The section of score thresholds: what each run shows at its own best one, and which run is better there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.arrays import Floats
from analysis.render.markup import Markup, join, tag
from analysis.render.operating_point import (
    confusion_counts,
    curve_columns,
    errors_table,
    fold_range,
    is_significant,
    legend,
    rate_text,
    rates_table,
)
from analysis.render.table import Cell, Column, Row, Table, Value
from analysis.render.takeaways import typeset
from analysis.report.charts import PlotLine, run_letter
from analysis.report.charts import curves as drawn
from analysis.report.charts import legend as legend_of_runs
from analysis.report.components import apart, run_name, scrolling
from analysis.report.page import Section
from analysis.report.report_data import ReportData
from analysis.stats.operating_point import OperatingPoint, RunAtThreshold, f1_differences

RATES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
MOST_POINTS = 200  # of a curve
TICKS = 5


def threshold(data: ReportData) -> list[Section]:
    """Rates at the score with the best F1 of each run; no section where they were not measured."""
    if not data.at_thresholds:
        return []
    points = [one.point for one in data.at_thresholds]
    named = [run_name(place, one.name) for place, one in enumerate(data.at_thresholds)]
    measured = [rates_table(points), errors_table(data.at_thresholds), _detections_table(data.at_thresholds)]
    if any(one.fold_thresholds for one in points):
        measured.insert(1, _choice_table(points))
    tables = []
    for table in measured:
        rows: tuple[Row, ...] = tuple(
            (name, *map(apart, row[1:])) for name, row in zip(named, table.cells, strict=True)
        )
        tables.append(scrolling(replace(table, rows=rows), table.title, "numbers"))
    body = [
        tag("p", typeset(f"Each run at the score with its best F1. {legend(points[0].criterion)}")),
        *tables,
        legend_of_runs(data.names),
        tag("div", *(_figure(data, rate) for rate in RATES), class_="charts"),
    ]
    return [Section("threshold", "Threshold", "Precision, recall and F1 at a score threshold", join(body))]


def _choice_table(points: Sequence[OperatingPoint]) -> Table:
    """A row a run: its F1 against the first, and what depends on the images that chose the threshold."""
    rated = [one for one in points if one.rates]
    differences = f1_differences(rated)
    compared = Column(f"F1 minus {rated[0].name}", precision=3, signed=True, missing="")
    columns = (
        Column("run", kind="text"),
        *[compared] * bool(differences),
        Column("F1 on the images used to choose", precision=3),
        Column("thresholds of the five parts", kind="number"),
    )
    rows: list[Row] = []
    for one in points:
        cells: list[Value] = [one.name]
        if differences:
            known = differences.get(one.name)
            starred = known is not None and is_significant(known)
            text = "" if known is None else rate_text(known, sign=True)
            cells.append(Cell(known.value if known else None, text, bold=starred, suffix="*" * starred))
        spread = fold_range(one)
        rows.append((*cells, float(one.in_sample.f1) if one.rates else None, Cell(spread or None, spread)))
    title = "How the threshold depends on the images"
    if differences:
        title = f"F1, each run at its own threshold (* significant at 5\xa0%), and {title.lower()}"
    return Table(title, columns, tuple(rows))


def _detections_table(runs: Sequence[RunAtThreshold]) -> Table:
    """A row a run: how many detections are at or above its threshold, and which of them are wrong."""
    counts = [confusion_counts(one) for one in runs]
    rows: tuple[Row, ...] = tuple((one.name, *of_run.values()) for one, of_run in zip(runs, counts, strict=True))
    return Table("Detections at or above the threshold", (Column("run", kind="text"), *map(Column, counts[0])), rows)


def _figure(data: ReportData, rate: str) -> Markup:
    curves = [_curve(one, rate) for one in data.at_thresholds]
    some = [x for x, _ in curves if len(x)]
    low = min((float(x.min()) for x in some), default=0.0)
    high = max((float(x.max()) for x in some), default=1.0)
    low, high = (0.0, 1.0) if 0 <= low <= high <= 1 else (low, max(high, low + 1e-9))
    marked = [one.point.threshold for one in data.at_thresholds]
    lines = [PlotLine(place, y, x, marked[place]) for place, (x, y) in enumerate(curves) if len(x)]
    best = [one.point.rates.get(rate) for one in data.at_thresholds]
    short = " · ".join(
        f"{run_letter(place)} {known.value:.3f}" for place, known in enumerate(best) if known is not None
    )
    chart = drawn(
        lines,
        label=f"{RATES[rate]} by score threshold",
        x_title="score threshold",
        y_title=RATES[rate].lower() if rate != "f1" else "F1",
        x_range=(low, high),
        x_ticks=np.linspace(low, high, TICKS).round(3).tolist(),
    )
    return tag("figure", tag("figcaption", tag("strong", RATES[rate]), f" at the threshold: {short}"), chart)


def _curve(one: RunAtThreshold, rate: str) -> tuple[Floats, Floats]:
    """Scores, ascending, and the rate from each on; a part of them where there are many."""
    columns = curve_columns(one)
    score, values = columns["score"][::-1], np.nan_to_num(columns[rate][::-1])
    if not len(score):
        return score, values
    rows = np.unique(np.linspace(0, len(score) - 1, MOST_POINTS).astype(np.int64))
    even = np.searchsorted(score, np.linspace(score[0], score[-1], MOST_POINTS))
    rows = np.union1d(rows, np.minimum(even, len(score) - 1))
    return score[rows], values[rows]
