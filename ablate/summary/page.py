"""The section of a report that is the study itself: its table, what each variant costs, what to be careful about."""

from ablate.summary.cells import COUNTED, banner
from ablate.summary.files import Column, columns
from ablate.summary.screen import MARK
from ablate.summary.summarise import Row, Summary
from analysis.report.markup import Markup, join, tag
from analysis.report.page import Section
from analysis.report.parts import Column as Head
from analysis.report.parts import note, row_head, scrolling, table


def study_section(summary: Summary) -> Section:
    """AP, errors and cost of every variant; more than one seed as mean and interval."""
    groups: dict[str, list[Column]] = {}
    for column in columns(summary):
        name = "AP" if column.group.endswith(" AP") or column.group in ("", "published") else column.group
        groups.setdefault(name, []).append(column)
    titles = {"AP": "What it scores", "cost": "What it costs"}
    parts = [_table(summary, titles.get(group, group), own) for group, own in groups.items()]
    parts += [note(text) for text in _notes(summary)]
    return Section("study", "Study", "What was varied, and what it does", join(parts))


def study_facts(summary: Summary) -> list[Markup | str]:
    """What the study is, in sentences, and first what must stand over every number of it."""
    seeds = ", ".join(map(str, summary.seeds))
    held = f"Everything else of {summary.base} is held; seed{'s' * (len(summary.seeds) > 1)} {seeds}."
    careful = [tag("strong", f"{banner(summary).capitalize()}.")] if banner(summary) else []
    return [*careful, f"Asked by {summary.source}. {held}" if summary.source else held]


def _table(summary: Summary, title: str, own: list[Column]) -> Markup:
    with_state = title == "What it scores" and any(row.state != "finished" for row in summary.rows)
    heads = [Head("Variant"), *(Head(_full_name(column), number=True) for column in own)]
    rows = [
        [
            row_head(_name(row)),
            *(tag("td", column.cell(row) or "–", class_="num") for column in own),
            *([tag("td", row.message if row.state == "blocked" else row.state)] if with_state else []),
        ]
        for row in summary.rows
    ]
    content = table(heads + [Head("State")] * with_state, rows, caption=title)
    return scrolling(content, title)


def _full_name(column: Column) -> str:
    if column.group.endswith(" AP"):
        return f"{column.group.removesuffix('AP')}{column.name}" if column.name.startswith("AP") else column.name
    return f"published {column.name}" if column.group == "published" else column.name


def _name(row: Row) -> Markup:
    parts: list[Markup | str] = [row.variant]
    if row.baseline:
        parts.append(tag("span", " (baseline)", class_="dim"))
    if row.uncontrolled:
        parts.append(f" {MARK}")
    return join(parts)


def _notes(summary: Summary) -> list[str]:
    found = [
        f"{MARK} not controlled: {row.variant} also changes {', '.join(row.uncontrolled)}."
        for row in summary.rows
        if row.uncontrolled
    ]
    if any(row.n > 1 for row in summary.rows):
        found.append("Mean ± 95 % interval (Student's t) over seeds; differences seed by seed.")
    if summary.cost_place:
        place = f"Cost of one image at a time, alone on {summary.cost_place}; memory {summary.cost_memory}."
        found.append(place)
    if any(row.size for row in summary.rows):
        found.append(COUNTED)
    return [*found, *summary.notes]
