"""The sections about classes: what each loses, and which is taken for which."""

from dataclasses import replace

import numpy as np

from analysis.arrays import Floats, Ints
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import ap_name
from analysis.render.markup import Child, Markup, join, tag
from analysis.render.slices import class_table, confusion_table
from analysis.render.table import Cell, Column, Table, html
from analysis.report.charts import Scale, bar, dots, legend, run_class, shade
from analysis.report.components import (
    chart_column,
    note,
    run_columns,
    run_name,
    scrolling,
    shaded,
    tabs,
    takeaway_list,
)
from analysis.report.page import Section
from analysis.report.report_data import ReportData, RunData

MOST_ROWS = 200  # classes in a table
MATRIX_SIDE = 16  # classes in a confusion matrix
MOST_PAIRS = 12  # confused pairs listed


def per_class(data: ReportData) -> Section:
    """A table for all runs together and one for each."""
    name = ap_name(data.settings.iou)
    known = np.flatnonzero(data.objects > 0)
    ap = np.array([np.nan_to_num(one.classes.ap[known]) for one in data.runs])
    panels: dict[Child, Markup] = {}
    if len(data.runs) > 1:
        panels["All runs"] = _side_by_side(data, _lowest(known, ap.min(axis=0)), name)
    for place, one in enumerate(data.runs):
        panels[run_name(place, one.name)] = _of_run(data, place, _lowest(known, ap[place]), name)
    explained = (
        f"Sorted by {name}, the lowest first; press a column's head to sort by it. For an error: the change of the "
        f"class's own {name} when it is fixed everywhere."
    )
    parts = [takeaway_list(data, "class"), tag("p", explained)]
    if len(known) > MOST_ROWS:
        parts.append(note(f"The {MOST_ROWS} lowest of {len(known):,} classes."))
    without = len(data.objects) - len(known)
    if without:
        have = "1 class has" if without == 1 else f"{without:,} classes have"
        parts.append(note(f"{have} no object here, and so no AP."))
    return Section("classes", "Classes", "Class by class", join([*parts, tabs("classes", panels)]))


def _lowest(categories: Ints, ap: Floats) -> Ints:
    order: Ints = categories[np.argsort(ap, kind="stable")][:MOST_ROWS]
    return order


def _side_by_side(data: ReportData, shown: Ints, name: str) -> Markup:
    rows = []
    for c in shown.tolist():
        values = [float(one.classes.ap[c]) for one in data.runs]
        chart = dots(values, Scale(0, 100))
        rows.append((data.ground_truth.category_name[c], int(data.objects[c]), chart, *values))
    columns = (Column("Class", kind="text"), Column("Objects"), chart_column(f"{name}, 0 to 100", silent=False))
    table = Table("", (*columns, *run_columns(data, 1)), tuple(rows))
    content = scrolling(table, f"{name} of every class and run", "sortable wide", sortable=True)
    return join([legend(data.names), content])


def _of_run(data: ReportData, place: int, shown: Ints, name: str) -> Markup:
    one = data.runs[place]
    most = max(float(np.nanmax(one.classes.delta_ap[error][shown], initial=0)) for error in ERRORS)
    scores = np.nan_to_num(one.classes.ap[shown]).tolist()
    bars = [bar(ap, Scale(0, 100), run_class(place)) for ap in scores]
    table = replace(class_table([(one.name, one.classes)], chosen=shown.tolist()), title="")
    table = shaded(table, ERRORS, most).with_column(2, chart_column(f"{name} as a bar"), bars)
    return scrolling(table, f"Classes of {one.name}", "sortable shades wide", sortable=True)


def confusion(data: ReportData) -> Section:
    """Which class is taken for which, by run: the commonest pairs, and a matrix of the classes concerned."""
    panels: dict[Child, Markup] = {
        run_name(place, one.name): _confusion_of(data, place) for place, one in enumerate(data.runs)
    }
    explained = (
        f"Detections in the right place (IoU {data.settings.iou:g} or more) with the wrong class, whether or not "
        "their object was also found rightly."
    )
    body = join([tag("p", explained), takeaway_list(data, "confusion"), tabs("confusion", panels)])
    return Section("confusion", "Confusion", "Which class is taken for which", body)


def _confusion_of(data: ReportData, place: int) -> Markup:
    one = data.runs[place]
    table = confusion_table(data.ground_truth, data.settings, [(one.name, one.confusion)], MOST_PAIRS)
    if not table.rows:
        return note("No detection has the right place and a wrong class.")
    counts = one.confusion.count[one.confusion.wrong(MOST_PAIRS)].tolist()
    bars = [bar(count, Scale.over(counts), run_class(place)) for count in counts]
    table = table.with_column(2, chart_column("As a bar"), bars)
    listed = html(replace(table, title="The commonest, and the objects lost to each"), class_="bars pairs")
    return tag("div", listed, _matrix(data.ground_truth.category_name, one), class_="beside")


def _matrix(names: list[str], one: RunData) -> Markup:
    """Rows: what objects are; columns: what they are taken for; the classes with most confusion."""
    wrong = one.confusion.matrix
    np.fill_diagonal(wrong, 0)
    weight = wrong.sum(axis=0) + wrong.sum(axis=1)
    chosen = np.sort(np.argsort(-weight, kind="stable")[: min(MATRIX_SIDE, int((weight > 0).sum()))]).tolist()
    most = float(wrong.max())

    def cell(true: int, predicted: int) -> Cell:
        if true == predicted:
            return Cell(None, "", class_="same")
        count = int(wrong[true, predicted])
        colour = shade(float(np.sqrt(count / most)), 1.0)  # the root, for few to be seen beside many
        hint = f"{names[true]} taken for {names[predicted]}: {count:,}"
        return Cell(count, None if count else "", class_=colour, hint=hint)

    corner = Column(tag("span", "is ↓ taken for →", class_="corner"), kind="text")
    columns = (corner, *(Column(tag("span", names[c], class_="upright")) for c in chosen))
    rows = tuple((names[true], *(cell(true, predicted) for predicted in chosen)) for true in chosen)
    table = Table(f"The {len(chosen)} classes most concerned", columns, rows)
    return scrolling(table, f"Confusion matrix of {one.name}", "matrix")
