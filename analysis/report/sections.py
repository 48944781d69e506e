"""The sections of charts: heading, summary, errors, sizes and crowding."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SHAPES, SPECIAL
from analysis.evaluation.settings import Settings, ap_name, iou_name
from analysis.render.advice import COSTLY_MEANS, error_takeaways
from analysis.render.errors import ap_column, counts_cell, known_metric, left_out, unchecked_detections
from analysis.render.markup import Child, Markup, escaped, join, tag
from analysis.render.slices import size_table
from analysis.render.table import Cell, Column, Row, Table, Value, best
from analysis.render.takeaways import counts_sentence, settings_sentence, typeset
from analysis.report.charts import POINTS, Scale, bar, legend, run_class
from analysis.report.components import (
    between,
    card,
    chart_column,
    code_and_text,
    dots_table,
    error_title,
    limits,
    notes,
    run_mark,
    run_name,
    scrolling,
    sentence,
    shaded,
    takeaway_list,
)
from analysis.report.examples import Examples
from analysis.report.page import Section
from analysis.report.report_data import ReportData, RunData

BY_FREQUENCY = {"APr": "rare classes", "APc": "common classes", "APf": "frequent classes"}
BY_SIZE = {"APs": "small objects", "APm": "medium objects", "APl": "large objects"}


def metrics_of(settings: Settings) -> dict[str, str]:
    """Which of COCO's numbers are shown, and what each is."""
    iou, of_one = iou_name(settings.iou_type), f"per image{' and class' if settings.cap_per_category else ''}"
    return {
        "AP": f"mean over {iou} 0.50 to 0.95",
        "AP50": f"at {iou} 0.50",
        "AP75": f"at {iou} 0.75",
        **BY_SIZE,
        **(BY_FREQUENCY if settings.federated else {}),
        **{f"AR{cap}": f"recall with at most {cap} detections {of_one}, mean over {iou}" for cap in settings.caps},
        **{f"AR{letter}": f"recall of {size}" for letter, size in zip("sml", BY_SIZE.values(), strict=True)},
    }


def heading(data: ReportData, title: str, lede: Sequence[Markup | str]) -> Markup:
    """What was compared, and how."""
    facts: dict[str, Child] = {
        "Ground truth": counts_sentence(data.ground_truth, "classes", "class"),
        "Settings": typeset(settings_sentence(data.settings)),
    }
    alike = [
        f"{one.name}: identical to {data.names[first]}; the gallery shows their examples once"
        for place, (one, first) in enumerate(zip(data.runs, data.first_alike, strict=True))
        if first != place
    ]
    facts |= {"Equal predictions": tag("ul", *(tag("li", text) for text in alike))} if alike else {}
    return tag(
        "header",
        tag("h1", title),
        *(tag("p", line, class_="lede") for line in lede),
        tag(
            "dl",
            *(join([tag("dt", term), tag("dd", text)]) for term, text in facts.items()),
            class_="facts",
        ),
        class_="title",
    )


def _left_out(data: ReportData, one: RunData) -> list[tuple[str, str]]:
    at_stake, score = one.at_stake, ap_name(data.settings.iou)
    if at_stake is None:
        return []
    return left_out(one.name, data.settings, at_stake.over_cap, at_stake.low_scores, score, unchecked_detections(one))


def opening(data: ReportData) -> str:
    """One sentence: who scores highest, and what costs it most."""
    name = ap_name(data.settings.iou)
    ranked = sorted(data.runs, key=lambda one: -one.breakdown.ap)
    first = ranked[0]
    if not first.breakdown.positives:
        return "No annotated object counts, so there is no AP."
    error = max(ERRORS, key=first.breakdown.delta_ap.__getitem__)
    points = first.breakdown.delta_ap[error]
    cost = (
        f"its costliest error type is {error} ({ERROR_TYPES[error].described(data.settings.iou_type)}): "
        f"{points:.1f} points"
    )
    if points < 0.05:
        cost = "no type of error costs it 0.1 points or more"
    if len(ranked) == 1:
        return f"{first.name} has {first.breakdown.ap:.1f} {name}; {cost}."
    ahead = first.breakdown.ap - ranked[1].breakdown.ap
    if ahead < 0.05:
        return f"{first.name} and {ranked[1].name} have nearly the same {name}, {first.breakdown.ap:.1f}."
    return (
        f"{first.name} has the highest {name}, {first.breakdown.ap:.1f}, which is {ahead:.1f} above "
        f"{ranked[1].name}; {cost}."
    )


