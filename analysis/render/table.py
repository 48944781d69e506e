r"""One table, six writers: terminal, Markdown, CSV, JSON and HTML here, LaTeX in ``analysis.render.latex``.

A :class:`Table` holds columns, rows of raw values, notes and a caption; a writer decides how they look. Names of any
kind are escaped by the writer, numbers are rounded by it, and nothing but the writer knows its format.

>>> table = Table(
...     "What it costs",
...     (Column("class", kind="text"), Column("AP50", precision=1)),
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
>>> print(csv_text(table), end="")
class,AP50
salt & pepper,56.42
50 % [a_b],
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from analysis.exceptions import BadInput
from analysis.render.layout import Width, across, row_lines, side_by_side
from analysis.render.markup import Markup, escaped, join, tag

GAP = 2  # characters between two columns of a terminal
BAR_WIDTH = 16  # characters of the longest bar in a terminal
HEAD_WIDTH = 16  # where room is short, a longer head over numbers is wrapped between its words, and a longer word too
SHORT_HEAD = 10  # a head that is never wrapped
MISSING = "-"
# 1.2, +1.2, 41.3 ± 0.4 or 1.2 [0.5, 2.0]
_NUMBER = re.compile(r"([+-]?[\d.]+)( ± [\d.]+)?( \[[^\]]*\])?")
# What GitHub would take for markup, a formula or a character's name.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$]|&(?=#?\w+;))")
# Of a paragraph: what would make it a heading, a list or a quotation.
_FIRST = re.compile(r"^(?=[#+-])|(?<=^\d)(?=[.)]\s)|(?<=^\d\d)(?=[.)]\s)")


@dataclass(frozen=True)
class Column:
    """What stands in one column.

    Attributes:
        name: the head.
        kind: ``text`` stands on the left, ``number`` on the right; a ``bar`` is drawn in terminals alone (its values
            are lengths, on one scale in all bars of a table), a ``chart`` in HTML alone (its values are
            :class:`Markup`).
        precision: decimals of a float; none: as many as it has.
        signed: whether a plus stands before positive numbers.
        unit: of the numbers, printed behind the name, in CSV in brackets; JSON leaves it out.
        key: the name in CSV and JSON, where it differs from ``name``.
        group: a head over several neighbouring columns.
        attached: stays beside the column before it where a terminal folds the table, as every bar does.
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
    attached: bool = False
    style: str = ""
    hint: str | None = None
    missing: str = MISSING

    @property
    def head(self) -> str:
        """The name with its unit."""
        return f"{self.name} {self.unit}" if self.unit else self.name


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
        hint: shown in HTML when a pointer rests on the cell.
        filter: in the report, the filter of the gallery that shows the pictures behind it; the page's script makes a
            link of it.
    """

    value: str | int | float | None
    text: str | None = None
    bold: bool = False
    style: str = ""
    suffix: str = ""
    class_: str = ""
    below: str = ""
    hint: str | None = None
    filter: str = ""

    @classmethod
    def of(cls, value: "Value") -> "Cell":
        """A value as a cell; a cell stays as it is."""
        return value if isinstance(value, cls) else cls(value)  # type: ignore[arg-type]


Value = str | int | float | None | Cell
Row = tuple[Value, ...] | str  # a string is a heading over the rows that follow


@dataclass(frozen=True)
class Table:
    """Columns, rows and what has to be said about them.

    In a terminal that is too narrow, heads and words are wrapped first; then the columns stand in several parts below
    each other, those that name the rows repeated in each. No number is ever broken, no name shortened.

    Attributes:
        title: the caption; may be empty.
        columns: the first ones name the rows.
        rows: a value a column, raw; or one string, a heading over the rows that follow.
        notes: sentences below.
        label: the LaTeX label, without ``tab:``.
        names: how many columns name a row.
        grouped: equal values of the first column are shown once, with a rule or a free line between groups.
        gap: characters between two columns of a terminal.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    label: str = ""
    names: int = 1
    grouped: bool = False
    gap: int = GAP

    def __post_init__(self) -> None:
        for row in self.rows:
            if not isinstance(row, str) and len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row has {len(row)} cells, not {len(self.columns)}: {row!r}")

    @classmethod
    def from_records(
        cls, records: Sequence[Mapping[str, Any]], units: Mapping[str, str] = MappingProxyType({})
    ) -> "Table":
        """Raw values for CSV: a column a key of the first record, and one a key of a dictionary inside it.

        Args:
            records: with the same keys.
            units: by key, or by the beginning of keys with a ``*`` behind it; the first that fits counts.

        >>> print(csv_text(Table.from_records([{"run": "a", "gain": {"cls": 1, "loc": 2}}], {"gain_*": "points"})))
        run,gain_cls (points),gain_loc (points)
        a,1,2
        <BLANKLINE>
        """
        flat = [dict(_flattened(record)) for record in records]
        columns = (Column(key, unit=unit_of(key, units)) for key in (flat[0] if flat else ()))
        return cls("", tuple(columns), tuple(tuple(record.values()) for record in flat))

    @cached_property
    def cells(self) -> list[tuple[Cell, ...]]:
        """The rows without headings, every value as a cell."""
        return [tuple(map(Cell.of, row)) for row in self.rows if not isinstance(row, str)]

    def with_column(self, at: int, column: Column, values: Sequence[Value]) -> "Table":
        """The table with one more column; ``values`` are those of the rows, headings left out."""
        given = iter(values)
        rows = tuple(row if isinstance(row, str) else (*row[:at], next(given), *row[at:]) for row in self.rows)
        return replace(self, columns=(*self.columns[:at], column, *self.columns[at:]), rows=rows)

    def choose(self, names: Sequence[str]) -> "Table":
        """The table with the columns of some names (or keys, in any letters) behind those that name its rows.

        Raises:
            BadInput: there is no such column.

        >>> table = Table("", (Column("run", kind="text"), Column("AP"), Column("peak memory", key="memory")), ())
        >>> [column.name for column in table.choose(["memory", "ap"]).columns]
        ['run', 'peak memory', 'AP']
        """
        places: dict[str, int] = {}
        for place, column in enumerate(self.columns[self.names :], self.names):
            for name in filter(None, (column.key, column.name)):
                places.setdefault(name.lower(), place)
        for name in names:
            if name.lower() not in places:
                known = ", ".join(column.key or column.name for column in self.columns[self.names :])
                raise BadInput(f"--columns: {name!r} is not a column of this table; choose from {known}")
        kept = [*range(self.names), *dict.fromkeys(places[name.lower()] for name in names)]
        rows = (row if isinstance(row, str) else tuple(row[place] for place in kept) for row in self.rows)
        columns = tuple(replace(self.columns[place], attached=False) for place in kept)
        return replace(self, columns=columns, rows=tuple(rows))

    @property
    def width(self) -> int:
        """Characters of a line in a terminal that has room for all columns side by side."""
        return across({place: width.full for place, width in self._widths.items()}, self.gap)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, self.width).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(one_line(self.title), style="bold")
        for widths in side_by_side(self._widths, self.names, options.max_width, self.gap):
            yield from self._lines(console, widths)
        for note in self.notes:
            yield Text(one_line(note), style="dim")

    @cached_property
    def _widths(self) -> dict[int, Width]:
        """What each column needs in a terminal; charts have none."""
        widths = {}
        for place, column in enumerate(self.columns):
            if column.kind == "bar":
                widths[place] = Width(BAR_WIDTH, BAR_WIDTH, attached=True)
            elif column.kind != "chart":
                head, words = Text(one_line(column.head)), column.kind == "text"
                texts = [printed(column, row[place]) for row in self.cells]
                texts += [one_line(row) for row in self.rows if isinstance(row, str) and self._heads_words(place)]
                cells = max((Text(text).cell_len for text in texts), default=0)
                longest = max((Text(word).cell_len for word in head.plain.split()), default=0)
                least = max(min(longest, HEAD_WIDTH), SHORT_HEAD)
                wrapped = max(cells, head.cell_len if words else min(least, head.cell_len))
                widths[place] = Width(max(cells, head.cell_len), wrapped, words, column.attached)
        return widths

    def _heads_words(self, place: int) -> bool:
        """Whether headings stand in this column: in the second one if that holds words; else they cross the table."""
        return place == self.names == 1 and self.columns[place].kind == "text"

    def _lines(self, console: Console, widths: Mapping[int, int]) -> Iterator[Text]:
        """A part of the table: its heads, then its rows, cells wrapped to the widths of their columns."""
        heads = {place: self.columns[place] for place in widths}
        right = [place for place, head in heads.items() if head.kind == "number"]
        in_lines = partial(row_lines, console, widths, right=right, gap=self.gap)
        if self.cells:
            yield from in_lines(
                {p: Text(one_line(head.head), f"bold {head.style}".strip()) for p, head in heads.items()}
            )
        bars = [place for place, column in enumerate(self.columns) if column.kind == "bar"]
        longest = max((float(_finite(row[place]) or 0) for row in self.cells for place in bars), default=0.0)
        for row, begins, repeated in grouped_rows(self):
            if begins:
                yield Text("")
            if isinstance(row, str):
                heading = Text(one_line(row), style="dim")
                places = {place: heading for place in widths if self._heads_words(place)}
                yield from in_lines(places) if places else [heading]
            else:
                cells = {place: _styled(heads[place], row[place], longest) for place in widths}
                yield from in_lines(cells | {0: Text("")} if repeated else cells)


