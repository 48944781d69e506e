"""The tables of a study, each built once with its raw values, and the sentences below them.

The terminal, Markdown, LaTeX and HTML print the same tables (``analysis.render.table``): what a variant scores, where
the rest of its AP went, what it costs, and what was published under other conditions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ablate.detector.flops import decimals
from ablate.studies.cost import Range
from ablate.studies.published import Kind, PublishedCost
from ablate.studies.results import METRICS, Published, Row, Summary
from ablate.studies.significance import SENTENCE, best_over_seeds
from ablate.studies.study import DetectorSize, slug
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.render.errors import ap_at, error_column
from analysis.render.table import Cell, Column, Table, Value
from analysis.stats.intervals import Estimate

MARK = "†"  # not controlled
NAMED = 3  # variants that a note of many names
DERIVED = "*"
DERIVED_MEANS = f"{DERIVED} computed from other numbers of its source, which does not print it"
# Whatever a config hands on: the paper's convention, so that sizes of all studies compare.
COUNTED = "GMAC (1e9 multiply-adds) and activations: one image with 1,000 proposals and 20 masks."
# Head, field of a detector's size, unit and fewest decimals of what is counted before anything runs.
COUNTS = (("param. M", "parameters", 1e6, 2), ("GMAC", "macs", 1e9, 2), ("activ. M", "activations", 1e6, 1))

COSTS = ("memory", "step", "step_ratio", "prediction", "prediction_ratio")  # that `ablate probe` measures

Filled = tuple[Column, Sequence[Value]]  # a column and its values


def scores_table(summary: Summary) -> Table:
    """A row a variant: AP over its seeds, its difference to the baseline, and how far it is."""
    (kind, other), ap = summary.kinds, ap_at(summary.max_dets)
    rows = summary.rows
    heads = {name: f"{kind} {ap}" if name == "AP" else name for name in METRICS}
    columns = [
        _estimates(Column(head, precision=1, key=name), rows, [row.metrics.get(name) for row in rows])
        for name, head in heads.items()
    ]
    if summary.kind == "detector" or any(row.other_ap for row in rows):
        columns.append(
            _estimates(Column(f"{other} {ap}", precision=1, key=f"{other}_AP"), rows, [row.other_ap for row in rows])
        )
    against = Column("against baseline", precision=1, signed=True, key="difference")
    columns.append((against, [Cell(None, "") if row.baseline else _cell(against, row.difference) for row in rows]))
    if any(row.published for row in rows):
        published = [row.published.ap(kind) if row.published else None for row in rows]
        columns.append((Column("published", precision=1), published))
    if len(summary.seeds) > 1:
        columns.append((Column("n"), [row.n for row in rows]))
    if any(row.state != "finished" for row in rows):
        columns.append((Column("state", kind="text"), [_state(row) for row in rows]))
    return _table("Accuracy", rows, columns)


def errors_table(summary: Summary) -> Table:
    """A row a variant with results: points of AP to gain by fixing one type of error."""
    rows = [row for row in summary.rows if row.errors]
    precision = 1 if summary.several else 2
    heads = {name: replace(error_column(name), precision=precision, key=name) for name in ERROR_TYPES}
    ap = f"{summary.kinds[0].capitalize()} AP{summary.percent}"
    return _table(
        f"{ap} lost to each type of error: points gained if only that type is fixed",
        rows,
        [_estimates(head, rows, [row.errors.get(name) for row in rows], low=True) for name, head in heads.items()],
    )


def cost_table(summary: Summary) -> Table:
    """A row a variant whose detector is known: memory and time where they were measured, and what was counted.

    They are of one image, unlike the memory and the seconds of the whole run that `ablate run` shows.
    """
    rows = [row for row in summary.rows if row.size is not None]
    columns: list[Filled] = []
    if summary.cost_place:
        columns += [
            _peaks(rows),
            (
                Column("training step, s", key="step"),
                [_seconds(row.seconds_per_iteration, row.iteration_range) for row in rows],
            ),
            *_ratios("step_ratio", [row.iteration_ratio for row in rows]),
            (
                Column("prediction, s", key="prediction"),
                [_seconds(row.seconds_per_image, row.image_range) for row in rows],
            ),
            *_ratios("prediction_ratio", [row.image_ratio for row in rows]),
        ]
    return _table("Cost, one image at a time", rows, [*columns, *size_columns([row.size for row in rows])])


def outside_table(summary: Summary) -> Table:
    """A row a variant whose command has ended: what it took as a whole, seen from outside.

    These numbers are never mixed with those of `cost_table`, which are of a single training step.
    """
    found = [(row, row.outside) for row in summary.rows if row.outside is not None]
    column = Column("seconds", precision=0)
    columns: list[Filled] = [(column, [_cell(column, outside.seconds) for _, outside in found])]
    peaks = [outside.peak_gpu_gib for _, outside in found]
    if any(peak is not None for peak in peaks):
        columns.append((Column("peak GPU memory in use, GiB", precision=2, key="gpu_memory"), peaks))
    return _table("Cost of the whole command, measured from outside", [row for row, _ in found], columns)


def facts_table(summary: Summary) -> Table:
    """One row per variant with given facts: as given, not measured here."""
    rows = [row for row in summary.rows if row.facts]
    names = dict.fromkeys(name for row in rows for name in row.facts)
    columns: list[Filled] = []
    for name in names:
        values = [row.facts.get(name) for row in rows]
        numbers = all(isinstance(value, int | float) for value in values if value is not None)
        cells: list[Value] = [Cell(None, "") if value is None else Cell(value, str(value)) for value in values]
        columns.append((Column(name, kind="number" if numbers else "text", missing=""), cells))
    return _table("As given, not measured here", rows, columns)


def size_columns(sizes: Sequence[DetectorSize | None]) -> Iterator[Filled]:
    """Columns of the counted sizes of detectors, with enough digits to tell similar ones apart."""
    for name, field, unit, fewest in COUNTS:
        values = [None if size is None else getattr(size, field) / unit for size in sizes]
        digits = decimals([value for value in values if value], fewest)
        yield Column(name, precision=digits, missing="", key=field), values


def wide_table(summary: Summary) -> Table:
    """Scores, errors and cost of each variant side by side, for a paper; what was not measured is left out."""
    parts = {
        "AP": scores_table(summary),
        f"AP{summary.percent} to gain": errors_table(summary),
        "cost": cost_table(summary),
        "whole command, from outside": outside_table(summary),
        "as given": facts_table(summary),
    }
    columns: list[Column] = [Column("variant", kind="text")]
    rows: list[tuple[Value, ...]] = [(_name(row),) for row in summary.rows]
    for group, part in parts.items():
        found = without_empty(part)
        columns += [replace(column, group=group) for column in found.columns[1:]]
        known = {first.value: values for first, *values in found.cells}
        rows = [
            (*cells, *known.get(row.variant, [None] * (len(found.columns) - 1)))
            for row, cells in zip(summary.rows, rows, strict=True)
        ]
    return Table(summary.title, tuple(columns), tuple(rows), label=slug(summary.study))


def published_table(summary: Summary, kind: Kind) -> Table:
    """Published numbers that stand beside no run: a row a variant, a column a source and size, what each is below."""
    shown = [one for one in summary.published if one.finding.out_of_memory or one.finding.ap(kind) is not None]
    sources: dict[tuple[str, str, str], dict[str, Published]] = {}
    for one in shown:
        sources.setdefault(one.finding.column, {})[one.finding.variant] = one
    order = [row.variant for row in summary.rows]
    variants = sorted(dict.fromkeys(one.finding.variant for one in shown), key=lambda name: _place(order, name))
    columns: list[Column] = [Column("variant", kind="text")]
    rows: list[tuple[Value, ...]] = [
        (name, *(cell for of in sources.values() for cell in _published_cells(of.get(name), kind))) for name in variants
    ]
    for number in range(1, len(sources) + 1):
        columns += [Column(f"[{number}]", precision=1), Column("Δ", precision=1, signed=True, attached=True)]
    notes = [
        f"[{number}] {', '.join(filter(None, (source, size, *_shared(list(of.values())))))}"
        for number, ((source, size, _), of) in enumerate(sources.items(), 1)
    ]
    if any(one.finding.derived for one in shown):
        notes.append(DERIVED_MEANS)
    notes += [caution.rstrip(".") for caution in summary.published_cautions]
    baselines = [row.levels[0] if row.levels else row.variant for row in summary.rows if row.baseline]
    compared = any(one.difference(kind) is not None for one in shown)
    title = f"Published on COCO under other conditions: {kind} AP"
    title += "".join(f", and difference to {name}" for name in baselines if compared)
    return without_empty(Table(title, tuple(columns), tuple(rows), notes=tuple(notes)))


def published_cost_table(costs: Sequence[PublishedCost]) -> Table:
    """A row a published cost, as a ratio to that of windows alone in the same source."""
    columns = [Column("variant", kind="text"), Column("size", kind="text")]
    columns += [Column("training memory"), Column("test time")]
    columns += [Column("source", kind="text"), Column("note", kind="text", missing="")]
    rows = tuple(
        (
            one.variant,
            one.size,
            *(Cell(ratio, f"{ratio:.2f}x") for ratio in (one.training_memory, one.test_time)),
            Cell(one.source, style="dim"),
            one.note or None,
        )
        for one in costs
    )
    return Table("Published cost, as a multiple of that of window in the same source", tuple(columns), rows)


def findings_table(published: Sequence[Published], variants: Sequence[str]) -> Table:
    """A row a published number, of boxes and masks, with its difference to the baseline of its own source.

    Args:
        published: the numbers.
        variants: in whose order they stand.
    """
    columns = [Column("published", kind="text"), Column("size", kind="text")]
    for kind in ("box", "mask"):
        columns += [Column(f"{kind} AP", precision=1), Column("against baseline", precision=1, signed=True)]
    columns += [Column("trained", kind="text"), Column("source", kind="text")]
    rows = tuple(
        (
            one.finding.variant,
            one.finding.size,
            one.finding.box_ap,
            one.box_difference,
            one.finding.mask_ap,
            one.mask_difference,
            one.finding.training,
            Cell(one.finding.source, style="dim"),
        )
        for one in sorted(published, key=lambda one: _place(variants, one.finding.variant))
    )
    return without_empty(Table("", tuple(replace(column, missing="") for column in columns), rows))


def without_empty(table: Table) -> Table:
    """The table without the columns in which no row says anything."""
    kept = [
        place
        for place in range(len(table.columns))
        if place == 0 or any(row[place].value is not None or row[place].text for row in table.cells)
    ]
    columns = tuple(table.columns[place] for place in kept)
    return replace(table, columns=columns, rows=tuple(tuple(row[place] for place in kept) for row in table.cells))


def banner(summary: Summary) -> str:
    """The note that must accompany every number of a study on the embedded data."""
    about = ", ".join(filter(None, ["synthetic data", over_seeds(summary)]))
    return f"{about}: demonstration only, not evidence" if summary.synthetic else ""


def over_seeds(summary: Summary) -> str:
    """How many runs a number is the mean of: n = 3, n = 1 to 3 where some are missing; nothing before the first."""
    counts = sorted({row.n for row in summary.rows if row.n})
    return f"n = {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}" if counts else ""


def held(summary: Summary) -> str:
    """The settings that all variants share."""
    if summary.kind == "adopted":
        return "only the validation images: these are finished runs that were trained elsewhere"
    return f"everything else as in {summary.base}; {seeds_in_words(summary.seeds)}"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Under which seeds every variant runs.

    >>> seeds_in_words([0]), seeds_in_words([0, 1])
    ('seed 0', 'seeds 0, 1')
    """
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def measured_on(summary: Summary) -> str:
    """The validation set; empty while nothing is finished."""
    return (
        ""
        if summary.images is None
        else f"{summary.images:,} images, {summary.objects:,} objects, digest {summary.validation_data[:12]}"
    )


