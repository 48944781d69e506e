"""The sections of charts: summary, errors, sizes, precision against recall."""

from collections.abc import Sequence

import numpy as np

from analysis.errors import ERRORS, SPECIAL
from analysis.findings import MEANINGS, what_next
from analysis.ground_truth import GroundTruth
from analysis.report.charts import FRAME, Line, Scale, badge, bar, curves, legend, run_class, shade
from analysis.report.markup import Markup, join, tag
from analysis.report.material import Material, RunMaterial
from analysis.report.page import Section
from analysis.tables import ap_name, settings_sentence

METRICS = {
    "AP": "mean over IoU 0.50 to 0.95", "AP50": "at IoU 0.50", "AP75": "at IoU 0.75", "APs": "small objects",
    "APm": "medium objects", "APl": "large objects", "AR100": "recall with 100 detections",
}  # fmt: skip


def run_name(number: int, name: str) -> Markup:
    """A run in a table: its mark and its name."""
    return join([badge(number), tag("span", name, class_="name", title=name)])


def run_letter_of(number: int, name: str) -> Markup:
    """A run in a small chart under a legend: its mark alone, for eyes."""
    return tag("span", badge(number), tag("span", name, class_="sr"), title=name)


def scrolling(table: Markup, label: str) -> Markup:
    """A table that may be wider than the screen, to be scrolled with keys too."""
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def card(table: Markup) -> Markup:
    """A small chart that is a table of bars."""
    return tag("div", table, class_="card")


def heading(material: Material, title: str, lede: Sequence[Markup | str] = ()) -> Markup:
    """What was compared, and how."""
    gt = material.ground_truth
    crowd = int(gt.crowd.sum())
    crowds = f", {crowd:,} of them crowds" if crowd else ""
    facts = [
        ("Ground truth", f"{gt.path.name}: {len(gt.image_id):,} images, {len(gt):,} objects{crowds}, "
                         f"{len(gt.category_id):,} classes"),
        ("Compared", settings_sentence(material.settings)),
    ]  # fmt: skip
    return tag(
        "header",
        tag("h1", title),
        *(tag("p", line, class_="lede") for line in (*lede, opening(material))),
        tag("dl", *(join([tag("dt", term), tag("dd", text)]) for term, text in facts), class_="facts"),
        class_="title",
    )


def summary(material: Material) -> Section:
    """COCO's numbers of every run, and what to look at next."""
    shown = [key for key in METRICS if any(one.metrics[key] >= 0 for one in material.runs)]
    best = {key: max(one.metrics[key] for one in material.runs) for key in shown}
    scale = Scale(0, 100)
    rows = [
        tag(
            "tr",
            tag("th", run_name(number, one.name), scope="row"),
            tag("td", bar(max(one.metrics["AP"], 0), scale, run_class(number)), class_="plot"),
            *(_metric(one.metrics[key], len(material.runs) > 1 and one.metrics[key] == best[key]) for key in shown),
            tag("td", f"{len(one.detections):,}", class_="num"),
        )
        for number, one in enumerate(material.runs)
    ]
    head = [
        tag("th", "Run", scope="col"), tag("th", tag("span", "AP as a bar", class_="sr"), scope="col"),
        *(tag("th", key, scope="col", class_="num", title=METRICS[key]) for key in shown),
        tag("th", "Detections", scope="col", class_="num"),
    ]  # fmt: skip
    table = tag(
        "table", tag("caption", "COCO's numbers, of 100; the best of each in bold"), tag("thead", tag("tr", *head)),
        tag("tbody", *rows), class_="numbers",
    )  # fmt: skip
    return Section(
        "summary", "Summary", "What each run scores",
        join([scrolling(table, "COCO's numbers of every run"), tag("h3", "What to look at next"), _findings(material)]),
    )  # fmt: skip


def _metric(value: float, is_best: bool) -> Markup:
    text = "–" if value < 0 else f"{value:.1f}"
    return tag("td", tag("strong", text) if is_best else text, class_="num")


