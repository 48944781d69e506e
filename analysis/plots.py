"""The breakdown as a figure, in a style that survives print and colour blindness."""

import io
from collections.abc import Sequence

from analysis.errors import ERRORS, SPECIAL
from analysis.runs import Run
from analysis.tables import ap_name, errors_frame, settings_sentence


def errors_figure(runs: Sequence[Run], formats: Sequence[str] = ("png", "pdf")) -> dict[str, bytes]:
    """Bars of delta-AP (points) by type of error, one colour a run: the six types, and FP and FN beside them.

    Returns the encoded picture for each format.
    """
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame = errors_frame(runs)
    settings = runs[0].breakdown.settings
    frame["error"] = frame["error"].where(~frame["error"].isin(SPECIAL), frame["error"].str.upper())
    labels = {run.name: f"{run.name}  ({ap_name(settings.iou)} {run.breakdown.ap:.1f})" for run in runs}
    frame["run"] = frame["run"].map(labels)
    palette = sns.color_palette("colorblind", len(runs))
    pictures = {}
    style = {**sns.axes_style("whitegrid"), **sns.plotting_context("paper", font_scale=1.1)}
    with mpl.rc_context({**style, "pdf.fonttype": 42, "grid.color": "0.92"}):
        figure = Figure(figsize=(7.2, 3.0 + 0.22 * len(runs)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 2, width_ratios=[3, 1.25])
        for axis, kinds in zip(axes, (ERRORS, ("FP", "FN")), strict=True):
            part = frame[frame["error"].isin(kinds)]
            sns.barplot(
                part, x="error", y="delta_ap", hue="run", order=list(kinds), hue_order=list(labels.values()),
                palette=palette, ax=axis, legend=axis is axes[0], width=0.75, saturation=0.9,
            )  # fmt: skip
            axis.set_xlabel("")
            axis.set_ylabel(f"{ap_name(settings.iou)} to gain (points)" if axis is axes[0] else "")
            axis.set_ylim(bottom=min(0.0, part["delta_ap"].min() * 1.1), top=max(part["delta_ap"].max() * 1.18, 0.1))
            sns.despine(ax=axis, left=True)
            axis.grid(visible=False, axis="x")
            if len(runs) <= 3:
                for bars in axis.containers:
                    axis.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
        axes[0].set_title("one type of error fixed", fontsize=9, loc="left")
        axes[1].set_title("all of a kind", fontsize=9, loc="left")
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].get_legend().remove()
        figure.legend(handles, names, loc="outside upper left", ncols=min(len(runs), 3), frameon=False, fontsize=9)
        figure.supxlabel(settings_sentence(settings), fontsize=7, color="0.35")
        for kind in formats:
            buffer = io.BytesIO()
            metadata = {"CreationDate": None} if kind == "pdf" else None
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
            pictures[kind] = buffer.getvalue()
    return pictures
