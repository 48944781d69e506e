r"""One table, six writers: terminal, Markdown, LaTeX, CSV, JSON and HTML.

A :class:`Table` holds columns, rows of raw values, notes and a caption; a writer decides how they look. Names of any
kind are escaped by the writer, numbers are rounded by it, and nothing but the writer knows its format.

>>> table = Table(
...     "What it costs",
...     (Column("class", kind="text"), Column("AP50", precision=1, unit="points")),
...     (("salt & pepper", 56.42), ("50 % [a_b]", None)),
...     notes=("In points.",),
... )
>>> print(markdown(table))
| class | AP50 |
|---|---:|
| salt & pepper | 56.4 |
| 50 % \[a\_b\] | - |
<BLANKLINE>
In points.
<BLANKLINE>
>>> print(latex(table))
% needs \usepackage{booktabs}
\begin{table}
\centering
\caption{What it costs.}
\begin{tabular}{lr}
\toprule
class & AP50 \\
\midrule
salt \& pepper & 56.4 \\
50 \% [a\_b] & -- \\
\bottomrule
\end{tabular}
\par\smallskip
\raggedright\footnotesize
In points.\par
\end{table}
<BLANKLINE>
>>> print(csv_text(table), end="")
class,AP50
salt & pepper,56.42
50 % [a_b],
>>> records(table)[0]
{'class': 'salt & pepper', 'AP50': 56.42}
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from analysis.render.markup import Markup, escaped, join, tag

GAP = 2  # characters between two columns of a terminal
BAR_WIDTH = 16  # characters of the longest bar in a terminal
MISSING = "-"
_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}
_TEX_SYMBOLS = {"±": r"$\pm$", "†": r"$^\dagger$", "Δ": r"$\Delta$", "…": r"\ldots{}"}


@dataclass(frozen=True)
class Column:
    """What stands in one column.

    Attributes:
        name: the head.
        kind: ``text`` stands on the left, ``number`` on the right; a ``bar`` is drawn in terminals alone (its values
            are lengths), a ``chart`` in HTML alone (its values are :class:`Markup`).
        precision: decimals of a float; none: as many as it has.
        signed: whether a plus stands before positive numbers.
        unit: of the numbers, for notes and heads of papers; raw values are in it.
        key: the name in CSV and JSON, where it differs from ``name``.
        group: a head over several neighbouring columns.
        style: of the head, a style of rich.
        hint: a longer name, shown in HTML when a pointer rests on the head.
        missing: what stands for None and NaN.
    """

    name: str
    kind: Literal["text", "number", "bar", "chart"] = "number"
    precision: int | None = None
    signed: bool = False
    unit: str = ""
    key: str = ""
    group: str = ""
    style: str = ""
    hint: str | None = None
    missing: str = MISSING


@dataclass(frozen=True)
class Cell:
    """A value that looks otherwise than its column says.

    Attributes:
        value: the raw value, for CSV and JSON, and printed where there is no ``text``.
        text: in place of the value, printed: ``41.3 ± 0.4``.
        bold: stressed in every format that can.
        style: a style of rich, for terminals.
        suffix: printed behind it: ``(baseline)``, a mark of significance.
        class_: of the cell in HTML.
        below: in HTML, on a line of its own below the value.
    """

    value: str | int | float | None
    text: str | None = None
    bold: bool = False
    style: str = ""
    suffix: str = ""
    class_: str = ""
    below: str = ""


Value = str | int | float | None | Cell
Row = tuple[Value, ...] | str  # a string is a heading over the rows that follow


@dataclass(frozen=True)
class Table:
    """Columns, rows and what has to be said about them.

    Attributes:
        title: the caption; may be empty.
        columns: the first names the rows.
        rows: a value a column, raw; or one string, a heading over the rows that follow.
        notes: sentences below.
        label: the LaTeX label, without ``tab:``.
        grouped: equal values of the first column are shown once, with a rule between groups.
        wide: in LaTeX over both columns of the page, shrunk to its width.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    label: str = ""
    grouped: bool = False
    wide: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if not isinstance(row, str) and len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row has {len(row)} cells, not {len(self.columns)}: {row!r}")

    @property
    def cells(self) -> list[tuple[Value, ...]]:
        """The rows without headings."""
        return [row for row in self.rows if not isinstance(row, str)]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = self._widths()
        least = widths[0] + max(widths[1:], default=0)
        return Measurement(least, max(len(self.title), sum(widths))).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        for columns in _groups(self._widths(), options.max_width):
            yield self._part(columns)
        for note in self.notes:
            yield Text(one_line(note), style="dim")

    def _widths(self) -> list[int]:
        """Of each column in a terminal, the gap included."""
        widths = []
        for place, column in enumerate(self.columns):
            texts = [one_line(column.name), *(_printed(column, row[place]) for row in self.cells)]
            width = max(Text(text).cell_len for text in texts)
            widths.append(GAP + (BAR_WIDTH if column.kind == "bar" else 0 if column.kind == "chart" else width))
        return widths

    def _part(self, columns: Sequence[int]) -> RichTable:
        table = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        shown = [place for place in columns if self.columns[place].kind != "chart"]
        for place in shown:
            column = self.columns[place]
            head = Text(one_line(column.name), style=column.style)
            table.add_column(head, justify="right" if column.kind == "number" else "left", no_wrap=place > 0)
        longest = {place: _longest(self.cells, place) for place in shown if self.columns[place].kind == "bar"}
        before: Value = None
        for row in self.rows:
            if isinstance(row, str):
                table.add_row(Text(one_line(row), style="dim"))
                continue
            repeated = self.grouped and before is not None and row[0] == before
            if self.grouped and before is not None and not repeated:
                table.add_row()
            cells = []
            for place in shown:
                column, value = self.columns[place], row[place]
                if column.kind == "bar":
                    cells.append(_bar(_raw(value), longest[place], column.style))
                else:
                    cells.append(Text("") if repeated and place == 0 else _styled(column, value))
            table.add_row(*cells)
            before = row[0]
        return table


