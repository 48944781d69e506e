"""Published numbers that stand beside no run: a column a source and size, a row a variant."""

from collections.abc import Iterator, Sequence

import msgspec

from ablate.summary.summarise import Published, Row, Summary

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
