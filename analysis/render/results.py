"""What results show of themselves in Python (:mod:`analysis.presentation`): a frame, a figure, one line, HTML.

Each kind of result has one entry for each of the four; a frame holds raw values under the names that files use.
"""

import html as markup
import io
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.arrays import Floats
from analysis.evaluation.analysis import PARTS, Run, RunAnalysis
from analysis.evaluation.ap_evaluation import Evaluation
from analysis.evaluation.average_precision import COCO_RECALLS
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.settings import ap_name
from analysis.evaluation.slices import object_crowding
from analysis.evaluation.tide import Breakdown
from analysis.evaluation.voc import VocAP
from analysis.exceptions import BadInput
from analysis.render.average_precision_files import drawn_ious, mean_precision
from analysis.render.comparison_figure import draw_differences
from analysis.render.figure_style import (
    MARKS,
    SCREEN,
    WIDTH,
    bar_look,
    distinct_colors,
    drawing,
    legend_above,
    line_look,
)
from analysis.render.files import detections_frame, objects_frame
from analysis.render.fonts import choose_fonts
from analysis.render.operating_point import curve_columns, score_text
from analysis.render.operating_point_files import class_records, confusion_records
from analysis.render.plots import distinct_labels, error_bars, heat_map, plain_axis
from analysis.render.slices import slice_tables
from analysis.render.table import records
from analysis.stats.compare import Comparison
from analysis.stats.operating_point import RunAtThreshold

MOST_ROWS = 20  # of a figure and of the HTML
DECIMALS = 3
RATES = {"precision": "precision", "recall": "recall", "f1": "F1"}
Frames = dict[str, Callable[[], pd.DataFrame]]
Figures = dict[str, Callable[[Figure], None]]


class NotebookFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def frame(result: Any, by: str) -> pd.DataFrame:
    """A frame of a result; see `Presentable.to_frame`."""
    made: pd.DataFrame = _chosen(frames(result), result, by)()
    return made


def figure(result: Any, by: str) -> Figure:
    """A figure of a result; see `Presentable.plot`."""
    draw = _chosen(figures(result), result, by)
    made = NotebookFigure(figsize=(WIDTH, 3.2), layout="constrained")
    FigureCanvasAgg(made)
    with drawing():
        draw(made)
    choose_fonts(made)
    return made


def html(result: Any) -> str:
    """The sentence and the first rows of the frame."""
    whole = frame(result, "")
    rest = f"<p>and {len(whole) - MOST_ROWS:,} more rows: to_frame()</p>" if len(whole) > MOST_ROWS else ""
    table = whole.head(MOST_ROWS).round(DECIMALS).to_html(na_rep="", border=0)
    return f"<p>{markup.escape(sentence(result))}</p>{table}{rest}"


def _chosen(ways: dict[str, Any], result: Any, by: str) -> Any:
    """The first way, or the one that is named."""
    by = by or next(iter(ways))
    if by in ways:
        return ways[by]
    hint = f"; analyze it with parts=({by!r},)" if isinstance(result, RunAnalysis) and by in PARTS else ""
    raise BadInput(f"{type(result).__name__} cannot be split by {by!r}; choose from {', '.join(ways)}{hint}")


@singledispatch
def sentence(result: Any) -> str:
    """A result in one line."""
    raise NotImplementedError(type(result))


@singledispatch
def frames(result: Any) -> Frames:
    """How a result can be split, the default first."""
    raise NotImplementedError(type(result))


@singledispatch
def figures(result: Any) -> Figures:
    """What can be drawn of a result, the default first."""
    raise NotImplementedError(type(result))


# ---- where the AP went


@sentence.register
def _(result: Breakdown) -> str:
    return f"Breakdown({_gains(result)})"


def _gains(breakdown: Breakdown) -> str:
    gains = ", ".join(f"{name} {breakdown.delta_ap[name]:.2f}" for name in ERRORS)
    return f"{ap_name(breakdown.settings.iou)} {breakdown.ap:.1f}; to gain: {gains}"


