"""The sections of charts: heading, summary, errors, sizes and crowding."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.errors import ap_column
from analysis.render.markup import Markup, escaped, join, tag
from analysis.render.slices import size_table
from analysis.render.table import Cell, Column, Table, Value, best
from analysis.render.takeaways import error_takeaways, settings_sentence
from analysis.report.charts import Scale, bar, dots, legend, run_class
from analysis.report.components import (
    between,
    card,
    chart_column,
    code_and_text,
    error_title,
    limits,
    run_columns,
    run_mark,
    run_name,
    scrolling,
    sentence,
    shaded,
    takeaway_list,
)
from analysis.report.page import Section
from analysis.report.report_data import ReportData
from analysis.stats.intervals import Interval

METRICS = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "small objects",
    "APm": "medium objects",
    "APl": "large objects",
    "AR100": "recall with at most 100 detections an image and class",
}
POINTS = Scale(0, 100)


def heading(data: ReportData, title: str, lede: Sequence[Markup | str]) -> Markup:
    """What was compared, and how."""
    gt = data.ground_truth
    crowd = int(gt.crowd.sum())
    crowds = f", {crowd:,} of them crowds" if crowd else ""
    counts = f"{len(gt.image_id):,} images, {len(gt):,} objects{crowds}, {len(gt.category_id):,} classes"
    facts = [("Ground truth", f"{gt.path.name}: {counts}"), ("Compared", settings_sentence(data.settings))]
    return tag(
        "header",
        tag("h1", title),
        *(tag("p", line, class_="lede") for line in lede),
        tag("dl", *(join([tag("dt", term), tag("dd", text)]) for term, text in facts), class_="facts"),
        class_="title",
    )


def opening(data: ReportData) -> str:
    """One sentence: who scores highest, and what costs it most."""
    name = ap_name(data.settings.iou)
    ranked = sorted(data.runs, key=lambda one: -one.breakdown.ap)
    best = ranked[0]
    if not best.breakdown.positives:
        return "No object is annotated that counts, so there is no AP."
    delta = best.breakdown.delta_ap
    error = max(ERRORS, key=lambda e: delta[e])
    cost = f"what costs it most is {error}, {ERROR_TYPES[error].description} ({delta[error]:.1f} points)"
    if delta[error] < 0.05:
        cost = "no type of error costs it as much as 0.1 points"
    if len(ranked) == 1:
        return f"{best.name} scores {best.breakdown.ap:.1f} {name}; {cost}."
    ahead = best.breakdown.ap - ranked[1].breakdown.ap
    if ahead < 0.05:
        return f"{best.name} and {ranked[1].name} score alike, {best.breakdown.ap:.1f} {name}."
    return f"{best.name} scores highest, {best.breakdown.ap:.1f} {name}, {ahead:.1f} above {ranked[1].name}; {cost}."


def summary(data: ReportData) -> Section:
    """COCO's numbers of every run, and what to look at next."""
    shown = [key for key in METRICS if any(one.metrics[key] >= 0 for one in data.runs)]
    columns = [Column("Run", kind="text"), chart_column("AP as a bar")]
    values: list[list[Value]] = [
        [run_name(place, one.name) for place, one in enumerate(data.runs)],
        [
            bar(max(one.metrics["AP"], 0), POINTS, run_class(place), limits(one.intervals.get("AP")))
            for place, one in enumerate(data.runs)
        ],
    ]
    for key in shown:
        columns.append(Column(key, precision=1, hint=METRICS[key]))
        scores = best([_known(one.metrics[key]) for one in data.runs], columns[-1])
        values.append(
            [
                replace(Cell.of(v), below=between(one.intervals.get(key)))
                for v, one in zip(scores, data.runs, strict=True)
            ]
        )
    values.append([len(one.detections) for one in data.runs])
    caption = "COCO's numbers, of 100" + ("; the best of each in bold" if len(data.runs) > 1 else "")
    if any(one.intervals for one in data.runs):
        caption += "; in brackets the 95 % interval over the choice of images"
    table = Table(caption, (*columns, Column("Detections")), tuple(zip(*values, strict=True)))
    scores_of_runs = scrolling(table, "COCO's numbers of every run", "numbers")
    body = join([scores_of_runs, tag("h3", "What to look at next"), _takeaways(data)])
    return Section("summary", "Summary", "What each run scores", body)


def _known(metric: float) -> float | None:
    """COCO's -1 is a missing value."""
    return metric if metric >= 0 else None


def _takeaways(data: ReportData) -> Markup:
    return tag(
        "ul",
        *(
            tag(
                "li",
                tag("p", run_name(place, one.name), class_="who"),
                tag("ul", *(tag("li", _takeaway(text)) for text in error_takeaways(data.ground_truth, one.run))),
            )
            for place, one in enumerate(data.runs)
        ),
        class_="findings",
    )


def _takeaway(text: str) -> Markup:
    first, space, rest = text.partition(" ")
    if first in ERRORS:
        return join([tag("span", first, class_="code"), space, sentence(f" {rest}").strip()])
    return escaped(sentence(text))