def best(values: Sequence[float | None], column: Column, *, low: bool = False) -> list[Value]:
    """Values of a column with the best of them bold; all that are printed alike are.

    Args:
        values: of the column, None or NaN where there is none.
        column: tells how they are rounded.
        low: whether the smallest is the best.
    """
    known = [value for value in values if not _is_missing(value)]
    if len(known) < 2:
        return list(values)
    top = _printed(column, (min if low else max)(known))  # type: ignore[type-var]
    return [Cell(value, bold=not _is_missing(value) and _printed(column, value) == top) for value in values]


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown, the notes below; the title is left to the caller's heading."""
    shown = [place for place, column in enumerate(table.columns) if column.kind in ("text", "number")]
    columns = [table.columns[place] for place in shown]
    lines = [_markdown_row(escape_markdown(_grouped_name(column)) for column in columns)]
    lines.append("|" + "".join("---|" if column.kind == "text" else "---:|" for column in columns))
    for row in table.rows:
        if isinstance(row, str):
            lines.append(_markdown_row([f"*{escape_markdown(row)}*", *[""] * (len(shown) - 1)]))
        else:
            lines.append(_markdown_row(_markdown_cell(table.columns[place], row[place]) for place in shown))
    return "\n".join([*lines, "", *map(escape_markdown, table.notes), ""])


def latex(table: Table) -> str:
    r"""The table for papers: booktabs, caption, ``\label``, spanning heads, the notes below it."""
    shown = [place for place, column in enumerate(table.columns) if column.kind in ("text", "number")]
    columns = [table.columns[place] for place in shown]
    body, before = [], None
    for number, row in enumerate(table.rows):
        if isinstance(row, str):
            body.append(rf"\multicolumn{{{len(shown)}}}{{l}}{{\emph{{{escape_latex(row)}}}}} \\")
            continue
        repeated = table.grouped and row[0] == before
        if table.grouped and number and not repeated:
            body.append(r"\midrule")
        cells = [_latex_cell(table.columns[place], row[place]) for place in shown]
        body.append(" & ".join(["" if repeated else cells[0], *cells[1:]]) + r" \\")
        before = row[0]
    form = "".join("l" if column.kind == "text" else "r" for column in columns)
    environment = "table*" if table.wide else "table"
    lines = [
        rf"% needs \usepackage{{booktabs{',graphicx' * table.wide}}}",
        rf"\begin{{{environment}}}",
        r"\centering",
        rf"\caption{{{escape_latex(table.title)}.}}" if table.title else "",
        rf"\label{{tab:{table.label}}}" if table.label else "",
        r"\resizebox{\textwidth}{!}{%" if table.wide else "",
        rf"\begin{{tabular}}{{{form}}}",
        r"\toprule",
        *_latex_groups(columns),
        " & ".join(escape_latex(column.name) for column in columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}" + "}" * table.wide,
    ]
    if table.notes:
        lines += [r"\par\smallskip", r"\raggedright\footnotesize"]
        lines += [rf"{escape_latex(note)}\par" for note in table.notes]
    return "\n".join(line for line in [*lines, rf"\end{{{environment}}}"] if line) + "\n"