@frames.register
def _(result: Breakdown) -> Frames:
    gt, run = result.ground_truth, Run("", result.detections, result)
    return {
        "error": lambda: _errors_frame(result),
        "class": lambda: _classes_frame(result),
        "detection": lambda: detections_frame(gt, [run]).drop(columns="run"),
    }


def _errors_frame(breakdown: Breakdown) -> pd.DataFrame:
    """A row an error: points to gain by fixing it alone, how often it occurs (none for totals), what it is."""
    return pd.DataFrame(
        {
            "delta_ap": pd.Series(breakdown.delta_ap),
            "count": pd.Series(breakdown.count, dtype="Int64"),
            "meaning": {name: one.described(breakdown.settings.iou_type) for name, one in ERROR_TYPES.items()},
        }
    ).reindex(pd.Index([*ERROR_TYPES], name="error"))


def _classes_frame(breakdown: Breakdown) -> pd.DataFrame:
    """A row a class with objects that count: its AP, and the points of it to gain by fixing each error."""
    names = pd.Index(breakdown.ground_truth.category_name, name="class")
    columns = {ap_name(breakdown.settings.iou): breakdown.category_ap, **breakdown.category_raw}
    return pd.DataFrame(columns, index=names).dropna()


@figures.register
def _(result: Breakdown) -> Figures:
    ap = ap_name(result.settings.iou)
    gains = np.array([[result.delta_ap[error] for error in ERROR_TYPES]])
    return {
        "error": lambda figure: _errors(figure, f"{ap} {result.ap:.1f}", gains, ap),
        "class": lambda figure: _heat_map(figure, _classes_frame(result)[list(ERRORS)], _to_gain(result)),
    }


def _to_gain(breakdown: Breakdown) -> str:
    return f"{ap_name(breakdown.settings.iou)} to gain (points)"


@sentence.register
def _(result: RunAnalysis) -> str:
    return f"RunAnalysis({result.name!r}: {_gains(result.breakdown)})"


@frames.register
def _(result: RunAnalysis) -> Frames:
    gt = result.breakdown.ground_truth

    def part(name: str) -> Callable[[], pd.DataFrame]:
        def made() -> pd.DataFrame:
            table = slice_tables(gt, result.breakdown.settings, [result], None).get(name)
            return pd.DataFrame(records(table) if table else [])

        return made

    computed = {"size": "sizes", "iou": "ious", "crowding": "crowding", "confusion": "confusion"}
    names = [name for name, attribute in computed.items() if getattr(result, attribute) is not None]
    return {
        **frames(result.breakdown),
        "object": lambda: objects_frame(gt, [result], object_crowding(gt)).drop(columns="run"),
        **{name: part(name if name == "confusion" else f"by_{name}") for name in names},
    }


@figures.register
def _(result: RunAnalysis) -> Figures:
    return figures(result.breakdown)


# ---- average precision


@sentence.register
def _(result: Evaluation) -> str:
    numbers = ", ".join(f"{name} {value:.1f}" for name, value in result.names.items() if value >= 0)
    return f"Evaluation({numbers}; {len(result.category)} categories)"


@frames.register
def _(result: Evaluation) -> Frames:
    return {
        "metric": lambda: pd.DataFrame({"value": _known(result.names)}).rename_axis("metric"),
        "class": lambda: pd.DataFrame(
            [_known(result.of_category(place).names) for place in range(len(result.category))],
            index=pd.Index(result.category_names, name="class"),
        ),
        "iou": lambda: pd.DataFrame({"AP": _ap_along_iou(result)}, index=pd.Index(result.ious, name="IoU")),
    }


def _known(numbers: dict[str, float]) -> dict[str, float]:
    """Points, NaN in place of COCO's -1."""
    return {name: value if value >= 0 else np.nan for name, value in numbers.items()}


