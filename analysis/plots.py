"""The breakdown as a figure, in a style that survives print and colour blindness."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analysis.error_types import ERRORS, SPECIAL
from analysis.printed import one_line
from analysis.runs import Run
from analysis.tables import ap_name, errors_frame, settings_sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Fonts and lines for the width of a page; text in a PDF stays text."""
    import matplotlib as mpl
    import seaborn as sns

    style = {**sns.axes_style("whitegrid"), **sns.plotting_context("paper", font_scale=1.1)}
    with mpl.rc_context({**style, "pdf.fonttype": 42, "grid.color": "0.92"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that no window knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoded(figure: "Figure", formats: Sequence[str]) -> dict[str, bytes]:
    """The picture in each format, the same bytes for the same figure."""
    pictures = {}
    for kind in formats:
        buffer = io.BytesIO()
        metadata = {"CreationDate": None} if kind == "pdf" else None
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
        pictures[kind] = buffer.getvalue()
        figure.set_layout_engine("none")  # laid out once, for all formats
    return pictures


def label(text: str, longest: int = 40) -> str:
    r"""A name as matplotlib may show it: one line, no mathematics, and not too long: both ends tell it from others.

    >>> label("a$b"), label("vit-b, windowed, seed 3", 16)
    ('a\\$b', 'vit-b, wi…seed 3')
    """
    text = one_line(text)
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


def errors_figure(runs: Sequence[Run], formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Bars of delta-AP (points) by type of error, one colour a run: the six types, and FP and FN beside them.

    Returns the encoded picture for each format.
    """
    import seaborn as sns

    frame = errors_frame(runs)
    settings = runs[0].breakdown.settings
    frame["error"] = frame["error"].where(~frame["error"].isin(SPECIAL), frame["error"].str.upper())
    ap = ap_name(settings.iou)
    labels = {
        run.name: f"{short}  ({ap} {run.breakdown.ap:.1f})"
        for run, short in zip(runs, distinct_labels([run.name for run in runs]), strict=True)
    }
    frame["run"] = frame["run"].map(labels)
    palette = sns.color_palette("colorblind", len(runs))
    with paper_style():
        figure = new_figure(7.2, 3.0 + 0.22 * len(runs))
        axes = figure.subplots(1, 2, width_ratios=[3, 1.25])
        for axis, kinds in zip(axes, (ERRORS, ("FP", "FN")), strict=True):
            part = frame[frame["error"].isin(kinds)]
            sns.barplot(
                part, x="error", y="delta_ap", hue="run", order=list(kinds), hue_order=list(labels.values()),
                palette=palette, ax=axis, legend=axis is axes[0], width=0.75, saturation=0.9,
            )  # fmt: skip
            axis.set_xlabel("")
            axis.set_ylabel(f"{ap} to gain (points)" if axis is axes[0] else "")
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
        across = legend_columns(names, 7.2)
        figure.legend(handles, names, loc="outside upper left", ncols=across, frameon=False, fontsize=9)
        figure.supxlabel(settings_sentence(settings), fontsize=7, color="0.35")
        return encoded(figure, formats)
