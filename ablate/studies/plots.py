"""The answer of a study as figures: errors per variant as in the paper's Figure 4, and curves for numeric axes."""

import math
from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.studies.results import Row, Summary
from ablate.studies.tables import banner, over_seeds
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.render.fonts import warn_of_undrawable
from analysis.render.plots import (
    FORMATS,
    SIDE_BY_SIDE,
    distinct_colors,
    distinct_labels,
    encoded,
    error_bars,
    new_figure,
    paper_style,
)

LINES_A_ROW = 4  # in the legend of the curves


def errors_figure(summary: Summary) -> dict[str, bytes]:
    """Points lost to each type of error, a colour a variant; with several seeds a dot each.

    Of a numeric axis crossed with another, such as lengths with initialisations, a colour a line of `curves_figure`:
    the variant with the highest AP of it. Returns the encoded picture for each of the formats; nothing if no run is
    finished.
    """
    rows, at_best = _rows_with_errors(summary)
    if not rows:
        return {}
    kind, _ = summary.kinds
    uneven = len({row.n for row in rows}) > 1
    labels = [
        f"{name}  ({kind} AP {row.metrics['AP'].mean:.1f}{f', n = {row.n}' * uneven})"
        for name, row in zip(distinct_labels([row.variant for row in rows]), rows, strict=True)
    ]
    means = np.array([[row.errors[name].mean for name in (*ERRORS, *SPECIAL)] for row in rows])
    bare = summary.several or len(rows) > SIDE_BY_SIDE
    warn_of_undrawable(row.variant for row in rows)
    with paper_style():
        figure = new_figure(7.6, 3.1)
        left, right = error_bars(figure, labels, means, f"{kind} AP{summary.percent}", numbers=not bare)
        if summary.several:
            _dot_each_seed(left, ERRORS, rows)
            _dot_each_seed(right, SPECIAL, rows)
        marks = ["a dot a seed" * summary.several, "each at its best" * at_best]
        _footer(figure, summary, " | ".join(filter(None, marks)))
        return encoded(figure, FORMATS)


def _rows_with_errors(summary: Summary) -> tuple[list[Row], bool]:
    """The rows of the figure of errors, and whether they are the best of each line."""
    rows = [row for row in summary.rows if row.errors]
    if not rows or summary.product is None or any(row.number is None for row in rows):
        return rows, False
    return [max(line, key=lambda row: row.metrics["AP"].mean) for line in _lines_of(rows).values()], True


def _dot_each_seed(axis: Axes, errors: Sequence[str], rows: Sequence[Row]) -> None:
    """A dot a seed on every bar, and room for all of them."""
    bottom, top = axis.get_ylim()
    for bars, row in zip(axis.containers, rows, strict=True):
        for bar, error in zip(bars, errors, strict=True):
            each = row.errors[error].each
            axis.plot([bar.get_x() + bar.get_width() / 2] * len(each), each, "o", color="0.15", markersize=2.4)
            bottom, top = min(bottom, min(each) * 1.1), max(top, max(each) * 1.12)
    axis.set_ylim(bottom, top)


def curves_figure(summary: Summary) -> dict[str, bytes]:
    """AP against the number of a numeric axis, a line for each variant of the second axis; nothing for other axes."""
    rows = [row for row in summary.rows if row.number is not None and "AP" in row.metrics]
    if not summary.unit or len(rows) < 2:
        return {}
    lines = _lines_of(rows)
    with paper_style():
        figure = new_figure(4.8, 3.3 + (0.2 + 0.19 * math.ceil(len(lines) / LINES_A_ROW)) * (len(lines) > 1))
        axis = figure.subplots()
        for (name, line), color in zip(lines.items(), distinct_colors(len(lines)), strict=True):
            numbers = [row.number or 0.0 for row in line]
            means = np.array([row.metrics["AP"].mean for row in line])
            halves = np.array([row.metrics["AP"].half or 0.0 for row in line])
            axis.plot(numbers, means, "o-", color=color, label=name, markersize=4.5, linewidth=1.6)
            if halves.any():
                axis.fill_between(numbers, means - halves, means + halves, color=color, alpha=0.18, linewidth=0)
        ticks = sorted({row.number for row in rows if row.number is not None})
        if ticks[0] > 0 and ticks[-1] / ticks[0] >= 4:
            axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set(xlabel=_unit(summary, rows), ylabel=f"{summary.kinds[0]} AP (points)")
        if len(lines) > 1:
            figure.legend(
                loc="outside upper left", ncols=LINES_A_ROW, frameon=False, fontsize=8.5, columnspacing=1.4,
                title=_other_axis(summary, rows), title_fontsize=8.5, alignment="left",
            )  # fmt: skip
        sns.despine(ax=axis)
        _footer(figure, summary, "band: 95 % over seeds" * any(row.metrics["AP"].half is not None for row in rows))
        return encoded(figure, FORMATS)


def _lines_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each line: those that differ on the numeric axis alone, by number."""
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.number or 0.0):
        name = ", ".join(level for level in row.levels if level != _numeric_level(row, rows))
        lines.setdefault(name, []).append(row)
    return lines


def _numeric_level(row: Row, rows: Sequence[Row]) -> str:
    """The level of a row on the numeric axis: the one that all rows of the same number share."""
    shared = set(row.levels).intersection(*(other.levels for other in rows if other.number == row.number))
    return next((level for level in row.levels if level in shared), "")


def _other_axis(summary: Summary, rows: Sequence[Row]) -> str:
    return (summary.product or "") if rows[0].levels[:1] == (_numeric_level(rows[0], rows),) else summary.axis


def _unit(summary: Summary, rows: Sequence[Row]) -> str:
    """What the numbers count; a word that all levels end with, such as iterations, is added."""
    words = {_numeric_level(row, rows).rpartition(" ")[2] for row in rows}
    word = words.pop() if len(words) == 1 else ""
    return f"{summary.unit} ({word})" if word and word not in summary.unit else summary.unit


def _footer(figure: Figure, summary: Summary, marks: str) -> None:
    """What must not get lost when the picture travels alone; what its marks are, where seeds are shown."""
    data = f"{summary.images:,} images, digest {summary.validation_data[:12]}" if summary.images is not None else ""
    break_at = "\n" if figure.get_figwidth() < 6 else " | "
    parts = ((summary.study, data), (banner(summary) or over_seeds(summary), marks))
    figure.supxlabel(break_at.join(" | ".join(filter(None, part)) for part in parts), fontsize=6.5, color="0.45")