def _ap_along_iou(evaluation: Evaluation) -> Floats:
    """f64[T] points, NaN where no class has an object."""
    precision = evaluation.precision[0, -1]  # [T, K, 101]
    known = precision >= 0
    with np.errstate(invalid="ignore"):
        mean: Floats = 100 * np.where(known, precision, 0.0).sum(axis=(1, 2)) / known.sum(axis=(1, 2))
    return mean


@figures.register
def _(result: Evaluation) -> Figures:
    def curves(figure: Figure) -> None:
        axis = _axis(figure)
        precision = mean_precision(result)
        shown = drawn_ious(result.ious)
        _lines(axis, {f"IoU {result.ious[place]:g}": (COCO_RECALLS, precision[place]) for place in shown})
        axis.set(xlabel="recall", ylabel="precision, mean over classes", xlim=(0, 1), ylim=(0, 1.02))
        legend_above(figure, [axis])

    return {"metric": curves, "iou": lambda figure: _line(figure, frame(result, "iou")["AP"], "AP (points)")}


@sentence.register
def _(result: VocAP) -> str:
    known = int((~np.isnan(result.category)).sum())
    return f"VocAP({result.mean:.1f} at IoU {result.iou:g}, rule of 20{result.year}; {known} categories)"


@frames.register
def _(result: VocAP) -> Frames:
    columns = {
        "AP": result.category,
        "objects": result.objects,
        "detections": result.detections,
        "true_positives": result.true_positives,
    }
    return {"class": lambda: pd.DataFrame(columns, index=pd.Index(result.category_names, name="class"))}


@figures.register
def _(result: VocAP) -> Figures:
    return {"class": lambda figure: _row_bars(figure, frame(result, "class")["AP"].dropna(), "AP (points)")}


# ---- runs against a baseline


@sentence.register
def _(result: Comparison) -> str:
    name = ap_name(result.settings.iou)
    runs = "; ".join(_difference_words(one.name, one.differences[name], name) for one in result.vs_baseline)
    return f"Comparison(baseline {result.baseline!r}; {runs}; {result.images:,} images)"


def _difference_words(run: str, difference: Any, number: str) -> str:
    mark = ", significant" if difference.significant else ""
    return f"{run!r} {number} {difference.value:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]{mark}"


@frames.register
def _(result: Comparison) -> Frames:
    return {"number": lambda: _numbers_frame(result), "class": lambda: _class_differences(result)}


def _numbers_frame(comparison: Comparison) -> pd.DataFrame:
    """A row a run and number: its value and interval; where it is not the baseline, its difference, tested."""
    differences = {one.name: one.differences for one in comparison.vs_baseline}
    rows = [
        {
            "run": one.name,
            "number": number,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            **(
                {}
                if found is None
                else {
                    "difference": found.value,
                    "difference_low": found.low,
                    "difference_high": found.high,
                    "p": found.p,
                    "p_adjusted": found.p_adjusted,
                    "significant": found.significant,
                }
            ),
        }
        for one in comparison.candidates
        for number, interval in one.numbers.items()
        for found in [differences.get(one.name, {}).get(number)]
    ]
    return pd.DataFrame(rows).astype({"significant": "boolean"}).set_index(["run", "number"])


def _class_differences(comparison: Comparison) -> pd.DataFrame:
    """A row a run and class: the difference of each number to the baseline's."""
    frames = {
        one.name: pd.DataFrame(
            {number: found.value for number, found in one.categories.items()},
            index=pd.Index(comparison.category_names, name="class"),
        ).dropna(how="all")
        for one in comparison.vs_baseline
    }
    return pd.concat(frames, names=["run"])


@figures.register
def _(result: Comparison) -> Figures:
    def intervals(figure: Figure) -> None:
        if not draw_differences(figure, result):
            _axis(figure).text(0.5, 0.5, "nothing to compare", ha="center", va="center")

    return {"number": intervals}


