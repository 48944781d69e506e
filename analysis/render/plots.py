"""Figures for papers, in a style that survives print and colour blindness: the breakdown, and each of its slices."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.arrays import Floats
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run, RunAnalysis
from analysis.evaluation.confusion import Confusion, concerned
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.outcomes import IGNORED, OUTCOME_NAMES
from analysis.evaluation.settings import ap_name, iou_name
from analysis.evaluation.slices import ClassErrors, CrowdingBins, IouErrors, SizeErrors
from analysis.render.fonts import choose_fonts, stand_in
from analysis.render.slices import parts_of, points_text
from analysis.render.table import one_line
from analysis.render.takeaways import settings_sentence

FORMATS = ("png", "pdf")
DPI = 200
BLANK = "(blank)"  # a name of spaces alone


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Fonts and lines for the width of a page; text in a PDF stays text. What the user has set stays as it is."""
    style = sns.axes_style("whitegrid") | sns.plotting_context("paper", font_scale=1.1)
    style |= {"pdf.fonttype": 42, "grid.color": "0.92", "savefig.dpi": DPI}
    untouched = {key: value for key, value in style.items() if mpl.rcParams[key] == mpl.rcParamsDefault[key]}
    with mpl.rc_context(untouched):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoded(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    """The picture in each format, the same bytes for the same figure."""
    choose_fonts(figure)
    pictures = {}
    for kind in formats:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
        pictures[kind] = buffer.getvalue()
        figure.set_layout_engine("none")  # laid out once, for all formats
    return pictures


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


def legend_columns(names: Sequence[str], width: float, most: int = 3) -> int:
    """How many entries of a legend fit beside each other in a figure of a width in inches.

    >>> legend_columns(["yolo", "vit"], 7.2), legend_columns(["x" * 40] * 3, 7.2), legend_columns(["x" * 90] * 3, 7.2)
    (2, 2, 1)
    """
    entry = 0.55 + 0.07 * max(map(len, names), default=1)  # the mark and the letters
    return max(1, min(len(names), most, int(width / entry)))


WIDTH = 7.2  # inches, the text of a page
SIDE_BY_SIDE = 3  # panels; runs whose bars bear their numbers
LONGEST_TITLE = 28  # letters over a third of a page
MOST_CLASSES = 20
MOST_CONFUSED = 12
MARKS = "osD^vP*X"
OUTCOME_COLORS = ("#0173b2", "#de8f05", "#cc78bc", "#949494")  # of seaborn's colorblind: found ... missed


def errors_figure(runs: Sequence[Run], formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Bars of delta-AP (points) by type of error, one colour a run: the six types, and FP and FN beside them.

    Returns the encoded picture for each format.
    """
    settings = runs[0].breakdown.settings
    ap = ap_name(settings.iou)
    names = distinct_labels([run.name for run in runs])
    labels = [f"{name}  ({ap} {run.breakdown.ap:.1f})" for run, name in zip(runs, names, strict=True)]
    values = np.array([[run.breakdown.delta_ap[error] for error in ERROR_TYPES] for run in runs])
    with paper_style():
        figure = new_figure(WIDTH, 3.0 + 0.22 * len(runs))
        error_bars(figure, labels, values, ap, numbers=len(runs) <= SIDE_BY_SIDE)
        figure.supxlabel(settings_sentence(settings), fontsize=7, color="0.35")
        return encoded(figure, formats)


def error_bars(figure: Figure, labels: Sequence[str], delta_ap: Floats, ap: str, *, numbers: bool) -> list[Axes]:
    """Bars of points to gain: the six types of error, and FP and FN beside them, a colour a label; the legend above.

    Args:
        figure: an empty one.
        labels: of runs or variants.
        delta_ap: f64[labels, errors] points, in the order of ``ERROR_TYPES``.
        ap: what is gained, such as AP50.
        numbers: whether the bars bear their numbers.

    Returns the two panels, the bars of a label in one container each.
    """
    panels: list[Any] = figure.subplots(1, 2, width_ratios=[3, 1.25]).tolist()
    types, totals = delta_ap[:, : len(ERRORS)], delta_ap[:, len(ERRORS) :]
    parts = (ERRORS, types, "one type of error fixed"), (SPECIAL, totals, "all FP or FN fixed")
    for axis, (errors, values, title) in zip(panels, parts, strict=True):
        _bars(axis, [ERROR_TYPES[error].label for error in errors], labels, values, width=0.75)
        axis.set_ylabel(f"{ap} to gain (points)" if axis is panels[0] else "")
        axis.set_ylim(bottom=min(0.0, values.min() * 1.1), top=max(values.max() * 1.18, 0.1))
        axis.set_title(title, fontsize=9, loc="left")
        for bars in axis.containers if numbers else ():
            axis.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    legend_above(figure, panels, size=9)
    return panels


def distinct_colors(count: int, palette: str = "colorblind") -> list[tuple[float, float, float]]:
    """A colour for each of so many runs; a palette of ten is not repeated."""
    return list(sns.color_palette(palette if palette != "colorblind" or count <= 10 else "husl", count))


def slice_figures(
    ground_truth: GroundTruth, analyses: Sequence[RunAnalysis], formats: Sequence[str] = FORMATS
) -> dict[str, dict[str, bytes]]:
    """A picture in each format for every slice that was computed, by the name of its file."""
    makers: dict[str, tuple[str, Callable[[Any], Figure | None]]] = {
        "by_class": ("classes", _classes),
        "by_size": ("sizes", _sizes),
        "by_iou": ("ious", _thresholds),
        "by_crowding": ("crowding", _crowding),
        "confusion": (
            "confusion",
            partial(_confusion, ground_truth.category_name, ap_name(analyses[0].breakdown.settings.iou)),
        ),
    }
    pictures = {}
    with paper_style():
        for name, (part, make) in makers.items():
            runs = parts_of(analyses, part)
            figure = make(runs) if runs else None
            if figure is not None:
                pictures[name] = encoded(figure, formats)
    return pictures


def split_panels(figure: Figure, count: int, across: int = SIDE_BY_SIDE, **options: Any) -> list[Axes]:
    """``count`` panels, a few in each row; what is over in the last row is removed."""
    shape = _rows(count, across), min(count, across)
    axes: list[Axes] = figure.subplots(*shape, squeeze=False, **options).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    return axes[:count]


def _rows(count: int, across: int = SIDE_BY_SIDE) -> int:
    return -(-count // min(count, across))


def panel_title(axis: Axes, name: str, **options: Any) -> None:
    """A name over a panel, shortened to its width."""
    axis.set_title(label(name, LONGEST_TITLE), fontsize=9, loc="left", **options)


def _bars(
    axis: Axes,
    groups: Sequence[str],
    names: Sequence[str],
    values: Floats,
    *,
    width: float,
    palette: str = "colorblind",
) -> None:
    """Groups of bars side by side, f64[names, groups], a colour a name."""
    rows = [(g, n, values[j, i]) for j, n in enumerate(names) for i, g in enumerate(groups)]
    sns.barplot(
        pd.DataFrame(rows, columns=["group", "name", "value"]), x="group", y="value", hue="name",
        palette=distinct_colors(len(names), palette), ax=axis, width=width, saturation=0.9,
    )  # fmt: skip
    axis.set_xlabel("")
    plain_axis(axis)


def plain_axis(axis: Axes, **ticks: Any) -> None:
    """No frame and no vertical lines."""
    sns.despine(ax=axis, left=True)
    axis.grid(visible=False, axis="x")
    axis.tick_params(**{"labelsize": 8, **ticks})


def legend_above(figure: Figure, axes: Sequence[Axes], most: int = 3, size: float = 8.5) -> None:
    """One legend for all panels."""
    handles, names = axes[0].get_legend_handles_labels()
    for axis in axes:
        if legend := axis.get_legend():
            legend.remove()
    across = legend_columns(names, figure.get_figwidth(), most)
    figure.set_figheight(figure.get_figheight() + 0.18 * (-(-len(names) // across) - 1))
    figure.legend(handles, names, loc="outside upper left", ncols=across, frameon=False, fontsize=size)


def heat_map(
    axis: Axes, shade: Floats, words: Sequence[Sequence[str]], across: Sequence[str], down: Sequence[str]
) -> None:
    """Shaded cells (0..1, NaN: none) with words in them."""
    height, width = shade.shape
    colors = sns.light_palette("#0173b2", as_cmap=True)
    axis.pcolormesh(np.arange(width + 1), np.arange(height + 1), shade, cmap=colors, vmin=0, vmax=1, lw=0.6, ec="white")
    for row, cells in enumerate(words):
        for column, word in enumerate(cells):
            ink = "white" if shade[row, column] > 0.55 else "0.15"
            text = axis.text(column + 0.5, row + 0.5, word, ha="center", va="center", fontsize=6.5, color=ink)
            text.set_in_layout(False)  # it lies inside the cell; measuring thousands of them takes seconds
    axis.set_xticks(np.arange(width) + 0.5, across)
    axis.set_yticks(np.arange(height) + 0.5, down)
    axis.set_ylim(height, 0)
    axis.tick_params(labelsize=7.5, length=0)
    axis.grid(visible=False)
    sns.despine(ax=axis, left=True, bottom=True)


def _classes(runs: Sequence[tuple[str, ClassErrors]]) -> Figure | None:
    """A heat map a run: classes down, errors across; in the first column the AP of the class."""
    first = runs[0][1]
    gains = np.nan_to_num([[classes.delta_ap[e] for e in ERRORS] for _, classes in runs])  # [runs, errors, K]
    known = np.flatnonzero(~np.isnan([classes.ap for _, classes in runs]).all(axis=0))
    most = gains.max(axis=(0, 1))
    shown = known[np.lexsort((-first.positives[known], -most[known]))][:MOST_CLASSES]
    if not len(shown):
        return None
    ap = ap_name(first.settings.iou)
    figure = new_figure(WIDTH if len(runs) > 1 else 4.6, (0.9 + 0.19 * len(shown)) * _rows(len(runs)) + 0.3)
    labels = distinct_labels([first.names[c] for c in shown], 24)
    names = [f"{name}  ({first.positives[c]:,})" for name, c in zip(labels, shown, strict=True)]
    for axis, (run, classes), gain in zip(split_panels(figure, len(runs), sharey=True), runs, gains, strict=True):
        values = np.concatenate([np.full((1, len(shown)), np.nan), gain[:, shown]]).T
        words = [
            ["-" if np.isnan(ap_) else f"{ap_:.1f}", *(f"{value:.1f}" for value in row[1:])]
            for ap_, row in zip(classes.ap[shown].tolist(), values.tolist(), strict=True)
        ]
        heat_map(axis, values / max(most.max(), 1e-9), words, [ap, *ERRORS], names)
        axis.xaxis.tick_top()
        panel_title(axis, run, pad=16)
    figure.supxlabel(
        f"class (objects); points of its own {ap} to gain by fixing one type of error", fontsize=7.5, color="0.35"
    )
    return figure


def _sizes(runs: Sequence[tuple[str, SizeErrors]]) -> Figure:
    """Bars by error, a panel a size and a colour a run; of one run alone, a colour a size."""
    first, alone = runs[0][1], len(runs) == 1
    names = distinct_labels([size.name for size in first.sizes], 16)
    gains = np.array([[sizes.delta_ap[e] for e in ERRORS] for _, sizes in runs])  # [runs, errors, sizes]
    figure = new_figure(5.0 if alone else WIDTH, 2.6 if alone else 1.9 * _rows(len(names)) + 0.5)
    for place, axis in enumerate(split_panels(figure, 1 if alone else len(names), sharey=True)):
        if alone:
            _bars(axis, ERRORS, names, gains[0].T, width=0.78, palette="crest")
        else:
            _bars(axis, ERRORS, distinct_labels([run for run, _ in runs]), gains[:, :, place], width=0.78)
            panel_title(axis, f"{first.sizes[place].name} ({first.objects[place]:,} objects)")
        gain = f"{ap_name(first.settings.iou)} to gain (points)"
        axis.set_ylabel(gain if place % SIDE_BY_SIDE == 0 else "", fontsize=8.5)
    legend_above(figure, figure.axes)
    return figure


def _thresholds(runs: Sequence[tuple[str, IouErrors]]) -> Figure:
    """The AP and each error along the threshold, a panel each and a line a run."""
    figure = new_figure(WIDTH, 3.4)
    layout: Any = [["AP", *ERRORS[:3]], ["AP", *ERRORS[3:]]]
    axes: dict[str, Axes] = figure.subplot_mosaic(layout, sharex=True, width_ratios=[1.5, 1, 1, 1])
    palette = sns.color_palette("colorblind", len(runs))
    for name, axis in axes.items():
        for number, (run, ious) in enumerate(runs):
            values = ious.ap if name == "AP" else ious.delta_ap[name]
            axis.plot(
                ious.ious, values, label=f"{label(run)}  (mean AP {ious.mean_ap:.1f})", color=palette[number],
                marker=MARKS[number % len(MARKS)], markersize=3, lw=1.2,
            )  # fmt: skip
        panel_title(axis, "AP (points)" if name == "AP" else f"{name} (points to gain)")
        low, high = axis.get_ylim()
        axis.set_ylim(0 if low > -0.1 * high else low, high)
        axis.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9], [".5", ".6", ".7", ".8", ".9"])
        plain_axis(axis, labelsize=7.5, labelbottom=name not in ERRORS[:3])
    legend_above(figure, [axes["AP"]])
    figure.supxlabel(f"{iou_name(runs[0][1].settings.iou_type)} from which a detection is right", fontsize=8.5)
    return figure


def _crowding(runs: Sequence[tuple[str, CrowdingBins]]) -> Figure | None:
    """What became of the objects of each range of crowding, as shares, a panel a run."""
    if not runs[0][1].objects.any():
        return None
    kinds = [i for i in range(len(OUTCOME_NAMES)) if i != IGNORED]
    figure = new_figure(WIDTH if len(runs) > 1 else 4.8, 2.2 * _rows(len(runs)) + 0.4)
    for place, (axis, (run, bins)) in enumerate(zip(split_panels(figure, len(runs), sharey=True), runs, strict=True)):
        filled = np.flatnonzero(bins.objects)
        below: Floats = np.zeros(len(filled))
        for i in kinds:
            share = 100 * bins.outcome[filled, i] / bins.objects[filled]
            axis.bar(
                range(len(filled)), share, bottom=below, color=OUTCOME_COLORS[i], label=OUTCOME_NAMES[i], width=0.78,
                lw=0,
            )  # fmt: skip
            below = below + share
        for x, b in enumerate(filled):
            axis.text(x, 101, f"{bins.objects[b]:,}", ha="center", va="bottom", fontsize=6.5, color="0.35")
        axis.set_xticks(range(len(filled)), [bins.names[b].replace("0.", ".").replace("-", "–") for b in filled])
        axis.set_ylim(0, 110)
        axis.set_yticks([0, 25, 50, 75, 100])
        axis.set_ylabel("objects (%)" if place % SIDE_BY_SIDE == 0 else "", fontsize=8.5)
        panel_title(axis, run)
        plain_axis(axis)
        axis.tick_params(axis="x", labelsize=7.5)
    legend_above(figure, [figure.axes[0]], 4)
    figure.supxlabel(
        "highest box IoU with another object of the class (above the bars: objects)", fontsize=8, color="0.35"
    )
    return figure


def _confusion(categories: Sequence[str], ap: str, runs: Sequence[tuple[str, Confusion]]) -> Figure | None:
    """Points of ``ap`` to gain between the classes of the costliest pairs, shaded by the costliest of the run."""
    shown = concerned([confusion for _, confusion in runs], MOST_CONFUSED)
    if not len(shown):
        return None
    names = distinct_labels([categories[c] for c in shown], 16)
    side = 0.9 + 0.25 * len(shown)
    figure = new_figure(max(side * min(len(runs), 2), 4.0), side * _rows(len(runs), 2) + 0.5)
    for axis, (run, confusion) in zip(split_panels(figure, len(runs), 2), runs, strict=True):
        costs, counts = confusion.among(shown)
        np.fill_diagonal(counts, 0)
        words = [
            [points_text(cost) if count else "" for cost, count in zip(*row, strict=True)]
            for row in zip(costs.tolist(), counts.tolist(), strict=True)
        ]
        heat_map(axis, np.maximum(costs, 0) / max(costs.max(), 1e-9), words, names, names)
        axis.set_aspect("equal")
        axis.tick_params(axis="x", rotation=90)
        axis.set_xlabel("taken for", fontsize=8)
        axis.set_ylabel("object", fontsize=8)
        panel_title(axis, run)
    figure.supxlabel(f"points of {ap} to gain if the errors of one pair alone were fixed", fontsize=7.5, color="0.35")
    return figure
