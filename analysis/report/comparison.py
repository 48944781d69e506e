"""The section that holds every other run against the baseline: differences, their significance, how objects moved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.comparison import (
    categories_table,
    category_interval,
    clear_categories,
    difference_rows,
    p_sentence,
    transitions_table,
)
from analysis.render.markup import Child, Markup, join, tag
from analysis.render.table import Table
from analysis.render.takeaways import (
    comparison_takeaways,
    resampled_sentence,
    scope_sentence,
    transition_takeaways,
    typeset,
)
from analysis.report.charts import Scale, estimate_line, run_class
from analysis.report.components import (
    apart,
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
from analysis.stats.compare import OutcomeTransitions, VsBaseline, transitions_between
from analysis.stats.intervals import Difference, Interval

MOST_CATEGORIES = 10


def against_baseline(data: ReportData) -> list[Section]:
    """One section where there are several runs, none where there is one."""
    if len(data.runs) < 2:
        return []
    base, found = data.runs[data.baseline], data.comparison
    resampled = {one.name: one for one in found.vs_baseline} if found else {}
    takeaways = dict(zip(resampled, comparison_takeaways(found), strict=True)) if found else {}
    others = [place for place in range(len(data.runs)) if place != data.baseline]
    differences = {place: _differences(data, place, resampled.get(data.names[place])) for place in others}
    scales = _scales(list(differences.values()))
    panels: dict[Child, Markup] = {}
    for place, numbers in differences.items():
        name = data.names[place]
        parts = [_differences_table(data, place, numbers, scales)]
        if name in resampled:
            verdict = tag("p", typeset(takeaways[name]), class_="verdict")
            parts = [verdict, *parts, _categories(data, resampled[name])]
        parts.append(_transitions(data, name, transitions_between(base.outcomes, data.runs[place].outcomes)))
        panels[run_name(place, name)] = join(parts)
    body = join([*_explained(data), tabs("comparison", panels)])
    return [Section("comparison", "Comparison", f"Compared with {base.name}", body)]


def _explained(data: ReportData) -> list[Markup]:
    found = data.comparison
    if found is None:
        return [
            note(
                "The images were not resampled, so it is not known which differences are significant; use the option "
                "--resamples 1000."
            )
        ]
    text = (
        f"{sentence(resampled_sentence(found))} Lines: 95 % intervals of the differences. {scope_sentence(found)} "
        f"{p_sentence(found)}"
    )
    return [tag("p", typeset(text)), *(note(sentence(caution)) for caution in found.cautions)]


def _scales(runs: Sequence[Mapping[str, Difference]]) -> dict[str, Scale]:
    """A scale for each number, one for AP, one for the types of error and one for FP and FN, the same in all panels.

    0 is in the middle of each.
    """
    scales: dict[str, Scale] = {}
    keys = list(runs[0])
    for block in ([key for key in keys if key not in ERROR_TYPES], ERRORS, SPECIAL):
        known = [numbers[key] for numbers in runs for key in block]
        reach = max((abs(end) for one in known for end in limits(one) or (one.value,)), default=0.0)
        scales |= dict.fromkeys(block, Scale(-reach, reach) if reach > 0 else Scale(-1.0, 1.0))
    return scales


def _differences(data: ReportData, place: int, resampled: VsBaseline | None) -> dict[str, Difference]:
    """Every difference of a run to the baseline; the values alone without resampling, or without a seed in common."""
    if resampled is not None:
        return resampled.differences
    own, base = (
        {"AP": one.metrics["AP"], ap_name(data.settings.iou): one.breakdown.ap, **one.breakdown.raw}
        for one in (data.runs[place], data.runs[data.baseline])
    )
    return {key: Difference(value - base[key], math.nan, math.nan, math.nan) for key, value in own.items()}


def _differences_table(
    data: ReportData, place: int, numbers: dict[str, Difference], scales: Mapping[str, Scale]
) -> Markup:
    base, other = data.names[data.baseline], data.names[place]
    table = difference_rows(data.settings, base, [(other, numbers)], explain=True)
    caption = (
        f"{other} minus {base}, points; of an error: how much more {ap_name(data.settings.iou)} is lost to it. "
        "AP, errors, and FP and FN are drawn to three scales"
    )
    in_order = [scales[key] for key in numbers]
    return _with_lines(replace(table, title=caption), list(numbers.values()), in_order, place, caption)


def _with_lines(table: Table, values: Sequence[Interval], scales: Sequence[Scale], place: int, label: str) -> Markup:
    """A table with each number and its interval of the third column drawn beside it."""
    lines = [
        estimate_line(known.value, limits(known), scale, run_class(place))
        for known, scale in zip(values, scales, strict=True)
    ]
    rows = tuple(row if isinstance(row, str) else (*row[:2], apart(row[2]), *row[3:]) for row in table.rows)
    table = replace(table, rows=rows)
    return scrolling(table.with_column(2, chart_column("Difference as a line"), lines), label, "wide differences")


def _categories(data: ReportData, vs_baseline: VsBaseline) -> Markup:
    """The classes that differ most among those whose interval leaves out 0."""
    assert data.comparison is not None
    table = categories_table(data.ground_truth, data.comparison, vs_baseline, MOST_CATEGORIES)
    title, remark = tag("h3", table.title), note(sentence(*table.notes))
    name = ap_name(data.settings.iou)
    of, chosen = vs_baseline.categories[name], clear_categories(vs_baseline, name)[:MOST_CATEGORIES]
    if not len(chosen):
        return join([title, note("No interval excludes 0."), remark])
    reach = float(np.abs([of.low[chosen], of.high[chosen]]).max())
    values = [category_interval(of, category) for category in chosen.tolist()]
    place, label = data.names.index(vs_baseline.name), f"Classes whose {name} differs, {vs_baseline.name}"
    scales = [Scale(-reach, reach)] * len(values)
    return join([title, _with_lines(replace(table, title=""), values, scales, place, label), remark])


def _transitions(data: ReportData, name: str, transitions: OutcomeTransitions) -> Markup:
    """What became of the objects: rows by the baseline, columns by the other."""
    base = data.names[data.baseline]
    corner = join([tag("span", f"{base} ↓ "), tag("span", f"{name} →")])
    table = transitions_table(transitions, "")
    table = replace(table, columns=(replace(table.columns[0], name=corner), *table.columns[1:]))
    most = float(np.where(np.eye(len(transitions.outcomes)), 0, transitions.count).max())
    table = shaded(table, transitions.outcomes, most, root=True)
    content = scrolling(table, f"Outcomes of the objects, {base} and {name}", "shades fates")
    moves = transition_takeaways(data.ground_truth, transitions, name, base)
    listed = tag("ul", *(tag("li", sentence(text)) for text in moves))
    return join([tag("h3", "Outcomes of the objects"), tag("div", content, listed, class_="beside")])
