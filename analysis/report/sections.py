"""The sections of charts: heading, summary, errors, sizes, precision against recall."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.errors import ERRORS, SPECIAL, ap_name
from analysis.findings import MEANINGS, what_next
from analysis.ground_truth import GroundTruth
from analysis.report.charts import FRAME, Line, Scale, bar, curves, legend, run_class, shade
from analysis.report.markup import Markup, join, tag
from analysis.report.material import Material, RunMaterial
from analysis.report.page import Section
from analysis.report.parts import (
    Column,
    card,
    code_and_text,
    number,
    plot,
    row_head,
    run_mark,
    run_name,
    scrolling,
    table,
)
from analysis.tables import settings_sentence

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


def heading(material: Material, title: str, lede: Sequence[Markup | str] = ()) -> Markup:
    """What was compared, and how."""
    gt = material.ground_truth
    crowd = int(gt.crowd.sum())
    crowds = f", {crowd:,} of them crowds" if crowd else ""
    counts = f"{len(gt.image_id):,} images, {len(gt):,} objects{crowds}, {len(gt.category_id):,} classes"
    facts = [("Ground truth", f"{gt.path.name}: {counts}"), ("Compared", settings_sentence(material.settings))]
    return tag(
        "header",
        tag("h1", title),
        *(tag("p", line, class_="lede") for line in (*lede, opening(material))),
        tag("dl", *(join([tag("dt", term), tag("dd", text)]) for term, text in facts), class_="facts"),
        class_="title",
    )


def opening(material: Material) -> str:
    """One sentence: who scores highest, and what costs it most."""
    name = ap_name(material.settings.iou)
    ranked = sorted(material.runs, key=lambda one: -one.breakdown.ap)
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


def summary(material: Material) -> Section:
    """COCO's numbers of every run, and what to look at next."""
    several = len(material.runs) > 1
    shown = [key for key in METRICS if any(one.metrics[key] >= 0 for one in material.runs)]
    best = {key: max(one.metrics[key] for one in material.runs) for key in shown}
    columns = [Column("Run"), Column("AP as a bar", silent=True)]
    columns += [Column(key, number=True, hint=METRICS[key]) for key in shown] + [Column("Detections", number=True)]
    rows = [
        [
            row_head(run_name(place, one.name)),
            plot(bar(max(one.metrics["AP"], 0), POINTS, run_class(place))),
            *(_metric(one.metrics[key], several and one.metrics[key] == best[key]) for key in shown),
            number(len(one.detections)),
        ]
        for place, one in enumerate(material.runs)
    ]
    caption = "COCO's numbers, of 100" + ("; the best of each in bold" if several else "")
    scores = scrolling(table(columns, rows, caption=caption, class_="numbers"), "COCO's numbers of every run")
    body = join([scores, tag("h3", "What to look at next"), _findings(material)])
    return Section("summary", "Summary", "What each run scores", body)


def _metric(value: float, is_best: bool) -> Markup:
    return number(np.nan if value < 0 else value, 1, "lead" if is_best else "")


def _findings(material: Material) -> Markup:
    return tag(
        "ul",
        *(
            tag(
                "li",
                tag("p", run_name(place, one.name), class_="who"),
                tag("ul", *(tag("li", _sentence(text)) for text in what_next(material.ground_truth, one.run))),
            )
            for place, one in enumerate(material.runs)
        ),
        class_="findings",
    )


def _sentence(text: str) -> Markup:
    first, space, rest = text.partition(" ")
    end = "" if text.endswith(("?", ".")) else "."
    if first in ERRORS:
        return join([tag("span", first, class_="code"), space, rest, end])
    return join([text[:1].upper() + text[1:], end])


def errors(material: Material) -> Section:
    """A small chart for every type of error, all six on one scale; FP and FN on another."""
    name = ap_name(material.settings.iou)
    deltas = [one.breakdown.delta_ap for one in material.runs]
    main, whole = (Scale.over([delta[e] for delta in deltas for e in kinds]) for kinds in (ERRORS, SPECIAL))
    explained = (
        f"Each bar is the {name} gained when that one type of error is fixed everywhere: a wrong class or box is put "
        "right, a spurious detection is removed, a missed object is no longer asked for. They do not add up to 100, "
        "because fixing one changes what the others cost. Beside it: how many there are."
    )
    body = [
        tag("p", explained),
        legend(material.names),
        tag("div", *(_error_card(material, error, main) for error in ERRORS), class_="multiples"),
        tag("h3", "If all of a kind were fixed"),
        tag("div", *(_error_card(material, error, whole) for error in SPECIAL), class_="multiples"),
    ]
    return Section("errors", "Errors", f"Where the rest of the {name} went", join(body))


