"""The sections about classes: what each loses, and which is taken for which."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np

from analysis.arrays import Floats, Ints
from analysis.evaluation.confusion import concerned
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import ap_name, iou_name
from analysis.render.markup import Child, Markup, join, tag
from analysis.render.slices import class_table, confusion_table, points_text
from analysis.render.table import Cell, Column, Row, Table
from analysis.report.charts import POINTS, Scale, bar, legend, run_class, shade
from analysis.report.components import (
    chart_column,
    dots_table,
    note,
    run_name,
    scrolling,
    shaded,
    tabs,
    takeaway_list,
)
from analysis.report.examples import Examples
from analysis.report.page import Section
from analysis.report.report_data import ReportData, RunData

MOST_ROWS = 200  # classes in a table
LONG = 20  # classes, from which their tables can be searched
MATRIX_SIDE = 16  # classes in a confusion matrix
MOST_PAIRS = 12  # confused pairs listed


def per_class(data: ReportData, examples: Examples) -> Section:
    """A table for all runs together and one for each; their numbers lead to examples."""
    name = ap_name(data.settings.iou)
    known = np.flatnonzero(data.objects > 0)
    ap = np.array([np.nan_to_num(one.classes.ap[known]) for one in data.runs])
    panels: dict[Child, Markup] = {}
    if len(data.runs) > 1:
        panels["All runs"] = _side_by_side(data, _lowest(known, ap.min(axis=0)), name)
    for place, one in enumerate(data.runs):
        panels[run_name(place, one.name)] = _of_run(data, examples, place, _lowest(known, ap[place]), name)
    of_all = " (with several runs: the lowest of any run)" * (len(data.runs) > 1)
    parts = [
        takeaway_list(data, "class"),
        tag(
            "p",
            f"Sorted by {name}, the lowest first{of_all}; click a column head to sort by it. Error columns: "
            f"the change of the class's own {name} if all errors of that type are fixed.",
        ),
    ]
    if len(known) > MOST_ROWS:
        parts.append(note(f"The {MOST_ROWS} classes with the lowest AP, of {len(known):,}."))
    without = len(data.objects) - len(known)
    if without:
        have = "1 class has" if without == 1 else f"{without:,} classes have"
        parts.append(note(f"{have} no object in this ground truth, so no AP."))
    if len(known) >= LONG:
        field = tag("input", type="search", id="find-class", autocomplete="off")
        parts.append(
            tag(
                "div",
                tag("label", tag("span", "Find a class"), field),
                tag("span", "", id="found-classes", role="status"),
                class_="choice",
                id="find-choice",
                hidden=True,
            )
        )
    return Section("classes", "Classes", "AP and errors by class", join([*parts, tabs("classes", panels)]))


def _lowest(categories: Ints, ap: Floats) -> Ints:
    order: Ints = categories[np.argsort(ap, kind="stable")][:MOST_ROWS]
    return order


def _side_by_side(data: ReportData, shown: Ints, name: str) -> Markup:
    names, objects = data.ground_truth.category_name, data.objects.tolist()
    rows = [(names[c], objects[c], [float(one.classes.ap[c]) for one in data.runs]) for c in shown.tolist()]
    table = dots_table(data, "Class", f"{name}, 0 to 100", rows, precision=1)
    label = f"{name} of every class and run"
    return join([legend(data.names), scrolling(table, label, "sortable wide", sortable=True)])


def _of_run(data: ReportData, examples: Examples, place: int, shown: Ints, name: str) -> Markup:
    one = data.runs[place]
    most = max(float(np.nanmax(one.classes.delta_ap[error][shown], initial=0)) for error in ERRORS)
    bars = [bar(ap, POINTS, run_class(place)) for ap in np.nan_to_num(one.classes.ap[shown]).tolist()]
    table = replace(class_table([(one.name, one.classes)], chosen=shown.tolist()), title="")
    ap = next(n for n, column in enumerate(table.columns) if column.name == name)
    errors = {n: column.key or column.name for n, column in enumerate(table.columns) if n > ap}

    def leading(row: Sequence[Cell], category: int) -> Row:
        cells = list(row)
        cells[ap] = replace(cells[ap], filter=examples.filter(place, category=category))
        for n, error in errors.items():
            cells[n] = replace(cells[n], filter=examples.filter(place, error=error, category=category))
        return tuple(cells)

    table = replace(table, rows=tuple(map(leading, table.cells, shown.tolist())))
    table = shaded(table, ERRORS, most).with_column(2, chart_column(f"{name} as a bar"), bars)
    return scrolling(table, f"Classes of {one.name}", "sortable shades wide", sortable=True)


def confusion(data: ReportData, examples: Examples) -> Section:
    """Which class is taken for which, by run: the costliest pairs, and a matrix of the classes concerned."""
    panels: dict[Child, Markup] = {
        run_name(place, one.name): _confusion_of(data, examples, place) for place, one in enumerate(data.runs)
    }
    body = [
        tag(
            "p",
            f"Detections with an {iou_name(data.settings.iou_type)} of {data.settings.iou:g} or more but the wrong "
            "class, even if another detection found the object correctly. Pairs are ordered by the "
            f"{ap_name(data.settings.iou)} gained if only the errors of that pair are fixed.",
        ),
        takeaway_list(data, "confusion"),
        tabs("confusion", panels),
    ]
    return Section("confusion", "Confusion", "Confused classes", join(body))


def _confusion_of(data: ReportData, examples: Examples, place: int) -> Markup:
    one = data.runs[place]
    table = confusion_table(data.ground_truth, data.settings, [(one.name, one.confusion)], MOST_PAIRS)
    if not table.rows:
        return note("There is no classification error.")
    assert one.confusion.cost is not None
    pairs = one.confusion.wrong(MOST_PAIRS)
    costs = one.confusion.cost[pairs].tolist()
    bars = [bar(cost, Scale.over(costs), run_class(place)) for cost in costs]
    filters = [
        examples.filter(place, error="cls", category=true, detected=predicted)
        for true, predicted in zip(
            one.confusion.true[pairs].tolist(), one.confusion.predicted[pairs].tolist(), strict=True
        )
    ]
    gain = table.columns.index(next(column for column in table.columns if column.name == "to gain"))
    rows: tuple[Row, ...] = tuple(
        (*row[:gain], replace(row[gain], filter=link), *row[gain + 1 :])
        for row, link in zip(table.cells, filters, strict=True)
    )
    table = replace(table, title="The costliest pairs, and the objects not found because of each", rows=rows)
    listed = table.with_column(2, chart_column("As a bar"), bars)
    matrix = _matrix(data.ground_truth.category_name, one, place, examples)
    return tag("div", scrolling(listed, f"Costliest pairs of {one.name}", "bars pairs"), matrix, class_="beside")


def _matrix(names: list[str], one: RunData, place: int, examples: Examples) -> Markup:
    """Rows: what objects are; columns: what they are taken for; the classes of the costliest pairs, in their order."""
    assert one.confusion.cost is not None
    ascending = concerned([one.confusion], MATRIX_SIDE)
    pairs = one.confusion.wrong()
    in_order = np.stack([one.confusion.true[pairs], one.confusion.predicted[pairs]], axis=1).ravel()
    in_order = in_order[np.isin(in_order, ascending)]
    by_cost = np.searchsorted(ascending, in_order[np.sort(np.unique(in_order, return_index=True)[1])])
    costs, counts = (of_pairs[np.ix_(by_cost, by_cost)] for of_pairs in one.confusion.among(ascending))
    chosen, most = ascending[by_cost].tolist(), float(one.confusion.cost.max(initial=0.0))

    def cell(true: int, predicted: int, cost: float, count: int) -> Cell:
        if true == predicted:
            return Cell(None, "", class_="same")
        share = max(cost, 0.0) / most if most > 0 else 0.0
        hint = f"{names[true]} predicted as {names[predicted]}: {cost:.2f} points, {count:,} detections"
        # Shaded by the root, for little to be seen beside much.
        return Cell(
            cost,
            points_text(cost) if count else "",
            class_=shade(share**0.5, 1.0),
            hint=hint,
            filter=examples.filter(place, error="cls", category=true, detected=predicted),
        )

    table = Table(
        f"Points to gain, between the {len(chosen)} classes of the costliest pairs",
        (
            Column(tag("span", "true ↓ predicted →", class_="corner"), kind="text"),
            *(Column(tag("span", names[c], class_="upright")) for c in chosen),
        ),
        tuple(
            (names[true], *map(cell, repeat(true), chosen, row, numbers))
            for true, row, numbers in zip(chosen, costs.tolist(), counts.tolist(), strict=True)
        ),
    )
    return scrolling(table, f"Confusion matrix of {one.name}", "matrix")
