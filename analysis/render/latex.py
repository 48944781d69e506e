r"""Tables for papers: booktabs and siunitx, with caption, ``\label`` and notes, in parts that fit a page.

A column of numbers is an ``S`` column of siunitx, aligned at its points; a half width or an interval stands in a column
of its own beside it. A table that is wider than the text is set in several parts below each other, each with the names
of the rows; nothing is shrunk.

>>> from analysis.render.table import Column, Table
>>> columns = (Column("class", kind="text"), Column("AP50", precision=1))
>>> rows = (("salt & pepper", 56.42), ("50 % [a_b]", None))
>>> print(latex(Table("What it costs", columns, rows, notes=("In points.",), label="costs")))
% needs \usepackage{booktabs,siunitx}
\begin{table}
\centering\small
\setlength{\tabcolsep}{4pt}
\sisetup{detect-weight=true,retain-explicit-plus=true,group-digits=integer,group-minimum-digits=4,group-separator={,}}
\setlength{\belowcaptionskip}{4pt}
\caption{What it costs.}
\label{tab:costs}
\begin{tabular}{lS[table-format=2.1]}
\toprule
class & {AP50} \\
\midrule
salt \& pepper & 56.4 \\
50 \% [a\_b] & {--} \\
\bottomrule
\end{tabular}
\par\smallskip
\raggedright\footnotesize
In points.\par
\end{table}
<BLANKLINE>
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from analysis.render.table import Cell, Column, Table, columns_in_print, grouped_rows, is_missing, one_line, printed

SETUP = (
    r"\sisetup{detect-weight=true,retain-explicit-plus=true,group-digits=integer,group-minimum-digits=4,"
    r"group-separator={,}}"
)
OTHER_LETTERS = "% contains letters that pdflatex does not support: use lualatex or xelatex and a font that has them"
LATIN = 0x17F  # the last letter that pdflatex knows without a package
LONGEST_WORD = 20  # letters, after which a word in a broken column may be broken too
LINES = 47  # of a page, in \small
HEAD_LINES = 4  # of the heads and rules of a tabular
NOTE = 100  # letters of a line of a note
COLUMN = 237.0  # points, of a page of two columns; a wider table stands over both
TEXT = 345.0  # points, the narrowest text of common classes (article): what is wider is split
DIGIT, NARROW, CAPITAL = 4.7, 2.7, 6.7  # points, in \small: of a digit, of a point or a space, of a capital
WORDS = 0.92  # of the width of digits
GAP, TIGHT = 8.0, 5.0  # points between two columns, and where a table fits the text by that alone
WIDEST_TEXT = 150.0  # points of a column of words, above which it is broken into lines
BREAK = r"\\"
HEAD = 13  # letters of a head, above which it is broken between its words
_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}
_TEX_SYMBOLS = {
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "Δ": r"$\Delta$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "<": r"$<$",
    ">": r"$>$",
    "×": r"$\times$",
    "−": r"$-$",
    "–": "--",
    "…": r"\ldots{}",
}
# +1.2, 41.3 ± 0.4, 1,234 or 1.2 [0.5, 2.0]
_NUMBER = re.compile(r"(?P<value>[+-]?\d[\d,]*(\.\d+)?)( ± (?P<half>\d+(\.\d+)?))?( (?P<interval>\[[^\]]*\]))?")


def escape_latex(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape_latex("50 % of a_b ± 1"))
    50 \% of a\_b $\pm$ 1
    >>> print(escape_latex("IoU <= 0.1, p <0.001"))
    IoU $\leq$ 0.1, p $<$0.001
    >>> print(escape_latex("[1]"))  # the line break of the row before would take it for a length
    {}[1]
    """
    plain = one_line(text).replace("<=", "≤").replace(">=", "≥")  # "<" alone is another sign in LaTeX's old fonts
    escaped = "".join(_ESCAPES.get(character, _TEX_SYMBOLS.get(character, character)) for character in plain)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