def legend(summary: Summary, shown: Sequence[Column] = ()) -> list[str]:
    """The explanation of the numbers in the tables; with ``shown``, of those columns alone."""
    keys = {column.key or column.name for column in shown}

    def of(*names: str) -> bool:
        return not shown or not keys.isdisjoint(names)

    sentences = (
        (True, "AP in points, 0 to 100."),
        (
            summary.several,
            "Mean ± 95 % interval (Student's t) over n seeds, differences seed by seed; ablate compare also includes "
            "the noise of images and tests significance.",
        ),
        (summary.several, SENTENCE),
        (
            of(*ERROR_TYPES),
            "cls: wrong category; loc: too little overlap with the object; both: both of these; dup: second detection "
            "of one object; bg: no object there; miss: object that no detection matches or nearly matches; FP, FN: "
            "all false positives, all false negatives.",
        ),
        (summary.cost_place and of(*COSTS), _cost_sentence(summary)),
        (any(row.size for row in summary.rows) and of("macs", "activations"), COUNTED),
        (any(row.outside for row in summary.rows) and of("seconds", "gpu_memory"), _outside_sentence(summary)),
    )
    return [sentence for holds, sentence in sentences if holds]


def _cost_sentence(summary: Summary) -> str:
    """The sentence on the measured cost: what it covers, where it was measured, and what else ran there."""
    others = (
        "the load of other processes is not known"
        if summary.cost_others is None
        else f"other processes used up to {summary.cost_others:.1f} cores during the measurement"
    )
    in_turn = any(row.iteration_range for row in summary.rows)
    compared = any(ratio is not None for row in summary.rows for ratio in (row.iteration_ratio, row.image_ratio))
    rounds = (
        "; ± half the range over measurement rounds, which alternate between the variants" * in_turn
        + "; x baseline: only if the ranges of the two do not overlap" * compared
    )
    return (
        f"Cost (ablate probe): one image at a time on {summary.cost_place}; {others}; peak memory: "
        f"{summary.cost_memory}{rounds}."
    )