def _findings(material: Material) -> Markup:
    return tag(
        "ul",
        *(
            tag(
                "li", tag("p", run_name(number, one.name), class_="who"),
                tag("ul", *(tag("li", _sentence(text)) for text in what_next(material.ground_truth, one.run))),
            )
            for number, one in enumerate(material.runs)
        ),
        class_="findings",
    )  # fmt: skip


def _sentence(text: str) -> Markup:
    first, space, rest = text.partition(" ")
    end = "" if text.endswith(("?", ".")) else "."
    if first in ERRORS:
        return join([tag("span", first, class_="code"), space, rest, end])
    return join([text[:1].upper() + text[1:], end])


def opening(material: Material) -> str:
    """One sentence: who scores highest, and what costs it most."""
    name = ap_name(material.settings.iou)
    ranked = sorted(material.runs, key=lambda one: -one.breakdown.ap)
    best = ranked[0]
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


def errors(material: Material) -> Section:
    """A small chart for every type of error, all six on one scale; FP and FN on another."""
    name = ap_name(material.settings.iou)
    deltas = [one.breakdown.delta_ap for one in material.runs]
    main, whole = (Scale.over([delta[e] for delta in deltas for e in kinds]) for kinds in (ERRORS, SPECIAL))
    parts = [
        tag(
            "p",
            f"Each bar is the {name} gained when that one type of error is fixed everywhere: a wrong class or box is put "
            "right, a spurious detection is removed, a missed object is no longer asked for. They do not add up to "
            "100, because fixing one changes what the others cost.",
        ),
        legend(material.names),
        tag("div", *(_error_card(material, error, main) for error in ERRORS), class_="multiples"),
        tag("h3", "If all of a kind were fixed"),
        tag("div", *(_error_card(material, error, whole) for error in SPECIAL), class_="multiples"),
    ]
    return Section("errors", "Errors", f"Where the rest of the {name} went", join(parts))


def _error_card(material: Material, error: str, scale: Scale) -> Markup:
    counted = error in ERRORS
    rows = [
        tag(
            "tr",
            tag("th", run_letter_of(number, one.name), scope="row"),
            tag("td", bar(one.breakdown.delta_ap[error], scale, run_class(number)), class_="plot"),
            tag("td", f"{one.breakdown.delta_ap[error]:.2f}", class_="num lead"),
            *([tag("td", f"{one.breakdown.count[error]:,}", class_="num dim")] if counted else []),
        )
        for number, one in enumerate(material.runs)
    ]
    head = [
        tag("th", "Run", scope="col"), tag("th", "As a bar", scope="col"), tag("th", "Points", scope="col", class_="num"),
        *([tag("th", "Count", scope="col", class_="num")] if counted else []),
    ]  # fmt: skip
    caption = tag("caption", tag("span", error if counted else error.upper(), class_="code"), f" {MEANINGS[error]}")
    return card(tag("table", caption, tag("thead", tag("tr", *head), class_="quiet"), tag("tbody", *rows)))


def sizes(material: Material) -> Section:
    """AP and errors by the size of objects."""
    first = material.runs[0].sizes
    cards = [_size_card(material, key) for key in ("APs", "APm", "APl")]
    name = ap_name(material.settings.iou)
    most = max(float(values.max(initial=0)) for one in material.runs for values in one.sizes.delta_ap.values())
    tables = []
    for number, one in enumerate(material.runs):
        delta = one.sizes.delta_ap
        rows = [
            tag(
                "tr",
                tag("th", _size_name(size.name, size.low, size.high), scope="row"),
                tag("td", f"{one.sizes.objects[place]:,}", class_="num"),
                tag("td", _share(one.sizes.found[place], one.sizes.objects[place]), class_="num"),
                *(
                    tag("td", f"{delta[error][place]:.2f}", class_=f"num {shade(float(delta[error][place]), most)}")
                    for error in ERRORS
                ),
            )
            for place, size in enumerate(first.sizes)
        ]
        head = ["Size", "Objects", "Found", *ERRORS]
        tables.append(
            tag(
                "table", tag("caption", run_name(number, one.name)),
                tag("thead", tag("tr", *(tag("th", h, scope="col", class_="num" if n else None) for n, h in enumerate(head)))),
                tag("tbody", *rows), class_="shades",
            )
        )  # fmt: skip
    body = join(
        [
            legend(material.names),
            tag("div", *cards, class_="multiples"),
            tag("h3", f"{name} to gain by fixing the errors of one size"),
            tag("p", "The size is the object's for cls, loc and miss, the detection's for both, dup and bg."),
            tag(
                "div",
                *(scrolling(t, f"Errors by size of {one.name}") for t, one in zip(tables, material.runs, strict=True)),
                class_="pairwise",
            ),
        ]
    )
    return Section("sizes", "Sizes", "How it depends on size", body)


