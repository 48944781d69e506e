r"""A table for people, once, as Markdown and as LaTeX (booktabs); names of any kind are escaped.

>>> table = Printed("What it costs", ("class", "AP50"), (("salt & pepper", "56.4"),), notes=("In points.",))
>>> print(table.markdown())
| class | AP50 |
|---|---:|
| salt & pepper | 56.4 |
<BLANKLINE>
In points.
<BLANKLINE>
>>> print(table.latex())
% In points.
% needs \usepackage{booktabs}
\begin{table}
\centering
\caption{What it costs.}
\begin{tabular}{lr}
\toprule
class & AP50 \\
\midrule
salt \& pepper & 56.4 \\
\bottomrule
\end{tabular}
\end{table}
<BLANKLINE>

A table too wide for its terminal, as several under each other, its first column repeated; no cell is broken.

Text for LaTeX.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape("50 % of a_b"))
    50 \% of a\_b
    >>> print(escape("[1]"))  # the line break of the row before would take it for a length
    {}[1]
    """
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


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


@dataclass(frozen=True)
class Printed:
    """Cells as they are to be read; an empty cell is nothing to say."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1  # columns from the left that hold words; the others hold numbers
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """As GitHub's Markdown, the notes below."""
        lines = [self._markdown_row(self.head), "|" + "---|" * self.words + "---:|" * (len(self.head) - self.words)]
        lines += [self._markdown_row(row) for row in self.rows]
        return "\n".join([*lines, "", *(f"{markdown(note)}" for note in self.notes), ""])

    def latex(self) -> str:
        r"""As a ``table`` of booktabs, the notes as comments above, equal words of the first column only once."""
        rows = []
        for number, row in enumerate(self.rows):
            repeated = self.words > 1 and number > 0 and row[0] == self.rows[number - 1][0]
            if self.words > 1 and number > 0 and not repeated:
                rows.append(r"\midrule")
            rows.append(" & ".join(["" if repeated else _tex(row[0]), *map(_tex_cell, row[1:])]) + r" \\")
        return "\n".join(
            [
                *(f"% {one_line(note)}" for note in self.notes),
                r"% needs \usepackage{booktabs}",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_tex(self.title)}.}}",
                rf"\begin{{tabular}}{{{'l' * self.words}{'r' * (len(self.head) - self.words)}}}",
                r"\toprule",
                " & ".join(map(_tex, self.head)) + r" \\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def _markdown_row(self, cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(map(markdown, cells)) + " |"


def one_line(text: str) -> str:
    r"""Text without what would move the cursor or break a line.

    >>> one_line("a\nb\x1b[2Jc")
    'a b [2Jc'
    """
    return "".join(character if character.isprintable() else " " for character in text)


def markdown(text: str) -> str:
    r"""Text that Markdown prints as it is, on one line.

    >>> print(markdown("a_b|c"))
    a\_b\|c
    """
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", one_line(text))


def _tex(text: str) -> str:
    return escape(one_line(text))


def _tex_cell(text: str) -> str:
    if not text:
        return "--"
    return f"${text}$" if re.fullmatch(r"[+-][\d.]+", text) else _tex(text)