def _outside_sentence(summary: Summary) -> str:
    """The sentence on the time and memory of a command: what they cover, and where it ran."""
    places = dict.fromkeys(place for row in summary.rows if row.outside for place in row.outside.places)
    several = "; on different machines, so they cannot be compared" * (len(places) > 1)
    memory = any(row.outside and row.outside.peak_gpu_gib is not None for row in summary.rows)
    return (
        "From outside: wall-clock seconds of the whole command, start, data and predictions included, on "
        f"{' and '.join(places)}{several}{'; GPU memory by nvidia-smi, of all processes on the GPU' * memory}. "
        "They cannot be compared with ablate probe."
    )


def remarks(summary: Summary) -> list[str]:
    """Notes on single variants: what is not controlled, why there is no result, what is missing."""
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
    """The note on settings other than the studied ones that differ between a variant and the baseline."""
    return f"{MARK} not controlled: {variant} also changes {', '.join(keys)}."


def interval(found: Estimate | None, digits: int = 1, *, sign: bool = False) -> str:
    """An estimate in print: 41.3, or 41.3 ± 0.4 where there are several seeds; never a negative zero."""
    if found is None:
        return ""
    mean = f"{found.mean:{'+' if sign else ''}z.{digits}f}"
    return mean if found.half is None else f"{mean} ± {found.half:.{digits}f}"


