r"""How figures look, how wide they are, and their captions.

A figure on the screen has its caption below the drawing. One for a paper has none: its text is 7 pt at the width that
it is made for, its bars have hatches and its lines dashes and markers, and its caption goes into ``figures_tex``.
"""

import contextlib
import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from analysis.exceptions import BadInput
from analysis.render.latex import escape_latex
from analysis.render.table import one_line

if TYPE_CHECKING:  # matplotlib takes half a second to import, and a command without figures needs it not
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")
DPI = 200
WIDTH = 7.2  # inches, the text of a page
COLUMN = 3.4  # inches, a column of a page of two
PAGE = 9.0  # inches, the height of its text
PANEL = 2.1  # inches that a panel needs at least, with its axis
POINTS = 7.0  # of all text in a paper
NARROWEST, WIDEST = 2.0, 20.0
UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # inches; a point is TeX's
LETTER = 0.051  # inches of a letter of 7 pt, on average

HATCHES = ("", "/////", ".....", "xxxxx", "\\\\\\\\\\", "-----", "ooo", "+++++")
DASHES: tuple[Any, ...] = (
    "-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
MARKS = "osD^vP*X"


@dataclass(frozen=True)
class FigureStyle:
    """For the screen, or for a paper.

    Attributes:
        paper: text of 7 pt, hatches, no caption in the picture.
        width: of every figure in inches; none: what each needs, a page at most.
    """

    paper: bool = False
    width: float | None = None

    @classmethod
    def chosen(cls, name: Literal["screen", "paper"], width: str) -> "FigureStyle":
        """What ``--style`` and ``--width`` say; a paper's figure is as wide as a column unless told otherwise.

        Raises:
            BadInput: the width has no unit, or is no width of a figure.

        >>> FigureStyle.chosen("paper", "86.36mm"), FigureStyle.chosen("screen", "")
        (FigureStyle(paper=True, width=3.4), FigureStyle(paper=False, width=None))
        """
        paper = name == "paper"
        if not width:
            return cls(paper, COLUMN if paper else None)
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(in|cm|mm|pt)\s*", width)
        inches = float(found[1]) * UNITS[found[2]] if found else 0.0
        if not found or not NARROWEST <= inches <= WIDEST:
            raise BadInput(
                f"--width {width}: must be a width from {NARROWEST:g} to {WIDEST:g} inches with its unit (in, cm, mm, "
                "pt), such as 3.4in or 86mm"
            )
        return cls(paper, round(inches, 4))

    def wide(self, needed: float = WIDTH) -> float:
        """The width of a figure in inches that needs so much."""
        return self.width or needed

    @property
    def narrow(self) -> bool:
        """Whether two panels hardly fit side by side."""
        return self.wide() < 2 * PANEL + 0.6

    def across(self, most: int = 3) -> int:
        """How many panels stand side by side."""
        return max(1, min(most, int(self.wide() / PANEL)))

    def that_fit(self, most: int, panels: int, each: float, around: float) -> int:
        """How many rows of a panel fit a page, where so many panels stand below each other.

        Args:
            most: rows on the screen, which has no pages.
            panels: below each other.
            each: inches of a row.
            around: inches of a panel beside its rows.
        """
        return min(most, max(4, int((PAGE / panels - around) / each))) if self.paper else most

    def size(self, points: float) -> float:
        """A size of text: on the screen as given, in a paper the same for all."""
        return POINTS if self.paper else points


SCREEN = FigureStyle()


class Picture(NamedTuple):
    """A figure in some formats, and what must be said of it."""

    files: dict[str, bytes]  # by format
    caption: str

    def named(self, name: str) -> dict[str, bytes]:
        """The files by their names."""
        return {f"{name}.{kind}": content for kind, content in self.files.items()}


@contextlib.contextmanager
def drawing(style: FigureStyle = SCREEN) -> Iterator[None]:
    """Fonts and lines of figures; text in a PDF stays text.

    On the screen what the user has set stays as it is; a figure for a paper keeps its width and its fonts.
    """
    import matplotlib as mpl
    import seaborn as sns

    settings = sns.axes_style("whitegrid") | sns.plotting_context("paper", font_scale=1.1)
    settings |= {"pdf.fonttype": 42, "grid.color": "0.92", "savefig.dpi": DPI, "hatch.linewidth": 0.6}
    if not style.paper:
        settings = {key: value for key, value in settings.items() if mpl.rcParams[key] == mpl.rcParamsDefault[key]}
    else:
        settings |= {key: POINTS for key in settings if key.endswith("size") and key != "lines.markersize"
                     and not key.endswith((".major.size", ".minor.size"))}  # fmt: skip
        settings |= {"text.usetex": False, "savefig.bbox": None, "savefig.transparent": False}
        settings |= {"axes.linewidth": 0.7, "grid.linewidth": 0.6, "axes.titlesize": POINTS}
        settings |= {"axes.labelpad": 2.5, "xtick.major.pad": 2.0, "ytick.major.pad": 2.0, "axes.titlepad": 4.0}
    with mpl.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that no window knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: "Figure", caption: str, style: FigureStyle = SCREEN, formats: Sequence[str] = FORMATS) -> Picture:
    """The picture in each format, with its caption below where the style has one; always in what a PDF says of it."""
    from analysis.render.fonts import stand_in
    from analysis.render.takeaways import typeset

    caption = one_line(caption)
    if not style.paper:
        letters = int(figure.get_figwidth() / LETTER)
        lines = textwrap.wrap(stand_in(typeset(caption)), max(letters, 20))
        figure.set_figheight(figure.get_figheight() + 0.125 * (len(lines) - 1))
        shown = "\n".join(lines).replace("$", r"\$")
        figure.supxlabel(shown, fontsize=7, color="0.35", x=0.01, ha="left", linespacing=1.25)
    return Picture(encoded(figure, formats, caption), caption)


