"""The section that holds every other run against the baseline: differences, what stands, how objects moved."""

import numpy as np

from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.comparison import interval_text, p_text, resampled_sentence
from analysis.render.comparison_tables import findings, moved, of_whom
from analysis.render.errors import MEANINGS
from analysis.render.markup import Child, Markup, join, tag
from analysis.report.charts import Scale, estimate_line, run_class, shade
from analysis.report.components import (
    Column,
    code_and_text,
    limits,
    note,
    number,
    plot,
    row_head,
    run_name,
    scrolling,
    sentence,
    table,
    tabs,
)
from analysis.report.page import Section
from analysis.report.report_data import ReportData
from analysis.stats.compare import Comparison, OutcomeTransitions, VsBaseline, transitions_between
from analysis.stats.intervals import Difference

MOST_CATEGORIES = 10


def against_baseline(data: ReportData) -> list[Section]:
    """One section where there are several runs, none where there is one."""
    if len(data.runs) < 2:
        return []
    found = data.comparison
    base = data.runs[data.baseline]
    others = [place for place in range(len(data.runs)) if place != data.baseline]
    panels: list[tuple[Child, Markup]] = []
    scale = _scale(data)
    said = dict(zip((one.name for one in found.vs_baseline), findings(found), strict=True)) if found else {}
    for place in others:
        one = data.runs[place]
        vs_baseline = _against(data, one.name)
        parts = [_differences(data, place, scale)]
        if vs_baseline is not None:
            parts = [tag("p", said[one.name], class_="verdict"), *parts, _categories(data, vs_baseline)]
        parts.append(_moves(data, one.name, transitions_between(base.outcomes, one.outcomes)))
        panels.append((run_name(place, one.name), join(parts)))
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
        f"{sentence(resampled_sentence(found))} Lines: 95 % intervals of the differences. A difference stands (●) "
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


def _against(data: ReportData, name: str) -> VsBaseline | None:
    """What resampling says of a run; none where the images were not resampled, or this run has no seed in common."""
    vs_baseline = data.comparison.vs_baseline if data.comparison else ()
    return next((one for one in vs_baseline if one.name == name), None)


def _numbers(data: ReportData, place: int) -> dict[str, Difference]:
    """Every difference of a run to the baseline; without resampling the values alone."""
    base, one = data.runs[data.baseline], data.runs[place]
    vs_baseline = _against(data, one.name)
    if vs_baseline is not None:
        return vs_baseline.differences
    name, nan = ap_name(data.settings.iou), float("nan")

    def plain(value: float) -> Difference:
        return Difference(value, nan, nan, nan)

    scores = {"AP": plain(one.metrics["AP"] - base.metrics["AP"]), name: plain(one.breakdown.ap - base.breakdown.ap)}
    return scores | {key: plain(one.breakdown.raw[key] - base.breakdown.raw[key]) for key in (*ERRORS, *SPECIAL)}


def _differences(data: ReportData, place: int, scale: Scale) -> Markup:
    name = ap_name(data.settings.iou)
    columns = [Column("Number"), Column("Difference as a line", silent=True), Column("Difference", number=True)]
    resampled = _against(data, data.names[place]) is not None
    columns += [Column("p", number=True), Column("Stands")] if resampled else []
    rows = []
    for key, known in _numbers(data, place).items():
        meaning = MEANINGS.get(key, "mean over IoU 0.50 to 0.95" if key == "AP" else "average precision")
        cells = [row_head(code_and_text(key.upper() if key in SPECIAL else key, meaning))]
        cells.append(plot(estimate_line(known.value, limits(known), scale, run_class(place))))
        cells.append(tag("td", interval_text(known, sign=True), class_="num lead" if known.significant else "num"))
        if resampled:
            cells += [
                tag("td", p_text(known.p), class_="num dim"),
                tag("td", "●" if known.significant else "", class_="mid"),
            ]
        rows.append(cells)
    base, other = data.names[data.baseline], data.names[place]
    caption = f"{other} minus {base}, points; of an error: more of the {name} is lost to it"
    return scrolling(table(columns, rows, caption=caption, class_="wide differences"), caption)


def _categories(data: ReportData, vs_baseline: VsBaseline) -> Markup:
    """The classes that differ most among those whose interval leaves out 0."""
    name = ap_name(data.settings.iou)
    of = vs_baseline.categories[name]
    clear = np.flatnonzero((of.low > 0) | (of.high < 0))
    title = tag("h3", f"Classes whose {name} differs, {of_whom(vs_baseline)}")
    if not len(clear):
        return join([title, note("None whose interval leaves out 0.")])
    chosen = clear[np.argsort(-np.abs(of.value[clear]), kind="stable")][:MOST_CATEGORIES]
    place = data.names.index(vs_baseline.name)
    reach = float(np.abs([of.low[chosen], of.high[chosen]]).max())
    rows = []
    for c in chosen.tolist():
        known = Difference(float(of.value[c]), float(of.low[c]), float(of.high[c]), 0.0)
        cells = [row_head(data.ground_truth.category_name[c]), number(data.objects[c])]
        cells.append(plot(estimate_line(known.value, limits(known), Scale(-reach, reach), run_class(place))))
        rows.append([*cells, tag("td", interval_text(known, sign=True), class_="num")])
    columns = [Column("Class"), Column("Objects", number=True), Column("Difference as a line", silent=True)]
    content = table([*columns, Column("Difference", number=True)], rows, class_="wide differences")
    looked_at = f"{len(clear):,} of {int((data.objects > 0).sum()):,} classes have an interval that leaves out 0; "
    return join(
        [
            title,
            scrolling(content, f"Classes of {vs_baseline.name}"),
            note(f"{looked_at}not corrected for their number."),
        ]
    )


def _moves(data: ReportData, name: str, transitions: OutcomeTransitions) -> Markup:
    """What became of the objects: rows by the baseline, columns by the other."""
    base = data.names[data.baseline]
    most = max(float(np.where(np.eye(len(transitions.outcomes)), 0, transitions.count).max()), 1.0)

    def cell(before: int, after: int) -> Markup:
        count = int(transitions.count[before, after])
        if before == after:
            return tag("td", f"{count:,}", class_="num same")
        return tag("td", f"{count:,}" if count else "", class_=f"num {shade(float(np.sqrt(count / most)), 1.0)}")

    corner = join([tag("span", f"{base} ↓ "), tag("span", f"{name} →")])
    columns = [Column(corner), *(Column(outcome, number=True) for outcome in transitions.outcomes)]
    rows = [
        [row_head(outcome), *(cell(before, after) for after in range(len(transitions.outcomes)))]
        for before, outcome in enumerate(transitions.outcomes)
    ]
    listed = tag("ul", *(tag("li", sentence(text)) for text in moved(data.ground_truth, transitions, name, base)))
    content = scrolling(table(columns, rows, class_="shades fates"), f"Fates of objects, {base} and {name}")
    return join([tag("h3", "What became of the objects"), tag("div", content, listed, class_="beside")])
