"""The section of curves: precision against recall, and everything against the IoU that is asked for."""

from collections.abc import Sequence

import numpy as np

from analysis.arrays import Floats
from analysis.evaluation.settings import ap_name, iou_name
from analysis.render.markup import Markup, join, tag
from analysis.report.charts import FRAME, PlotLine, legend, run_letter
from analysis.report.charts import curves as drawn
from analysis.report.components import error_title, takeaway_list
from analysis.report.page import Section
from analysis.report.report_data import ReportData, RunData

IOU_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9)
ALONG = ("loc", "miss")  # the errors that depend on the threshold most; tables hold the others


def curves(data: ReportData) -> Section:
    """Mean precision against recall at several IoUs, which the script redraws for one class; then AP along the IoU."""
    select = tag("select", tag("option", "mean over all classes", value=""), id="curve-category")
    choice = tag("label", tag("span", "Class"), select, class_="choice", id="curve-choice", hidden=True)
    body = [
        tag(
            "p",
            "The highest precision at each recall or above, averaged over classes: the area under a curve is the AP.",
        ),
        legend(data.names),
        choice,
        tag(
            "div",
            *(_precision_figure(data, iou) for iou in data.runs[0].precision),
            class_="charts",
            id="curve-figures",
        ),
        tag("h3", f"AP and errors by {iou_name(data.settings.iou_type)} threshold"),
        tag(
            "p",
            f"The same runs at higher {iou_name(data.settings.iou_type)} thresholds: a detection that is correct at "
            f"{iou_name(data.settings.iou_type)} 0.5 can be a localisation error at a higher threshold. The mean over "
            "these ten thresholds is COCO's AP.",
        ),
        takeaway_list(data, "iou"),
        tag("div", _ap_figure(data), *(_error_figure(data, error) for error in ALONG), class_="charts"),
    ]
    return Section("curves", "Curves", "Precision against recall", join(body))


def _precision_figure(data: ReportData, iou: float) -> Markup:
    lines = [PlotLine(place, _mean_curve(one, iou)) for place, one in enumerate(data.runs)]
    means = [f"{100 * line.y.mean():.1f}" for line in lines]
    named = ", ".join(f"{name} {mean}" for name, mean in zip(data.names, means, strict=True))
    short = " · ".join(f"{run_letter(place)} {mean}" for place, mean in enumerate(means))
    label = f"Precision against recall at {iou_name(data.settings.iou_type)} {iou:g}; {ap_name(iou)}: {named}"
    return tag(
        "figure",
        tag("figcaption", tag("strong", f"{iou_name(data.settings.iou_type)} {iou:g}"), f" {ap_name(iou)}: {short}"),
        drawn(lines, label=label, x_title="recall", y_title="precision"),
        data_iou=f"{iou:g}",
        data_frame=" ".join(map(str, FRAME)),
    )


def _mean_curve(one: RunData, iou: float) -> Floats:
    rows = one.precision[iou]
    known = ~np.isnan(rows[:, 0])
    return np.asarray(rows[known].mean(axis=0) if known.any() else np.zeros(rows.shape[1]))


def _ap_figure(data: ReportData) -> Markup:
    caption, means = join([tag("strong", "AP"), " at each threshold"]), [one.ious.mean_ap for one in data.runs]
    return _along(data, [one.ious.ap for one in data.runs], 100.0, caption, "AP by IoU", means)


def _error_figure(data: ReportData, error: str) -> Markup:
    values = [np.maximum(one.ious.delta_ap[error], 0.0) for one in data.runs]
    most = max(1.0, *(float(one.max()) for one in values))
    step = 1 if most <= 4 else 20 if most > 40 else 4
    means, label = [one.ious.mean_delta_ap[error] for one in data.runs], f"AP to gain by fixing {error}, by IoU"
    return _along(
        data, values, float(np.ceil(most / step) * step), error_title(error, data.settings.iou_type), label, means
    )


def _along(
    data: ReportData, values: Sequence[Floats], top: float, caption: Markup, label: str, means: Sequence[float]
) -> Markup:
    ious = data.runs[0].ious.ious
    named = ", ".join(f"{name} {mean:.1f}" for name, mean in zip(data.names, means, strict=True))
    chart = drawn(
        [PlotLine(place, one, ious) for place, one in enumerate(values)],
        label=f"{label}; mean: {named}",
        x_title=f"{iou_name(data.settings.iou_type)} threshold",
        y_title="points",
        x_range=(float(ious[0]), float(ious[-1])),
        x_ticks=IOU_TICKS,
        y_top=top,
        y_ticks=tuple(top * part / 4 for part in range(5)),
    )
    return tag("figure", tag("figcaption", caption), chart)