def encoded(figure: "Figure", formats: Sequence[str], caption: str = "") -> dict[str, bytes]:
    """The picture in each format, the same bytes for the same figure."""
    from analysis.render.fonts import choose_fonts

    choose_fonts(figure)
    told: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None} | ({"Subject": caption} if caption else {}),
        "png": {"Description": caption} if caption else {},
    }
    pictures = {}
    for kind in formats:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=told.get(kind) or None)
        pictures[kind] = buffer.getvalue()
        figure.set_layout_engine("none")  # laid out once, for all formats
    return pictures


def figures_tex(pictures: Mapping[str, Picture], style: FigureStyle = SCREEN) -> bytes:
    r"""The figures of a folder as LaTeX environments with captions and labels, to be copied into a paper.

    A figure wider than a column stands over both.
    """
    parts = ["% needs \\usepackage{graphicx}; names are relative to the folder of this file\n"]
    for name, picture in pictures.items():
        star = "*" * (style.wide() > COLUMN + 0.3)
        parts.append(
            f"\\begin{{figure{star}}}\n\\centering\n\\includegraphics[width=\\linewidth]{{{name}.pdf}}\n"
            f"\\caption{{{escape_latex(picture.caption)}}}\n\\label{{fig:{name.replace('_', '-')}}}\n"
            f"\\end{{figure{star}}}\n"
        )
    return "\n".join(parts).encode()


def distinct_colors(count: int, palette: str = "colorblind") -> list[tuple[float, float, float]]:
    """A colour for each of so many runs; a palette of ten is not repeated."""
    import seaborn as sns

    return list(sns.color_palette(palette if palette != "colorblind" or count <= 10 else "husl", count))


def bar_look(place: int, color: tuple[float, float, float], style: FigureStyle) -> dict[str, Any]:
    """How the bars of a run look; in a paper they differ in their hatches too, light lines on dark colours."""
    if not style.paper:
        return {"color": color, "edgecolor": "white", "linewidth": 0.6}
    red, green, blue = color
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.62
    hatch = HATCHES[place % len(HATCHES)]
    return {"color": color, "hatch": hatch, "edgecolor": "white" if dark else "0.15", "linewidth": 0.4}


def line_look(place: int, color: tuple[float, float, float]) -> dict[str, Any]:
    """How the line of a run looks: lines differ in their dashes beside their colour."""
    return {"color": color, "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.3}


def legend_columns(names: Sequence[str], width: float, most: int = 3, size: float = 8.5) -> int:
    """How many entries of a legend fit beside each other in a figure of a width in inches.

    >>> legend_columns(["yolo", "vit"], 7.2), legend_columns(["x" * 40] * 3, 7.2), legend_columns(["x" * 90] * 3, 7.2)
    (2, 2, 1)
    >>> legend_columns(["window", "hybrid (baseline)", "global"], 3.8)  # a column is as wide as its longest entry
    3
    """

    def needed(columns: int) -> float:
        longest = (max(map(len, names[column::columns])) for column in range(columns))
        return sum(0.46 + 0.0079 * size * letters for letters in longest)  # the mark and the letters

    fitting = (columns for columns in range(min(len(names), most), 1, -1) if needed(columns) <= width)
    return next(fitting, 1)


def row_by_row(entries: Sequence[Any], columns: int) -> list[Any]:
    """Entries in the order in which a legend, which fills its columns, shows them row by row.

    >>> row_by_row("abcd", 3), row_by_row("abcde", 2)
    (['a', 'd', 'b', 'c'], ['a', 'c', 'e', 'b', 'd'])
    """
    return [entry for column in range(columns) for entry in entries[column::columns]]


def legend_above(
    figure: "Figure",
    axes: "Sequence[Axes]",
    most: int = 4,
    size: float = 8.5,
    style: FigureStyle = SCREEN,
    **options: Any,
) -> None:
    """One legend for all panels, its entries row by row in the order of what is drawn."""
    handles, names = axes[0].get_legend_handles_labels()
    size = style.size(size)
    across = legend_columns(names, figure.get_figwidth(), most, size)
    rows = -(-len(names) // across)
    figure.set_figheight(figure.get_figheight() + 0.021 * size * (rows - 1))
    figure.legend(
        row_by_row(handles, across), row_by_row(names, across), loc="outside upper left", ncols=across, frameon=False,
        fontsize=size, **({"handlelength": 2.4, "columnspacing": 1.2, "borderpad": 0.2} | options),
    )  # fmt: skip