# ---- from a score on


@sentence.register
def _(result: RunAtThreshold) -> str:
    point = result.point
    if point.threshold is None:
        return f"RunAtThreshold({result.name!r}: no score satisfies the criterion)"
    rates = ", ".join(f"{name} {point.rates[rate].value:.3f}" for rate, name in RATES.items())
    return f"RunAtThreshold({result.name!r}: threshold {point.threshold:.3f}; {rates})"


@frames.register
def _(result: RunAtThreshold) -> Frames:
    rates = result.point.rates
    return {
        "rate": lambda: pd.DataFrame(
            {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in rates.items()}
        ).T.rename_axis("rate"),
        "class": lambda: pd.DataFrame(class_records(result.ground_truth, result.point)).set_index("class"),
        "confusion": lambda: pd.DataFrame(confusion_records(result.ground_truth, result.shown.confusion)),
    }


@figures.register
def _(result: RunAtThreshold) -> Figures:
    def curves(figure: Figure) -> None:
        axis, columns = _axis(figure), curve_columns(result)
        _lines(axis, {name: (columns["score"], columns[rate]) for rate, name in RATES.items()})
        threshold = result.point.threshold
        if threshold is not None:
            axis.axvline(threshold, color="0.4", lw=0.8, label=f"threshold {score_text(threshold)}")
        axis.set(xlabel="score threshold", ylim=(0, 1.02))
        legend_above(figure, [axis])

    return {"rate": curves}


# ---- drawing


def _axis(figure: Figure) -> Axes:
    axis = figure.add_subplot()
    plain_axis(axis)
    return axis


def _errors(figure: Figure, label: str, gains: Floats, ap: str) -> None:
    error_bars(figure, [label], gains, ap, numbers=True)


def _heat_map(figure: Figure, frame: pd.DataFrame, label: str) -> None:
    """Rows with most in a single column first; what each column holds does not add up, so it is not stacked."""
    shown = frame.loc[frame.max(axis=1).sort_values(ascending=False).index].head(MOST_ROWS)
    figure.set_figheight(0.7 + 0.2 * max(len(shown), 1))
    axis, values = _axis(figure), shown.to_numpy(dtype=np.float64)
    if not len(shown):
        axis.text(0.5, 0.5, "no class has objects", ha="center", va="center")
        return
    words = [[f"{value:.1f}" for value in row] for row in values.tolist()]
    heat_map(axis, values / max(values.max(), 1e-9), words, list(map(str, shown.columns)), _names(shown))
    axis.xaxis.tick_top()
    axis.set_xlabel(label)


def _row_bars(figure: Figure, values: pd.Series, label: str) -> None:
    """A bar a row, the longest first."""
    shown = values.sort_values(ascending=False).head(MOST_ROWS)
    figure.set_figheight(0.9 + 0.2 * len(shown))
    axis = _axis(figure)
    axis.barh(np.arange(len(shown)), shown, **bar_look(0, distinct_colors(1)[0], SCREEN))
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axis.set_yticks(np.arange(len(shown)), _names(shown))
    axis.set_xlabel(label)


def _names(shown: pd.DataFrame | pd.Series) -> list[str]:
    return distinct_labels([str(name) for name in shown.index], 32)


def _lines(axis: Axes, lines: Mapping[str, tuple[Floats, Floats]]) -> None:
    for place, (color, (name, (x, y))) in enumerate(zip(distinct_colors(len(lines)), lines.items(), strict=True)):
        axis.plot(x, y, label=name, **line_look(place, color))


def _line(figure: Figure, values: pd.Series, label: str) -> None:
    axis = _axis(figure)
    axis.plot(values.index, values, marker=MARKS[0], ms=4, **line_look(0, distinct_colors(1)[0]))
    axis.set(xlabel=str(values.index.name), ylabel=label)