def summary(data: ReportData, runs_shown: str) -> Section:
    """COCO's numbers of every run, and what to look at next."""
    meanings = metrics_of(data.settings)
    shown = [key for key in meanings if any(one.metrics[key] >= 0 for one in data.runs)]
    columns = [ap_column(key, hint=meanings[key]) for key in shown]
    scores = [best([known_metric(one.metrics[key]) for one in data.runs], ap_column(key)) for key in shown]
    rows: list[tuple[Value, ...]] = [
        (
            run_name(place, one.name),
            bar(max(one.metrics["AP"], 0), POINTS, run_class(place), limits(one.intervals.get("AP"))),
            *(
                replace(Cell.of(of_runs[place]), below=between(one.intervals.get(key)))
                for key, of_runs in zip(shown, scores, strict=True)
            ),
            len(one.detections),
        )
        for place, one in enumerate(data.runs)
    ]
    caption = "COCO's numbers, 0 to 100" + ("; the best of each in bold" if len(data.runs) > 1 else "")
    if any(one.intervals for one in data.runs):
        caption += "; in brackets the 95 % interval over the choice of images"
    heads = (Column("Run", kind="text"), chart_column("AP as a bar"), *columns, Column("Detections"))
    takeaways = [
        tag(
            "li",
            tag("p", run_name(place, one.name), class_="who"),
            tag("ul", *(tag("li", _takeaway(text)) for text in error_takeaways(data.ground_truth, one))),
        )
        for place, one in enumerate(data.runs)
    ]
    body = [
        scrolling(Table(caption, heads, tuple(rows)), "COCO's numbers of every run", "numbers"),
        tag("h3", "What to look at next"),
        tag("ul", *takeaways, class_="findings"),
    ]
    if outside := [text for one in data.runs for _, text in _left_out(data, one)]:
        body += [tag("h3", "Detections that do not count"), notes(outside)]
    return Section("summary", "Summary", f"AP of {runs_shown}", join(body))


def _takeaway(text: str) -> Markup:
    first, space, rest = text.partition(" ")
    if first in ERRORS:
        return join([tag("span", first, class_="code"), space, sentence(f" {rest}").strip()])
    return escaped(sentence(text))


def errors(data: ReportData, examples: Examples) -> Section:
    """A small chart for every type of error, all six on one scale; FP and FN on another."""
    name = ap_name(data.settings.iou)
    explained = (
        f"Each bar is the {name} gained if all errors of that type are fixed and nothing else changes: a wrong class "
        f"or {SHAPES[data.settings.iou_type]} is corrected, a spurious detection is removed, a missed object is "
        "removed from the ground truth. The numbers do not add up to 100, because fixing one type changes the cost of "
        f"the others. Beside each bar: number of costly errors / of all errors of the type; {COSTLY_MEANS}."
    )
    if any(one.intervals for one in data.runs):
        explained += " Whiskers and brackets: the 95 % interval over the choice of images."
    body = [
        tag("p", typeset(explained)),
        legend(data.names),
        _error_cards(data, examples, ERRORS),
        tag("h3", "If all FP or all FN are fixed"),
        _error_cards(data, examples, SPECIAL),
    ]
    return Section("errors", "Errors", f"{name} lost to each type of error", join(body))


def _error_cards(data: ReportData, examples: Examples, types: Sequence[str]) -> Markup:
    """A card for each type, all on one scale."""
    highs = [known.high for one in data.runs for key, known in one.intervals.items() if key in types]
    scale = Scale.over([*(one.breakdown.delta_ap[error] for one in data.runs for error in types), *highs])
    cards = []
    for error in types:
        deltas = [one.breakdown.delta_ap[error] for one in data.runs]
        points = Column("Points", precision=1 if highs else 2)  # no more digits than their intervals
        table = _bars(data, error, error_title(error, data.settings.iou_type), points, deltas, scale)
        if error in ERRORS:
            counts = [
                replace(counts_cell(one, error), class_="dim", filter=examples.filter(place, error=error))
                for place, one in enumerate(data.runs)
            ]
            table = table.with_column(3, Column("Costly/all"), counts)
        cards.append(card(table))
    return tag("div", *cards, class_="multiples")