def _table(title: str, rows: Sequence[Row], columns: Sequence[Filled]) -> Table:
    heads = (Column("variant", kind="text"), *(column for column, _ in columns))
    return Table(title, heads, tuple(zip(map(_name, rows), *(values for _, values in columns), strict=True)))


def _name(row: Row) -> Cell:
    return Cell(
        row.variant,
        f"{row.variant}{' (baseline)' * row.baseline}",
        style="bold" * row.baseline,
        suffix=f" {MARK}" if row.confounders else "",
    )


def _estimates(column: Column, rows: Sequence[Row], found: Sequence[Estimate | None], *, low: bool = False) -> Filled:
    """A column of estimates, the best and all that do not differ from it in bold; nothing where there is one seed."""
    bold = best_over_seeds(found, [row.seeds for row in rows], low=low)
    return column, [replace(_cell(column, one), bold=place in bold) for place, one in enumerate(found)]


def _cell(column: Column, found: Estimate | None) -> Cell:
    text = interval(found, column.precision or 0, sign=column.signed)
    return Cell(None) if found is None else Cell(found.mean, text)


def _state(row: Row) -> Cell:
    style = "bold red" if "out of memory" in row.state else "yellow"
    return Cell(row.state, "") if row.state == "finished" else Cell(row.state, style=style)