def errors(data: ReportData) -> Section:
    """A small chart for every type of error, all six on one scale; FP and FN on another."""
    name = ap_name(data.settings.iou)
    deltas = [one.breakdown.delta_ap for one in data.runs]
    highs = [one.high for run in data.runs for key, one in run.intervals.items() if key in ERRORS]
    tops = [one.high for run in data.runs for key, one in run.intervals.items() if key in SPECIAL]
    main = Scale.over([*(delta[e] for delta in deltas for e in ERRORS), *highs])
    whole = Scale.over([*(delta[e] for delta in deltas for e in SPECIAL), *tops])
    explained = (
        f"Each bar is the {name} gained when that one type of error is fixed everywhere: a wrong class or box is put "
        "right, a spurious detection is removed, a missed object is no longer asked for. They do not add up to 100, "
        "because fixing one changes what the others cost. Beside it: how many there are."
    )
    if any(one.intervals for one in data.runs):
        explained += " Whiskers and brackets: the 95 % interval over the choice of images."
    body = [
        tag("p", explained),
        legend(data.names),
        tag("div", *(_error_card(data, error, main) for error in ERRORS), class_="multiples"),
        tag("h3", "If all of a kind were fixed"),
        tag("div", *(_error_card(data, error, whole) for error in SPECIAL), class_="multiples"),
    ]
    return Section("errors", "Errors", f"Where the rest of the {name} went", join(body))


def _error_card(data: ReportData, error: str, scale: Scale) -> Markup:
    intervals = [one.intervals.get(error) for one in data.runs]
    deltas = [one.breakdown.delta_ap[error] for one in data.runs]
    table = _bars(data, error_title(error), Column("Points", precision=2), deltas, scale, intervals)
    if error in ERRORS:
        counts = [Cell(one.breakdown.count[error], class_="dim") for one in data.runs]
        table = table.with_column(3, Column("Count"), counts)
    return card(table)


def _bars(
    data: ReportData,
    title: Markup,
    column: Column,
    values: Sequence[float | None],
    scale: Scale,
    intervals: Sequence[Interval | None] | None = None,
) -> Table:
    """A row a run: its mark, a number as a bar, and the number."""
    rows = []
    for place, (run, value) in enumerate(zip(data.names, values, strict=True)):
        known = intervals[place] if intervals else None
        chart = bar(value or 0.0, scale, run_class(place), limits(known))
        rows.append((run_mark(place, run), chart, Cell(value, bold=True, below=between(known))))
    return Table(title, (Column("Run", kind="text"), chart_column("As a bar", silent=False), column), tuple(rows))


def sizes(data: ReportData) -> Section:
    """AP and errors by the size of objects."""
    name = ap_name(data.settings.iou)
    most = max(float(values.max(initial=0)) for one in data.runs for values in one.sizes.delta_ap.values())
    cards = [_size_card(data, key) for key in ("APs", "APm", "APl")]
    tables = []
    for place, one in enumerate(data.runs):
        table = replace(size_table([(one.name, one.sizes)]), title=run_name(place, one.name))
        tables.append(scrolling(shaded(table, ERRORS, most), f"Errors by size of {one.name}", "shades"))
    explained = (
        "Small is up to 32 × 32 pixels, medium up to 96 × 96. The size is the object's for cls, loc and miss, the "
        "detection's for both, dup and bg."
    )
    body = [
        takeaway_list(data, "size"),
        legend(data.names),
        tag("div", *cards, class_="multiples"),
        tag("h3", f"{name} to gain by fixing the errors of one size"),
        tag("p", explained),
        tag("div", *tables, class_="pairwise"),
        tag("h3", "Objects found, by how crowded they stand"),
        tag("p", "Crowding is the highest IoU of an object with another of its class in the image."),
        takeaway_list(data, "crowding"),
        scrolling(_crowding(data), "Objects found by crowding", "wide"),
    ]
    return Section("sizes", "Sizes", "How it depends on size and crowding", join(body))


def _crowding(data: ReportData) -> Table:
    bins = data.runs[0].crowding
    rows: list[tuple[Value, ...]] = []
    for place in np.flatnonzero(bins.objects).tolist():
        shares = [float(100 * one.crowding.recall[place]) for one in data.runs]
        rows.append((bins.names[place], int(bins.objects[place]), dots(shares, POINTS), *shares))
    columns = (Column("Crowding", kind="text"), Column("Objects"), chart_column("Found, 0 to 100 %", silent=False))
    return Table("", (*columns, *run_columns(data, 0)), tuple(rows))


def _size_card(data: ReportData, key: str) -> Markup:
    values = [_known(one.metrics[key]) for one in data.runs]
    return card(_bars(data, code_and_text(key, METRICS[key]), ap_column("AP"), values, POINTS))


def footer(ground_truth: GroundTruth) -> Markup:
    """Where the definitions come from, and what exactly was measured on."""
    sources = (
        "Errors and their fixes are those of TIDE (arXiv 2008.08115); AP is COCO's. This page holds everything that it "
        "shows and loads nothing."
    )
    digest = tag("code", ground_truth.digest[:12])
    return join([tag("p", sources), tag("p", "Made by detablate. Digest of the ground truth: ", digest)])
