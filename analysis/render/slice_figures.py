"""The slices of the breakdown as figures: by class, size, IoU and crowding, and confused classes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.arrays import Floats
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.confusion import Confusion, concerned
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.outcomes import IGNORED, OUTCOME_NAMES
from analysis.evaluation.settings import ap_name, iou_name
from analysis.evaluation.slices import ClassErrors, CrowdingBins, IouErrors, SizeErrors
from analysis.render.figure_style import (
    FORMATS,
    MARKS,
    SCREEN,
    FigureStyle,
    Picture,
    bar_look,
    distinct_colors,
    drawing,
    finish,
    legend_above,
    line_look,
    new_figure,
)
from analysis.render.plots import (
    bars,
    distinct_labels,
    heat_map,
    is_first_in_row,
    is_last_in_column,
    label,
    name_classes,
    panel_rows,
    panel_title,
    plain_axis,
    split_panels,
)
from analysis.render.slices import parts_of, points_text, size_sentence
from analysis.render.takeaways import source_sentence

MOST_CLASSES = 20
MOST_CONFUSED = 12
OUTCOME_COLORS = ("#0173b2", "#de8f05", "#cc78bc", "#949494")  # of seaborn's colorblind: found ... missed

Drawn = tuple[Figure, str]  # with what the figure shows


def slice_figures(
    ground_truth: GroundTruth,
    analyses: Sequence[RunAnalysis],
    style: FigureStyle = SCREEN,
    formats: Sequence[str] = FORMATS,
    *,
    min_objects: int = 0,
) -> dict[str, Picture]:
    """A picture of every slice that was computed and has something to show, by the name of its file.

    Args:
        ground_truth: of the runs.
        analyses: of each run.
        style: for the screen or a paper.
        formats: of the files.
        min_objects: classes with fewer are left out of the figure by class.
    """
    settings = analyses[0].breakdown.settings
    makers: dict[str, tuple[str, Callable[[Any, FigureStyle], Drawn | None]]] = {
        "by_class": ("classes", partial(_classes, min_objects)),
        "by_size": ("sizes", _sizes),
        "by_iou": ("ious", _thresholds),
        "by_crowding": ("crowding", _crowding),
        "confusion": ("confusion", partial(_confusion, ground_truth.category_name, ap_name(settings.iou))),
    }
    pictures = {}
    with drawing(style):
        for name, (part, make) in makers.items():
            runs = parts_of(analyses, part)
            if drawn := make(runs, style) if runs else None:
                figure, shows = drawn
                source = source_sentence(ground_truth, settings, thresholds=name != "by_iou")
                caption = f"{shows} {source}"
                pictures[name] = finish(figure, caption, style, formats)
    return pictures


def _classes(min_objects: int, runs: Sequence[tuple[str, ClassErrors]], style: FigureStyle) -> Drawn | None:
    """A heat map a run: classes down, errors across; in the first column the AP of the class."""
    first = runs[0][1]
    gains = np.nan_to_num([[classes.delta_ap[e] for e in ERRORS] for _, classes in runs])  # [runs, errors, K]
    in_mean = ~np.isnan([classes.ap for _, classes in runs]).all(axis=0)
    known = np.flatnonzero(in_mean & (first.positives >= min_objects))
    most = gains.max(axis=(0, 1))
    ap, across = ap_name(first.settings.iou), style.across()
    rows = panel_rows(len(runs), across)
    room = style.that_fit(MOST_CLASSES, rows, 0.19, 0.55)
    shown = known[np.lexsort((-first.positives[known], -most[known]))][:room]
    if not len(shown):
        return None
    needed = 7.2 if len(runs) > 1 else 4.6
    figure = new_figure(style.wide(needed), (0.55 + 0.19 * len(shown)) * rows + 0.15)
    labels = distinct_labels([first.names[c] for c in shown], 24)
    names = [f"{name}  ({first.positives[c]:,})" for name, c in zip(labels, shown, strict=True)]
    panels = split_panels(figure, len(runs), across, sharey=True)
    for axis, (run, classes), gain in zip(panels, runs, gains, strict=True):
        values = np.concatenate([np.full((1, len(shown)), np.nan), gain[:, shown]]).T
        words = [
            ["-" if np.isnan(ap_) else f"{ap_:.1f}", *(f"{value:.1f}" for value in row[1:])]
            for ap_, row in zip(classes.ap[shown].tolist(), values.tolist(), strict=True)
        ]
        heat_map(axis, values / max(most[shown].max(), 1e-9), words, [ap, *ERRORS], names, style)
        axis.xaxis.tick_top()
        panel_title(axis, run, style, pad=style.size(9) + 7)
    left_out = int(in_mean.sum()) - len(known)
    caption = (
        f"{len(shown)} of {len(known)} classes (number of objects), ordered by the {ap} at stake: what fixing the "
        f"costliest type of error of the class would add to the mean over {int(in_mean.sum())} classes. First "
        f"column: {ap} of the class; then the points of it to gain by fixing one type of error."
    )
    if left_out:
        caption += f" Left out: {left_out} classes with fewer than {min_objects} objects."
    return figure, caption


def _sizes(runs: Sequence[tuple[str, SizeErrors]], style: FigureStyle) -> Drawn:
    """Bars by error, a panel a size and a colour a run; of one run alone, a colour a size."""
    first, alone = runs[0][1], len(runs) == 1
    ap = ap_name(first.settings.iou)
    names = distinct_labels([size.name for size in first.sizes], 16)
    sized = [f"{name} ({count:,} objects)" for name, count in zip(names, first.objects.tolist(), strict=True)]
    gains = np.array([[sizes.delta_ap[e] for e in ERRORS] for _, sizes in runs])  # [runs, errors, sizes]
    across, panels = style.across(), 1 if alone else len(names)
    height = 1.55 if style.narrow else 1.8
    figure = new_figure(style.wide(5.0 if alone else 7.2), 2.4 if alone else height * panel_rows(panels, across) + 0.3)
    for place, axis in enumerate(split_panels(figure, panels, across, sharey=True)):
        if alone:
            bars(axis, ERRORS, sized, gains[0].T, width=0.78, palette="crest", style=style)
        else:
            bars(axis, ERRORS, distinct_labels([run for run, _ in runs]), gains[:, :, place], width=0.8, style=style)
            panel_title(axis, sized[place], style)
        axis.set_ylabel(f"{ap} to gain (points)" if is_first_in_row(place, panels, across) else "")
    legend_above(figure, figure.axes, style=style)
    of = f" of {label(runs[0][0])}" * alone
    caption = f"{ap} to gain by fixing only the errors{of} of one type and size, in points. "
    return figure, caption + size_sentence(first.sizes, first.settings.convention)


def _thresholds(runs: Sequence[tuple[str, IouErrors]], style: FigureStyle) -> Drawn:
    """The AP and each error along the threshold, a panel each and a line a run."""
    if style.narrow:
        layout: Any = [["AP", "AP"], *([a, b] for a, b in zip(ERRORS[::2], ERRORS[1::2], strict=True))]
        options: dict[str, Any] = {"height_ratios": [1.5, 1, 1, 1]}
        figure, bottom = new_figure(style.wide(), 4.8), ("AP", *ERRORS[-2:])  # the panel of AP is wider than the rest
    else:
        layout = [["AP", *ERRORS[:3]], ["AP", *ERRORS[3:]]]
        options = {"width_ratios": [1.5, 1, 1, 1]}
        figure, bottom = new_figure(style.wide(), 3.2), ("AP", *ERRORS[3:])
    axes: dict[str, Axes] = figure.subplot_mosaic(layout, sharex=True, **options)
    colors = distinct_colors(len(runs))
    names = distinct_labels([run for run, _ in runs])
    for name, axis in axes.items():
        for number, (run, (_, ious)) in enumerate(zip(names, runs, strict=True)):
            values = ious.ap if name == "AP" else ious.delta_ap[name]
            look = line_look(number, colors[number]) | {"linewidth": 1.1}
            marker = MARKS[number % len(MARKS)]
            axis.plot(ious.ious, values, label=f"{run}  (mean AP {ious.mean_ap:.1f})", marker=marker, ms=3, **look)
        panel_title(axis, "AP (points)" if name == "AP" else f"{name} (points to gain)", style)
        low, high = axis.get_ylim()
        axis.set_ylim(0 if low > -0.1 * high else low, high)
        axis.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9], [".5", ".6", ".7", ".8", ".9"])
        plain_axis(axis, style, labelsize=style.size(7.5), labelbottom=name in bottom)
    legend_above(figure, [axes["AP"]], style=style)
    threshold = iou_name(runs[0][1].settings.iou_type)
    for name in bottom[-2 if style.narrow else 0 :]:
        axes[name].set_xlabel(threshold)
    return figure, (
        f"AP, and the points of it to gain by fixing one type of error alone, at each {threshold} threshold."
    )


def _crowding(runs: Sequence[tuple[str, CrowdingBins]], style: FigureStyle) -> Drawn | None:
    """What became of the objects of each range of crowding, as shares, a panel a run."""
    if not runs[0][1].objects.any():
        return None
    kinds = [i for i in range(len(OUTCOME_NAMES)) if i != IGNORED]
    across = style.across()
    height = 1.7 if style.narrow else 1.95
    figure = new_figure(style.wide(7.2 if len(runs) > 1 else 4.8), height * panel_rows(len(runs), across) + 0.3)
    panels = split_panels(figure, len(runs), across, sharey=True)
    for place, (axis, (run, bins)) in enumerate(zip(panels, runs, strict=True)):
        filled = np.flatnonzero(bins.objects)
        below: Floats = np.zeros(len(filled))
        for number, i in enumerate(kinds):
            share = 100 * bins.outcome[filled, i] / bins.objects[filled]
            look = bar_look(number, to_rgb(OUTCOME_COLORS[i]), style) | {"linewidth": 0.3}
            axis.bar(range(len(filled)), share, bottom=below, label=OUTCOME_NAMES[i], width=0.78, **look)
            below = below + share
        for x, b in enumerate(filled):
            count = f"{bins.objects[b]:,}"
            axis.text(x, 101, count, ha="center", va="bottom", fontsize=style.size(6.5), color="0.35")
        axis.set_xticks(range(len(filled)), [bins.names[b].replace("0.", ".").replace("-", "–") for b in filled])
        axis.set_ylim(0, 112)
        axis.set_yticks([0, 25, 50, 75, 100])
        axis.set_ylabel("objects (%)" if is_first_in_row(place, len(runs), across) else "")
        axis.set_xlabel("crowding (box IoU)" if is_last_in_column(place, len(runs), across) else "")
        panel_title(axis, run, style)
        plain_axis(axis, style, labelsize=style.size(7.5))
    legend_above(figure, [panels[0]], style=style)
    return figure, (
        "Outcomes of the objects by crowding, the highest box IoU with another object of the same class. Numbers above "
        "the bars: objects."
    )


def _confusion(
    categories: Sequence[str], ap: str, runs: Sequence[tuple[str, Confusion]], style: FigureStyle
) -> Drawn | None:
    """Points of ``ap`` to gain between the classes of the costliest pairs, shaded by the costliest of all runs."""
    across = 1 if style.narrow else 2
    columns, rows = min(len(runs), across), panel_rows(len(runs), across)
    most_shown = style.that_fit(8 if style.narrow else MOST_CONFUSED, rows, 0.25, 0.35 + 0.75 / rows)
    shown = concerned([confusion for _, confusion in runs], most_shown)
    if not len(shown):
        return None
    names = distinct_labels([categories[c] for c in shown], 16)
    side = 0.3 + 0.25 * len(shown)
    figure = new_figure(style.wide(max(side * columns + 1.0, 4.0)), side * rows + 1.0)
    among = [confusion.among(shown) for _, confusion in runs]
    most = max(max(float(costs.max()) for costs, _ in among), 1e-9)
    panels = split_panels(figure, len(runs), across)
    for place, (axis, (run, _), (costs, counts)) in enumerate(zip(panels, runs, among, strict=True)):
        np.fill_diagonal(counts, 0)
        words = [
            [points_text(cost) if count else "" for cost, count in zip(*row, strict=True)]
            for row in zip(costs.tolist(), counts.tolist(), strict=True)
        ]
        heat_map(axis, np.maximum(costs, 0) / most, words, names, names, style)
        name_classes(axis, place, len(runs), across, style)
        panel_title(axis, run, style)
    return figure, (
        f"Points of {ap} to gain if the objects of one class (rows) were not predicted as another (columns). An empty "
        f"cell: no such detection; 0: a cost below 0.005. Shown: the {len(shown)} classes of the costliest pairs"
        f"{'; one shade for all runs' * (len(runs) > 1)}. Detections of all scores count."
    )
