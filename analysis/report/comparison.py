"""The section that holds every other run against the baseline: differences, their significance, how objects moved."""

from dataclasses import replace

import numpy as np

from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.comparison import categories_table, clear_categories, difference_rows, transitions_table
from analysis.render.markup import Child, Markup, join, tag
from analysis.render.table import Table
from analysis.render.takeaways import comparison_takeaways, resampled_sentence, transition_takeaways
from analysis.report.charts import Scale, estimate_line, run_class
from analysis.report.components import (
    chart_column,
    limits,
    note,
    run_name,
    scrolling,
    sentence,
    shaded,
    tabs,
)
from analysis.report.page import Section
from analysis.report.report_data import ReportData
from analysis.stats.compare import Comparison, OutcomeTransitions, VsBaseline, transitions_between
from analysis.stats.intervals import Difference, Interval

MOST_CATEGORIES = 10


def against_baseline(data: ReportData) -> list[Section]:
    """One section where there are several runs, none where there is one."""
    if len(data.runs) < 2:
        return []
    base = data.runs[data.baseline]
    scale = _scale(data)
    takeaways = (
        dict(zip(_vs_baseline(data), comparison_takeaways(data.comparison), strict=True)) if data.comparison else {}
    )
    panels: dict[Child, Markup] = {}
    for place, one in enumerate(data.runs):
        if place == data.baseline:
            continue
        vs_baseline = _vs_baseline(data).get(one.name)
        parts = [_differences(data, place, scale)]
        if vs_baseline is not None:
            parts = [tag("p", takeaways[one.name], class_="verdict"), *parts, _categories(data, vs_baseline)]
        parts.append(_transitions(data, one.name, transitions_between(base.outcomes, one.outcomes)))
        panels[run_name(place, one.name)] = join(parts)
    body = join([*_explained(data), tabs("comparison", panels)])
    return [Section("comparison", "Comparison", f"Against {base.name}", body)]


def _explained(data: ReportData) -> list[Markup]:
    found = data.comparison
    if found is None:
        return [
            note(
                "The images were not resampled, so nothing here tells differences from noise; the option --resamples "
                "1000 does that."
            )
        ]
    text = (
        f"{sentence(resampled_sentence(found))} Lines: 95 % intervals of the differences. A difference stands (*) "
        f"if it survives, at 5 %, Holm's correction over the family of {found.family}. {_scope(found)}"
    )
    return [tag("p", text), *(note(sentence(caution)) for caution in found.cautions)]


def _scope(found: Comparison) -> str:
    """Of what the differences speak."""
    if found.of_designs:
        return "They are means over the seeds, taken seed by seed; their intervals hold the noise of images and seeds."
    return "All of it speaks of these models; a claim about a design needs several seeds."


def _scale(data: ReportData) -> Scale:
    """One for all panels, so that they can be held against each other."""
    places = [place for place in range(len(data.runs)) if place != data.baseline]
    known = [one for place in places for one in _numbers(data, place).values()]
    reach = max((abs(end) for one in known for end in limits(one) or (one.value,)), default=1.0)
    return Scale(-reach, reach) if reach > 0 else Scale(-1.0, 1.0)


def _vs_baseline(data: ReportData) -> dict[str, VsBaseline]:
    """What resampling says of a run; nothing where there was none, or the run has no seed in common."""
    return {one.name: one for one in data.comparison.vs_baseline} if data.comparison else {}


def _numbers(data: ReportData, place: int) -> dict[str, Difference]:
    """Every difference of a run to the baseline; without resampling the values alone."""
    base, one = data.runs[data.baseline], data.runs[place]
    vs_baseline = _vs_baseline(data).get(one.name)
    if vs_baseline is not None:
        return vs_baseline.differences
    name, nan = ap_name(data.settings.iou), float("nan")

    def plain(value: float) -> Difference:
        return Difference(value, nan, nan, nan)

    scores = {"AP": plain(one.metrics["AP"] - base.metrics["AP"]), name: plain(one.breakdown.ap - base.breakdown.ap)}
    return scores | {key: plain(one.breakdown.raw[key] - base.breakdown.raw[key]) for key in (*ERRORS, *SPECIAL)}


def _differences(data: ReportData, place: int, scale: Scale) -> Markup:
    base, other, numbers = data.names[data.baseline], data.names[place], _numbers(data, place)
    table = difference_rows(data.settings, base, [(other, numbers)], explain=True)
    name = ap_name(data.settings.iou)
    caption = f"{other} minus {base}, points; of an error: more of the {name} is lost to it"
    return _with_lines(replace(table, title=caption), list(numbers.values()), scale, place, caption)


def _with_lines(table: Table, values: list[Interval], scale: Scale, place: int, label: str) -> Markup:
    """A table with each number and its interval drawn, in its third column."""
    lines = [estimate_line(known.value, limits(known), scale, run_class(place)) for known in values]
    return scrolling(table.with_column(2, chart_column("Difference as a line"), lines), label, "wide differences")


def _categories(data: ReportData, vs_baseline: VsBaseline) -> Markup:
    """The classes that differ most among those whose interval leaves out 0."""
    assert data.comparison is not None
    table = categories_table(data.ground_truth, data.comparison, vs_baseline, MOST_CATEGORIES)
    title, remark = tag("h3", table.title), note(sentence(*table.notes))
    name = ap_name(data.settings.iou)
    of, chosen = vs_baseline.categories[name], clear_categories(vs_baseline, name)[:MOST_CATEGORIES]
    if not len(chosen):
        return join([title, note("None whose interval leaves out 0."), remark])
    reach = float(np.abs([of.low[chosen], of.high[chosen]]).max())
    limits_of = zip(of.value[chosen].tolist(), of.low[chosen].tolist(), of.high[chosen].tolist(), strict=True)
    values = [Interval(value, low, high, 0.0) for value, low, high in limits_of]
    place, label = data.names.index(vs_baseline.name), f"Classes of {vs_baseline.name}"
    return join([title, _with_lines(replace(table, title=""), values, Scale(-reach, reach), place, label), remark])


def _transitions(data: ReportData, name: str, transitions: OutcomeTransitions) -> Markup:
    """What became of the objects: rows by the baseline, columns by the other."""
    base = data.names[data.baseline]
    corner = join([tag("span", f"{base} ↓ "), tag("span", f"{name} →")])
    table = transitions_table(transitions, "")
    table = replace(table, columns=(replace(table.columns[0], name=corner), *table.columns[1:]))
    most = float(np.where(np.eye(len(transitions.outcomes)), 0, transitions.count).max())
    moves = transition_takeaways(data.ground_truth, transitions, name, base)
    listed = tag("ul", *(tag("li", sentence(text)) for text in moves))
    content = scrolling(
        shaded(table, transitions.outcomes, most, root=True), f"Fates of objects, {base} and {name}", "shades fates"
    )
    return join([tag("h3", "What became of the objects"), tag("div", content, listed, class_="beside")])
