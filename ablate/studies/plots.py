"""The answer of a study as figures: errors per variant as in the paper's Figure 4, and curves for numeric axes."""

import math
from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from ablate.studies.results import Row, Summary
from ablate.studies.tables import banner, measured_on, over_seeds
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import iou_name
from analysis.render.figure_style import (
    MARKS,
    SCREEN,
    FigureStyle,
    Picture,
    distinct_colors,
    drawing,
    finish,
    legend_above,
    line_look,
    new_figure,
)
from analysis.render.fonts import warn_of_undrawable
from analysis.render.plots import distinct_labels, error_bars, has_room_for_numbers, types_sentence


def errors_figure(summary: Summary, style: FigureStyle = SCREEN) -> Picture | None:
    """Points lost to each type of error, a colour a variant; with several seeds an interval, and a dot each.

    Of a numeric axis crossed with another, such as lengths with initialisations, a colour a line of `curves_figure`:
    the variant with the highest AP of it. None if no run is finished.
    """
    rows, at_best = _rows_with_errors(summary)
    if not rows:
        return None
    kind, _ = summary.kinds
    uneven = len({row.n for row in rows}) > 1
    ap = f"{kind} AP{summary.percent}"
    score = next(key for key in (f"AP{summary.percent}", "AP") if all(key in row.metrics for row in rows))
    labels = [
        f"{name}  ({kind} {score} {row.metrics[score].mean:.1f}{f', n = {row.n}' * uneven})"
        for name, row in zip(distinct_labels([row.variant for row in rows]), rows, strict=True)
    ]
    found = [[row.errors[name] for name in (*ERRORS, *SPECIAL)] for row in rows]
    means = np.array([[one.mean for one in of_row] for of_row in found])
    halves = np.array([[math.nan if one.half is None else one.half for one in of_row] for of_row in found])
    limits = np.stack([means - halves, means + halves], axis=-1)
    bare = summary.several or not has_room_for_numbers(len(rows), style)
    warn_of_undrawable(row.variant for row in rows)
    with drawing(style):
        figure = new_figure(style.wide(), 2.2 if style.narrow else 2.9)
        left, right = error_bars(
            figure, labels, means, ap, limits=limits if summary.several else None, numbers=not bare, style=style
        )
        if summary.several:
            _dot_each_seed(left, ERRORS, rows)
            _dot_each_seed(right, SPECIAL, rows)
        marks = [
            "lines: 95 % intervals over seeds (Student's t); one dot per seed" * summary.several,
            "each at its best length" * at_best,
        ]
        shows = f"{ap[0].upper()}{ap[1:]} to gain by fixing one type of error alone, in points; right: all FP or all FN"
        caption = f"{'; '.join(filter(None, [shows, *marks]))}. {types_sentence(summary.iou_type)} {about(summary)}"
        return finish(figure, caption, style)


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
            at = bar.get_x() + bar.get_width() / 2
            axis.plot([at] * len(each), each, "o", color="0.1", markersize=2.6, mec="white", mew=0.4, zorder=4)
            bottom, top = min(bottom, min(each) * 1.1), max(top, max(each) * 1.12)
    axis.set_ylim(bottom, top)


def curves_figure(summary: Summary, style: FigureStyle = SCREEN) -> Picture | None:
    """AP against the number of a numeric axis, a line for each variant of the second axis; none for other axes."""
    rows = [row for row in summary.rows if row.number is not None and "AP" in row.metrics]
    if not summary.unit or len(rows) < 2:
        return None
    lines = _lines_of(rows)
    with drawing(style):
        figure = new_figure(style.wide(4.8), 2.2 if style.narrow else 3.0)
        axis = figure.subplots()
        for place, (name, line) in enumerate(zip(distinct_labels(list(lines)), lines.values(), strict=True)):
            numbers = [row.number or 0.0 for row in line]
            means = np.array([row.metrics["AP"].mean for row in line])
            halves = np.array([row.metrics["AP"].half or 0.0 for row in line])
            look = line_look(place, distinct_colors(len(lines))[place])
            axis.plot(numbers, means, marker=MARKS[place % len(MARKS)], ms=4, label=name, **look)
            if halves.any():
                axis.fill_between(numbers, means - halves, means + halves, color=look["color"], alpha=0.18, linewidth=0)
        ticks = sorted({row.number for row in rows if row.number is not None})
        if ticks[0] > 0 and ticks[-1] / ticks[0] >= 4:
            axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel(_unit(summary, rows), fontsize=style.size(8.5))
        axis.set_ylabel(f"{summary.kinds[0]} AP (points)", fontsize=style.size(8.5))
        axis.tick_params(labelsize=style.size(8))
        other = _other_axis(summary, rows)
        if len(lines) > 1:
            legend_above(figure, [axis], style=style, title=other, title_fontsize=style.size(8.5), alignment="left")
        sns.despine(ax=axis)
        band = "; band: 95 % intervals over seeds (Student's t)" * any(
            row.metrics["AP"].half is not None for row in rows
        )
        each = f", one line per value of {other}" * (len(lines) > 1)
        caption = f"{summary.kinds[0].capitalize()} AP against {_unit(summary, rows)}{each}{band}. {about(summary)}"
        return finish(figure, caption, style)


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


def about(summary: Summary) -> str:
    """The caption of a figure: the study, its data, settings, and n."""
    measured = ""
    if summary.iou is not None:
        kind, iou = ("boxes" if summary.iou_type == "bbox" else "masks"), iou_name(summary.iou_type)
        measured = (
            f"errors of {kind} at {iou} {summary.iou:g}, at most {summary.max_dets} detections per image and category"
        )
    base = "" if summary.kind == "adopted" else f"base {summary.base}"
    facts = [f"Study {summary.study}", base, banner(summary) or over_seeds(summary), measured_on(summary), measured]
    return f"{'; '.join(filter(None, facts))}."