def memory_unit(gib: Iterable[float | None]) -> tuple[str, int]:
    """The unit in which some memories are printed, and how many of it a GiB has.

    >>> memory_unit([0.25, None]), memory_unit([0.25, 27.25])
    (('MiB', 1024), ('GiB', 1))
    """
    return ("GiB", 1) if any((one or 0) >= 1 for one in gib) else ("MiB", 1024)


def _peaks(rows: Sequence[Row]) -> Filled:
    """Peak memory, all in one unit."""
    unit, scale = memory_unit(row.peak_gib for row in rows)
    column = Column(f"peak memory, {unit}", precision=2 if unit == "GiB" else 1, key="memory")
    return column, [
        Cell(None, "out of memory" if row.cost_message else None)
        if row.peak_gib is None
        else Cell(row.peak_gib * scale)
        for row in rows
    ]


def _ratios(key: str, values: Sequence[float | None]) -> list[Filled]:
    """A column of ratios to the baseline beside that of the times; none where all of them are noise."""
    column = Column("x baseline", precision=2, key=key, attached=True, missing="")
    return [(column, values)] if any(value is not None for value in values) else []


def _seconds(value: float | None, rounds: Range | None) -> Cell:
    """Seconds, and half the range of their rounds with as many digits.

    >>> _seconds(0.0285, (0.0281, 0.0293)).text, _seconds(2.5, None).text
    ('0.0285 ± 0.0006', '2.5')
    """
    if value is None:
        return Cell(None)
    shape = ".3g" if value >= 1 else ".4f"
    return Cell(value, f"{value:{shape}}" + (f" ± {(rounds[1] - rounds[0]) / 2:{shape}}" if rounds else ""))


def _published_cells(published: Published | None, kind: Kind) -> tuple[Cell, Cell]:
    """A published AP and its difference to the baseline; blank where there is none."""
    if published is None:
        return Cell(None, ""), Cell(None, "")
    found, difference = published.finding, published.difference(kind)
    text = "OOM" if found.out_of_memory else f"{found.ap(kind):.1f}{DERIVED}" if found.derived else None
    return Cell(found.ap(kind), text), Cell(difference, "" if difference is None else None, style="dim")


def _place(variants: Sequence[str], variant: str) -> int:
    """The place of a published variant: that of its row, else after all rows."""
    return variants.index(variant) if variant in variants else len(variants)


def _shared(column: Sequence[Published]) -> Iterator[str]:
    """The training settings that all numbers of a column share."""
    facts = [(one.finding.init, one.finding.length, one.finding.schedule, one.finding.note) for one in column]
    return (values[0] for values in zip(*facts, strict=True) if len(set(values)) == 1)
