"""The section of curves: precision against recall, and everything against the IoU that is asked for."""

import numpy as np
from numpy.typing import NDArray

from analysis.errors import ERRORS, ap_name
from analysis.findings import MEANINGS
from analysis.report.charts import FRAME, Line, legend
from analysis.report.charts import curves as drawn
from analysis.report.markup import Markup, join, tag
from analysis.report.material import Material, RunMaterial
from analysis.report.page import Section
from analysis.report.parts import code_and_text, said

IOU_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9)


def curves(material: Material) -> Section:
    """Mean precision against recall at several IoUs, which the script redraws for one class; then AP along the IoU."""
    charts = [_precision_figure(material, iou) for iou in material.runs[0].precision]
    select = tag("select", tag("option", "mean over all classes", value=""), id="curve-category")
    choice = tag("label", tag("span", "Class"), select, class_="choice", id="curve-choice", hidden=True)
    explained = (
        "The best precision at each recall or a higher one, averaged over classes: the area under a curve is the AP."
    )
    along = (
        "The same runs as more and more overlap is asked for: what is right at IoU 0.5 becomes an error of "
        "localisation further on. The mean over these ten thresholds is COCO's AP."
    )
    body = [
        tag("p", explained),
        legend(material.names),
        choice,
        tag("div", *charts, class_="charts", id="curve-figures"),
        tag("h3", "Along the threshold"),
        tag("p", along),
        said(material, "iou"),
        tag("div", _ap_figure(material), *_error_figures(material), class_="charts"),
    ]
    return Section("curves", "Curves", "Precision against recall", join(body))


def _precision_figure(material: Material, iou: float) -> Markup:
    lines = [Line(place, _mean_curve(one, iou)) for place, one in enumerate(material.runs)]
    means = ", ".join(f"{name} {100 * line.y.mean():.1f}" for name, line in zip(material.names, lines, strict=True))
    label = f"Precision against recall at IoU {iou:g}; {ap_name(iou)}: {means}"
    chart = drawn(lines, label=label, x_title="recall", y_title="precision")
    caption = tag("figcaption", tag("strong", f"IoU {iou:g}"), f" {ap_name(iou)}: {means}")
    return tag("figure", caption, chart, data_iou=f"{iou:g}", data_frame=" ".join(map(str, FRAME)))


def _mean_curve(one: RunMaterial, iou: float) -> NDArray[np.float64]:
    rows = one.precision[iou]
    known = ~np.isnan(rows[:, 0])
    return np.asarray(rows[known].mean(axis=0) if known.any() else np.zeros(rows.shape[1]))


def _ap_figure(material: Material) -> Markup:
    values = [one.ious.ap for one in material.runs]
    means = ", ".join(f"{one.name} {one.ious.mean_ap:.1f}" for one in material.runs)
    return _along(material, values, 100.0, join([tag("strong", "AP"), f" mean: {means}"]), f"AP by IoU; mean: {means}")


def _error_figures(material: Material) -> list[Markup]:
    """One chart a type of error, all on one scale."""
    top = max(1.0, *(float(one.ious.delta_ap[error].max()) for one in material.runs for error in ERRORS))
    top = float(np.ceil(top / 5) * 5) if top > 5 else float(np.ceil(top))
    figures = []
    for error in ERRORS:
        values = [np.maximum(one.ious.delta_ap[error], 0.0) for one in material.runs]
        means = ", ".join(f"{one.name} {one.ious.mean_delta_ap[error]:.1f}" for one in material.runs)
        caption = join([code_and_text(error, MEANINGS[error]), f"; mean: {means}"])
        figures.append(_along(material, values, top, caption, f"AP to gain by fixing {error}, by IoU; mean: {means}"))
    return figures


def _along(material: Material, values: "list[NDArray[np.float64]]", top: float, caption: Markup, label: str) -> Markup:
    ious = material.runs[0].ious.ious
    chart = drawn(
        [Line(place, one, ious) for place, one in enumerate(values)],
        label=label,
        x_title="IoU asked for",
        y_title="points",
        x_range=(float(ious[0]), float(ious[-1])),
        x_ticks=IOU_TICKS,
        y_top=top,
        y_ticks=tuple(top * part / 4 for part in range(5)),
    )
    return tag("figure", tag("figcaption", caption), chart)
