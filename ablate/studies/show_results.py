"""The answer of a study in a terminal: what each variant scores, where the rest of the AP went, what it costs.

The comparison of a study's variants in a terminal.

Numbers of a study in print: estimates, memory, seconds, counts, and over how many seeds they are.

Published numbers that stand beside no run: a column a source and size, a row a variant.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ablate.detector.flops import decimals
from ablate.runs.folder import Workspace
from ablate.studies.results import ERRORS, METRICS, IouType, Published, Row, Summary, summarise
from ablate.studies.study import Study
from analysis.coco.ground_truth import GroundTruth
from analysis.stats.compare import Comparison
from analysis.stats.intervals import Estimate

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from analysis.render.printed_tables import Folded


def banner(summary: Summary) -> str:
    """What must stand over every number of a study on the embedded data."""
    if not summary.synthetic:
        return ""
    about = ", ".join(part for part in ("synthetic data", over_seeds(summary)) if part)
    return f"{about}: shows the tool, is no evidence"


def over_seeds(summary: Summary) -> str:
    """How many runs a number is the mean of: n = 3, n = 1 to 3 where some are missing; nothing before the first."""
    counts = {row.n for row in summary.rows if row.n}
    if not counts:
        return ""
    return f"n = {min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")


def interval(found: Estimate | None, digits: int = 1, *, sign: bool = False) -> str:
    """An estimate in print: 41.3, or 41.3 ± 0.4 where there are several seeds; never a negative zero."""
    if found is None:
        return ""
    mean = f"{found.mean:{'+' if sign else ''}z.{digits}f}"
    return mean if found.half is None else f"{mean} ± {found.half:.{digits}f}"


def memory(gib: float | None) -> str:
    """A peak in print."""
    if gib is None:
        return ""
    return f"{gib:,.1f} GiB" if gib >= 1 else f"{gib * 1024:,.1f} MiB"


def seconds(value: float | None) -> str:
    """A time in print, three digits."""
    return "" if value is None else f"{value:.3g}" if value >= 1 else f"{value:.4f}"


def parameters(row: Row) -> float:
    """Millions; 0 where nothing is known."""
    return row.size.parameters / 1e6 if row.size else 0.0


def gmacs(row: Row) -> float:
    """Multiply-adds, 1e9."""
    return row.size.macs / 1e9 if row.size else 0.0


def activations(row: Row) -> float:
    """Millions."""
    return row.size.activations / 1e6 if row.size else 0.0


# Whatever a config hands on: the paper's convention, so that sizes of all studies compare.
COUNTED = "GMAC (1e9 multiply-adds) and activations: one image with 1,000 proposals and 20 masks."
# Head, value and fewest decimals of what is counted before anything runs.
COUNTS = (("param. M", parameters, 2), ("GMAC", gmacs, 2), ("activ. M", activations, 1))


DERIVED = "*"
DERIVED_MEANS = f"{DERIVED} follows from other numbers of its source, which does not print it"


class Columns(msgspec.Struct, frozen=True):
    """A block of published numbers."""

    variants: tuple[str, ...]  # in the order of the study's own rows
    columns: tuple[dict[str, Published], ...]  # by variant
    about: tuple[str, ...]  # what each column is: [1] paper and table, size, training
    baseline: str  # that the differences are to; empty where there are none


def in_columns(summary: Summary, kind: str) -> Columns:
    """The published numbers of a study side by side, of boxes or of masks; nothing of what has none of the kind."""
    columns: dict[tuple[str, str, str], dict[str, Published]] = {}
    shown = [one for one in summary.published if in_print(one, kind)[0]]
    for one in shown:
        found = one.finding
        columns.setdefault((found.source, found.size, found.note), {})[found.variant] = one
    about = [
        f"[{number}] {', '.join(part for part in (source, size, *_shared(list(column.values()))) if part)}"
        for number, ((source, size, _), column) in enumerate(columns.items(), 1)
    ]
    if any(one.finding.derived for one in shown):
        about.append(DERIVED_MEANS)
    variants = dict.fromkeys(one.finding.variant for one in shown)
    return Columns(
        variants=tuple(sorted(variants, key=lambda name: place(summary.rows, name))),
        columns=tuple(columns.values()),
        about=tuple(about),
        baseline=_baseline(summary.rows) if any(in_print(one, kind)[1] for one in shown) else "",
    )


def place(rows: Sequence[Row], variant: str) -> int:
    """Of a published variant: that of its row, else after all rows."""
    names = [row.variant for row in rows]
    return names.index(variant) if variant in names else len(names)


def in_print(published: Published, kind: str) -> tuple[str, str]:
    """A published AP, of boxes or masks, and its difference to the baseline; empty where there is none."""
    found = published.finding
    if found.out_of_memory:
        return "OOM", ""
    is_box = kind == "box"
    value = found.box_ap if is_box else found.mask_ap
    difference = published.box_difference if is_box else published.mask_difference
    if value is None:
        return "", ""
    return f"{value:.1f}{DERIVED * found.derived}", "" if difference is None else f"{difference:+.1f}"


def _baseline(rows: Sequence[Row]) -> str:
    return next((row.levels[0] if row.levels else row.variant for row in rows if row.baseline), "")


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


def study_comparison_screen(
    summary: Summary, ground_truth: GroundTruth, comparison: Comparison
) -> "list[RenderableType]":
    """Heading, the table of differences, where the noise comes from, the findings as sentences."""
    from rich.table import Table
    from rich.text import Text

    from analysis.render.comparison import comparison_tables, findings_grid, resampled_sentence, sources_table

    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text("study", style="bold"), Text(f"{summary.study}: {summary.title}"))
    seeds = ", ".join(map(str, summary.seeds))
    grid.add_row(
        Text("held", style="bold"), f"everything else of {summary.base}; seed{'s' * (len(summary.seeds) > 1)} {seeds}"
    )
    data = f"{comparison.images:,} images, {len(ground_truth):,} objects, digest {ground_truth.digest[:12]}"
    grid.add_row(Text("measured on", style="bold"), data)
    grid.add_row(Text("resampled", style="bold"), resampled_sentence(comparison))
    for caution in comparison.cautions:
        grid.add_row(Text("careful", style="bold yellow"), Text(caution, style="yellow"))
    tables = [*comparison_tables(comparison), *sources_table(comparison)]
    return [grid, Text(""), *tables, Text(""), findings_grid(comparison)]


COLORS = {"cls": "magenta", "loc": "cyan", "both": "blue", "dup": "yellow", "bg": "red", "miss": "green"}
MARK = "†"  # not controlled
NAMED = 3  # variants that a note of many names


def show_table(workspace: Workspace, study: Study, iou_type: IouType = "bbox") -> None:
    """Print the table of a study on standard output."""
    from analysis.render.errors import print_whole

    print_whole(*summary_screen(summarise(workspace, study, iou_type)))


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
    if row.confounders:
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

    from analysis.render.printed_tables import Folded, Head

    kind, other = summary.kinds
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

    from analysis.render.printed_tables import Folded, Head

    kind, _ = summary.kinds
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
    from analysis.render.printed_tables import Folded, Head

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

    from analysis.render.printed_tables import Folded, Head

    kind, _ = summary.kinds
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
        if row.confounders:
            yield f"{MARK} not controlled: {row.variant} also changes {', '.join(row.confounders)}."
    reasons: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.message:
            reasons.setdefault(row.message, []).append(row.variant)
    for message, names in reasons.items():
        yield f"{' / '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' * (len(names) > NAMED)}: {message}"
    yield from summary.notes