@dataclass(frozen=True)
class _Place:
    """A column in LaTeX: its specification, how many columns of a tabular it takes, and its width in points."""

    column: Column
    at: int
    spec: str
    span: int
    width: float
    aligned: bool  # an S column
    broken: bool = False  # words in lines


_Rows = list[tuple[tuple[Cell, ...] | str, bool, bool]]  # as `grouped_rows` gives them
_Block = tuple[list[_Place], _Rows]  # what one tabular holds


def latex(table: Table) -> str:
    r"""The table for papers: booktabs, siunitx, caption, ``\label``, spanning heads, the notes below it.

    One that is taller than a page is continued in further floats.
    """
    places = [_placed(table, at) for at in columns_in_print(table)]
    tight = TEXT < _width(places) <= TEXT + len(places) * (GAP - TIGHT)
    parts = [places] if tight else _even_parts(places, table.names)
    star = "*" * (max(_width(part) for part in parts) > COLUMN)
    aligned = any(place.aligned for place in places)
    lines = [OTHER_LETTERS] * _has_other_letters(table)
    lines.append(rf"% needs \usepackage{{booktabs{',siunitx' * aligned}}}")
    floats = list(_floats(table, parts))
    for number, blocks in enumerate(floats):
        lines += [
            rf"\begin{{table{star}}}",
            r"\centering\small",
            rf"\setlength{{\tabcolsep}}{{{(TIGHT if tight else GAP) / 2:g}pt}}",
        ]
        lines += [SETUP] * aligned
        if table.title:
            continued = " (continued)" * (number > 0)
            lines.append(r"\setlength{\belowcaptionskip}{4pt}")
            lines.append(rf"\caption{{{escape_latex(table.title + continued)}.}}")
        if table.label and number == 0:
            lines.append(rf"\label{{tab:{table.label}}}")
        lines += _stacked([_tabular(part, rows) for part, rows in blocks])
        if table.notes and number == len(floats) - 1:
            notes = (rf"{escape_latex(note)}\par" for note in table.notes)
            lines += [r"\par\smallskip", r"\raggedright\footnotesize", *notes]
        lines.append(rf"\end{{table{star}}}")
    return "\n".join(lines) + "\n"


