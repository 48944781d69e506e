"""What figures are made of: labels, panels, bars with intervals, heat maps; and the figure of the breakdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.arrays import Floats
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.figure_style import (
    FORMATS,
    SCREEN,
    FigureStyle,
    Picture,
    bar_look,
    distinct_colors,
    drawing,
    finish,
    legend_above,
    new_figure,
)
from analysis.render.fonts import stand_in
from analysis.render.table import one_line
from analysis.render.takeaways import interval_text, resampled_sentence, source_sentence
from analysis.stats.compare import Comparison

BLANK = "(blank)"  # a name of spaces alone
NUMBERED, NUMBERED_NARROW = 2, 1  # runs whose bars have room for their numbers
LONGEST_TITLE = 28  # letters over a third of a page


def label(text: str, longest: int = 40) -> str:
    r"""A name as matplotlib may show it: one line, no mathematics, and not too long: both ends tell it from others.

    >>> label("a$b"), label(" \t"), label("vit-b, windowed, seed 3", 16)
    ('a\\$b', '(blank)', 'vit-b, wi…seed 3')
    """
    text = stand_in(one_line(text)).strip() or BLANK
    if len(text) > longest:
        tail = (longest - 1) * 2 // 5
        text = f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # it leaves labels that begin so out of the legend


def distinct_labels(names: Sequence[str], longest: int = 40) -> list[str]:
    """A label for each name that no other has: names that would look alike are numbered.

    >>> distinct_labels(["a", "b" * 50, "b" * 50 + "c", "b" * 50], 5)
    ['a', 'bbb…b', 'bbb…c', 'bbb…b (2)']
    """
    labels: list[str] = []
    for name in names:
        short = label(name, longest)
        same = sum(one == short or one.startswith(f"{short} (") for one in labels)
        labels.append(f"{short} ({same + 1})" if same else short)
    return labels


def errors_figure(
    ground_truth: GroundTruth,
    runs: Sequence[Run],
    measured: Comparison | None = None,
    style: FigureStyle = SCREEN,
    formats: Sequence[str] = FORMATS,
) -> Picture:
    """Bars of delta-AP (points) by type of error, one colour a run: the six types, and FP and FN beside them.

    Args:
        ground_truth: of the runs.
        runs: with their breakdowns.
        measured: the intervals of their numbers, where they were asked for.
        style: for the screen or a paper.
        formats: of the files.
    """
    settings = runs[0].breakdown.settings
    ap = ap_name(settings.iou)
    names = distinct_labels([run.name for run in runs])
    known = {one.name: one.numbers for one in measured.candidates} if measured else {}
    scores = [interval_text(known[run.name][ap]) if run.name in known else f"{run.breakdown.ap:.1f}" for run in runs]
    labels = [f"{name}  ({ap} {score})" for name, score in zip(names, scores, strict=True)]
    values = np.array([[run.breakdown.delta_ap[error] for error in ERROR_TYPES] for run in runs])
    limits = None
    caption = f"{ap} to gain by fixing one type of error alone, in points; on the right all FP or all FN. "
    caption += types_sentence(settings.iou_type)
    if measured:
        limits = np.array([[(known[run.name][e].low, known[run.name][e].high) for e in ERROR_TYPES] for run in runs])
        caption += f" Lines: 95 % intervals, {resampled_sentence(measured)}."
    with drawing(style):
        figure = new_figure(style.wide(), 2.2 if style.narrow else 2.9)
        numbers = has_room_for_numbers(len(runs), style) and not measured
        error_bars(figure, labels, values, ap, limits=limits, numbers=numbers, style=style)
        return finish(figure, f"{caption} {source_sentence(ground_truth, settings)}", style, formats)


def types_sentence(iou_type: str) -> str:
    """What the labels of the bars are short for.

    >>> types_sentence("bbox")[:82]
    'cls: wrong category; loc: box overlaps too little; both: wrong category and too li'
    """
    meanings = {error: ERROR_TYPES[error].described(iou_type).rpartition(": ")[2] for error in ERRORS}
    return f"{'; '.join(f'{error}: {meaning}' for error, meaning in meanings.items())}."


def has_room_for_numbers(runs: int, style: FigureStyle) -> bool:
    """Whether numbers over the bars of so many runs do not cover each other."""
    return runs <= (NUMBERED_NARROW if style.narrow else NUMBERED)


def error_bars(
    figure: Figure,
    labels: Sequence[str],
    delta_ap: Floats,
    ap: str,
    *,
    limits: Floats | None = None,
    numbers: bool = False,
    style: FigureStyle = SCREEN,
) -> list[Axes]:
    """Bars of points to gain: the six types of error, and FP and FN beside them, a colour a label; the legend above.

    Args:
        figure: an empty one.
        labels: of runs or variants.
        delta_ap: f64[labels, errors] points, in the order of ``ERROR_TYPES``.
        ap: what is gained, such as AP50.
        limits: f64[labels, errors, 2] of their intervals, NaN where there is none.
        numbers: whether the bars bear their numbers.
        style: for the screen or a paper.

    Returns the two panels, the bars of a label in one container each.
    """
    panels: list[Any] = figure.subplots(1, 2, width_ratios=[3, 1.25]).tolist()
    split = len(ERRORS)
    titles = ("one type fixed", "all FP or FN") if style.narrow else ("one type of error fixed", "all FP or FN fixed")
    for axis, errors, title, part in zip(
        panels, (ERRORS, SPECIAL), titles, (slice(0, split), slice(split, None)), strict=True
    ):
        values = delta_ap[:, part]
        lines = None if limits is None else limits[:, part]
        bars(axis, [ERROR_TYPES[error].label for error in errors], labels, values, lines, width=0.8, style=style)
        axis.set_ylabel(f"{ap} to gain (points)" if axis is panels[0] else "")
        drawn = np.append(values, [] if lines is None else lines)
        lowest, highest = float(np.nanmin(drawn)), float(np.nanmax(drawn))
        axis.set_ylim(bottom=min(0.0, lowest * 1.1), top=max(highest * (1.14 if numbers else 1.05), 0.1))
        if lowest < 0:  # the bars stand on 0, not on the lower edge
            axis.axhline(0, color="0.8", lw=0.8)
            axis.spines["bottom"].set_visible(False)
        axis.set_title(title, fontsize=style.size(9), loc="left")
        for container in axis.containers if numbers else ():
            axis.bar_label(container, fmt="%.1f", fontsize=style.size(7), padding=1)
    legend_above(figure, panels, size=9, style=style)
    return panels


def bars(
    axis: Axes,
    groups: Sequence[str],
    names: Sequence[str],
    values: Floats,
    limits: Floats | None = None,
    *,
    width: float,
    palette: str = "colorblind",
    style: FigureStyle = SCREEN,
) -> None:
    """Groups of bars side by side, f64[names, groups], a colour a name; f64[names, groups, 2] the limits of each."""
    each = width / max(len(names), 1)
    for place, (name, color) in enumerate(zip(names, distinct_colors(len(names), palette), strict=True)):
        at = np.arange(len(groups)) + (place - (len(names) - 1) / 2) * each
        axis.bar(at, values[place], each, label=name, **bar_look(place, color, style))
        if limits is not None:
            interval_lines(axis, at.tolist(), limits[place], cap=min(4.0, (10 if style.narrow else 20) * each))
    axis.set_xticks(np.arange(len(groups)), list(groups))
    axis.set_xlim(-0.5, len(groups) - 0.5)
    plain_axis(axis, style=style)


def interval_lines(axis: Axes, at: Sequence[float], limits: Floats, cap: float = 4.0, color: Any = "0.1") -> None:
    """Upright lines at f64[N] from and to f64[N, 2]; an interval need not hold the value that it is of."""
    for x, (low, high) in zip(at, limits, strict=True):
        if not np.isnan([low, high]).any():
            axis.plot([x, x], [low, high], "-", marker="_", markersize=cap, color=color, lw=0.8, mew=0.8, zorder=3)


def split_panels(figure: Figure, count: int, across: int = 3, **options: Any) -> list[Axes]:
    """``count`` panels, a few in each row and rows of nearly one length; what is over in the last row is removed."""
    rows = panel_rows(count, across)
    shape = rows, -(-count // rows)
    axes: list[Axes] = figure.subplots(*shape, squeeze=False, **options).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    return axes[:count]


def panel_rows(count: int, across: int = 3) -> int:
    """Rows of so many panels."""
    return -(-count // min(count, across))


def is_first_in_row(place: int, count: int, across: int) -> bool:
    """Whether a panel of :func:`split_panels` stands on the left."""
    return place % -(-count // panel_rows(count, across)) == 0


def is_last_in_column(place: int, count: int, across: int) -> bool:
    """Whether no panel of :func:`split_panels` stands below one."""
    return place + -(-count // panel_rows(count, across)) >= count


def panel_title(axis: Axes, name: str, style: FigureStyle = SCREEN, **options: Any) -> None:
    """A name over a panel, shortened to its width."""
    axis.set_title(label(name, LONGEST_TITLE), fontsize=style.size(9), loc="left", **options)


def plain_axis(axis: Axes, style: FigureStyle = SCREEN, **ticks: Any) -> None:
    """No frame and no vertical lines."""
    sns.despine(ax=axis, left=True)
    axis.grid(visible=False, axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(**{"labelsize": style.size(8), **ticks})
    axis.xaxis.label.set_fontsize(style.size(8.5))
    axis.yaxis.label.set_fontsize(style.size(8.5))


def ink_on(color: tuple[float, float, float]) -> str:
    """White or black, whichever stands out more from a colour by WCAG's relative luminance: always by 4.5 to 1.

    >>> ink_on((0.0, 0.45, 0.70)), ink_on((0.45, 0.68, 0.83))
    ('white', 'black')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def heat_map(
    axis: Axes,
    shade: Floats,
    words: Sequence[Sequence[str]],
    across: Sequence[str],
    down: Sequence[str],
    style: FigureStyle = SCREEN,
) -> None:
    """Shaded cells (0..1, NaN: none) with words in them."""
    height, width = shade.shape
    colors = sns.light_palette("#0173b2", as_cmap=True)
    axis.pcolormesh(np.arange(width + 1), np.arange(height + 1), shade, cmap=colors, vmin=0, vmax=1, lw=0.6, ec="white")
    for row, cells in enumerate(words):
        for column, word in enumerate(cells):
            ground = shade[row, column]
            zero = not (np.isnan(ground) or word.strip("0."))  # zeros stand back
            ink = "0.45" if zero else "black" if np.isnan(ground) else ink_on(colors(ground)[:3])
            text = axis.text(
                column + 0.5, row + 0.5, word, ha="center", va="center", fontsize=style.size(6.5), color=ink
            )
            text.set_in_layout(False)  # it lies inside the cell; measuring thousands of them takes seconds
    axis.set_xticks(np.arange(width) + 0.5, across)
    axis.set_yticks(np.arange(height) + 0.5, down)
    axis.set_ylim(height, 0)
    axis.tick_params(labelsize=style.size(7.5), length=0)
    axis.grid(visible=False)
    sns.despine(ax=axis, left=True, bottom=True)


def name_classes(axis: Axes, place: int, count: int, across: int, style: FigureStyle = SCREEN) -> None:
    """What the rows and columns of a confusion matrix are, on the left and below the last of a column of panels.

    All panels show the same classes.
    """
    first, last = is_first_in_row(place, count, across), is_last_in_column(place, count, across)
    axis.tick_params(axis="x", rotation=90)
    axis.tick_params(labelleft=first, labelbottom=last)
    axis.set_ylabel("true class" if first else "", fontsize=style.size(8))
    axis.set_xlabel("predicted as" if last else "", fontsize=style.size(8))
