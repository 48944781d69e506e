"""The answer of a study in a terminal: what each variant scores, where the rest of the AP went, what it costs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.estimate import Estimate
from ablate.study import Study
from ablate.summary import ERRORS, METRICS, IouType, Published, Row, Summary, summarise

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

COLORS = {"cls": "magenta", "loc": "cyan", "both": "blue", "dup": "yellow", "bg": "red", "miss": "green"}
MARK = "†"  # not controlled


def show_table(root: Path, study: Study, iou_type: IouType = "bbox") -> None:
    """Print the table of a study on standard output."""
    from analysis.terminal import print_whole

    print_whole(*summary_screen(summarise(root, study, iou_type)))


def summary_screen(summary: Summary) -> "list[RenderableType]":
    """Heading, three tables, published findings, notes."""
    from rich.text import Text

    parts: list[RenderableType] = [_heading(summary), Text("")]
    parts.append(_scores(summary))
    if any(row.errors for row in summary.rows):
        parts += [Text(""), _errors(summary)]
    if any(row.size for row in summary.rows):
        parts += [Text(""), _cost(summary)]
    if summary.published:
        parts += [Text(""), *_published(summary)]
    parts += [Text(f"\n{_legend(summary)}", style="dim"), *(Text(note) for note in _notes(summary))]
    return parts


def banner(summary: Summary) -> str:
    """What must stand over every number of a study on the embedded data."""
    if not summary.synthetic:
        return ""
    return f"synthetic data, n = {len(summary.seeds)}: shows the tool, is no evidence"


def interval(found: Estimate | None, digits: int = 1, *, sign: bool = False) -> str:
    """An estimate in print: 41.3, or 41.3 ± 0.4 where there are several seeds."""
    if found is None:
        return ""
    mean = f"{found.mean:{'+' if sign else ''}.{digits}f}"
    return mean if found.half is None else f"{mean} ± {found.half:.{digits}f}"


def kinds(summary: Summary) -> tuple[str, str]:
    """What the AP is of, and the other kind."""
    return ("box", "mask") if summary.iou_type == "bbox" else ("mask", "box")


def memory(gib: float | None) -> str:
    """A peak in print."""
    if gib is None:
        return ""
    return f"{gib:,.1f} GiB" if gib >= 1 else f"{gib * 1024:,.1f} MiB"


def seconds(value: float | None) -> str:
    """A time in print, three digits."""
    return "" if value is None else f"{value:.3g}" if value >= 1 else f"{value:.4f}"


def _heading(summary: Summary) -> "Table":
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text("study", style="bold"), f"{summary.study}: {summary.title}")
    grid.add_row(Text("asked by", style="bold"), summary.source)
    seeds = ", ".join(map(str, summary.seeds))
    grid.add_row(
        Text("held", style="bold"), f"everything else of {summary.base}; seed{'s' * (len(summary.seeds) > 1)} {seeds}"
    )
    if summary.images is not None:
        data = f"{summary.images:,} images, {summary.objects:,} objects, digest {summary.validation_data[:12]}"
        grid.add_row(Text("measured on", style="bold"), data)
    if summary.synthetic:
        grid.add_row(Text("careful", style="bold yellow"), Text(banner(summary), style="bold yellow"))
    return grid


def _table(title: str, first: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.title, table.title_justify, table.title_style = title or None, "left", "bold"
    table.add_column(first, no_wrap=True)
    return table


def _name(row: Row) -> "Text":
    from rich.text import Text

    name = Text(row.variant, style="bold" if row.baseline else "")
    if row.baseline:
        name.append(" (baseline)", style="dim")
    if row.uncontrolled:
        name.append(f" {MARK}", style="yellow")
    return name


def _styled(
    rows: Sequence[Row],
    value: Callable[[Row], Estimate | None],
    *,
    low: bool = False,
    digits: int = 1,
    sign: bool = False,
) -> "Iterator[Text]":
    """A column of estimates, the best in bold."""
    from rich.text import Text

    found = [value(row) for row in rows]
    means = [round(one.mean, digits) for one in found if one is not None]
    best = (min if low else max)(means) if len(means) > 1 else None
    for one in found:
        bold = one is not None and round(one.mean, digits) == best
        yield Text(interval(one, digits, sign=sign) or "-", style="bold" if bold else "")


def _scores(summary: Summary) -> "Table":
    from rich.text import Text

    kind, other = kinds(summary)
    table = _table("What it scores", "variant")
    several = len(summary.seeds) > 1
    names = [f"{kind} AP", "AP50", "AP75", f"{other} AP", "against baseline"]
    comparable = any(row.published for row in summary.rows)
    for name in (*names, *(["published"] if comparable else []), *(["n"] if several else [])):
        table.add_column(name, justify="right")
    unfinished = any(row.state != "finished" for row in summary.rows)
    if unfinished:
        table.add_column("state")
    columns = [_styled(summary.rows, partial(_metric, name)) for name in METRICS]
    columns.append(_styled(summary.rows, lambda row: row.other_ap))
    for row, *cells in zip(summary.rows, *columns, strict=True):
        difference = Text("" if row.baseline else interval(row.difference, sign=True) or "-")
        extra: list[str | Text] = []
        if comparable:
            extra.append(_beside(row, kind))
        if several:
            extra.append(str(row.n))
        if unfinished:
            extra.append(_state(row))
        table.add_row(_name(row), *cells, difference, *extra)
    return table


def _metric(name: str, row: Row) -> Estimate | None:
    return row.metrics.get(name)


def _error(name: str, row: Row) -> Estimate | None:
    return row.errors.get(name)


def _beside(row: Row, kind: str) -> str:
    if row.published is None:
        return "-"
    value = row.published.box_ap if kind == "box" else row.published.mask_ap
    return "-" if value is None else f"{value:.1f}"


def _state(row: Row) -> "Text":
    from rich.text import Text

    if row.state == "finished":
        return Text("")
    message = row.message if row.state == "blocked" else row.state
    return Text(message, style="bold red" if "out of memory" in row.state else "yellow")


def _errors(summary: Summary) -> "Table":
    from rich.text import Text

    kind, _ = kinds(summary)
    percent = round((summary.iou or 0) * 100)
    table = _table(f"Where the rest of the {kind} AP{percent} went: points to gain by fixing one type", "variant")
    for name in ERRORS:
        header = Text(name.upper() if name in ("fp", "fn") else name, style=f"bold {COLORS.get(name, '')}")
        table.add_column(header, justify="right")
    rows = [row for row in summary.rows if row.errors]
    digits = 1 if any(row.n > 1 for row in rows) else 2
    columns = [_styled(rows, partial(_error, name), low=True, digits=digits) for name in ERRORS]
    for row, *cells in zip(rows, *columns, strict=True):
        table.add_row(_name(row), *cells)
    return table


def _cost(summary: Summary) -> "Table":
    table = _table("What it costs", "variant")
    measured = bool(summary.cost_place)
    names = ["peak memory", "s/iter.", "s/image"] if measured else []
    for name in (*names, "param. M", "GMAC", "activ. M"):
        table.add_column(name, justify="right")
    for row in summary.rows:
        size = row.size
        if size is None:
            continue
        cells = [memory(row.peak_gib) or ("out of memory" if row.cost_message else "-")]
        cells += [seconds(row.seconds_per_iteration) or "-", seconds(row.seconds_per_image) or "-"]
        counts = (f"{size.parameters / 1e6:,.2f}", f"{size.macs / 1e9:,.2f}", f"{size.activations / 1e6:,.1f}")
        table.add_row(_name(row), *(cells if measured else []), *counts)
    return table


def _published(summary: Summary) -> "list[RenderableType]":
    """A column a source and size; what each stands for below."""
    from rich.text import Text

    kind, _ = kinds(summary)
    columns: dict[tuple[str, str, str], list[Published]] = {}
    for one in summary.published:
        columns.setdefault((one.finding.source, one.finding.size, one.finding.note), []).append(one)
    baseline = next((row.levels[0] for row in summary.rows if row.baseline and row.levels), summary.baseline)
    differences = any(one.box_difference is not None for one in summary.published)
    title = f"Published on COCO under other conditions: {kind} AP{f', and difference to {baseline}' * differences}"
    table = _table("", "variant")
    for number in range(1, len(columns) + 1):
        table.add_column(f"[{number}]", justify="right")
        table.add_column("")
    own = [row.variant for row in summary.rows]
    names = dict.fromkeys([one.finding.variant for one in summary.published])
    for name in sorted(names, key=lambda name: own.index(name) if name in own else len(own)):
        cells: list[str | Text] = []
        for column in columns.values():
            found = next((one for one in column if one.finding.variant == name), None)
            cells += _points(found, kind)
        table.add_row(name, *cells)
    about = [
        f"[{number}] {', '.join(part for part in (source, size, *_shared(column)) if part)}"
        for number, ((source, size, _), column) in enumerate(columns.items(), 1)
    ]
    return [Text(title, style="bold"), table, Text("\n".join(about), style="dim")]


def _points(published: Published | None, kind: str) -> "tuple[str, Text]":
    """A published AP and its difference."""
    from rich.text import Text

    if published is None:
        return "", Text("")
    finding = published.finding
    if finding.out_of_memory:
        return "OOM", Text("")
    value, difference = (
        (finding.box_ap, published.box_difference) if kind == "box" else (finding.mask_ap, published.mask_difference)
    )
    return "" if value is None else f"{value:.1f}", Text(
        "" if difference is None else f"{difference:+.1f}", style="dim"
    )


def _shared(column: Sequence[Published]) -> Iterator[str]:
    """What all numbers of a column were trained with."""
    for values in (
        {one.finding.init for one in column},
        {"" if one.finding.epochs is None else f"{one.finding.epochs:g} epochs" for one in column},
        {one.finding.schedule for one in column},
        {one.finding.note for one in column},
    ):
        if len(values) == 1:
            yield values.pop()


def _legend(summary: Summary) -> str:
    lines = ["AP in points, 0 to 100."]
    if any(row.n > 1 for row in summary.rows):
        lines.append("Mean ± 95 % interval (Student's t) over n seeds; differences seed by seed.")
    lines.append(
        "cls: wrong class, loc: poor place, both, dup: second on one object, bg: on nothing, miss: not found; "
        "FP, FN: all of a kind."
    )
    if summary.cost_place:
        what = f"Cost of one image at a time, alone on {summary.cost_place}; memory: {summary.cost_memory}."
        lines.append(what)
    return " ".join(lines)


def _notes(summary: Summary) -> Iterator[str]:
    for row in summary.rows:
        if row.uncontrolled:
            yield f"{MARK} not controlled: {row.variant} also changes {', '.join(row.uncontrolled)}."
    for row in summary.rows:
        if row.message and row.state != "blocked":
            yield f"{row.variant}: {row.message}"
    yield from summary.notes