def _floats(table: Table, parts: Sequence[list[_Place]]) -> Iterator[list[_Block]]:
    """The tabulars of each float: as many as fit a page, the notes in the last."""
    notes = sum(-(-len(note) // NOTE) for note in table.notes)
    room = max(LINES - notes, LINES // 2)
    blocks: list[_Block] = []
    used = 0
    for rows in _pages(list(grouped_rows(table)), room - HEAD_LINES):
        for part in parts:
            lines = len(rows) + HEAD_LINES
            if blocks and used + lines > room:
                yield blocks
                blocks, used = [], 0
            blocks.append((part, rows))
            used += lines
    yield blocks or [(part, []) for part in parts]


def _pages(rows: _Rows, room: int) -> Iterator[_Rows]:
    """Rows that stand in one tabular, all of about one length: whole groups if they fit, a heading with its rows."""
    while len(rows) > room:
        even = -(-len(rows) // -(-len(rows) // room))  # with as many pages as it takes
        begins = [at for at in range(1, room + 1) if rows[at][1]]
        end = min(begins, key=lambda at: abs(at - even), default=even)
        if end < even // 2:  # the first group alone is longer than a page
            end = even
        end -= isinstance(rows[end - 1][0], str)
        yield rows[:end]
        rows = rows[end:]
    if rows:
        yield rows


def _stacked(tabulars: Sequence[list[str]]) -> list[str]:
    """Tabulars below each other, their left edges in one line."""
    if len(tabulars) == 1:
        return tabulars[0]
    lines = [line for tabular in tabulars for line in [*tabular, r"\\\noalign{\vskip 8pt}"]]
    return [r"\begin{tabular}{@{}l@{}}", *lines[:-1], r"\end{tabular}"]


def _tabular(part: Sequence[_Place], rows: _Rows) -> list[str]:
    span = sum(place.span for place in part)
    body = []
    for number, (row, begins, repeated) in enumerate(rows):
        if begins and number:
            body.append(r"\midrule")
        if isinstance(row, str):
            body.append(rf"\multicolumn{{{span}}}{{l}}{{\emph{{{escape_latex(row)}}}}} \\")
        else:
            cells = [_cell(place, row[place.at]) for place in part]
            body.append(" & ".join(["" if repeated and number else cells[0], *cells[1:]]) + r" \\")
    return [
        rf"\begin{{tabular}}{{{''.join(place.spec for place in part)}}}",
        r"\toprule",
        *_groups(part),
        " & ".join(_head(place) for place in part) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _placed(table: Table, at: int) -> _Place:
    """How a column is set: words on the left, numbers in an S column, an interval beside its number."""
    column = table.columns[at]
    known = [row[at] for row in table.cells if not is_missing(column, row[at])]
    texts = [printed(column, replace(cell, suffix="")) for cell in known]
    inside = max((_points(printed(column, cell)) for cell in known), default=0.0)
    words = max(map(_points, _broken(column.head))) * WORDS
    width = max(inside * (WORDS if column.kind == "text" else 1), words) + GAP
    if column.kind == "text":
        broken = width > WIDEST_TEXT
        spec, width = (rf"p{{{WIDEST_TEXT:g}pt}}", WIDEST_TEXT + GAP) if broken else ("l", width)
        return _Place(column, at, spec, 1, width, aligned=False, broken=broken)
    numbers = [found for text in texts if (found := _NUMBER.fullmatch(text))]
    if not numbers or len(numbers) < len(texts) / 2:
        return _Place(column, at, "r", 1, width, aligned=False)
    suffix = max((escape_latex(row[at].suffix.strip()) for row in table.cells), key=len, default="")
    post = f",table-space-text-post={{{suffix}}}" if suffix else ""
    spec = f"S[table-format={_format(numbers)}{post}]"
    if any(found["half"] or found["interval"] for found in numbers):
        return _Place(column, at, rf"{spec}@{{\,}}l", 2, width, aligned=True)
    return _Place(column, at, spec, 1, width, aligned=True)


def _points(text: str) -> float:
    """About how wide a text is."""
    narrow, capitals = sum(letter in " .,:;|!'()[]il" for letter in text), sum(map(str.isupper, text))
    return DIGIT * (len(text) - narrow - capitals) + NARROW * narrow + CAPITAL * capitals


def _format(numbers: Sequence[re.Match[str]]) -> str:
    """What an S column has to make room for.

    >>> _format([_NUMBER.fullmatch(text) for text in ("+1.2", "-12.25 ± 0.40", "1,234")])
    '+4.2'
    """
    values = [found["value"].replace(",", "").lstrip("+-").partition(".") for found in numbers]
    sign = "+" if any(found["value"][0] in "+-" for found in numbers) else ""
    decimals = max(len(decimals) for _, _, decimals in values)
    whole = max(len(whole) for whole, _, _ in values)
    return f"{sign}{whole}{f'.{decimals}' if decimals else ''}"


def _cell(place: _Place, cell: Cell) -> str:
    """A value as its column takes it."""
    column = place.column
    text, suffix = printed(column, replace(cell, suffix="")), escape_latex(cell.suffix.strip())
    empty = " & " * (place.span - 1)
    if is_missing(column, cell):
        missing = "--" if column.missing else ""
        return (f"{{{missing}}}" if place.aligned else missing) + empty
    found = _NUMBER.fullmatch(text) if column.kind == "number" else None
    if found is None or not place.aligned:
        words = f"${text}$" if found else _breakable(text) if place.broken else escape_latex(text)
        words = (rf"\textbf{{{words}}}" if cell.bold and text else words) + suffix
        return (f"{{{words}}}" if place.aligned else words) + empty
    number = (r"\bfseries " if cell.bold else "") + found["value"].replace(",", "")
    number += f"{{{suffix}}}" if suffix else ""
    if place.span == 1:
        return number
    half = rf"$\pm$ {found['half']}" if found["half"] else ""
    interval = f"${found['interval']}$" if found["interval"] else ""  # its minus is one of mathematics
    return f"{number} & {' '.join(filter(None, [half, interval]))}".rstrip()


def _broken(head: str) -> list[str]:
    """A head in lines, where it is long."""
    return textwrap.wrap(one_line(head), HEAD, break_long_words=False) or [""]


def _breakable(text: str) -> str:
    r"""Text for a column of lines: a long word may be broken too.

    >>> print(_breakable("a " + "b" * 22))
    a bbbbbbbbbbbbbbbbbbbb\hspace{0pt}bb
    """
    pieces = [
        [word[at : at + LONGEST_WORD] for at in range(0, len(word), LONGEST_WORD)] for word in one_line(text).split(" ")
    ]
    return " ".join(r"\hspace{0pt}".join(map(escape_latex, word)) for word in pieces)


def _has_other_letters(table: Table) -> bool:
    texts = [table.title, *table.notes, *(column.head for column in table.columns)]
    texts += [row for row in table.rows if isinstance(row, str)]
    texts += [printed(column, cell) for row in table.cells for column, cell in zip(table.columns, row, strict=True)]
    return any(ord(letter) > LATIN and letter not in _TEX_SYMBOLS for letter in "".join(texts))


def _head(place: _Place) -> str:
    lines = [escape_latex(line) for line in _broken(place.column.head)]
    text = lines[0] if len(lines) == 1 else rf"\shortstack{{{BREAK.join(lines)}}}"
    if place.span > 1:
        return rf"\multicolumn{{{place.span}}}{{c}}{{{text}}}"
    return f"{{{text}}}" if place.aligned else text


def _width(part: Sequence[_Place]) -> float:
    return sum(place.width for place in part)


def _even_parts(places: Sequence[_Place], names: int) -> list[list[_Place]]:
    """The fewest parts that fit the text, as even as can be."""
    parts = list(_parts(places, names, TEXT))
    for width in range(int(TEXT), 0, -5):
        narrower = list(_parts(places, names, width))
        if len(narrower) > len(parts):
            break
        parts = narrower
    return parts


def _parts(places: Sequence[_Place], names: int, room: float) -> Iterator[list[_Place]]:
    """The columns in parts as wide as the room, the names of the rows in each; groups stay together if they fit."""
    naming, rest = list(places[:names]), list(places[names:])
    part = list(naming)
    for _, members in groupby(rest, key=lambda place: place.column.group):
        bundles: list[list[_Place]] = []  # a column and those attached to it
        for place in members:
            if place.column.attached and bundles:
                bundles[-1].append(place)
            else:
                bundles.append([place])
        whole = [place for bundle in bundles for place in bundle]
        fits = _width([*naming, *whole]) <= TEXT
        for bundle in [whole] if fits else bundles:
            if len(part) > names and _width([*part, *bundle]) > room:
                yield part
                part = list(naming)
            part += bundle
    yield part


def _groups(part: Sequence[_Place]) -> list[str]:
    """The row of heads over several columns, and the rules below them; nothing where no column has one."""
    if not any(place.column.group for place in part):
        return []
    heads, rules, end = [], [], 0
    for group, members in groupby(part, key=lambda place: place.column.group):
        start, end = end + 1, end + sum(place.span for place in members)
        heads.append(rf"\multicolumn{{{end + 1 - start}}}{{c}}{{{escape_latex(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{end}}}")
    return [" & ".join(heads) + r" \\", " ".join(rules)]
