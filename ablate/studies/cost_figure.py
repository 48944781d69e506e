"""AP against cost (seconds, memory, parameters, multiply-adds) as a figure, with the Pareto front."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ablate.studies.results import Row, Summary
from ablate.studies.tables import memory_unit
from analysis.render.figure_style import (
    MARKS,
    SCREEN,
    FigureStyle,
    Picture,
    distinct_colors,
    drawing,
    finish,
    legend_above,
    new_figure,
)
from analysis.render.plots import distinct_labels, is_first_in_row, panel_rows, split_panels

EQUAL = 0.01  # the share by which costs differ at least to be shown
WIDE_RANGE = 8.0  # of the largest to the smallest cost, from which the scale is logarithmic


class Cost(NamedTuple):
    """One kind of cost.

    Attributes:
        name: with its unit, as it stands on the axis.
        of: the cost of a variant; none where it is not known.
        span: the lowest and the highest, where it was measured more than once.
    """

    name: str
    of: Callable[[Row], float | None]
    span: Callable[[Row], tuple[float, float] | None] = lambda row: None


def costs_of(summary: Summary) -> list[Cost]:
    """Everything that a variant may cost, in the units of the tables."""
    unit, scale = memory_unit([row.peak_gib for row in summary.rows])
    return [
        Cost("training step (s)", lambda row: row.seconds_per_iteration, lambda row: row.iteration_range),
        Cost("prediction (s per image)", lambda row: row.seconds_per_image, lambda row: row.image_range),
        Cost(f"peak memory ({unit})", lambda row: None if row.peak_gib is None else row.peak_gib * scale),
        Cost("parameters (M)", lambda row: row.size.parameters / 1e6 if row.size else None),
        Cost("multiply-adds (GMAC)", lambda row: row.size.macs / 1e9 if row.size else None),
        Cost(
            "whole command (s)",
            lambda row: row.outside.seconds.mean if row.outside else None,
            lambda row: _over_seeds(row),
        ),
        Cost("peak GPU memory (GiB)", lambda row: row.outside.peak_gpu_gib if row.outside else None),
    ]


def _over_seeds(row: Row) -> tuple[float, float] | None:
    seconds = row.outside.seconds if row.outside else None
    if seconds is None or seconds.half is None:
        return None
    return seconds.mean - seconds.half, seconds.mean + seconds.half


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, AP) that no other beats in both, by rising cost.

    >>> pareto_front([(1.0, 30.0), (2.0, 29.0), (3.0, 35.0), (1.0, 31.0)])
    [3, 2]
    """
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1])):
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front


def shown_costs(summary: Summary, rows: Sequence[Row]) -> tuple[list[Cost], str]:
    """The costs in which rows differ by 1 % or more, and a sentence on those that are known and differ less."""
    costs, equal = [], []
    for cost in costs_of(summary):
        values = [value for row in rows if (value := cost.of(row)) is not None]
        if len(values) > 1 and max(values) > (1 + EQUAL) * min(values):
            costs.append(cost)
        elif len(values) > 1:
            equal.append(cost.name.partition(" (")[0])
    return costs, f"Within 1 % for all variants: {', '.join(equal)}." if equal else ""


def cost_figure(summary: Summary, about: str, style: FigureStyle = SCREEN) -> Picture | None:
    """AP against each kind of cost in which the variants differ by 1 %, a panel each; none where they differ in none.

    Args:
        summary: of the study.
        about: what the study is, for the caption.
        style: for the screen or a paper.
    """
    rows = [row for row in summary.rows if "AP" in row.metrics]
    costs, equal = shown_costs(summary, rows)
    if not costs:
        return None
    names = [f"{name}{' (baseline)' * row.baseline}" for name, row in zip(
        distinct_labels([row.variant for row in rows]), rows, strict=True)]  # fmt: skip
    across = style.across()
    with drawing(style):
        height = 1.75 if style.narrow else 2.2
        figure = new_figure(
            style.wide((3.8, 5.4, 7.2)[min(len(costs), 3) - 1]), height * panel_rows(len(costs), across) + 0.2
        )
        axes = split_panels(figure, len(costs), across, sharey=True)
        for place, (axis, cost) in enumerate(zip(axes, costs, strict=True)):
            _panel(axis, cost, rows, names, style)
            if is_first_in_row(place, len(costs), across):
                axis.set_ylabel(f"{summary.kinds[0]} AP (points)", fontsize=style.size(8.5))
        legend_above(figure, axes, style=style)
        return finish(figure, f"{_caption(summary, rows, costs, equal)} {about}", style)


def _panel(axis: Axes, cost: Cost, rows: Sequence[Row], names: Sequence[str], style: FigureStyle) -> None:
    known = [(row, value) for row in rows if (value := cost.of(row)) is not None]
    points = [(value, row.metrics["AP"].mean) for row, value in known]
    front = np.array([points[place] for place in pareto_front(points)])
    if len(front) > 1:
        axis.plot(*front.T, "--", color="0.55", lw=0.9, zorder=1)
    for place, (row, name, color) in enumerate(zip(rows, names, distinct_colors(len(rows)), strict=True)):
        mark, x, ap = MARKS[place % len(MARKS)], cost.of(row), row.metrics["AP"]
        axis.plot([], [], mark, color=color, ms=5, label=name)
        if x is None:
            continue
        if ap.half is not None:
            axis.plot([x, x], [ap.mean - ap.half, ap.mean + ap.half], "-", color=color, lw=0.9)
        if span := cost.span(row):
            axis.plot(span, [ap.mean, ap.mean], "-", color=color, lw=0.9)
        axis.plot([x], [ap.mean], mark, color=color, ms=5, mec="white", mew=0.6, zorder=3)
    values = [value for value, _ in points]
    if min(values) > 0 and max(values) / min(values) > WIDE_RANGE:
        axis.set_xscale("log")
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set_xlabel(cost.name, fontsize=style.size(8.5))
    axis.margins(x=0.12, y=0.1)
    axis.tick_params(labelsize=style.size(8))
    sns.despine(ax=axis, left=True)


def front_sentence(rows: Sequence[Row], costs: Sequence[Cost]) -> str:
    """What the dashed lines are, and for which costs there is none, because one variant is cheapest and best."""
    single: dict[str, list[str]] = {}  # variant -> the costs in which no other is better in either
    for cost in costs:
        known = [(value, row.metrics["AP"].mean, row.variant) for row in rows if (value := cost.of(row)) is not None]
        front = pareto_front([(value, ap) for value, ap, _ in known])
        if len(front) == 1:
            single.setdefault(known[front[0]][2], []).append(cost.name.partition(" (")[0])
    dashed = "Dashed: the Pareto front of the means (no other variant is better in both)."
    lines = [dashed] * (sum(map(len, single.values())) < len(costs))
    lines += [f"Best in both means: {variant} ({', '.join(of)})." for variant, of in single.items()]
    return " ".join(lines)


def _caption(summary: Summary, rows: Sequence[Row], costs: Sequence[Cost], equal: str) -> str:
    sentences = [f"{summary.kinds[0].capitalize()} AP against cost.", front_sentence(rows, costs)]
    if any(row.metrics["AP"].half is not None for row in rows):
        sentences.append("Vertical lines: 95 % intervals over seeds.")
    if any(row.iteration_range or row.image_range for row in rows):
        sentences.append("Horizontal lines: the range of the measurement rounds.")
    sentences += [equal] * bool(equal)
    if summary.cost_place:
        sentences.append(f"Measured on {summary.cost_place}, one image at a time.")
    return " ".join(sentences)