def records(table: Table) -> list[dict[str, Any]]:
    """The rows as dictionaries of raw values, for JSON; NaN and infinity become None."""
    shown = [(place, column) for place, column in enumerate(table.columns) if column.kind in ("text", "number")]
    return [
        {
            column.key or column.name: None
            if isinstance(raw := _raw(row[place]), float) and not math.isfinite(raw)
            else raw
            for place, column in shown
        }
        for row in table.cells
    ]


def csv_text(table: Table) -> str:
    """The rows as CSV, raw values under a head of keys; empty where there is no value."""
    stream = io.StringIO()
    shown = [column for column in table.columns if column.kind in ("text", "number")]
    writer = csv.DictWriter(stream, [column.key or column.name for column in shown], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(table))
    return stream.getvalue()


def html(table: Table, *, class_: str | None = None, quiet: bool = False, sortable: bool = False) -> Markup:
    """The table as HTML; bars are left to charts.

    Args:
        table: whose notes are left to the caller.
        class_: of the element.
        quiet: whether its head is for screen readers alone.
        sortable: whether the page's script sorts by a click on a head.
    """
    shown = [(place, column) for place, column in enumerate(table.columns) if column.kind != "bar"]
    heads = []
    for _, column in shown:
        title: Markup | str = column.name
        title = tag("button", title, type="button", class_="sort") if sortable else title
        class_of_head = "num" if column.kind == "number" else None
        heads.append(tag("th", title, scope="col", class_=class_of_head, title=column.hint))
    rows = []
    for row in table.rows:
        if isinstance(row, str):
            rows.append(tag("tr", tag("th", row, scope="rowgroup", colspan=len(shown))))
            continue
        first, *others = ((column, row[place]) for place, column in shown)
        rows.append(tag("tr", tag("th", _html_content(*first), scope="row"), *(_html_cell(*one) for one in others)))
    return tag(
        "table",
        tag("caption", table.title) if table.title else None,
        tag("thead", tag("tr", *heads), class_="quiet" if quiet else None),
        tag("tbody", *rows),
        class_=class_,
    )


def one_line(text: str) -> str:
    r"""Text without what would move the cursor or break a line.

    >>> one_line("a\nb\x1b[2Jc")
    'a b [2Jc'
    """
    return "".join(character if character.isprintable() else " " for character in text)


def escape_markdown(text: str) -> str:
    r"""Text that Markdown prints as it is, on one line.

    >>> print(escape_markdown("a_b|c"))
    a\_b\|c
    """
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", one_line(text))


