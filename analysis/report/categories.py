"""The sections about classes: what each loses, and which is taken for which."""

import numpy as np

from analysis.arrays import Floats, Ints
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import ap_name
from analysis.render.markup import Child, Markup, join, tag
from analysis.report.charts import Scale, bar, dots, legend, run_class, run_letter, shade
from analysis.report.components import Column, note, number, plot, row_head, run_name, said, scrolling, table, tabs
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
    panels: list[tuple[Child, Markup]] = []
    if len(data.runs) > 1:
        panels.append(("All runs", _side_by_side(data, _lowest(known, ap.min(axis=0)), name)))
    for place, one in enumerate(data.runs):
        panels.append((run_name(place, one.name), _of_run(data, place, _lowest(known, ap[place]), name)))
    explained = (
        f"Sorted by {name}, the lowest first; press a column's head to sort by it. For an error: the change of the "
        f"class's own {name} when it is fixed everywhere."
    )
    parts = [said(data, "class"), tag("p", explained)]
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
    columns = [
        Column("Class", sorts=True),
        Column("Objects", number=True, sorts=True),
        Column(f"{name}, 0 to 100"),
        *(Column(run_letter(place), number=True, sorts=True, hint=run) for place, run in enumerate(data.names)),
    ]
    rows = []
    for c in shown.tolist():
        values = [float(one.classes.ap[c]) for one in data.runs]
        title = data.ground_truth.category_name[c]
        cells = [row_head(title), number(data.objects[c]), plot(dots(values, Scale(0, 100)))]
        rows.append([*cells, *(number(value, 1) for value in values)])
    content = table(columns, rows, class_="sortable wide")
    return join([legend(data.names), scrolling(content, f"{name} of every class and run")])


def _of_run(data: ReportData, place: int, shown: Ints, name: str) -> Markup:
    classes = data.runs[place].classes
    delta = classes.delta_ap
    most = max(float(np.nanmax(delta[error][shown], initial=0)) for error in ERRORS)
    columns = [
        Column("Class", sorts=True),
        Column("Objects", number=True, sorts=True),
        Column(f"{name} as a bar", silent=True),
        *(Column(title, number=True, sorts=True) for title in (name, *ERRORS)),
    ]
    rows = []
    for c in shown.tolist():
        ap = float(classes.ap[c])
        gains = [float(delta[error][c]) for error in ERRORS]
        cells = [row_head(data.ground_truth.category_name[c]), number(data.objects[c])]
        cells += [plot(bar(float(np.nan_to_num(ap)), Scale(0, 100), run_class(place))), number(ap, 1, "lead")]
        rows.append([*cells, *(number(value, 1, shade(value, most)) for value in gains)])
    content = table(columns, rows, class_="sortable shades wide")
    return scrolling(content, f"Classes of {data.runs[place].name}")


def confusion(data: ReportData) -> Section:
    """Which class is taken for which, by run: the commonest pairs, and a matrix of the classes concerned."""
    panels: list[tuple[Child, Markup]] = [
        (run_name(place, one.name), _confusion_of(data, place)) for place, one in enumerate(data.runs)
    ]
    explained = (
        f"Detections in the right place (IoU {data.settings.iou:g} or more) with the wrong class, whether or not "
        "their object was also found rightly."
    )
    body = join([tag("p", explained), said(data, "confusion"), tabs("confusion", panels)])
    return Section("confusion", "Confusion", "Which class is taken for which", body)


def _confusion_of(data: ReportData, place: int) -> Markup:
    names, one = data.ground_truth.category_name, data.runs[place]
    pairs = one.confusion.most_confused(MOST_PAIRS)
    if not pairs:
        return note("No detection has the right place and a wrong class.")
    scale = Scale.over([count for _, _, count, _ in pairs])
    rows = [
        [
            row_head(join([names[true], tag("span", " taken for ", class_="dim"), names[predicted]])),
            plot(bar(count, scale, run_class(place))),
            number(count, 0, "lead"),
            number(objects, 0, "dim"),
        ]
        for true, predicted, count, objects in pairs
    ]
    columns = [Column("Pair"), Column("As a bar", silent=True)]
    columns += [Column(title, number=True) for title in ("Detections", "Lost")]
    listed = table(columns, rows, caption="The commonest, and the objects lost to each", class_="bars pairs")
    return tag("div", listed, _matrix(names, one), class_="beside")


def _matrix(names: list[str], one: RunData) -> Markup:
    """Rows: what objects are; columns: what they are taken for; the classes with most confusion."""
    wrong = one.confusion.matrix
    np.fill_diagonal(wrong, 0)
    weight = wrong.sum(axis=0) + wrong.sum(axis=1)
    chosen = np.sort(np.argsort(-weight, kind="stable")[: min(MATRIX_SIDE, int((weight > 0).sum()))]).tolist()
    most = float(wrong.max())

    def cell(true: int, predicted: int) -> Markup:
        if true == predicted:
            return tag("td", class_="same")
        count = int(wrong[true, predicted])
        hint = f"{names[true]} taken for {names[predicted]}: {count:,}"
        colour = shade(float(np.sqrt(count / most)), 1.0)  # the root, for few to be seen beside many
        return tag("td", f"{count:,}" if count else "", class_=f"num {colour}", title=hint)

    columns = [Column(tag("span", "is ↓ taken for →", class_="corner"))]
    columns += [Column(tag("span", names[c], class_="upright")) for c in chosen]
    rows = [[row_head(names[true]), *(cell(true, predicted) for predicted in chosen)] for true in chosen]
    content = table(columns, rows, caption=f"The {len(chosen)} classes most concerned", class_="matrix")
    return scrolling(content, f"Confusion matrix of {one.name}")
