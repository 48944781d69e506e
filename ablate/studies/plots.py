"""The answer of a study as figures: errors per variant as in the paper's Figure 4, and curves for numeric axes."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablate.studies.results import ERRORS, Row, Summary
from ablate.studies.tables import banner, over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")
MOST_WITH_NUMBERS = 3  # variants whose bars have room for them
LINES_A_ROW = 4  # in the legend of the curves
LEGEND_WIDTH = 108  # letters across the figure of the errors
TYPES, TOTALS = ERRORS[:6], ERRORS[6:]


def errors_figure(summary: Summary) -> dict[str, bytes]:
    """Points lost to each type of error, a colour a variant; with several seeds a dot each.

    Returns the encoded picture for each of the formats; nothing if no run is finished.
    """
    rows = [row for row in summary.rows if row.errors]
    if not rows:
        return {}
    import pandas as pd
    import seaborn as sns

    kind, _ = summary.kinds
    uneven = len({row.n for row in rows}) > 1
    records = [
        {
            "variant": _label(row, kind, with_n=uneven),
            "error": name.upper() if name in TOTALS else name,
            "points": value,
        }
        for row in rows
        for name in ERRORS
        for value in row.errors[name].each
    ]
    frame = pd.DataFrame(records)
    labels = list(dict.fromkeys(frame["variant"]))
    palette = _palette(len(labels))
    most = min(3, max(1, LEGEND_WIDTH // (max(map(len, labels)) + 7)))
    lines = math.ceil(len(labels) / most)
    figure, style = _figure(7.6, 2.9 + 0.19 * lines)
    with style:
        axes = figure.subplots(1, 2, width_ratios=[3, 1.15])
        for axis, names in zip(axes, (TYPES, tuple(name.upper() for name in TOTALS)), strict=True):
            part = frame[frame["error"].isin(names)]
            sns.barplot(
                part, x="error", y="points", hue="variant", order=list(names), hue_order=labels, palette=palette,
                ax=axis, legend=axis is axes[0], width=0.8, saturation=0.9, errorbar=None,
            )  # fmt: skip
            several = any(row.n > 1 for row in rows)
            for bars in axis.containers if len(labels) <= MOST_WITH_NUMBERS and not several else ():
                axis.bar_label(bars, fmt="%.1f", fontsize=6.5, padding=1)
            if several:
                sns.stripplot(
                    part, x="error", y="points", hue="variant", order=list(names), hue_order=labels, dodge=True,
                    palette=["0.15"] * len(labels), ax=axis, legend=False, size=2.4, jitter=False,
                )  # fmt: skip
            axis.set(xlabel="", ylabel=f"{kind} AP{_percent(summary)} to gain (points)" if axis is axes[0] else "")
            axis.set_ylim(bottom=min(0.0, part["points"].min() * 1.1), top=max(part["points"].max() * 1.12, 0.1))
            sns.despine(ax=axis, left=True)
            axis.grid(visible=False, axis="x")
            axis.tick_params(length=0)
        axes[0].set_title("one type of error fixed", fontsize=9, loc="left", color="0.35")
        axes[1].set_title("all of a kind", fontsize=9, loc="left", color="0.35")
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].get_legend().remove()
        figure.legend(
            handles[: len(labels)], names[: len(labels)], loc="outside upper left",
            ncols=math.ceil(len(labels) / lines), frameon=False, fontsize=8.5, columnspacing=1.4, handlelength=1.2,
        )  # fmt: skip
        _footer(figure, summary, "a dot a seed" if any(row.n > 1 for row in rows) else "")
        return _encoded(figure)


def curves_figure(summary: Summary) -> dict[str, bytes]:
    """AP against the number of a numeric axis, a line for each variant of the second axis; nothing for other axes."""
    rows = [row for row in summary.rows if row.number is not None and "AP" in row.metrics]
    if not summary.unit or len(rows) < 2:
        return {}
    import seaborn as sns

    kind, _ = summary.kinds
    lines = _lines_of(rows)
    figure, style = _figure(4.8, 3.3 + (0.2 + 0.19 * math.ceil(len(lines) / LINES_A_ROW)) * (len(lines) > 1))
    with style:
        axis = figure.subplots()
        for (name, line), colour in zip(lines.items(), _palette(len(lines)), strict=True):
            numbers = [row.number or 0.0 for row in line]
            found = [row.metrics["AP"] for row in line]
            axis.plot(
                numbers, [one.mean for one in found], "o-", color=colour, label=name, markersize=4.5, linewidth=1.6
            )
            if any(one.half is not None for one in found):
                low, high = ([one.mean + sign * (one.half or 0) for one in found] for sign in (-1, 1))
                axis.fill_between(numbers, low, high, color=colour, alpha=0.18, linewidth=0)
        ticks = sorted({row.number for row in rows if row.number is not None})
        if ticks[0] > 0 and ticks[-1] / ticks[0] >= 4:
            axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set(xlabel=_unit(summary, rows), ylabel=f"{kind} AP (points)")
        if len(lines) > 1:
            figure.legend(
                loc="outside upper left", ncols=LINES_A_ROW, frameon=False, fontsize=8.5, columnspacing=1.4,
                title=_other_axis(summary, rows), title_fontsize=8.5, alignment="left",
            )  # fmt: skip
        sns.despine(ax=axis)
        _footer(
            figure, summary, "band: 95 % over seeds" if any(row.metrics["AP"].half is not None for row in rows) else ""
        )
        return _encoded(figure)


def _lines_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each line: those that differ on the numeric axis alone, by number."""
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.number or 0.0):
        levels = [level for level in row.levels if level != _numeric_level(row, rows)]
        lines.setdefault(", ".join(levels), []).append(row)
    return lines