def grouped_rows(table: Table) -> Iterator[tuple[tuple[Cell, ...] | str, bool, bool]]:
    """Each row as cells or heading, whether it begins a new group, and whether its first value is that of the last.

    Where every group is a single row, there are no groups.
    """
    firsts = [None if isinstance(row, str) else row[0] for row in table.rows]
    grouped = table.grouped and any(first == before for before, first in pairwise(firsts))
    for number, row in enumerate(table.rows):
        repeated = grouped and number > 0 and firsts[number] == firsts[number - 1]
        cells = row if isinstance(row, str) else tuple(map(Cell.of, row))
        yield cells, grouped and number > 0 and not repeated, repeated


def best(values: Sequence[float | None], column: Column, *, low: bool = False) -> list[Value]:
    """Values of a column with the best of them bold; all that are printed alike are.

    Args:
        values: of the column, None or NaN where there is none.
        column: tells how they are rounded.
        low: whether the smallest is the best.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return list(values)
    top = printed(column, Cell((min if low else max)(known)))
    return [Cell(value, bold=value in known and printed(column, Cell(value)) == top) for value in values]


def without_bold(table: Table) -> Table:
    """The table with nothing stressed, for where nothing is known of noise."""
    rows = (row if isinstance(row, str) else tuple(replace(Cell.of(cell), bold=False) for cell in row)
            for row in table.rows)  # fmt: skip
    return replace(table, rows=tuple(rows))


def unit_of(key: str, units: Mapping[str, str]) -> str:
    """The unit of a key; empty for none."""
    fits = (unit for one, unit in units.items() if key == one or (one.endswith("*") and key.startswith(one[:-1])))
    return next(fits, "")


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown, a paragraph a note below; the title is left to the caller's heading."""
    shown = columns_in_print(table)
    columns = [table.columns[place] for place in shown]
    lines = [_markdown_row(escape_markdown(f"{column.group} {column.head}".strip()) for column in columns)]
    lines.append("|" + "".join("---|" if column.kind == "text" else "---:|" for column in columns))
    for row, _, _ in grouped_rows(table):
        if isinstance(row, str):
            lines.append(_markdown_row([f"*{escape_markdown(row)}*", *[""] * (len(shown) - 1)]))
        else:
            lines.append(_markdown_row(_markdown_cell(table.columns[place], row[place]) for place in shown))
    return "\n".join([*lines, "", *(f"{markdown_paragraph(note)}\n" for note in table.notes)])


