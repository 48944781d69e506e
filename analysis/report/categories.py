"""The sections about classes: what each loses, and which is taken for which."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.errors import ERRORS
from analysis.report.charts import Scale, bar, dots, legend, run_class, run_letter, shade
from analysis.report.markup import Markup, join, tag
from analysis.report.material import Material, RunMaterial
from analysis.report.page import Section
from analysis.report.sections import run_name, scrolling
from analysis.tables import ap_name

MOST_ROWS = 200  # classes in a table
MATRIX_SIDE = 16  # classes in a confusion matrix
MOST_PAIRS = 12  # confused pairs listed

Ints = NDArray[np.int64]


def per_class(material: Material) -> Section:
    """A table for all runs together and one for each."""
    gt, name = material.ground_truth, ap_name(material.settings.iou)
    with_objects = np.flatnonzero(material.objects > 0)
    worst = np.min([np.nan_to_num(one.breakdown.category_ap[with_objects]) for one in material.runs], axis=0)
    shown = with_objects[np.argsort(worst, kind="stable")][:MOST_ROWS]
    panels: list[tuple[Markup | str, Markup]] = []
    if len(material.runs) > 1:
        panels.append(("All runs", _side_by_side(material, shown, name)))
    for number, one in enumerate(material.runs):
        own = with_objects[np.argsort(np.nan_to_num(one.breakdown.category_ap[with_objects]), kind="stable")][:MOST_ROWS]
        panels.append((run_name(number, one.name), _of_run(material, one, own, name)))
    parts = [tag("p", f"Sorted by {name}, the lowest first; press a column's head to sort by it. For an error: the change "
                      f"of the class's own {name} when it is fixed everywhere.")]  # fmt: skip
    if len(with_objects) > MOST_ROWS:
        parts.append(tag("p", f"The {MOST_ROWS} lowest of {len(with_objects):,} classes.", class_="note"))
    without = len(gt.category_id) - len(with_objects)
    if without:
        parts.append(tag("p", f"{without:,} classes have no object here, and so no AP.", class_="note"))
    return Section("classes", "Classes", "Class by class", join([*parts, tabs("classes", panels)]))


def tabs(name: str, panels: Sequence[tuple[Markup | str, Markup]]) -> Markup:
    """Panels of which the script shows one at a time; without a script all stand one below the other."""
    return tag(
        "div",
        tag(
            "div",
            *(
                tag("button", label, type="button", role="tab", id=f"{name}-tab-{n}", aria_controls=f"{name}-panel-{n}",
                    aria_selected="false")
                for n, (label, _) in enumerate(panels)
            ),
            class_="tablist", role="tablist", aria_label="Runs", hidden=True,
        ),
        *(
            tag("div", tag("h3", label, class_="panel-title"), body, id=f"{name}-panel-{n}", class_="panel")
            for n, (label, body) in enumerate(panels)
        ),
        class_="tabs",
    )  # fmt: skip


def _head(columns: Sequence[tuple[str, str]]) -> Markup:
    """Column heads with a button each, which the script makes sort; ``(title, kind)``, kind num or empty."""
    return tag(
        "thead",
        tag(
            "tr",
            *(
                tag("th", tag("button", title, type="button", class_="sort") if kind != "plain" else title, scope="col",
                    class_="num" if kind == "num" else None)
                for title, kind in columns
            ),
        ),
    )  # fmt: skip


def _number(value: float, digits: int, class_: str = "num") -> Markup:
    if np.isnan(value):
        return tag("td", "–", class_="num", data_value=-1)
    return tag("td", f"{value:.{digits}f}", class_=class_, data_value=round(value, 4))


def _side_by_side(material: Material, shown: Ints, name: str) -> Markup:
    scale = Scale(0, 100)
    rows = []
    for c in shown.tolist():
        values = [float(one.breakdown.category_ap[c]) for one in material.runs]
        rows.append(
            tag(
                "tr",
                tag("th", material.ground_truth.category_name[c], scope="row"),
                tag("td", f"{material.objects[c]:,}", class_="num", data_value=int(material.objects[c])),
                tag("td", dots(values, scale), class_="plot"),
                *(_number(value, 1) for value in values),
            )
        )
    columns = [("Class", ""), ("Objects", "num"), (f"{name}, 0 to 100", "plain")]
    columns += [(run_letter(n), "num") for n in range(len(material.runs))]
    table = tag("table", _head(columns), tag("tbody", *rows), class_="sortable wide")
    return join([legend(material.names), scrolling(table, f"{name} of every class and run")])


def _of_run(material: Material, one: RunMaterial, shown: Ints, name: str) -> Markup:
    breakdown = one.breakdown
    number = material.runs.index(one)
    most = max((float(np.nanmax(breakdown.category_raw[error][shown], initial=0)) for error in ERRORS), default=0.0)
    rows = [
        tag(
            "tr",
            tag("th", material.ground_truth.category_name[c], scope="row"),
            tag("td", f"{material.objects[c]:,}", class_="num", data_value=int(material.objects[c])),
            tag("td", bar(float(np.nan_to_num(breakdown.category_ap[c])), Scale(0, 100), run_class(number)), class_="plot"),
            _number(float(breakdown.category_ap[c]), 1, "num lead"),
            *(_shaded(float(breakdown.category_raw[error][c]), most) for error in ERRORS),
        )
        for c in shown.tolist()
    ]
    columns = [("Class", ""), ("Objects", "num"), ("", "plain"), (name, "num"), *((error, "num") for error in ERRORS)]
    table = tag("table", _head(columns), tag("tbody", *rows), class_="sortable shades wide")
    return scrolling(table, f"Classes of {one.name}")


def _shaded(value: float, most: float) -> Markup:
    return _number(value, 1, f"num {shade(value, most)}")


def confusion(material: Material) -> Section:
    """Which class is taken for which, by run: the commonest pairs, and a matrix of the classes concerned."""
    panels = [
        (run_name(number, one.name), _confusion_of(material, number, one)) for number, one in enumerate(material.runs)
    ]
    text = (
        f"Detections in the right place (IoU {material.settings.iou:g} or more) with the wrong class, whether or not "
        "their object was also found rightly."
    )
    return Section("confusion", "Confusion", "Which class is taken for which", join([tag("p", text), tabs("confusion", panels)]))


def _confusion_of(material: Material, number: int, one: RunMaterial) -> Markup:
    names = material.ground_truth.category_name
    pairs = one.confusion.most_confused(MOST_PAIRS)
    if not pairs:
        return tag("p", "No detection has the right place and a wrong class.", class_="note")
    scale = Scale.over([count for _, _, count, _ in pairs])
    rows = [
        tag(
            "tr",
            tag("th", names[true], tag("span", " taken for ", class_="dim"), names[predicted], scope="row"),
            tag("td", bar(count, scale, run_class(number)), class_="plot"),
            tag("td", f"{count:,}", class_="num lead"),
            tag("td", f"{objects:,}", class_="num dim"),
        )
        for true, predicted, count, objects in pairs
    ]
    head = ("Pair", "As a bar", "Detections", "Objects lost")
    listed = tag(
        "table", tag("caption", "The commonest, and how many objects were lost to it"),
        tag("thead", tag("tr", *(tag("th", h, scope="col", class_="num" if n > 1 else None) for n, h in enumerate(head)))),
        tag("tbody", *rows), class_="bars pairs",
    )  # fmt: skip
    return tag("div", listed, _matrix(material, one), class_="beside")


def _matrix(material: Material, one: RunMaterial) -> Markup:
    """Rows: what objects are; columns: what they are taken for; the classes with most confusion."""
    whole = one.confusion.matrix
    wrong = whole * (1 - np.eye(len(whole), dtype=np.int64))
    weight = wrong.sum(axis=0) + wrong.sum(axis=1)
    chosen = np.sort(np.argsort(-weight, kind="stable")[: min(MATRIX_SIDE, int((weight > 0).sum()))])
    names = material.ground_truth.category_name
    part = wrong[np.ix_(chosen, chosen)]
    most = float(part.max(initial=1))
    rows = [
        tag(
            "tr", tag("th", names[true], scope="row"),
            *(
                tag("td", f"{whole[true, predicted]:,}" if true != predicted and whole[true, predicted] else "",
                    class_="same" if true == predicted else f"num {shade(float(np.sqrt(whole[true, predicted] / most)), 1)}",
                    title=f"{names[true]} taken for {names[predicted]}: {whole[true, predicted]:,}"
                    if true != predicted else None)
                for predicted in chosen.tolist()
            ),
        )
        for true in chosen.tolist()
    ]  # fmt: skip
    head = [tag("td", "is ↓ taken for →", class_="dim corner"), *(tag("th", tag("span", names[c]), scope="col") for c in chosen.tolist())]
    table = tag(
        "table", tag("caption", f"The {len(chosen)} classes most concerned"), tag("thead", tag("tr", *head)),
        tag("tbody", *rows), class_="matrix",
    )  # fmt: skip
    return scrolling(table, f"Confusion matrix of {one.name}")