def _size_name(name: str, low: float, high: float) -> str:
    if low == 0:
        return f"{name} (up to {high:g} pixels a side)"
    return f"{name} (above {low:g})" if np.isinf(high) else f"{name} ({low:g} to {high:g})"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _size_card(material: Material, key: str) -> Markup:
    title = {"APs": "small objects, up to 32 × 32 pixels", "APm": "medium, up to 96 × 96", "APl": "large"}[key]
    rows = [
        tag(
            "tr",
            tag("th", run_letter_of(number, one.name), scope="row"),
            tag("td", bar(max(one.metrics[key], 0), Scale(0, 100), run_class(number)), class_="plot"),
            tag("td", "–" if one.metrics[key] < 0 else f"{one.metrics[key]:.1f}", class_="num lead"),
        )
        for number, one in enumerate(material.runs)
    ]
    head = tag("tr", *(tag("th", name, scope="col") for name in ("Run", "As a bar", "AP")))
    caption = tag("caption", tag("span", key, class_="code"), f" {title}")
    return card(tag("table", caption, tag("thead", head, class_="quiet"), tag("tbody", *rows)))


def precision_recall(material: Material) -> Section:
    """Mean precision against recall at several IoUs; the script redraws the first for a class."""
    charts = []
    for iou in material.runs[0].precision:
        lines = [Line(number, _mean_curve(one, iou)) for number, one in enumerate(material.runs)]
        means = ", ".join(f"{one.name} {100 * float(line.y.mean()):.1f}" for one, line in zip(material.runs, lines, strict=True))
        chart = curves(
            lines, label=f"Precision against recall at IoU {iou:g}; mean precision: {means}",
            x_title="recall", y_title="precision",
        )  # fmt: skip
        charts.append(
            tag("figure", tag("figcaption", tag("strong", f"IoU {iou:g}"), f" {ap_name(iou)}: {means}"), chart,
                data_iou=f"{iou:g}", data_frame=" ".join(map(str, FRAME)))
        )
    choice = tag(
        "label", tag("span", "Class"), tag("select", tag("option", "mean over all classes", value=""), id="curve-category"),
        class_="choice", id="curve-choice", hidden=True,
    )  # fmt: skip
    body = [
        tag("p", "The best precision at each recall or a higher one, averaged over classes: the area under it is the AP."),
        legend(material.names), choice, tag("div", *charts, class_="charts", id="curves"),
    ]  # fmt: skip
    return Section("curves", "Curves", "Precision against recall", join(body))


def _mean_curve(one: RunMaterial, iou: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    rows = one.precision[iou]
    known = ~np.isnan(rows[:, 0])
    return np.asarray(rows[known].mean(axis=0) if known.any() else np.zeros(rows.shape[1]))


def footer(ground_truth: GroundTruth) -> Markup:
    """Where the definitions come from, and what exactly was measured on."""
    return join(
        [
            tag(
                "p",
                "Errors and their fixes are those of TIDE (arXiv 2008.08115); AP is COCO's. This page holds everything "
                "that it shows and loads nothing.",
            ),
            tag("p", "Made by detablate. Ground truth digest ", tag("code", ground_truth.digest[:12]), "."),
        ]
    )
