"""A table too wide for its terminal, as several under each other, its first column repeated; no cell is broken."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

GAP = 2


class Head(NamedTuple):
    """What stands over a column."""

    text: Text | str
    right: bool = True


class Folded:
    """A table without lines, its numbers on the right.

    Args:
        title: above it; may be empty.
        heads: of the columns, the first of which names the rows.
        rows: a cell a column.
    """

    def __init__(self, title: str, heads: Sequence[Head], rows: Sequence[Sequence[Text | str]]) -> None:
        self.title = title
        self.heads = [head._replace(text=_text(head.text)) for head in heads]
        self.rows = [[_text(cell) for cell in row] for row in rows]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = self._widths(console, options)
        title = Measurement.get(console, options, Text(self.title)).maximum
        return Measurement(widths[0] + max(widths[1:], default=0), max(title, sum(widths))).with_maximum(
            options.max_width
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        for columns in _groups(self._widths(console, options), options.max_width):
            yield self._part(columns)

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int]:
        """Of each column, its gap included."""
        wide = options.update(max_width=10_000)
        return [
            GAP + max(Measurement.get(console, wide, cell).maximum for cell in (head.text, *cells))
            for head, *cells in zip(self.heads, *self.rows, strict=True)
        ]

    def _part(self, columns: Sequence[int]) -> Table:
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            head = self.heads[column]
            table.add_column(head.text, justify="right" if head.right else "left", no_wrap=column > 0)
        for row in self.rows:
            table.add_row(*(row[column] for column in columns))
        return table


def _groups(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns that stand side by side, the first column in each group: as few groups as fit, as even as can be.

    >>> _groups([10, 8, 8, 8, 8], 34)
    [[0, 1, 2], [0, 3, 4]]
    >>> _groups([10, 8, 8], 100)
    [[0, 1, 2]]
    """
    found = _packed(widths, room)
    for narrower in range(room - 1, 0, -1):
        tried = _packed(widths, narrower)
        if len(tried) > len(found):
            break
        found = tried
    return found


def _packed(widths: Sequence[int], room: int) -> list[list[int]]:
    groups, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + width - GAP > room and len(groups[-1]) > 1:  # no gap after the last one
            groups.append([0])
            used = widths[0]
        groups[-1].append(column)
        used += width
    return groups


def _text(cell: Text | str) -> Text:
    """As it is: square brackets in a name are no markup."""
    return cell if isinstance(cell, Text) else Text(cell)
