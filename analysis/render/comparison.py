"""A comparison in a terminal: the differences with their intervals, what stands, how objects moved, per class."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.comparison_tables import findings, moved, of_whom, what_of
from analysis.render.errors import COLORS, MEANINGS, settings_sentence
from analysis.render.printed_tables import Folded, Head
from analysis.stats.bootstrap import MEAN_AP
from analysis.stats.compare import FEWEST_OF_CATEGORY, CategoryIntervals, Comparison, OutcomeTransitions, VsBaseline
from analysis.stats.intervals import Difference, Interval

STANDS = "*"
MOST_CATEGORIES = 8


def comparison_screen(ground_truth: GroundTruth, comparison: Comparison) -> list[RenderableType]:
    """Everything that ``analyze compare`` shows."""
    parts: list[RenderableType] = [_heading(ground_truth, comparison), Text(""), *comparison_tables(comparison)]
    parts += [Text(""), findings_grid(comparison)]
    for one in comparison.vs_baseline:
        if one.transitions is not None:
            parts += [Text(""), *_moves(ground_truth, comparison, one, one.transitions)]
    for one in comparison.vs_baseline:
        parts += [Text(""), *_categories(ground_truth, comparison, one)]
    return parts


def comparison_tables(comparison: Comparison) -> list[RenderableType]:
    """The numbers of the baseline and every difference to it, and how to read them.

    The differences stand side by side as far as there is room.
    """
    console = Console()
    at_once = len(comparison.vs_baseline)
    while at_once > 1 and console.is_terminal and _width(console, _differences(comparison, 0, at_once)) > console.width:
        at_once -= 1
    parts: list[RenderableType] = []
    for start in range(0, len(comparison.vs_baseline), at_once):
        parts += [_differences(comparison, start, start + at_once), Text("")]
    return [*parts[:-1], _legend(comparison)]


def intervals_screen(comparison: Comparison) -> list[RenderableType]:
    """How sure the numbers of each run are: what ``analyze errors --intervals`` adds."""
    title = _title(f"How sure: 95 % intervals, {resampled_sentence(comparison)}")
    table = _table()
    table.add_column("")
    for one in comparison.candidates:
        table.add_column(Text(one.name), justify="right")
    for number in comparison.numbers:
        table.add_row(_number_name(number), *(interval_text(one.numbers[number]) for one in comparison.candidates))
    cautions = [Text(f"careful: {caution}", style="yellow") for caution in comparison.cautions]
    note = Text("Of these models: how the choice of images moves each number. Differences are surer: analyze compare.")
    return [Text(""), title, table, *cautions, note]


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum  # not cut to the console


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold")


def _title(text: str) -> Text:
    return Text(text, style="bold")  # not the table's own, which would wrap at its width


def _heading(ground_truth: GroundTruth, comparison: Comparison) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text("ground truth", style="bold"),
        Text(
            f"{ground_truth.path.name}: {comparison.images:,} images, {len(ground_truth):,} objects, "
            f"{len(ground_truth.category_id):,} categories"
        ),
    )
    names = ", ".join(one.name for one in comparison.vs_baseline)
    grid.add_row(Text("baseline", style="bold"), Text(f"{comparison.baseline}; against it: {names}"))
    grid.add_row(Text("compared", style="bold"), settings_sentence(comparison.settings))
    grid.add_row(Text("resampled", style="bold"), resampled_sentence(comparison))
    for caution in comparison.cautions:
        grid.add_row(Text("careful", style="bold yellow"), Text(caution, style="yellow"))
    return grid


def resampled_sentence(comparison: Comparison) -> str:
    """What was drawn, and how."""
    return (
        f"{comparison.images:,} images drawn {comparison.resamples:,} times with replacement, the same draws for all "
        f"(seed {comparison.seed})"
    )


def _differences(comparison: Comparison, start: int, end: int) -> Table:
    name = ap_name(comparison.settings.iou)
    shown = comparison.vs_baseline[start:end]
    base = next(one for one in comparison.candidates if one.name == comparison.baseline)
    explain = len(comparison.vs_baseline) == 1
    table = _table()
    table.add_column("")
    if explain:
        table.add_column("")
    table.add_column(Text(base.name), justify="right")
    for one in shown:
        table.add_column(Text(f"{one.name} minus {base.name}" if explain else one.name), justify="right", no_wrap=True)
        table.add_column("p", justify="right")
    for number in comparison.numbers:
        if number == ERRORS[0]:
            table.add_row(*([""] if explain else []), Text(f"{name} lost to", style="dim"))
        if number == SPECIAL[0]:
            table.add_row(*([""] if explain else []), Text("to all of a kind", style="dim"))
        cells: list[Text] = [Text(interval_text(base.numbers[number]))]
        for one in shown:
            cells += _difference_cells(one.differences[number])
        table.add_row(_number_name(number), *([_meaning(number)] if explain else []), *cells)
    return table


def _difference_cells(difference: Difference) -> list[Text]:
    style = "bold" if difference.significant else ""
    mark = STANDS if difference.significant else " "
    return [Text(f"{interval_text(difference, sign=True)}{mark}", style=style), Text(p_text(difference.p), style="dim")]


def interval_text(found: Interval, *, sign: bool = False) -> str:
    """A number and its interval in print; without one, the number alone.

    >>> interval_text(Interval(1.25, 0.5, 2.0, 0.4)), interval_text(Interval(-1.0, -2.0, 0.5, 0.6), sign=True)
    ('1.2 [0.5, 2.0]', '-1.0 [-2.0, +0.5]')
    >>> interval_text(Interval(-0.01, -0.02, 0.5, 0.6), sign=True)  # no negative zero
    '+0.0 [+0.0, +0.5]'
    """
    shape = "+z.1f" if sign else "z.1f"
    if found.value != found.value:
        return "-"
    value = format(found.value, shape)
    return value if found.low != found.low else f"{value} [{found.low:{shape}}, {found.high:{shape}}]"


def p_text(p: float) -> str:
    """A p-value in print.

    >>> p_text(0.0412), p_text(0.0004), p_text(float("nan"))
    ('0.041', '<0.001', '')
    """
    if p != p:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _number_name(number: str) -> Text:
    return Text(number.upper() if number in SPECIAL else number, style=COLORS.get(number, "bold"))


def _meaning(number: str) -> str:
    if number in MEANINGS:
        return MEANINGS[number]
    return "average precision, mean over IoU 0.50 to 0.95" if number == MEAN_AP else "average precision"


def _legend(comparison: Comparison) -> Text:
    return Text(
        f"\nIn points, [95 % interval]. {what_of(comparison)} {STANDS} stands at the 5 % level after Holm's correction "
        f"over the family of {comparison.family}. A positive difference of an error: more is lost to it than by the "
        "baseline.",
        style="dim",
    )


def sources_table(comparison: Comparison) -> list[RenderableType]:
    """Where the noise of each difference comes from, images and seeds apart; empty where there is one seed alone."""
    several = [one for one in comparison.vs_baseline if len(one.seeds) > 1]
    if not several:
        return []
    heads = [Head("", right=False), *(Head(_number_name(number)) for number in comparison.numbers)]
    rows = [
        [
            f"{one.name}, n = {len(one.seeds)}",
            *(f"{found.images:.1f} / {found.seeds:.1f}" for found in one.differences.values()),
        ]
        for one in several
    ]
    title = "Standard error of each difference: from the choice of images / from the choice of seeds"
    return [Text(""), Folded(title, heads, rows)]


def findings_grid(comparison: Comparison) -> RenderableType:
    """The findings as sentences."""
    grid = Table.grid(padding=(0, 2))
    for number, sentence in enumerate(findings(comparison)):
        grid.add_row(Text("in words" if not number else "", style="bold"), Text(sentence))
    return grid


def _moves(
    ground_truth: GroundTruth, comparison: Comparison, one: VsBaseline, transitions: OutcomeTransitions
) -> list[RenderableType]:
    title = _title(f"What became of the objects: {comparison.baseline} (down) and {one.name} (across)")
    table = _table()
    table.add_column("")
    for outcome in transitions.outcomes:
        table.add_column(outcome, justify="right")
    for before, outcome in enumerate(transitions.outcomes):
        cells = [
            Text(f"{transitions.count[before, after]:,}", style="dim" if before == after else "")
            for after in range(len(transitions.outcomes))
        ]
        table.add_row(outcome, *cells)
    lines = moved(ground_truth, transitions, one.name, comparison.baseline)
    return [title, table, Text("\n".join(lines))]


def _categories(ground_truth: GroundTruth, comparison: Comparison, one: VsBaseline) -> list[RenderableType]:
    """The categories whose AP at the IoU differs most among those whose interval leaves out 0."""
    name = ap_name(comparison.settings.iou)
    of_ap = one.categories[name]
    clear = np.flatnonzero((of_ap.low > 0) | (of_ap.high < 0))
    title = f"Categories whose {name} differs, {of_whom(one)}: {one.name} minus {comparison.baseline}"
    told = int((~np.isnan(of_ap.low)).sum())
    note = f"intervals of single categories, not corrected for their number: {told} were looked at"
    few = int((~np.isnan(of_ap.value)).sum()) - told
    if few:
        note += f"; {few} more have objects in fewer than {FEWEST_OF_CATEGORY} images, too few for an interval"
    if not len(clear):
        return [_title(title), Text("none whose interval leaves out 0"), Text(note, style="dim")]
    chosen = clear[np.argsort(-np.abs(of_ap.value[clear]), kind="stable")][:MOST_CATEGORIES]
    table = _table()
    for heading in ("category", "objects", name, "error that changed most"):
        table.add_column(heading, justify="left" if heading in ("category", "error that changed most") else "right")
    objects = np.bincount(ground_truth.category[~ground_truth.ignore], minlength=len(ground_truth.category_id))
    for category in chosen.tolist():
        table.add_row(
            Text(ground_truth.category_name[category]),
            f"{objects[category]:,}",
            category_text(of_ap, category),
            _changed_most(one, category),
        )
    left = len(clear) - len(chosen)
    return [_title(title), table, Text((f"and {left} more; " if left else "") + note, style="dim")]


def category_text(of: CategoryIntervals, category: int) -> str:
    """A difference of one category with its interval, in print."""
    value, low, high = (float(column[category]) for column in (of.value, of.low, of.high))
    return interval_text(Interval(value, low, high, 0.0), sign=True)


def _changed_most(one: VsBaseline, category: int) -> str:
    """The error whose cost changed most in this category, if its interval leaves out 0."""
    changes: Sequence[str] = sorted(ERRORS, key=lambda error: -abs(one.categories[error].value[category]))
    for error in changes[:1]:
        of = one.categories[error]
        if of.low[category] > 0 or of.high[category] < 0:
            return f"{error} {category_text(of, category)}"
    return ""