def _error_card(material: Material, error: str, scale: Scale) -> Markup:
    counted = error in ERRORS
    columns = [Column("Run"), Column("As a bar"), Column("Points", number=True)]
    rows = []
    for place, one in enumerate(material.runs):
        delta = one.breakdown.delta_ap[error]
        cells = [row_head(run_mark(place, one.name)), plot(bar(delta, scale, run_class(place)))]
        cells.append(number(delta, 2, "lead"))
        rows.append([*cells, number(one.breakdown.count[error], 0, "dim")] if counted else cells)
    title = code_and_text(error if counted else error.upper(), MEANINGS[error])
    return card(table(columns + [Column("Count", number=True)] * counted, rows, caption=title, quiet=True))


def sizes(material: Material) -> Section:
    """AP and errors by the size of objects."""
    name = ap_name(material.settings.iou)
    most = max(float(values.max(initial=0)) for one in material.runs for values in one.sizes.delta_ap.values())
    cards = [_size_card(material, key) for key in ("APs", "APm", "APl")]
    tables = [
        scrolling(_size_table(one, run_name(place, one.name), most), f"Errors by size of {one.name}")
        for place, one in enumerate(material.runs)
    ]
    explained = (
        "Small is up to 32 × 32 pixels, medium up to 96 × 96. The size is the object's for cls, loc and miss, the "
        "detection's for both, dup and bg."
    )
    body = [
        legend(material.names),
        tag("div", *cards, class_="multiples"),
        tag("h3", f"{name} to gain by fixing the errors of one size"),
        tag("p", explained),
        tag("div", *tables, class_="pairwise"),
    ]
    return Section("sizes", "Sizes", "How it depends on size", join(body))


def _size_table(one: RunMaterial, caption: Markup, most: float) -> Markup:
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


def _size_card(material: Material, key: str) -> Markup:
    columns = [Column("Run"), Column("As a bar"), Column("AP", number=True)]
    rows = [
        [
            row_head(run_mark(place, one.name)),
            plot(bar(max(one.metrics[key], 0), POINTS, run_class(place))),
            _metric(one.metrics[key], is_best=True),
        ]
        for place, one in enumerate(material.runs)
    ]
    return card(table(columns, rows, caption=code_and_text(key, METRICS[key]), quiet=True))


def precision_recall(material: Material) -> Section:
    """Mean precision against recall at several IoUs, which the script redraws for one class."""
    charts = [_curve_figure(material, iou) for iou in material.runs[0].precision]
    everything = tag("option", "mean over all classes", value="")
    select = tag("select", everything, id="curve-category")
    choice = tag("label", tag("span", "Class"), select, class_="choice", id="curve-choice", hidden=True)
    explained = (
        "The best precision at each recall or a higher one, averaged over classes: the area under a curve is the AP."
    )
    figures = tag("div", *charts, class_="charts", id="curve-figures")
    body = join([tag("p", explained), legend(material.names), choice, figures])
    return Section("curves", "Curves", "Precision against recall", body)


def _curve_figure(material: Material, iou: float) -> Markup:
    lines = [Line(place, _mean_curve(one, iou)) for place, one in enumerate(material.runs)]
    means = ", ".join(f"{name} {100 * line.y.mean():.1f}" for name, line in zip(material.names, lines, strict=True))
    label = f"Precision against recall at IoU {iou:g}; {ap_name(iou)}: {means}"
    chart = curves(lines, label=label, x_title="recall", y_title="precision")
    caption = tag("figcaption", tag("strong", f"IoU {iou:g}"), f" {ap_name(iou)}: {means}")
    return tag("figure", caption, chart, data_iou=f"{iou:g}", data_frame=" ".join(map(str, FRAME)))


def _mean_curve(one: RunMaterial, iou: float) -> NDArray[np.float64]:
    rows = one.precision[iou]
    known = ~np.isnan(rows[:, 0])
    return np.asarray(rows[known].mean(axis=0) if known.any() else np.zeros(rows.shape[1]))


def footer(ground_truth: GroundTruth) -> Markup:
    """Where the definitions come from, and what exactly was measured on."""
    sources = (
        "Errors and their fixes are those of TIDE (arXiv 2008.08115); AP is COCO's. This page holds everything that it "
        "shows and loads nothing."
    )
    digest = tag("code", ground_truth.digest[:12])
    return join([tag("p", sources), tag("p", "Made by detablate. Digest of the ground truth: ", digest)])
