"""The options of figures and of tables for papers: for the screen or for a paper, how wide, with which columns."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.exceptions import BadInput

if TYPE_CHECKING:  # matplotlib is not for those who only ask for help
    from analysis.render.figure_style import FigureStyle


class StyleName(StrEnum):
    """What figures are for."""

    screen = "screen"
    paper = "paper"


Style = Annotated[
    StyleName,
    typer.Option(
        "--style", help="Style of figures: for the screen, or for a paper (7 pt text, hatches, LaTeX captions)."
    ),
]
Width = Annotated[
    str,
    typer.Option(
        "--width",
        metavar="LENGTH",
        help="Width of figures in paper style, for example 3.4in or 86mm.",
        show_default="3.4in",
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="NAME,...",
        help="Columns of the Markdown and LaTeX tables, for example AP,AP50,loc,miss,memory.",
        show_default="all",
    ),
]


def column_names(text: str) -> list[str]:
    """Names with commas between them, each once; none: all columns.

    Raises:
        typer.BadParameter: there are commas alone.

    >>> column_names("AP, loc,AP,"), column_names("")
    (['AP', 'loc'], [])
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if text and not names:
        raise typer.BadParameter(
            f"{text!r} contains no column name: write NAME,NAME, for example AP,loc", param_hint="--columns"
        )
    return names


def figure_style(style: StyleName, width: str) -> "FigureStyle":
    """How figures are drawn.

    Raises:
        typer.BadParameter: the width is no width of a figure.
    """
    from analysis.render.figure_style import FigureStyle

    try:
        return FigureStyle.chosen(style.value, width)
    except BadInput as error:
        raise typer.BadParameter(str(error)) from None