def _bars(
    data: ReportData, key: str, title: Markup, column: Column, values: Sequence[float | None], scale: Scale
) -> Table:
    """A row a run: its mark, a number as a bar with its interval where one is known by this key, and the number."""
    rows = [
        (
            run_mark(place, one.name),
            bar(value or 0.0, scale, run_class(place), limits(one.intervals.get(key))),
            Cell(value, bold=True, below=between(one.intervals.get(key))),
        )
        for place, (one, value) in enumerate(zip(data.runs, values, strict=True))
    ]
    return Table(title, (Column("Run", kind="text"), chart_column("As a bar", silent=False), column), tuple(rows))


def sizes(data: ReportData, examples: Examples) -> Section:
    """AP and errors by the size of objects."""
    name = ap_name(data.settings.iou)
    most = max(float(values.max(initial=0)) for one in data.runs for values in one.sizes.delta_ap.values())
    cards = []
    for key, meaning in BY_SIZE.items():
        values = [known_metric(one.metrics[key]) for one in data.runs]
        cards.append(card(_bars(data, key, code_and_text(key, meaning), ap_column("AP"), values, POINTS)))
    tables = []
    for place, one in enumerate(data.runs):
        table = _leading(size_table([(one.name, one.sizes)]), examples, place)
        table = replace(table, title=run_name(place, one.name))
        tables.append(scrolling(shaded(table, ERRORS, most), f"Errors by size of {one.name}", "shades"))
    bins = data.runs[0].crowding
    crowding = [
        (bins.names[place], int(bins.objects[place]), [float(100 * one.crowding.recall[place]) for one in data.runs])
        for place in np.flatnonzero(bins.objects).tolist()
    ]
    explained = (
        "Small: up to 32 × 32 pixels; medium: up to 96 × 96. It is the size of the object for cls, loc and miss, and "
        "of the detection for both, dup and bg."
    )
    body = [
        takeaway_list(data, "size"),
        legend(data.names),
        tag("div", *cards, class_="multiples"),
        tag("h3", f"{name} to gain by fixing the errors of one type and size"),
        tag("p", explained),
        tag("div", *tables, class_="pairwise"),
        tag("h3", "Objects found, by crowding"),
        tag("p", "Crowding is the highest box IoU of an object with another object of the same class in the image."),
        takeaway_list(data, "crowding"),
        scrolling(
            dots_table(data, "Crowding", "Found, 0 to 100 %", crowding, precision=0),
            "Objects found by crowding",
            "wide",
        ),
    ]
    return Section("sizes", "Sizes", "Errors by size and crowding", join(body))


def _leading(table: Table, examples: Examples, place: int) -> Table:
    """The table of sizes, whose numbers lead to examples."""

    def row(cells: Sequence[Cell]) -> Row:
        return tuple(
            replace(cell, filter=examples.filter(place, error=column.name, size=str(cells[0].value)))
            if column.name in ERRORS
            else cell
            for column, cell in zip(table.columns, cells, strict=True)
        )

    return replace(table, rows=tuple(map(row, table.cells)))


def footer(ground_truth: GroundTruth, assets: str = "") -> Markup:
    """Where the definitions come from, and what exactly was measured on.

    ``assets`` is the folder of the pictures, as the page names it; empty: they are in the page.
    """
    sources = "Error types and their fixes follow TIDE (arXiv 2008.08115); AP is COCO's. " + (
        f"The pictures are in the folder {assets}; keep it with this page. The page loads nothing else."
        if assets
        else "This page contains everything that it shows and loads nothing from the network."
    )
    digest = tag("p", "Made by detablate. Digest of the ground truth: ", tag("code", ground_truth.digest[:12]))
    return join([tag("p", sources), digest])