def _numeric_level(row: Row, rows: Sequence[Row]) -> str:
    """The level of a row on the numeric axis: the one that all rows of the same number share."""
    same = [set(other.levels) for other in rows if other.number == row.number]
    shared = set.intersection(*same)
    return next((level for level in row.levels if level in shared), "")


def _other_axis(summary: Summary, rows: Sequence[Row]) -> str:
    """The name of the axis that the lines are of."""
    is_first = rows[0].levels[:1] == (_numeric_level(rows[0], rows),)
    return (summary.product or "") if is_first else summary.axis


def _unit(summary: Summary, rows: Sequence[Row]) -> str:
    """What the numbers count; a word that all levels end with, such as iterations, is added."""
    words = {_numeric_level(row, rows).rpartition(" ")[2] for row in rows}
    word = words.pop() if len(words) == 1 else ""
    return f"{summary.unit} ({word})" if word and word not in summary.unit else summary.unit


def _label(row: Row, kind: str, *, with_n: bool = False) -> str:
    return f"{row.variant}  ({kind} AP {row.metrics['AP'].mean:.1f}{f', n = {row.n}' * with_n})"


def _percent(summary: Summary) -> int:
    return round((summary.iou or 0) * 100)


def _palette(count: int) -> "list[Any]":
    import seaborn as sns

    return list(sns.color_palette("colorblind", count) if count <= 10 else sns.color_palette("husl", count))


def _figure(width: float, height: float) -> "tuple[Figure, Any]":
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look = {**sns.axes_style("whitegrid"), **sns.plotting_context("paper", font_scale=1.1)}
    style = mpl.rc_context({**look, "pdf.fonttype": 42, "grid.color": "0.92", "axes.edgecolor": "0.6"})
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, style


def _footer(figure: "Figure", summary: Summary, marks: str = "") -> None:
    """What must not get lost when the picture travels alone; what its marks are, where seeds are shown."""
    data = f"{summary.images:,} images, digest {summary.validation_data[:12]}" if summary.images is not None else ""
    break_at = "\n" if figure.get_figwidth() < 6 else " | "
    about = " | ".join(part for part in (summary.study, data) if part)
    seeds = " | ".join(part for part in (banner(summary) or over_seeds(summary), marks) if part)
    text = break_at.join([about, seeds])
    figure.supxlabel(text, fontsize=6.5, color="0.45")


def _encoded(figure: "Figure") -> dict[str, bytes]:
    pictures = {}
    for kind in FORMATS:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=200, metadata={"CreationDate": None} if kind == "pdf" else None)
        pictures[kind] = buffer.getvalue()
    return pictures
