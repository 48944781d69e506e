"""The answer of a study in a terminal: what each variant scores, where the rest of the AP went, what it costs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.complexity import decimals
from ablate.studies.study import Study
from ablate.summary.cells import COUNTED, COUNTS, banner, interval, memory, seconds
from ablate.summary.columns import in_columns, in_print
from ablate.summary.estimate import Estimate
from ablate.summary.summarise import ERRORS, METRICS, IouType, Published, Row, Summary, summarise

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from analysis.folding import Folded

COLORS = {"cls": "magenta", "loc": "cyan", "both": "blue", "dup": "yellow", "bg": "red", "miss": "green"}
MARK = "†"  # not controlled
NAMED = 3  # variants that a note of many names


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
    parts += _published(summary)
    parts += [Text(f"\n{_legend(summary)}", style="dim"), *(Text(note) for note in _notes(summary))]
    return parts


def kinds(summary: Summary) -> tuple[str, str]:
    """What the AP is of, and the other kind."""
    return ("box", "mask") if summary.iou_type == "bbox" else ("mask", "box")


def _heading(summary: Summary) -> "Table":
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text("study", style="bold"), Text(f"{summary.study}: {summary.title}"))
    grid.add_row(Text("asked by", style="bold"), Text(summary.source))
    seeds = ", ".join(map(str, summary.seeds))
    held = f"everything else of {summary.base}; seed{'s' * (len(summary.seeds) > 1)} {seeds}"
    grid.add_row(Text("held", style="bold"), Text(held))
    if summary.images is not None:
        data = f"{summary.images:,} images, {summary.objects:,} objects, digest {summary.validation_data[:12]}"
        grid.add_row(Text("measured on", style="bold"), data)
    if summary.synthetic:
        grid.add_row(Text("careful", style="bold yellow"), Text(banner(summary), style="bold yellow"))
    return grid


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


def _scores(summary: Summary) -> "Folded":
    from rich.text import Text

    from analysis.folding import Folded, Head

    kind, other = kinds(summary)
    several = len(summary.seeds) > 1
    comparable = any(row.published for row in summary.rows)
    unfinished = any(row.state != "finished" for row in summary.rows)
    names = [f"{kind} AP", "AP50", "AP75", f"{other} AP", "against baseline"]
    heads = [Head(name) for name in (*names, *["published"] * comparable, *["n"] * several)]
    columns = [_styled(summary.rows, partial(_metric, name)) for name in METRICS]
    columns.append(_styled(summary.rows, lambda row: row.other_ap))
    heads = [Head("variant", right=False), *heads, *[Head("state", right=False)] * unfinished]
    rows: list[list[Text | str]] = []
    for row, *cells in zip(summary.rows, *columns, strict=True):
        difference = "" if row.baseline else interval(row.difference, sign=True) or "-"
        extra = [_beside(row, kind)] * comparable + [str(row.n)] * several
        rows.append([_name(row), *cells, difference, *extra, *[_state(row)] * unfinished])
    return Folded("What it scores", heads, rows)


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
    return Text(row.state, style="bold red" if "out of memory" in row.state else "yellow")


def _errors(summary: Summary) -> "Folded":
    from rich.text import Text

    from analysis.folding import Folded, Head

    kind, _ = kinds(summary)
    percent = round((summary.iou or 0) * 100)
    heads = [
        Head(Text(name.upper() if name in ("fp", "fn") else name, style=f"bold {COLORS.get(name, '')}"))
        for name in ERRORS
    ]
    rows = [row for row in summary.rows if row.errors]
    digits = 1 if any(row.n > 1 for row in rows) else 2
    columns = [_styled(rows, partial(_error, name), low=True, digits=digits) for name in ERRORS]
    cells = [[_name(row), *found] for row, *found in zip(rows, *columns, strict=True)]
    title = f"Where the rest of the {kind} AP{percent} went: points to gain by fixing one type"
    return Folded(title, [Head("variant", right=False), *heads], cells)


def _cost(summary: Summary) -> "Folded":
    from analysis.folding import Folded, Head

    known = [row for row in summary.rows if row.size is not None]
    names = ["peak memory", "s/iter.", "s/image"] if summary.cost_place else []
    shapes = [(of, decimals(map(of, known), fewest)) for _, of, fewest in COUNTS]
    rows: list[list[Text | str]] = []
    for row in known:
        measured = [_peak(row), seconds(row.seconds_per_iteration), seconds(row.seconds_per_image)]
        counted = [f"{of(row):,.{digits}f}" for of, digits in shapes]
        rows.append([_name(row), *(cell or "-" for cell in measured[: len(names)]), *counted])
    heads = [Head("variant", right=False), *map(Head, (*names, *(name for name, _, _ in COUNTS)))]
    return Folded("What it costs", heads, rows)


def _peak(row: Row) -> str:
    return memory(row.peak_gib) or ("out of memory" if row.cost_message else "")


def _published(summary: Summary) -> "list[RenderableType]":
    """A column a source and size; what each stands for below."""
    from rich.text import Text

    from analysis.folding import Folded, Head

    kind, _ = kinds(summary)
    block = in_columns(summary, kind)
    if not block.variants:
        return []
    to_baseline = f", and difference to {block.baseline}" if block.baseline else ""
    columns = [list(_points(block.variants, column, kind)) for column in block.columns]
    rows = [[Text(name), *(cells[at] for cells in columns)] for at, name in enumerate(block.variants)]
    heads = [Head("variant", right=False), *(Head(f"[{place}]", right=False) for place in range(1, len(columns) + 1))]
    table = Folded(f"Published on COCO under other conditions: {kind} AP{to_baseline}", heads, rows)
    return [Text(""), table, Text("\n".join(block.about), style="dim")]


def _points(variants: Sequence[str], column: dict[str, Published], kind: str) -> "Iterator[Text]":
    """A published AP of each variant and its difference, one below the other."""
    from rich.text import Text

    cells = [in_print(column[name], kind) if name in column else ("", "") for name in variants]
    width = max(len(value) for value, _ in cells)
    for value, difference in cells:
        yield Text(f"{value:{width}}").append(f"  {difference:>4}" * bool(difference), style="dim")


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
    if any(row.size for row in summary.rows):
        lines.append(COUNTED)
    return " ".join(lines)


def _notes(summary: Summary) -> Iterator[str]:
    for row in summary.rows:
        if row.uncontrolled:
            yield f"{MARK} not controlled: {row.variant} also changes {', '.join(row.uncontrolled)}."
    reasons: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.message:
            reasons.setdefault(row.message, []).append(row.variant)
    for message, names in reasons.items():
        yield f"{' / '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' * (len(names) > NAMED)}: {message}"
    yield from summary.notes
