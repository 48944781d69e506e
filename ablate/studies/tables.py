"""The tables of a study, each built once with its raw values, and the sentences below them.

The terminal, Markdown, LaTeX and HTML print the same tables (``analysis.render.table``): what a variant scores, where
the rest of its AP went, what it costs, and what was published under other conditions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ablate.detector.flops import decimals
from ablate.studies.published import Kind
from ablate.studies.results import ERRORS, METRICS, Published, Row, Summary
from ablate.studies.study import DetectorSize, slug
from analysis.render.errors import error_column
from analysis.render.table import Cell, Column, Table, Value, best
from analysis.stats.intervals import Estimate

MARK = "†"  # not controlled
NAMED = 3  # variants that a note of many names
DERIVED = "*"
DERIVED_MEANS = f"{DERIVED} follows from other numbers of its source, which does not print it"
# Whatever a config hands on: the paper's convention, so that sizes of all studies compare.
COUNTED = "GMAC (1e9 multiply-adds) and activations: one image with 1,000 proposals and 20 masks."
# Head, field of a detector's size, unit and fewest decimals of what is counted before anything runs.
COUNTS = (("param. M", "parameters", 1e6, 2), ("GMAC", "macs", 1e9, 2), ("activ. M", "activations", 1e6, 1))

Filled = tuple[Column, Sequence[Value]]  # a column and its values


def scores_table(summary: Summary) -> Table:
    """A row a variant: AP over its seeds, its difference to the baseline, and how far it is."""
    kind, other = summary.kinds
    rows = summary.rows
    columns = [
        _estimates(Column(f"{kind} AP" if name == "AP" else name, precision=1), [row.metrics.get(name) for row in rows])
        for name in METRICS
    ]
    columns.append(_estimates(Column(f"{other} AP", precision=1), [row.other_ap for row in rows]))
    against = Column("against baseline", precision=1, signed=True)
    columns.append((against, [Cell(None, "") if row.baseline else _cell(against, row.difference) for row in rows]))
    if any(row.published for row in rows):
        values = [row.published.ap(kind) if row.published else None for row in rows]
        columns.append((Column("published", precision=1), values))
    if len(summary.seeds) > 1:
        columns.append((Column("n"), [row.n for row in rows]))
    if any(row.state != "finished" for row in rows):
        columns.append((Column("state", kind="text"), [_state(row) for row in rows]))
    return _table("What it scores", rows, columns)


def errors_table(summary: Summary) -> Table:
    """A row a variant with results: points of AP to gain by fixing one type of error."""
    rows = [row for row in summary.rows if row.errors]
    digits = 1 if summary.several else 2
    columns = [
        _estimates(replace(error_column(name), precision=digits), [row.errors.get(name) for row in rows], low=True)
        for name in ERRORS
    ]
    what = f"{summary.kinds[0]} AP{summary.percent}"
    return _table(f"Where the rest of the {what} went: points to gain by fixing one type", rows, columns)


def cost_table(summary: Summary) -> Table:
    """A row a variant whose detector is known: memory and time where they were measured, and what was counted."""
    rows = [row for row in summary.rows if row.size is not None]
    columns: list[Filled] = []
    if summary.cost_place:
        columns += [
            (Column("peak memory"), _peaks(rows)),
            (Column("s/iter."), [_seconds(row.seconds_per_iteration) for row in rows]),
            (Column("s/image"), [_seconds(row.seconds_per_image) for row in rows]),
        ]
    return _table("What it costs", rows, [*columns, *size_columns([row.size for row in rows])])


def size_columns(sizes: Sequence[DetectorSize | None]) -> Iterator[Filled]:
    """What was counted of detectors, with the digits that tell near ones apart."""
    for name, field, unit, fewest in COUNTS:
        values = [None if size is None else getattr(size, field) / unit for size in sizes]
        yield Column(name, precision=decimals([value for value in values if value], fewest), missing=""), values


def wide_table(summary: Summary) -> Table:
    """Scores, errors and cost of each variant side by side, for a paper; what nobody measured is left out."""
    parts = {
        "AP": scores_table(summary),
        f"AP{summary.percent} to gain": errors_table(summary),
        "cost": cost_table(summary),
    }
    columns: list[Column] = [Column("variant", kind="text")]
    rows: list[tuple[Value, ...]] = [(_name(row),) for row in summary.rows]
    for group, part in parts.items():
        found = without_empty(part)
        columns += [replace(column, group=group) for column in found.columns[1:]]
        known = {Cell.of(first).value: values for first, *values in found.cells}
        empty = [None] * (len(found.columns) - 1)
        rows = [(*cells, *known.get(row.variant, empty)) for row, cells in zip(summary.rows, rows, strict=True)]
    return Table(summary.title, tuple(columns), tuple(rows), label=slug(summary.study), wide=True)


def published_table(summary: Summary, kind: Kind) -> Table:
    """Published numbers that stand beside no run: a row a variant, a column a source and size, what each is below."""
    shown = [one for one in summary.published if one.finding.out_of_memory or one.finding.ap(kind) is not None]
    sources: dict[tuple[str, str, str], dict[str, Published]] = {}
    for one in shown:
        sources.setdefault(one.finding.column, {})[one.finding.variant] = one
    variants = sorted(dict.fromkeys(one.finding.variant for one in shown), key=lambda name: _place(summary, name))
    columns: list[Column] = [Column("variant", kind="text")]
    values: list[Sequence[Value]] = [variants]
    notes = []
    for number, ((source, size, _), of) in enumerate(sources.items(), 1):
        columns.append(Column(f"[{number}]", precision=1))
        values.append([_published_cell(of.get(name), kind) for name in variants])
        differences = [of[name].difference(kind) if name in of else None for name in variants]
        if differences != [None] * len(variants):
            columns.append(Column("Δ", precision=1, signed=True, attached=True))
            values.append([Cell(one, "" if one is None else None, style="dim") for one in differences])
        notes.append(f"[{number}] {', '.join(part for part in (source, size, *_shared(list(of.values()))) if part)}")
    if any(one.finding.derived for one in shown):
        notes.append(DERIVED_MEANS)
    baseline = next((row.levels[0] if row.levels else row.variant for row in summary.rows if row.baseline), "")
    title = f"Published on COCO under other conditions: {kind} AP"
    if baseline and any(one.difference(kind) is not None for one in shown):
        title += f", and difference to {baseline}"
    return Table(title, tuple(columns), tuple(zip(*values, strict=True)), notes=tuple(notes))


def findings_table(published: Sequence[Published]) -> Table:
    """A row a published number, of boxes and masks, with its difference to the baseline of its own source."""
    columns = [Column("published", kind="text"), Column("size", kind="text")]
    for kind in ("box", "mask"):
        columns += [Column(f"{kind} AP", precision=1), Column("against baseline", precision=1, signed=True)]
    columns += [Column("trained", kind="text"), Column("source", kind="text")]
    rows = []
    for one in published:
        found = one.finding
        measured = (found.box_ap, one.box_difference, found.mask_ap, one.mask_difference)
        rows.append((found.variant, found.size, *measured, found.training, Cell(found.source, style="dim")))
    empty = Table("", tuple(replace(column, missing="") for column in columns), tuple(rows))
    return without_empty(empty)


def published_rows(summary: Summary) -> list[Published]:
    """Published numbers that stand beside no run, in the order of the study's own variants."""
    return sorted(summary.published, key=lambda one: _place(summary, one.finding.variant))