def records(table: Table) -> list[dict[str, Any]]:
    """The rows as dictionaries of raw values, for JSON; NaN and infinity become None.

    >>> records(Table("", (Column("class", kind="text"), Column("AP50")), (("cat", Cell(56.42, bold=True)),)))
    [{'class': 'cat', 'AP50': 56.42}]
    """
    keys = {place: table.columns[place].key or table.columns[place].name for place in columns_in_print(table)}
    return [{key: _finite(row[place]) for place, key in keys.items()} for row in table.cells]


def csv_text(table: Table) -> str:
    """The rows as CSV, raw values under a head of keys with their units; empty where there is no value."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [table.columns[place] for place in columns_in_print(table)]
    writer.writerow(f"{one.key or one.name}{f' ({one.unit})' if one.unit else ''}" for one in columns)
    writer.writerows(row.values() for row in records(table))
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
        sorts = sortable and column.kind != "chart"
        title = tag("button", column.head, type="button", class_="sort") if sorts else column.head
        class_of_head = "num" if column.kind == "number" else None
        # A head without a word is an empty cell: nothing for screen readers to say before each cell below it.
        named = ("th", "col") if title else ("td", None)
        heads.append(tag(named[0], title, scope=named[1], class_=class_of_head, title=column.hint))
    rows = []
    for row, _, _ in grouped_rows(table):
        if isinstance(row, str):
            content = [tag("th", row, scope="rowgroup", colspan=len(shown))]
        else:
            first, *others = ((column, row[place]) for place, column in shown)
            content = [tag("th", _html_content(*first), scope="row"), *(_html_cell(*one) for one in others)]
        rows.append(tag("tr", *content))
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
    r"""Text that GitHub's Markdown prints as it is, on one line.

    >>> print(escape_markdown("a_b|c, ~~d~~, $e$, &lt;"))
    a\_b\|c, \~\~d\~\~, \$e\$, \&lt;
    """
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def markdown_paragraph(text: str) -> str:
    r"""Text as a paragraph of its own: what would begin a heading or a list does not.

    >>> print(markdown_paragraph("# no heading"))
    \# no heading
    >>> print(markdown_paragraph("2. no list"))
    2\. no list
    """
    return _FIRST.sub(r"\\", escape_markdown(text))


def columns_in_print(table: Table) -> list[int]:
    """The places of the columns that hold values, not drawings."""
    return [place for place, column in enumerate(table.columns) if column.kind in ("text", "number")]


def _flattened(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


def _finite(cell: Cell) -> str | int | float | None:
    """The raw value; none for NaN and infinity."""
    return None if isinstance(cell.value, float) and not math.isfinite(cell.value) else cell.value


def is_missing(column: Column, cell: Cell) -> bool:
    """Whether a cell holds nothing: no value, and no words in its place."""
    return _finite(cell) is None and (cell.text or column.missing) == column.missing


def printed(column: Column, cell: Cell) -> str:
    """A cell as people read it, in every format but CSV and JSON; never a negative zero."""
    if cell.text is not None:
        text = cell.text
    elif _finite(cell) is None:
        text = column.missing
    elif isinstance(cell.value, str):
        text = cell.value
    elif isinstance(cell.value, int):
        text = f"{cell.value:{'+' * column.signed},}"
    else:
        digits = "" if column.precision is None else f".{column.precision}f"
        text = f"{cell.value:{'+' * column.signed}{'z' if digits else ''},{digits}}"
    return one_line(text + cell.suffix)


def _styled(column: Column, cell: Cell, longest: float) -> Text:
    """A cell in a terminal; a bar of the ``longest`` length has ``BAR_WIDTH`` characters."""
    if column.kind == "bar":
        share = max(float(cell.value or 0), 0.0) / longest if longest > 0 else 0.0
        full, eighths = divmod(round(share * BAR_WIDTH * 8), 8)
        return Text("█" * full + " ▏▎▍▌▋▊▉"[eighths].strip(), style=cell.style or column.style)
    text = Text(printed(column, replace(cell, suffix="")), style=f"{'bold ' * cell.bold}{cell.style}".strip())
    if cell.suffix:
        text.append(one_line(cell.suffix), style="dim")
    return text


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(column: Column, cell: Cell) -> str:
    text = printed(column, replace(cell, suffix=""))
    text = text if _NUMBER.fullmatch(text) else escape_markdown(text)
    return (f"**{text}**" if cell.bold and text else text) + escape_markdown(cell.suffix.rstrip())


def _html_content(column: Column, cell: Cell) -> Markup:
    text = escaped(printed(column, replace(cell, suffix="")))
    if isinstance(cell.value, Markup):
        text = cell.value
    elif cell.text is None and _finite(cell) is None and column.missing == MISSING:
        text = escaped("–")
    return join(
        [
            tag("b", text) if cell.bold and column.kind == "text" else text,
            tag("span", cell.suffix, class_="dim") if cell.suffix.strip() else None,
            tag("span", cell.below, class_="interval") if cell.below else None,
        ]
    )


def _html_cell(column: Column, cell: Cell) -> Markup:
    if column.kind == "chart":
        return tag("td", _html_content(column, cell), class_="plot")
    classes = " ".join(filter(None, ["num" * (column.kind == "number"), "lead" * cell.bold, cell.class_]))
    number = _finite(cell)
    sorted_by = round(float(number), 4) if isinstance(number, int | float) else -1e9
    return tag(
        "td",
        _html_content(column, cell),
        class_=classes or None,
        data_value=sorted_by if column.kind == "number" else None,
        data_filter=cell.filter or None,
        title=cell.hint,
    )
