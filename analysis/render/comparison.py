"""Runs against a baseline: tables of differences, object outcomes and categories, the screen, and files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from analysis.arrays import Ints
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.settings import MEAN_AP, Settings, ap_name, iou_name
from analysis.files import write_all
from analysis.io import json_bytes
from analysis.render.documents import comparison_document
from analysis.render.errors import read_facts
from analysis.render.latex import latex
from analysis.render.screen import NOTE, dimmed, fact_list
from analysis.render.table import Cell, Column, Table, Value, csv_text, markdown
from analysis.render.takeaways import (
    OUTCOMES,
    comparison_takeaways,
    interval_text,
    resampled_sentence,
    scope,
    scope_sentence,
    settings_sentence,
    source_sentence,
    transition_takeaways,
)
from analysis.stats.compare import CategoryIntervals, Comparison, OutcomeTransitions, VsBaseline
from analysis.stats.intervals import FEWEST_OF_CATEGORY, SIGNIFICANCE, Difference, Interval

if TYPE_CHECKING:  # matplotlib is for files alone
    from analysis.render.figure_style import FigureStyle

SIGNIFICANT = "*"
MOST_CATEGORIES = 8
HOLM = "p (Holm)"
WRITTEN = (
    "comparison.csv", "categories.csv", "comparison.md", "comparison.tex", "comparison.json", "comparison.png",
    "comparison.pdf", "comparison_figures.tex",
)  # fmt: skip


def comparison_screen(ground_truth: GroundTruth, comparison: Comparison) -> list[RenderableType]:
    """Everything that ``analyze compare`` shows."""
    baseline, others = comparison.baseline, comparison.vs_baseline
    facts = [
        *read_facts(ground_truth, []),
        ("baseline", f"{baseline}; compared with it: {', '.join(one.name for one in others)}"),
        ("settings", settings_sentence(comparison.settings)),
        *resampling_facts(comparison),
    ]
    parts: list[RenderableType] = [fact_list(facts), Text(""), *differences_screen(comparison)]
    for one in others:
        if one.transitions is not None:
            title = f"Outcomes of the objects: {baseline} (rows) and {one.name} (columns)"
            moves = transition_takeaways(ground_truth, one.transitions, one.name, baseline)
            parts += [
                Text(""),
                transitions_table(one.transitions, title),
                Text("\n".join(moves)),
                Text(f"{OUTCOMES}.", "dim"),
            ]
    return parts + [part for one in others for part in (Text(""), categories_table(ground_truth, comparison, one))]


def resampling_facts(comparison: Comparison) -> list[tuple[str, str]]:
    """How noise was measured, and what the numbers do not show."""
    return [("bootstrap", resampled_sentence(comparison)), *((NOTE, caution) for caution in comparison.cautions)]


def differences_screen(comparison: Comparison) -> list[RenderableType]:
    """The numbers of the baseline, every difference to it, where its noise comes from, and all of it in words."""
    table = differences_table(comparison, explain=len(comparison.vs_baseline) == 1)
    noise = sources_table(comparison)
    return [
        replace(table, title=table.title if comparison.of_single_seeds else ""),
        dimmed(
            f"In points, [95 % interval]. {scope_sentence(comparison)} {p_sentence(comparison)} A positive "
            "difference of an error type means that the run loses more to it than the baseline."
        ),
        *((Text(""), noise) if noise.rows else ()),
        Text(""),
        fact_list([("summary", sentence) for sentence in comparison_takeaways(comparison)]),
    ]


def p_sentence(comparison: Comparison) -> str:
    """What the p-values and the star are, for a legend; why there are none where nothing is tested."""
    if not comparison.tested:
        return "Nothing is tested, so there are no p-values and no stars."
    return (
        f"p <= 0.05 exactly if the interval excludes 0. {HOLM}: corrected for multiple tests ({comparison.family}). "
        f"{SIGNIFICANT} significant at 5 % after this correction."
    )


def intervals_screen(comparison: Comparison) -> list[RenderableType]:
    """How sure the numbers of each run are: what ``analyze errors --intervals`` adds."""
    table = Table(
        f"95 % intervals: {resampled_sentence(comparison)}",
        (Column("", kind="text"), *(Column(one.name) for one in comparison.candidates)),
        tuple(
            (_number_cell(number), *(_interval_cell(one.numbers[number]) for one in comparison.candidates))
            for number in comparison.numbers
        ),
    )
    return [
        Text(""),
        table,
        *(Text(f"{NOTE}: {caution}", style="yellow") for caution in comparison.cautions),
        Text(
            "The intervals show how the choice of images changes the numbers of each model. analyze compare "
            "measures differences more precisely."
        ),
    ]


def differences_table(comparison: Comparison, *, explain: bool = False, paper: bool = False) -> Table:
    """A row a number: that of the baseline, and of each other run its difference and p-value.

    Args:
        comparison: what is significant is bold and marked.
        explain: whether a column says what each number is, and the heads what is subtracted.
        paper: whether the head says which run is the baseline.
    """
    base = next(one for one in comparison.candidates if one.name == comparison.baseline)
    others = [(one.name, one.differences) for one in comparison.vs_baseline]
    table = difference_rows(comparison.settings, base.name, others, explain=explain)
    column = Column(f"{base.name} (baseline)" if paper else base.name)
    return replace(
        table.with_column(1 + explain, column, list(map(_interval_cell, base.numbers.values()))),
        title=f"Differences to {base.name} in points, with 95 % intervals"
        + " over the choice of images, one training each (n = 1)" * comparison.of_single_seeds,
        label="comparison",
        names=1 if explain else 2,  # the baseline stands in every part of a folded table
    )


def difference_rows(
    settings: Settings, baseline: str, others: Sequence[tuple[str, Mapping[str, Difference]]], *, explain: bool
) -> Table:
    """A row a number, with its difference to the baseline and its p-values, raw and corrected, for each other run.

    Args:
        settings: whose IoU the errors are about.
        baseline: its name.
        others: names and differences; without p-values where nothing was tested.
        explain: whether a column says what each number is, with heads that say so too.
    """
    ap = ap_name(settings.iou)
    tested = any(difference.p == difference.p for _, own in others for difference in own.values())
    columns = [Column("", kind="text"), *[Column("", kind="text")] * explain]
    for other, _ in others:
        columns.append(Column(f"{other} minus {baseline}" if explain else other, signed=True))
        columns += [Column(name, attached=True, missing="") for name in ("p", HOLM)] * tested
    rows: list[tuple[Value, ...] | str] = []
    for number in others[0][1]:
        rows += [f"{ap} lost to"] * (number == ERRORS[0]) + [f"{ap} lost to all FP or all FN"] * (number == SPECIAL[0])
        cells: list[Value] = [_number_cell(number)]
        cells += [Cell(_meaning(number, settings), class_="meaning")] * explain
        for _, own in others:
            cells.append(_interval_cell(own[number]))
            p_values = (own[number].p, own[number].p_adjusted)
            cells += [Cell(p, p_text(p), style="dim", class_="dim") for p in p_values] * tested
        rows.append(tuple(cells))
    return Table("", tuple(columns), tuple(rows))


def number_column(number: str) -> Column:
    """A column of an error type, in its colour, or of an AP."""
    error = ERROR_TYPES.get(number)
    return Column(error.label, style=error.colour) if error else Column(number)


def sources_table(comparison: Comparison) -> Table:
    """Where the noise of each difference comes from, images and seeds apart; no row where there is one seed alone."""
    rows: list[tuple[Value, ...]] = [
        (
            f"{one.name}, n = {len(one.seeds)}",
            *(f"{number.images:.1f} / {number.seeds:.1f}" for number in one.differences.values()),
        )
        for one in comparison.vs_baseline
        if len(one.seeds) > 1
    ]
    title = "Standard error of each difference: from the choice of images / from the choice of seeds"
    return Table(title, (Column("", kind="text"), *map(number_column, comparison.numbers)), tuple(rows))


def transitions_table(transitions: OutcomeTransitions, title: str) -> Table:
    """Objects by what became of them with the baseline (rows) and with the other run (columns)."""
    rows: list[tuple[Value, ...]] = []
    for before, (outcome, counts) in enumerate(zip(transitions.outcomes, transitions.count.tolist(), strict=True)):
        unchanged = Cell(counts[before], style="dim", class_="same")
        rows.append((outcome, *map(Cell, counts[:before]), unchanged, *map(Cell, counts[before + 1 :])))
    return Table(title, (Column("", kind="text"), *map(Column, transitions.outcomes)), tuple(rows))


def objects_by_category(ground_truth: GroundTruth) -> Ints:
    """i64[K] the objects that count, by category."""
    counting = ground_truth.category[~ground_truth.ignore]
    return np.bincount(counting, minlength=len(ground_truth.category_id))


def clear_categories(one: VsBaseline, name: str) -> Ints:
    """The categories whose difference in a number has an interval that leaves out 0, the largest first."""
    of = one.categories[name]
    clear: Ints = np.flatnonzero((of.low > 0) | (of.high < 0))
    return clear[np.argsort(-np.abs(of.value[clear]), kind="stable")]


def categories_table(
    ground_truth: GroundTruth, comparison: Comparison, one: VsBaseline, most: int = MOST_CATEGORIES
) -> Table:
    """The categories whose AP at the IoU differs most among those whose interval leaves out 0."""
    name = ap_name(comparison.settings.iou)
    of_ap, clear = one.categories[name], clear_categories(one, name)
    objects = objects_by_category(ground_truth).tolist()
    rows = [
        (
            ground_truth.category_name[c],
            objects[c],
            _interval_cell(category_interval(of_ap, c), sign=True),
            _changed_most(one, c),
        )
        for c in clear[:most].tolist()
    ]
    looked_at = int((~np.isnan(of_ap.low)).sum())
    note = f"intervals of single categories, not corrected for multiple tests: {looked_at} categories were examined"
    few = int((~np.isnan(of_ap.value)).sum()) - looked_at
    if few:
        note += f"; {few} have objects in fewer than {FEWEST_OF_CATEGORY} images, too few for an interval"
    if len(one.seeds) > 1:
        note += "; they include the variation between images, not between seeds"
    left = len(clear) - len(rows)
    return Table(
        f"Categories whose {name} differs, {scope(one)}: {one.name} minus {comparison.baseline}",
        (
            Column("category", kind="text"),
            Column("objects"),
            Column(name, signed=True),
            Column("error with the largest change, if its interval excludes 0", kind="text"),
        ),
        tuple(rows) or ("no interval excludes 0",),
        notes=((f"and {left} more; " if left else "") + note,),
    )


def _number_cell(number: str) -> Cell:
    error = ERROR_TYPES.get(number)
    return Cell(error.label, style=error.colour) if error else Cell(number, style="bold")


def _meaning(number: str, settings: Settings) -> str:
    if number in ERROR_TYPES:
        return ERROR_TYPES[number].described(settings.iou_type)
    return (
        f"average precision, mean over {iou_name(settings.iou_type)} 0.50 to 0.95"
        if number == MEAN_AP
        else "average precision"
    )


def _interval_cell(number: Interval, *, sign: bool = False) -> Cell:
    """A number, or a difference with its sign, and its interval; what is significant is bold and marked."""
    if not isinstance(number, Difference):
        return Cell(number.value, interval_text(number, sign=sign))
    mark = SIGNIFICANT if number.significant else " "
    return Cell(number.value, interval_text(number, sign=True), bold=number.significant, suffix=mark)


def p_text(p: float) -> str:
    """A p-value in print.

    >>> p_text(0.0412), p_text(0.0004), p_text(float("nan")), p_text(0.05), p_text(0.0501)
    ('0.041', '<0.001', '', '0.050', '>0.050')
    """
    if p != p:
        return ""
    if SIGNIFICANCE < p < SIGNIFICANCE + 0.0005:
        return f">{SIGNIFICANCE:.3f}"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def category_interval(of: CategoryIntervals, category: int) -> Interval:
    """The number of one category with its interval."""
    return Interval(float(of.value[category]), float(of.low[category]), float(of.high[category]), 0.0)


def _changed_most(one: VsBaseline, category: int) -> str:
    """The error whose cost changed most in this category; empty where its interval holds 0."""
    error = max(ERRORS, key=lambda error: abs(one.categories[error].value[category]))
    known = category_interval(one.categories[error], category)
    return f"{error} {interval_text(known, sign=True)}" if known.low > 0 or known.high < 0 else ""


def write_comparison(
    out: Path,
    ground_truth: GroundTruth,
    comparison: Comparison,
    inputs: Iterable[Path] = (),
    more: Mapping[str, Any] = MappingProxyType({}),
    style: "FigureStyle | None" = None,
) -> tuple[str, ...]:
    """Write the files and return their names; all are made before the first is written, and each appears whole.

    Args:
        out: the folder.
        ground_truth: of the runs.
        comparison: of them.
        inputs: files that the command read, which are not replaced.
        more: that the JSON document holds.
        style: of the figure; none: for the screen.

    Raises:
        BadInput: the folder cannot be written, or one of the files is an input.
    """
    from analysis.render.comparison_figure import comparison_figure
    from analysis.render.figure_style import SCREEN, figures_tex
    from analysis.render.fonts import warn_of_undrawable

    paper = comparison_paper(ground_truth, comparison)
    documents = (
        comparison_csv(comparison).encode(),
        categories_csv(ground_truth, comparison).encode(),
        markdown(paper).encode(),
        latex(paper).encode(),
        json_bytes(comparison_document(ground_truth, comparison) | dict(more)),
    )
    contents = dict(zip(WRITTEN, documents, strict=False))
    style = style or SCREEN
    warn_of_undrawable(one.name for one in comparison.candidates)
    if picture := comparison_figure(ground_truth, comparison, style):
        contents |= picture.named("comparison")
        contents["comparison_figures.tex"] = figures_tex({"comparison": picture}, style)
    write_all(out, contents, inputs)
    return tuple(contents)


def comparison_paper(ground_truth: GroundTruth, comparison: Comparison) -> Table:
    """The differences with everything that a reader elsewhere has to know, for Markdown and LaTeX."""
    facts = [
        f"Differences to {comparison.baseline} in points, [95 % interval], {comparison.resamples:,} resamples of "
        f"{comparison.images:,} images, seed {comparison.seed}. {scope_sentence(comparison)}",
        p_sentence(comparison),
        source_sentence(ground_truth, comparison.settings),
        *(f"Note: {caution}." for caution in comparison.cautions),
    ]
    return replace(differences_table(comparison, paper=True), notes=(*comparison_takeaways(comparison), *facts))


def comparison_csv(comparison: Comparison) -> str:
    """A row a run and number: its value and interval, and where it is not the baseline its difference."""
    differences = {one.name: one.differences for one in comparison.vs_baseline}
    rows = [
        {
            "run": candidate.name,
            "baseline": comparison.baseline,
            "number": name,
            "n": number.n,
            "value": number.value,
            "low": number.low,
            "high": number.high,
            "error_images": number.images,
            "error_seeds": number.seeds,
            "difference": {
                key: getattr(differences[candidate.name][name], attribute) if candidate.name in differences else None
                for key, attribute in DIFFERENCE_KEYS.items()
            },
        }
        for candidate in comparison.candidates
        for name, number in candidate.numbers.items()
    ]
    return csv_text(Table.from_records(rows, UNITS))


UNITS = {
    "difference_p*": "",
    "difference_stands": "",
    **dict.fromkeys(("value", "low", "high", "error_*", "difference_*"), "points"),
}
# Columns of the CSV, with the attributes of a difference that they hold.
DIFFERENCE_KEYS = {name: name for name in ("value", "low", "high", "images", "seeds", "p")} | {
    "p_family": "p_adjusted",
    "stands": "significant",
}


def categories_csv(ground_truth: GroundTruth, comparison: Comparison) -> str:
    """A row a run, category and number, likewise."""
    differences = {one.name: one.categories for one in comparison.vs_baseline}
    rows = [
        {
            "run": candidate.name,
            "category_id": ground_truth.category_id[at],
            "category": category,
            "number": number,
            **_limits(of, at),
            "difference": _limits(differences[candidate.name][number] if candidate.name in differences else None, at),
        }
        for candidate in comparison.candidates
        for number, of in candidate.categories.items()
        for at, category in enumerate(ground_truth.category_name)
    ]
    return csv_text(Table.from_records(rows, UNITS))


def _limits(of: CategoryIntervals | None, category: int) -> dict[str, Any]:
    return {name: float(getattr(of, name)[category]) if of else None for name in ("value", "low", "high")}
