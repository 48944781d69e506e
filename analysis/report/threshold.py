"""The section of score thresholds: what each run shows at its own best one, and which run is better there."""

from dataclasses import replace

import numpy as np

from analysis.arrays import Floats
from analysis.render.markup import Markup, join, tag
from analysis.render.operating_point import (
    confusion_sentence,
    curve_columns,
    errors_table,
    legend,
    rates_table,
    takeaways,
)
from analysis.render.table import Row
from analysis.report.charts import PlotLine, run_letter
from analysis.report.charts import curves as drawn
from analysis.report.charts import legend as legend_of_runs
from analysis.report.components import run_name, scrolling
from analysis.report.page import Section
from analysis.report.report_data import ReportData
from analysis.stats.operating_point import RunAtThreshold

RATES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
MOST_POINTS = 200  # of a curve
TICKS = 5


def threshold(data: ReportData) -> list[Section]:
    """Rates at the score with the best F1 of each run; no section where they were not measured."""
    if not data.at_thresholds:
        return []
    points = [one.point for one in data.at_thresholds]
    named = [run_name(place, one.name) for place, one in enumerate(data.at_thresholds)]
    tables = []
    for table in (rates_table(points), errors_table(data.at_thresholds)):
        rows: tuple[Row, ...] = tuple((name, *row[1:]) for name, row in zip(named, table.cells, strict=True))
        tables.append(scrolling(replace(table, rows=rows), table.title, "numbers"))
    said = [*takeaways(data.at_thresholds), *(f"{one.name}: {confusion_sentence(one)}" for one in data.at_thresholds)]
    body = [
        tag("p", f"Each run at the score with its best F1. {legend(points[0].criterion)}"),
        *tables,
        tag("ul", *(tag("li", f"{text}.") for text in said), class_="said"),  # they begin with the names of runs
        legend_of_runs(data.names),
        tag("div", *(_figure(data, rate) for rate in RATES), class_="charts"),
    ]
    return [Section("threshold", "Threshold", "Precision, recall and F1 at a score threshold", join(body))]


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