def without_empty(table: Table) -> Table:
    """The table without the columns in which no row says anything."""
    cells = [[Cell.of(value) for value in row] for row in table.cells]
    kept = [
        place
        for place in range(len(table.columns))
        if place == 0 or any(row[place].value is not None or row[place].text for row in cells)
    ]
    columns = tuple(table.columns[place] for place in kept)
    return replace(table, columns=columns, rows=tuple(tuple(row[place] for place in kept) for row in table.cells))


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


def held(summary: Summary) -> str:
    """What all variants share."""
    seeds = ", ".join(map(str, summary.seeds))
    return f"everything else of {summary.base}; seed{'s' * (len(summary.seeds) > 1)} {seeds}"


def measured_on(summary: Summary) -> str:
    """The validation set; empty while nothing is finished."""
    if summary.images is None:
        return ""
    return f"{summary.images:,} images, {summary.objects:,} objects, digest {summary.validation_data[:12]}"


def legend(summary: Summary) -> list[str]:
    """What the numbers of the tables are."""
    lines = ["AP in points, 0 to 100."]
    if summary.several:
        lines.append("Mean ± 95 % interval (Student's t) over n seeds; differences seed by seed.")
    lines.append(
        "cls: wrong class, loc: poor place, both, dup: second on one object, bg: on nothing, miss: not found; "
        "FP, FN: all of a kind."
    )
    if summary.cost_place:
        where = f"alone on {summary.cost_place}; memory: {summary.cost_memory}."
        lines.append(f"Cost of one image at a time, {where}")
    if any(row.size for row in summary.rows):
        lines.append(COUNTED)
    return lines


