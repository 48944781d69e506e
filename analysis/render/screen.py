"""Printing for people: on a terminal as wide as it is, into a file as wide as the tables; names are never markup."""

import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from analysis.render.table import one_line

logger = logging.getLogger(__name__)

PROSE_WIDTH = 110
NOTE = "note"  # the label of a fact that is a warning

# Names may hold [this] and :that:, which are not Rich's to read.
plain_console = partial(Console, highlight=False, markup=False, emoji=False)


def fixed_width() -> int | None:
    """Columns that the output must fit: COLUMNS, or those of the terminal; none in a file or a pipe without either."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    console = plain_console()
    return console.width if console.is_terminal else None


def print_whole(*parts: RenderableType) -> None:
    """Print on standard output; into a file or a pipe as wide as it takes, unless COLUMNS sets the width."""
    console, width = plain_console(), fixed_width()
    if console.is_terminal:
        plain_console(width=width, height=console.height).print(*parts, sep="\n")  # rich takes both or neither
        return
    if width is None:
        options = console.options.update(max_width=10_000)
        # Prose wraps, tables must not.
        widths = (Measurement.get(console, options, part).maximum for part in parts if not isinstance(part, Text))
        width = max([PROSE_WIDTH, *widths])
    console = plain_console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_warnings(warnings: Iterable[tuple[str, str]]) -> None:
    """Warnings, each after the file or run that it is about, on standard error; none with ``--quiet``."""
    if not logger.isEnabledFor(logging.WARNING):
        return
    console = plain_console(stderr=True, soft_wrap=True)
    for about, sentence in warnings:
        console.print(Text.assemble(("warning: ", "yellow"), one_line(f"{about}: {sentence}")))


def fact_list(facts: Sequence[tuple[str | Text, str]]) -> Grid:
    """Labels and what is to be said to each, beside each other; a label that repeats is shown once."""
    grid = Grid.grid(Column(overflow="fold"), Column(overflow="fold"), padding=(0, 2))
    for number, (label, fact) in enumerate(facts):
        style = "yellow" if label == NOTE else ""
        named = Text(one_line(label), style=f"bold {style}".strip()) if isinstance(label, str) else label
        repeated = number and facts[number - 1][0] == label
        grid.add_row(Text("") if repeated else named, Text(one_line(fact), style=style))
    return grid


def dimmed(text: str) -> Text:
    """Prose below a table, after a free line."""
    return Text(f"\n{text}", style="dim")
