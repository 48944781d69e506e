"""What sections are built from: charts and shades in tables, cards, tabs, the name of a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.evaluation.error_types import ERROR_TYPES
from analysis.render.markup import Child, Markup, join, tag
from analysis.render.table import Cell, Column, Table, Value, html
from analysis.render.takeaways import typeset
from analysis.report.charts import POINTS, badge, dots, run_letter, shade
from analysis.report.report_data import ReportData
from analysis.stats.intervals import Interval

MOST_OPEN = 4  # runs whose takeaways stand open


def chart_column(name: str, *, silent: bool = True) -> Column:
    """A column of charts; a ``silent`` head is for screen readers alone."""
    return Column(tag("span", name, class_="sr") if silent else name, kind="chart")


def shaded(table: Table, names: Sequence[str], most: float, *, root: bool = False) -> Table:
    """Columns of a table with darker cells for larger numbers; cells that have a class keep it.

    Args:
        table: without headings.
        names: of the columns.
        most: the number of the darkest cell.
        root: whether the shade follows the root of the number, for few to be seen beside many.
    """

    def shaded_cell(cell: Cell) -> Cell:
        share = max(float(np.nan_to_num(float(cell.value or 0))), 0.0) / max(most, 1e-9)
        return replace(cell, class_=cell.class_ or shade(share**0.5 if root else share, 1.0))

    marked = [column.name in names for column in table.columns]
    rows = (
        tuple(shaded_cell(cell) if mark else cell for cell, mark in zip(row, marked, strict=True))
        for row in table.cells
    )
    return replace(table, rows=tuple(rows))


def limits(known: Interval | None) -> tuple[float, float] | None:
    """The ends of an interval; None if there is none."""
    return None if known is None or math.isnan(known.low) else (known.low, known.high)


def between(known: Interval | None) -> str:
    """An interval in brackets, to stand below its number."""
    ends = limits(known)
    return "" if ends is None else f"[{ends[0]:.1f}, {ends[1]:.1f}]"


def apart(value: Value) -> Cell:
    """A number whose interval may stand below it, where there is little room."""
    cell = Cell.of(value)
    number, bracket, interval = (cell.text or "").partition(" [")
    return replace(cell, text=number, below=bracket.strip() + interval) if bracket else cell


def takeaway_list(data: ReportData, part: str) -> Markup:
    """What there is to see in a part, a sentence a run."""
    items = [
        tag("li", badge(place), tag("span", tag("span", f"{one.name}: ", class_="sr"), sentence(one.takeaways[part])))
        for place, one in enumerate(data.runs)
        if part in one.takeaways
    ]
    if not items:
        return Markup()
    listed = tag("ul", *items, class_="said")
    summary = tag("summary", f"Choose one of the {len(items)} runs")
    return listed if len(items) <= MOST_OPEN else tag("details", summary, listed)


def sentence(text: str) -> str:
    """With a capital and a full stop, and the signs of a printed page."""
    return typeset(text[:1].upper() + text[1:] + ("" if text.endswith(("?", ".")) else "."))


def run_name(place: int, name: str) -> Markup:
    """A run in a table: its mark and its name."""
    return join([badge(place), tag("span", name, class_="name", title=name)])


def run_mark(place: int, name: str) -> Markup:
    """A run in a small chart under a legend: its mark alone, for eyes."""
    return tag("span", badge(place), tag("span", name, class_="sr"), title=name)


def dots_table(
    data: ReportData, name: str, chart: str, rows: Sequence[tuple[str, int, list[float]]], *, precision: int
) -> Table:
    """A row a class or the like: its name, its objects, a dot for each run on one line, and the numbers of the runs.

    Args:
        data: whose runs' letters head the numbers.
        name: the head over the names.
        chart: the head over the dots.
        rows: the name, the objects, and the numbers of the runs, 0 to 100.
        precision: decimals of the numbers.
    """
    letters = [Column(run_letter(n), precision=precision, hint=run, missing="–") for n, run in enumerate(data.names)]
    table = Table(
        "", (Column(name, kind="text"), Column("Objects"), *letters), tuple((*one[:2], *one[2]) for one in rows)
    )
    return table.with_column(2, chart_column(chart, silent=False), [dots(values, POINTS) for *_, values in rows])


def scrolling(table: Table, label: str, class_: str | None = None, *, sortable: bool = False) -> Markup:
    """A table that may be wider than the screen, to be scrolled with keys too."""
    content = html(table, class_=class_, sortable=sortable)
    region = tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)
    return tag("div", region, class_="scroller")


def card(table: Table) -> Markup:
    """A small chart that is a table of bars, its head for screen readers alone."""
    return tag("div", html(table, quiet=True), class_="card")


def code_and_text(code: str, text: str) -> Markup:
    """A short name as users type it, and what it means."""
    return join([tag("span", code, class_="code"), tag("span", f" {text}", class_="meaning")])


def error_title(error: str, iou_type: str) -> Markup:
    """The name of an error type, and what it is, of boxes or masks."""
    return code_and_text(ERROR_TYPES[error].label, ERROR_TYPES[error].described(iou_type))


def note(text: str) -> Markup:
    """A remark on what is missing or limited."""
    return tag("p", typeset(text), class_="note")


def notes(texts: Iterable[str]) -> Markup:
    """Several remarks below a table; they may begin with the names of runs, so their case is kept."""
    items = [tag("li", f"{typeset(text).rstrip('.')}.") for text in texts]
    return tag("ul", *items, class_="notes") if items else Markup()


def tabs(name: str, panels: Mapping[Child, Markup]) -> Markup:
    """Panels of which the script shows one at a time; without a script all stand one below the other."""
    buttons = [
        tag(
            "button", label, type="button", role="tab", id=f"{name}-tab-{place}",
            aria_controls=f"{name}-panel-{place}", aria_selected="false",
        )
        for place, label in enumerate(panels)
    ]  # fmt: skip
    bodies = [
        tag("div", tag("h3", label, class_="panel-title"), body, id=f"{name}-panel-{place}", class_="panel")
        for place, (label, body) in enumerate(panels.items())
    ]
    choice = tag("div", *buttons, class_="tablist", role="tablist", aria_label="Runs", hidden=True)
    return tag("div", choice, *bodies, class_="tabs", data_key=name)