def remarks(summary: Summary) -> list[str]:
    """What a reader must know of single variants: what is not controlled, why there is no result, what is missing."""
    found = [not_controlled(row.variant, row.confounders) for row in summary.rows if row.confounders]
    reasons: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.message:
            reasons.setdefault(row.message, []).append(row.variant)
    for message, names in reasons.items():
        more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
        found.append(f"{' / '.join(names[:NAMED])}{more}: {message}")
    return [*found, *summary.notes]


def not_controlled(variant: str, keys: Sequence[str]) -> str:
    """What differs between a variant and the baseline beside the factor of the study."""
    return f"{MARK} not controlled: {variant} also changes {', '.join(keys)}."


def interval(found: Estimate | None, digits: int = 1, *, sign: bool = False) -> str:
    """An estimate in print: 41.3, or 41.3 ± 0.4 where there are several seeds; never a negative zero."""
    if found is None:
        return ""
    mean = f"{found.mean:{'+' if sign else ''}z.{digits}f}"
    return mean if found.half is None else f"{mean} ± {found.half:.{digits}f}"


def _table(title: str, rows: Sequence[Row], columns: Sequence[Filled]) -> Table:
    """A row a variant under the head of each column."""
    heads = (Column("variant", kind="text"), *(column for column, _ in columns))
    return Table(title, heads, tuple(zip(map(_name, rows), *(values for _, values in columns), strict=True)))


def _name(row: Row) -> Cell:
    text = f"{row.variant}{' (baseline)' * row.baseline}"
    return Cell(row.variant, text, style="bold" * row.baseline, suffix=f" {MARK}" if row.confounders else "")


def _estimates(column: Column, found: Sequence[Estimate | None], *, low: bool = False) -> Filled:
    """A column of estimates, the best in bold."""
    stressed = map(Cell.of, best([None if one is None else one.mean for one in found], column, low=low))
    return column, [replace(_cell(column, one), bold=cell.bold) for one, cell in zip(found, stressed, strict=True)]


def _cell(column: Column, found: Estimate | None) -> Cell:
    if found is None:
        return Cell(None)
    return Cell(found.mean, interval(found, column.precision or 0, sign=column.signed))


def _state(row: Row) -> Cell:
    if row.state == "finished":
        return Cell(row.state, "")
    return Cell(row.state, style="bold red" if "out of memory" in row.state else "yellow")


def _peaks(rows: Sequence[Row]) -> list[Value]:
    """Peak memory, all in one unit."""
    in_gib = any((row.peak_gib or 0) >= 1 for row in rows)
    unit, scale, digits = ("GiB", 1, 2) if in_gib else ("MiB", 1024, 1)
    return [
        Cell(None, "out of memory" if row.cost_message else None)
        if row.peak_gib is None
        else Cell(row.peak_gib, f"{row.peak_gib * scale:,.{digits}f} {unit}")
        for row in rows
    ]


def _seconds(value: float | None) -> Cell:
    """A time, three digits."""
    return Cell(value, None if value is None else f"{value:.3g}" if value >= 1 else f"{value:.4f}")


def _published_cell(published: Published | None, kind: Kind) -> Cell:
    if published is None or published.finding.out_of_memory:
        return Cell(None, "" if published is None else "OOM")
    ap = published.finding.ap(kind)
    return Cell(ap, f"{ap:.1f}{DERIVED}" if published.finding.derived else None)


def _place(summary: Summary, variant: str) -> int:
    """Of a published variant: that of its row, else after all rows."""
    names = [row.variant for row in summary.rows]
    return names.index(variant) if variant in names else len(names)


def _shared(column: Sequence[Published]) -> Iterator[str]:
    """What all numbers of a column were trained with."""
    found = [one.finding for one in column]
    for values in (
        {one.init for one in found},
        {"" if one.epochs is None else f"{one.epochs:g} epochs" for one in found},
        {one.schedule for one in found},
        {one.note for one in found},
    ):
        if len(values) == 1:
            yield values.pop()