def escape_latex(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape_latex("50 % of a_b ± 1"))
    50 \% of a\_b $\pm$ 1
    >>> print(escape_latex("[1]"))  # the line break of the row before would take it for a length
    {}[1]
    """
    escaped = "".join(_ESCAPES.get(character, _TEX_SYMBOLS.get(character, character)) for character in one_line(text))
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def _raw(value: Value) -> str | int | float | None:
    return value.value if isinstance(value, Cell) else value


def _finite(value: Value) -> str | int | float | None:
    raw = _raw(value)
    return None if isinstance(raw, float) and not math.isfinite(raw) else raw


def _is_missing(value: Value) -> bool:
    raw = _raw(value)
    return raw is None or (isinstance(raw, float) and math.isnan(raw))


def _printed(column: Column, value: Value) -> str:
    """A value as people read it, in every format but CSV and JSON; never a negative zero."""
    cell = value if isinstance(value, Cell) else Cell(value)
    if cell.text is not None:
        text = cell.text
    elif _is_missing(cell):
        text = column.missing
    elif isinstance(cell.value, str):
        text = cell.value
    elif isinstance(cell.value, int):
        text = f"{cell.value:{'+' * column.signed},}"
    else:
        digits = "" if column.precision is None else f".{column.precision}f"
        text = f"{cell.value:{'+' * column.signed}{'z' if digits else ''},{digits}}"
    return one_line(text + cell.suffix)


def _styled(column: Column, value: Value) -> Text:
    cell = value if isinstance(value, Cell) else Cell(value)
    text = Text(_printed(column, replace(cell, suffix="")), style=f"{'bold ' * cell.bold}{cell.style}".strip())
    if cell.suffix:
        text.append(one_line(cell.suffix), style="dim")
    return text


def _longest(rows: Sequence[tuple[Value, ...]], place: int) -> float:
    lengths = [raw for row in rows if isinstance(raw := _raw(row[place]), int | float) and not math.isnan(raw)]
    return max(lengths, default=0.0)


def _bar(value: str | float | None, longest: float, color: str) -> Text:
    length = value if isinstance(value, int | float) else 0.0
    eighths = round(max(length, 0.0) / longest * BAR_WIDTH * 8) if longest > 0 else 0
    full, part = divmod(eighths, 8)
    return Text(("█" * full + " ▏▎▍▌▋▊▉"[part].strip()).ljust(BAR_WIDTH), style=color)


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


def _grouped_name(column: Column) -> str:
    return f"{column.group} {column.name}".strip()


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(column: Column, value: Value) -> str:
    text = escape_markdown(_printed(column, value))
    return f"**{text}**" if isinstance(value, Cell) and value.bold and text else text


def _latex_cell(column: Column, value: Value) -> str:
    text = _printed(column, value)
    if text == MISSING:
        return "--"
    if column.kind == "number" and re.match(r"[+-]\d", text):
        text = "$" + text.replace("±", r"\pm").replace("%", r"\%") + "$"
        bold = r"\boldmath"
    else:
        text, bold = escape_latex(text), ""
    if isinstance(value, Cell) and value.bold and text:
        return rf"\textbf{{{bold}{text}}}"
    return text


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The row of heads over several columns, and the rules below them; nothing where no column has one."""
    if not any(column.group for column in columns):
        return []
    heads, rules, start = [], [], 0
    while start < len(columns):
        end = start
        while end < len(columns) and columns[end].group == columns[start].group:
            end += 1
        heads.append(rf"\multicolumn{{{end - start}}}{{c}}{{{escape_latex(columns[start].group)}}}")
        if columns[start].group:
            rules.append(rf"\cmidrule(lr){{{start + 1}-{end}}}")
        start = end
    return [" & ".join(heads) + r" \\", " ".join(rules)]


def _html_content(column: Column, value: Value) -> Markup:
    cell = value if isinstance(value, Cell) else Cell(value)
    text = cell.value if isinstance(cell.value, Markup) else escaped(_printed(column, replace(cell, suffix="")))
    suffix = tag("span", cell.suffix, class_="dim") if cell.suffix else None
    below = tag("span", cell.below, class_="interval") if cell.below else None
    return join([tag("b", text) if cell.bold and column.kind == "text" else text, suffix, below])


def _html_cell(column: Column, value: Value) -> Markup:
    cell = value if isinstance(value, Cell) else Cell(value)
    if column.kind == "chart":
        return tag("td", _html_content(column, cell), class_="plot")
    classes = " ".join(filter(None, ["num" * (column.kind == "number"), "lead" * cell.bold, cell.class_]))
    sorted_by = None
    if column.kind == "number":
        known = isinstance(cell.value, int | float) and not _is_missing(cell)
        sorted_by = round(float(cell.value), 4) if known else -1e9  # type: ignore[arg-type]
    return tag("td", _html_content(column, cell), class_=classes or None, data_value=sorted_by)
