"""Loss and AP of every run of a study while it was trained, read from the run folders, as a figure."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from ablate.runs.folder import Workspace
from ablate.studies.study import Study
from analysis.arrays import Floats
from analysis.exceptions import BadInput
from analysis.render.figure_style import (
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
from analysis.render.plots import distinct_labels

SHOWN = {"loss": "training loss", "box_AP": "box AP on the validation images", "AP": "AP"}  # by key, with its title
MOST_POINTS = 300  # of a line; of more, neighbours are averaged

Line = tuple[Floats, Floats]  # iterations and values
TrainingCurves = Mapping[str, Mapping[str, Mapping[int, Line]]]  # by key, variant and seed


def read_curves(workspace: Workspace, study: Study) -> TrainingCurves:
    """The curves of a study's runs, finished or not, by key, variant and seed.

    A run whose curves cannot be read has none.
    """
    found: dict[str, dict[str, dict[int, Line]]] = {}
    for run in study.runs:
        try:
            lines = workspace.run(run.run_id).read_metrics() if run.run_id else []
        except BadInput:
            continue
        for key in SHOWN:
            points = [(line["iteration"], line[key]) for line in lines if line.get(key) is not None]
            if len(points) > 1:
                iterations, values = np.array(points, dtype=np.float64).T
                found.setdefault(key, {}).setdefault(run.variant, {})[run.seed] = (iterations, values)
    return {key: found[key] for key in SHOWN if key in found}


def training_figure(curves: TrainingCurves, about: str, style: FigureStyle = SCREEN) -> Picture | None:
    """A panel a measure, a colour and dashes a variant, thin lines for seeds; none where nothing was measured.

    Args:
        curves: of the runs.
        about: what the study is, for the caption.
        style: for the screen or a paper.
    """
    if not curves:
        return None
    variants = list(dict.fromkeys(variant for of_key in curves.values() for variant in of_key))
    names, colors = distinct_labels(variants), distinct_colors(len(variants))
    across = style.across(2)
    with drawing(style):
        rows = -(-len(curves) // across)
        figure = new_figure(style.wide(4.8 if len(curves) == 1 else 7.2), (1.9 if style.narrow else 2.5) * rows + 0.2)
        axes: list[Axes] = figure.subplots(rows, -(-len(curves) // rows), squeeze=False).ravel().tolist()
        for axis, (key, of_key) in zip(axes, curves.items(), strict=False):
            for place, (variant, name) in enumerate(zip(variants, names, strict=True)):
                look, each = line_look(place, colors[place]), list(of_key.get(variant, {}).values())
                axis.plot([], [], label=name, **look)
                mean = mean_over_seeds(each)
                for line in each if mean is None or len(each) > 1 else ():
                    axis.plot(*_thinned(*line), **look | ({} if mean is None else {"linewidth": 0.6, "alpha": 0.45}))
                if mean is not None:
                    axis.plot(*_thinned(*mean), **look)
            _finish_axis(axis, key, of_key, style)
        legend_above(figure, axes, style=style)
        seeds = {seed for of_key in curves.values() for lines in of_key.values() for seed in lines}
        several = f"; mean of {len(seeds)} seeds; thin lines: each seed" if len(seeds) > 1 else f"; seed {min(seeds)}"
        measured = " and ".join(SHOWN[key] for key in curves)
        caption = f"{measured[0].upper()}{measured[1:]} by iteration{several}. {about}"
        return finish(figure, caption, style)


def mean_over_seeds(lines: Sequence[Line]) -> Line | None:
    """The mean at the iterations that all lines have; none where they share no iteration, or there is no line."""
    common = reduce(np.intersect1d, (iterations for iterations, _ in lines)) if lines else np.array([])
    if not len(common):
        return None
    return common, np.mean([values[np.isin(iterations, common)] for iterations, values in lines], axis=0)


def _finish_axis(axis: Axes, key: str, of_key: Mapping[str, Mapping[int, Line]], style: FigureStyle) -> None:
    every = [line for lines in of_key.values() for line in lines.values()]
    values = np.concatenate([line[1] for line in every])
    if key == "loss":
        if values.min() > 0 and values.max() / values.min() > 20:
            axis.set_yscale("log")
        else:  # the first steps are far above the rest
            top = float(np.percentile(values, 99))
            low, high = float(values.min()), max(top, max(float(line[1][-1]) for line in every))
            axis.set_ylim(min(low, 0.0) if low < 0.3 * high else low * 0.95, high * 1.05)
    else:
        axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.set_xlabel("iteration", fontsize=style.size(8.5))
    axis.set_ylabel(f"{SHOWN[key].partition(' on ')[0]}{' (points)' * (key != 'loss')}", fontsize=style.size(8.5))
    axis.tick_params(labelsize=style.size(8))
    axis.grid(visible=False, axis="x")
    sns.despine(ax=axis, left=True)


def _thinned(iterations: Floats, values: Floats) -> Sequence[Any]:
    """A line of at most so many points, each the mean of its neighbours."""
    each = -(-len(values) // MOST_POINTS)
    if each == 1:
        return iterations, values
    starts = np.arange(0, len(values), each)
    counts = np.diff(np.append(starts, len(values)))
    return np.add.reduceat(iterations, starts) / counts, np.add.reduceat(values, starts) / counts
