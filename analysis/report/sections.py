"""The sections of charts: heading, summary, errors, sizes, precision against recall."""

from collections.abc import Sequence

import numpy as np

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.errors import MEANINGS, settings_sentence, what_next
from analysis.render.markup import Markup, escaped, join, tag
from analysis.report.charts import Scale, bar, dots, legend, run_class, run_letter, shade
from analysis.report.components import (
    Column,
    between,
    card,
    code_and_text,
    limits,
    number,
    plot,
    row_head,
    run_mark,
    run_name,
    said,
    scrolling,
    sentence,
    table,
)
from analysis.report.page import Section
from analysis.report.report_data import ReportData, RunData
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
    cost = f"what costs it most is {error}, {MEANINGS[error]} ({delta[error]:.1f} points)"
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
    several = len(data.runs) > 1
    shown = [key for key in METRICS if any(one.metrics[key] >= 0 for one in data.runs)]
    best = {key: max(one.metrics[key] for one in data.runs) for key in shown}
    columns = [Column("Run"), Column("AP as a bar", silent=True)]
    columns += [Column(key, number=True, hint=METRICS[key]) for key in shown] + [Column("Detections", number=True)]
    rows = [
        [
            row_head(run_name(place, one.name)),
            plot(bar(max(one.metrics["AP"], 0), POINTS, run_class(place), limits(one.intervals.get("AP")))),
            *(
                _metric(one.metrics[key], several and one.metrics[key] == best[key], one.intervals.get(key))
                for key in shown
            ),
            number(len(one.detections)),
        ]
        for place, one in enumerate(data.runs)
    ]
    caption = "COCO's numbers, of 100" + ("; the best of each in bold" if several else "")
    if any(one.intervals for one in data.runs):
        caption += "; in brackets the 95 % interval over the choice of images"
    scores = scrolling(table(columns, rows, caption=caption, class_="numbers"), "COCO's numbers of every run")
    body = join([scores, tag("h3", "What to look at next"), _findings(data)])
    return Section("summary", "Summary", "What each run scores", body)


def _metric(value: float, is_best: bool, known: Interval | None = None) -> Markup:
    if value < 0:
        return number(np.nan)
    return tag("td", f"{value:.1f}", between(known, 1), class_="num lead" if is_best else "num")


def _findings(data: ReportData) -> Markup:
    return tag(
        "ul",
        *(
            tag(
                "li",
                tag("p", run_name(place, one.name), class_="who"),
                tag("ul", *(tag("li", _finding(text)) for text in what_next(data.ground_truth, one.run))),
            )
            for place, one in enumerate(data.runs)
        ),
        class_="findings",
    )


def _finding(text: str) -> Markup:
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
    counted = error in ERRORS
    columns = [Column("Run"), Column("As a bar"), Column("Points", number=True)]
    rows = []
    for place, one in enumerate(data.runs):
        delta = one.breakdown.delta_ap[error]
        known = one.intervals.get(error)
        cells = [row_head(run_mark(place, one.name)), plot(bar(delta, scale, run_class(place), limits(known)))]
        cells.append(tag("td", f"{delta:.2f}", between(known, 1), class_="num lead"))
        rows.append([*cells, number(one.breakdown.count[error], 0, "dim")] if counted else cells)
    title = code_and_text(error if counted else error.upper(), MEANINGS[error])
    return card(table(columns + [Column("Count", number=True)] * counted, rows, caption=title, quiet=True))


def sizes(data: ReportData) -> Section:
    """AP and errors by the size of objects."""
    name = ap_name(data.settings.iou)
    most = max(float(values.max(initial=0)) for one in data.runs for values in one.sizes.delta_ap.values())
    cards = [_size_card(data, key) for key in ("APs", "APm", "APl")]
    tables = [
        scrolling(_size_table(one, run_name(place, one.name), most), f"Errors by size of {one.name}")
        for place, one in enumerate(data.runs)
    ]
    explained = (
        "Small is up to 32 × 32 pixels, medium up to 96 × 96. The size is the object's for cls, loc and miss, the "
        "detection's for both, dup and bg."
    )
    body = [
        said(data, "size"),
        legend(data.names),
        tag("div", *cards, class_="multiples"),
        tag("h3", f"{name} to gain by fixing the errors of one size"),
        tag("p", explained),
        tag("div", *tables, class_="pairwise"),
        tag("h3", "Objects found, by how crowded they stand"),
        tag("p", "Crowding is the highest IoU of an object with another of its class in the image."),
        said(data, "crowding"),
        scrolling(_crowding(data), "Objects found by crowding"),
    ]
    return Section("sizes", "Sizes", "How it depends on size and crowding", join(body))


def _crowding(data: ReportData) -> Markup:
    bins = data.runs[0].crowding
    rows = []
    for place, title in enumerate(bins.names):
        if not bins.objects[place]:
            continue
        shares = [float(100 * one.crowding.recall[place]) for one in data.runs]
        cells = [row_head(title), number(bins.objects[place]), plot(dots(shares, POINTS))]
        rows.append([*cells, *(number(share, 0) for share in shares)])
    columns = [Column("Crowding"), Column("Objects", number=True), Column("Found, 0 to 100 %")]
    columns += [Column(run_letter(place), number=True, hint=name) for place, name in enumerate(data.names)]
    return table(columns, rows, class_="wide")


def _size_table(one: RunData, caption: Markup, most: float) -> Markup:
    delta = one.sizes.delta_ap
    columns = [Column("Size"), *(Column(title, number=True) for title in ("Objects", "Found", *ERRORS))]
    rows = [
        [
            row_head(size.name),
            number(objects),
            tag("td", f"{100 * found / objects:.0f} %" if objects else "–", class_="num"),
            *(number(delta[error][place], 2, shade(float(delta[error][place]), most)) for error in ERRORS),
        ]
        for place, (size, objects, found) in enumerate(
            zip(one.sizes.sizes, one.sizes.objects.tolist(), one.sizes.found.tolist(), strict=True)
        )
    ]
    return table(columns, rows, caption=caption, class_="shades")


def _size_card(data: ReportData, key: str) -> Markup:
    columns = [Column("Run"), Column("As a bar"), Column("AP", number=True)]
    rows = [
        [
            row_head(run_mark(place, one.name)),
            plot(bar(max(one.metrics[key], 0), POINTS, run_class(place))),
            _metric(one.metrics[key], is_best=True),
        ]
        for place, one in enumerate(data.runs)
    ]
    return card(table(columns, rows, caption=code_and_text(key, METRICS[key]), quiet=True))


def footer(ground_truth: GroundTruth) -> Markup:
    """Where the definitions come from, and what exactly was measured on."""
    sources = (
        "Errors and their fixes are those of TIDE (arXiv 2008.08115); AP is COCO's. This page holds everything that it "
        "shows and loads nothing."
    )
    digest = tag("code", ground_truth.digest[:12])
    return join([tag("p", sources), tag("p", "Made by detablate. Digest of the ground truth: ", digest)])
