"""What sections are built from: tables with their heads, cards, tabs, the name of a run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.render.markup import Child, Markup, join, tag
from analysis.report.charts import badge
from analysis.report.report_data import ReportData
from analysis.stats.intervals import Interval

MOST_SAID = 4  # runs whose sentences stand open


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    title: Child
    number: bool = False  # its cells stand to the right
    sorts: bool = False  # the script sorts by it
    silent: bool = False  # the title is for screen readers alone
    hint: str | None = None

    def head(self) -> Markup:
        """As HTML."""
        title = tag("span", self.title, class_="sr") if self.silent else self.title
        content = tag("button", title, type="button", class_="sort") if self.sorts else title
        return tag("th", content, scope="col", class_="num" if self.number else None, title=self.hint)


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Markup]],
    *,
    caption: Child = None,
    class_: str | None = None,
    quiet: bool = False,
) -> Markup:
    """A table of rows of cells; a ``quiet`` one shows its head to screen readers alone."""
    return tag(
        "table",
        tag("caption", caption) if caption is not None else None,
        tag("thead", tag("tr", *(column.head() for column in columns)), class_="quiet" if quiet else None),
        tag("tbody", *(tag("tr", *cells) for cells in rows)),
        class_=class_,
    )


def row_head(title: Child) -> Markup:
    """The first cell of a row."""
    return tag("th", title, scope="row")


def plot(chart: Markup) -> Markup:
    """A cell with a chart."""
    return tag("td", chart, class_="plot")


def number(value: float, digits: int = 0, class_: str = "") -> Markup:
    """A cell with a number, a dash where there is none."""
    if np.isnan(value):
        return tag("td", "–", class_="num", data_value=-1e9)
    return tag("td", f"{value:,.{digits}f}", class_=f"num {class_}".strip(), data_value=round(float(value), 4))


def limits(known: Interval | None) -> tuple[float, float] | None:
    """The ends of an interval, none where nothing can be told."""
    return None if known is None or math.isnan(known.low) else (known.low, known.high)


def between(known: Interval | None, digits: int) -> Markup:
    """An interval in brackets, to stand below its number."""
    ends = limits(known)
    text = "" if ends is None else f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"
    return tag("span", text, class_="interval") if text else Markup()


def said(data: ReportData, part: str) -> Markup:
    """What there is to see in a part, a sentence a run."""
    sentences = [(place, one.name, one.takeaways[part]) for place, one in enumerate(data.runs) if part in one.takeaways]
    items = [
        tag("li", badge(place), tag("span", tag("span", f"{name}: ", class_="sr"), sentence(text)))
        for place, name, text in sentences
    ]
    if not items:
        return Markup()
    listed = tag("ul", *items, class_="said")
    if len(items) <= MOST_SAID:
        return listed
    return tag("details", tag("summary", f"What there is to see in each of the {len(items)} runs"), listed)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(("?", ".")) else ".")


def run_name(place: int, name: str) -> Markup:
    """A run in a table: its mark and its name."""
    return join([badge(place), tag("span", name, class_="name", title=name)])


def run_mark(place: int, name: str) -> Markup:
    """A run in a small chart under a legend: its mark alone, for eyes."""
    return tag("span", badge(place), tag("span", name, class_="sr"), title=name)


def scrolling(content: Markup, label: str) -> Markup:
    """A table that may be wider than the screen, to be scrolled with keys too."""
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def card(content: Markup) -> Markup:
    """A small chart that is a table of bars."""
    return tag("div", content, class_="card")


def code_and_text(code: str, text: str) -> Markup:
    """A short name as users type it, and what it means."""
    return join([tag("span", code, class_="code"), tag("span", f" {text}", class_="meaning")])


def note(text: str) -> Markup:
    """A remark on what is missing or limited."""
    return tag("p", text, class_="note")


def tabs(name: str, panels: Sequence[tuple[Child, Markup]]) -> Markup:
    """Panels of which the script shows one at a time; without a script all stand one below the other."""
    buttons = [
        tag(
            "button", label, type="button", role="tab", id=f"{name}-tab-{place}",
            aria_controls=f"{name}-panel-{place}", aria_selected="false",
        )
        for place, (label, _) in enumerate(panels)
    ]  # fmt: skip
    bodies = [
        tag("div", tag("h3", label, class_="panel-title"), body, id=f"{name}-panel-{place}", class_="panel")
        for place, (label, body) in enumerate(panels)
    ]
    choice = tag("div", *buttons, class_="tablist", role="tablist", aria_label="Runs", hidden=True)
    return tag("div", choice, *bodies, class_="tabs")
