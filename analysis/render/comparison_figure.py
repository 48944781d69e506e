"""Differences to a baseline with their intervals, as a figure."""

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.figure_style import (
    FORMATS,
    MARKS,
    PAGE,
    SCREEN,
    FigureStyle,
    Picture,
    distinct_colors,
    drawing,
    finish,
    legend_above,
    new_figure,
)
from analysis.render.plots import distinct_labels, label
from analysis.render.takeaways import source_sentence
from analysis.stats.compare import Comparison, VsBaseline

Look = tuple[tuple[float, float, float], str]  # colour and mark
ROW = 0.08  # inches of a run in a row, and of the space between two rows


def comparison_figure(
    ground_truth: GroundTruth,
    comparison: Comparison,
    style: FigureStyle = SCREEN,
    formats: Sequence[str] = FORMATS,
) -> Picture | None:
    """A row a number, in it each run's difference to the baseline and its 95 % interval; none without any number.

    Three panels, each with a scale of its own: AP (right of 0 is better), what is lost to each type of error, and to
    all FP or all FN (left of 0 is better). What is significant is filled.
    """
    with drawing(style):
        figure = new_figure(style.wide(6.0), 1.0)
        if not draw_differences(figure, comparison, style):
            return None
        return finish(figure, _caption(ground_truth, comparison), style, formats)


def draw_differences(figure: Figure, comparison: Comparison, style: FigureStyle = SCREEN) -> bool:
    """Draw panels and legend and set the height of the figure; false, and an empty figure, without any number."""
    others = comparison.vs_baseline
    names = [number for number in comparison.numbers if number not in ERROR_TYPES]
    ap = ap_name(comparison.settings.iou)
    parts = (
        (names, "AP: right is better"),
        (list(ERRORS), f"{ap} lost to: left is better"),
        (list(SPECIAL), f"{ap} lost to all FP or FN: left is better"),
    )
    shown = [(keys, title) for keys, title in parts if any(_known(one, key) for one in others for key in keys)]
    if not shown:
        return False
    rows = [len(keys) * (len(others) + 1) for keys, _ in shown]
    everyone = [one.name for one in comparison.candidates]  # a run looks as in the figure of the errors
    colors = distinct_colors(len(everyone))
    looks = {name: (colors[at], MARKS[at % len(MARKS)]) for at, name in enumerate(everyone)}
    height = ROW * (len(others) + 1) * sum(len(keys) for keys, _ in shown) + 0.42 * len(shown) + 0.4
    figure.set_figheight(min(max(height, 1.8), PAGE) if style.paper else max(height, 1.8))
    axes = figure.subplots(len(shown), 1, height_ratios=rows, squeeze=False)[:, 0].tolist()
    for axis, (keys, title) in zip(axes, shown, strict=True):
        _panel(axis, keys, others, looks, style)
        axis.set_title(title, fontsize=style.size(8.5), loc="left")
    axes[-1].set_xlabel(f"difference to {label(comparison.baseline)} (points)", fontsize=style.size(8.5))
    legend_above(figure, axes, style=style)
    return True


def _panel(
    axis: Axes, keys: Sequence[str], others: Sequence[VsBaseline], looks: Mapping[str, Look], style: FigureStyle
) -> None:
    axis.axvline(0, color="0.35", lw=0.8)
    step = 0.8 / len(others)
    for place, (one, name) in enumerate(zip(others, distinct_labels([one.name for one in others]), strict=True)):
        color, mark = looks[one.name]
        axis.plot([], [], mark, color=color, ms=4, label=name)
        for row, key in enumerate(keys):
            difference, y = one.differences[key], row + (place - (len(others) - 1) / 2) * step
            if np.isnan(difference.value):
                continue
            if not np.isnan([difference.low, difference.high]).any():
                axis.plot([difference.low, difference.high], [y, y], "-", color=color, lw=1.1)
            fill = color if difference.significant else "white"
            axis.plot([difference.value], [y], mark, color=color, mfc=fill, mew=1.0, ms=4)
    axis.set_yticks(range(len(keys)), [ERROR_TYPES[key].label if key in ERROR_TYPES else key for key in keys])
    axis.set_ylim(len(keys) - 0.45, -0.55)
    axis.grid(visible=False, axis="y")
    axis.tick_params(labelsize=style.size(8), length=0)
    sns.despine(ax=axis, left=True)


def _known(one: VsBaseline, key: str) -> bool:
    return not np.isnan(one.differences[key].value)


def _caption(ground_truth: GroundTruth, comparison: Comparison) -> str:
    counts = sorted({len(one.seeds) for one in comparison.vs_baseline})
    seeds = f"n = {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))} training seed{'s' * (counts[-1] > 1)}"
    tested = (
        f"Filled: significant at 5 % (Holm, {comparison.family})."
        if comparison.tested
        else "Nothing is tested, so no mark is filled."
    )
    drawn = f"{comparison.images:,} images drawn {comparison.resamples:,} times"
    noise = f"over seeds and images ({drawn})" if counts[-1] > 1 else f"over images ({drawn})"
    about = f"{noise}, {seeds}" if comparison.designs else noise
    return (
        f"Differences to {comparison.baseline} in points with 95 % intervals {about}. "
        f"{tested} {source_sentence(ground_truth, comparison.settings)}"
    )
