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
"""

import re
from dataclasses import dataclass

from analysis.latex import escape


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
