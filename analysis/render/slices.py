"""Where the AP went, for programs: frames with a row a class, size, threshold, object ..., and the same as JSON.

Where the AP went, read aloud: a sentence for each part, with its numbers.

Where the AP went, as tables for a paper: the first rows of each part, rounded, with what they mean.

Where the AP went, in a terminal: the parts that were asked for, each with what to see in it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run, RunAnalysis
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.matched_run import CLS, DUP, LOC
from analysis.evaluation.outcomes import FOUND, IGNORED, OUTCOME_NAMES
from analysis.evaluation.settings import Settings
from analysis.evaluation.slices import ClassErrors, IouErrors, Size, SizeErrors
from analysis.render.errors import COLORS, SIDE_BY_SIDE, ap_name, settings_sentence
from analysis.render.printed_tables import Printed, one_line

if TYPE_CHECKING:
    import pandas as pd


Columns = dict[str | tuple[str, str], Any]


def _columns(ground_truth: GroundTruth, one: RunAnalysis) -> dict[str, Columns]:
    """The columns of every part that was computed, by the name of its file; a pair is a group and an error."""
    found: dict[str, Columns] = {}
    if one.classes:
        found["by_class"] = {
            "class": list(one.classes.names),
            "objects": one.classes.positives,
            "detections": one.classes.detections,
            "true_positives": one.classes.true_positives,
            "ap": one.classes.ap,
            **_errors(one.classes, (*ERRORS, *SPECIAL)),
        }
    if one.sizes:
        found["by_size"] = {
            "size": [size.name for size in one.sizes.sizes],
            "low": [size.low for size in one.sizes.sizes],
            "high": [size.high if math.isfinite(size.high) else None for size in one.sizes.sizes],
            "objects": one.sizes.objects,
            "found": one.sizes.found,
            **_errors(one.sizes, ERRORS),
        }
    if one.ious:
        found["by_iou"] = {
            "iou": one.ious.ious.round(12),
            "ap": one.ious.ap,
            **_errors(one.ious, (*ERRORS, *SPECIAL)),
        }
    if one.crowding:
        bins = one.crowding
        found["by_crowding"] = {
            "crowding": list(bins.names),
            "low": bins.low,
            "high": bins.high,
            "objects": bins.objects,
            **{name: bins.outcome[:, i] for i, name in enumerate(OUTCOME_NAMES) if i != IGNORED},
            "duplicates": bins.duplicates,
            "recall": bins.recall,
            "miss_rate": bins.miss_rate,
            "duplicate_rate": bins.duplicate_rate,
        }
    if one.confusion:
        names = np.array(ground_truth.category_name, dtype=object)
        found["confusion"] = {
            "true": names[one.confusion.true],
            "predicted": names[one.confusion.predicted],
            "detections": one.confusion.count,
            "objects": one.confusion.objects,
            "delta_ap": one.confusion.cost,
        }
    return found


def _errors(part: ClassErrors | SizeErrors | IouErrors, errors: Sequence[str]) -> Columns:
    return {
        **{("delta_ap", name): part.delta_ap[name] for name in errors},
        **{("raw_delta_ap", name): part.raw[name] for name in errors},
        **{("count", name): part.count[name] for name in ERRORS},
    }


def where_entry(ground_truth: GroundTruth, one: RunAnalysis) -> dict[str, Any]:
    """What the JSON document says of a run beside its breakdown; NaN and infinity become null."""
    entry: dict[str, Any] = {"fates": one.outcomes.count}
    for name, columns in _columns(ground_truth, one).items():
        values = {key: column.tolist() if isinstance(column, np.ndarray) else column for key, column in columns.items()}
        records: list[dict[str, Any]] = [{} for _ in next(iter(values.values()))]
        for key, column in values.items():
            for record, value in zip(records, column, strict=True):
                if isinstance(key, tuple):
                    record.setdefault(key[0], {})[key[1]] = value
                else:
                    record[key] = value
        entry[name] = records
    if one.ious:
        entry["mean_over_iou"] = {"ap": one.ious.mean_ap, "delta_ap": one.ious.mean_delta_ap}
    return entry


def where_frames(ground_truth: GroundTruth, found: Sequence[RunAnalysis]) -> "dict[str, pd.DataFrame]":
    """A frame with a row a run and class, size ... for each part that was computed, by the name of its file."""
    import pandas as pd

    frames: dict[str, list[pd.DataFrame]] = {}
    for one in found:
        for name, columns in _columns(ground_truth, one).items():
            flat = {"_".join(key) if isinstance(key, tuple) else key: column for key, column in columns.items()}
            frames.setdefault(name, []).append(pd.DataFrame({"run": one.run.name, **flat}))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}


def objects_frame(
    ground_truth: GroundTruth, found: Sequence[RunAnalysis], crowding: NDArray[np.float64]
) -> "pd.DataFrame":
    """One row a run and object: its fate, by which detection, and how many errors point at it.

    ``row`` is the place in the prediction file of the detection that took the object or has the best claim to it;
    ``by_category``, ``score`` and ``iou`` are its; all are empty where nothing points at the object. ``crowding`` is
    the highest IoU with another object of its category.
    """
    import pandas as pd

    names = np.array(ground_truth.category_name, dtype=object)
    frames = []
    for one in found:
        dt, labels, by = one.run.detections, one.run.breakdown.labels, one.outcomes.by
        pointed = by >= 0

        def of_detection(values: NDArray[Any], kind: Any, pointed: Any = pointed, by: Any = by) -> "pd.Series":
            column = pd.Series([None] * len(by), dtype=kind)
            column[pointed] = values[by[pointed]]
            return column

        frames.append(
            pd.DataFrame(
                {
                    "run": one.run.name,
                    "annotation_id": ground_truth.annotation_id,
                    "image_id": np.array(ground_truth.image_id)[ground_truth.image],
                    "category": names[ground_truth.category],
                    "area": ground_truth.area_of(one.run.breakdown.settings.iou_type),
                    "crowding": crowding,
                    "fate": np.array(OUTCOME_NAMES)[one.outcomes.outcome],
                    "row": of_detection(dt.row, "Int64"),
                    "by_category": of_detection(names[dt.category], object),
                    "score": of_detection(dt.score, np.float64),
                    "iou": of_detection(labels.iou, np.float64),
                    **{
                        f"{name}_errors": np.bincount(labels.target[labels.error == error], minlength=len(by))
                        for name, error in (("cls", CLS), ("loc", LOC), ("dup", DUP))
                    },
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


ENOUGH_OBJECTS = 20  # of a class, before a sentence is made of it
CROWDED = 0.5  # IoU from which OCHuman calls an object heavily occluded


def where_findings(ground_truth: GroundTruth, one: RunAnalysis) -> dict[str, str]:
    """A sentence for every part that was computed and has something to say, by the name of the part."""
    sentences = {
        "class": _of_classes(one),
        "size": _of_sizes(one),
        "iou": _of_thresholds(one),
        "crowding": _of_crowding(one),
        "confusion": _of_confusion(ground_truth, one),
    }
    return {part: sentence for part, sentence in sentences.items() if sentence}


def _of_classes(one: RunAnalysis) -> str:
    classes = one.classes
    if classes is None:
        return ""
    ap = ap_name(classes.settings.iou)
    for c in classes.costliest().tolist():
        if classes.positives[c] >= ENOUGH_OBJECTS:
            error = max(ERRORS, key=lambda e: np.nan_to_num(classes.delta_ap[e][c]))
            return (
                f"of the classes with {ENOUGH_OBJECTS} objects or more, {classes.names[c]} has most to gain: with "
                f"{error} fixed, its {ap} would go from {classes.ap[c]:.1f} to "
                f"{classes.ap[c] + classes.delta_ap[error][c]:.1f}"
            )
    return ""


def _of_sizes(one: RunAnalysis) -> str:
    sizes = one.sizes
    if sizes is None:
        return ""
    ap = ap_name(sizes.settings.iou)
    parts = []
    for place, size in enumerate(sizes.sizes):
        error = max(ERRORS, key=lambda e: sizes.delta_ap[e][place])
        if sizes.delta_ap[error][place] > 0.05:
            parts.append(f"{size.name} {error} ({sizes.delta_ap[error][place]:.1f})")
    costs = f"{ap} is lost most to " + ", ".join(parts) if parts else ""
    known = [s for s in range(len(sizes.sizes)) if sizes.objects[s]]
    shares = [f"{100 * sizes.found[s] / sizes.objects[s]:.0f} % of the {sizes.sizes[s].name}" for s in known]
    return "; ".join(part for part in (costs, f"found are {', '.join(shares)} objects" if shares else "") if part)


def _of_thresholds(one: RunAnalysis) -> str:
    ious = one.ious
    if ious is None or not len(ious.ious):
        return ""
    first, last = 0, len(ious.ious) - 1
    error = max(ERRORS, key=lambda e: ious.mean_delta_ap[e])
    return (
        f"AP falls from {ious.ap[first]:.1f} at IoU {ious.ious[first]:.2f} to {ious.ap[last]:.1f} at "
        f"{ious.ious[last]:.2f}; over all thresholds {error} costs most: with it fixed, the mean would go from "
        f"{ious.mean_ap:.1f} to {ious.mean_ap + ious.mean_delta_ap[error]:.1f}"
    )


def _of_crowding(one: RunAnalysis) -> str:
    bins = one.crowding
    if bins is None:
        return ""
    crowded = bins.low >= CROWDED
    objects, found = int(bins.objects[crowded].sum()), int(bins.outcome[crowded, FOUND].sum())
    if not objects or not bins.objects[0]:
        return ""
    return (
        f"{100 * bins.recall[0]:.0f} % of the objects that overlap no other of their class are found, and "
        f"{100 * found / objects:.0f} % of those that overlap one by more than {CROWDED:g} ({objects:,} objects)"
    )


def _of_confusion(ground_truth: GroundTruth, one: RunAnalysis) -> str:
    confusion = one.confusion
    if confusion is None or not len(confusion.wrong(1)):
        return ""
    names, i = ground_truth.category_name, int(confusion.wrong(1)[0])
    pair = f"{names[confusion.true[i]]} taken for {names[confusion.predicted[i]]}"
    first = f"the most frequent is {pair}"
    if confusion.cost is not None:
        ap = ap_name(one.run.breakdown.settings.iou)
        first = f"the costliest is {pair}: {confusion.cost[i]:.2f} {ap}"
    count, objects = int(confusion.count[i]), int(confusion.objects[i])
    return (
        f"{first}, {count:,} detection{'s' * (count != 1)}, {f'{objects:,}' if objects else 'no'} "
        f"object{'s' * (objects > 1)} lost to it"
    )


MOST_ROWS = 20  # classes and confused pairs of a run; the CSV has all


def size_sentence(sizes: Sequence[Size], convention: str) -> str:
    """What the names of the sizes mean, and of what they are.

    >>> from analysis.evaluation.slices import COCO_SIZES
    >>> print(size_sentence(COCO_SIZES, "coco").partition(";")[0])
    Area (COCO's, square pixels) small: up to 32 x 32, medium: 32 x 32 to 96 x 96, large: above 96 x 96
    """
    ranges = []
    for size in sizes:
        low, high = (f"{side:g} x {side:g}" for side in (size.low, size.high))
        limits = f"{low} to {high}" if size.low else f"up to {high}"
        ranges.append(f"{size.name}: {f'above {low}' if math.isinf(size.high) else limits}")
    area = "the box's" if convention == "tidecv" else "COCO's"
    return (
        f"Area ({area}, square pixels) {', '.join(ranges)}; of the object for cls, loc and miss, of the detection for "
        "both, dup and bg."
    )


def errors_printed(ground_truth: GroundTruth, settings: Settings, runs: Sequence[Run]) -> Printed:
    """The breakdown itself, a row a run."""
    rows = []
    for run in runs:
        values = [run.breakdown.ap, *(run.breakdown.delta_ap[e] for e in (*ERRORS, *SPECIAL))]
        rows.append((run.name, *map(_points, values)))
    ap = ap_name(settings.iou)
    return Printed(
        f"{ap}, and the points of it to gain by fixing one type of error alone",
        ("run", ap, *ERRORS, "FP", "FN"),
        tuple(rows),
        notes=(_made_from(ground_truth, settings),),
    )


def where_printed(ground_truth: GroundTruth, settings: Settings, found: Sequence[RunAnalysis]) -> dict[str, Printed]:
    """The parts that were computed, by the name of their file."""
    ap, made_from = ap_name(settings.iou), _made_from(ground_truth, settings)
    names = ground_truth.category_name
    tables: dict[str, Printed] = {}

    def add(file: str, title: str, head: Sequence[str], rows: list[tuple[str, ...]], words: int, *notes: str) -> None:
        if rows:
            tables[file] = Printed(title, ("run", *head), tuple(rows), words, (*notes, made_from))

    add(
        "by_class",
        f"Points of each class's own {ap} to gain by fixing one type of error everywhere",
        ("class", "objects", ap, *ERRORS),
        [
            (
                one.run.name,
                one.classes.names[c],
                f"{one.classes.positives[c]:,}",
                _points(one.classes.ap[c]),
                *(_points(one.classes.delta_ap[e][c]) for e in ERRORS),
            )
            for one in found
            if one.classes
            for c in one.classes.costliest(MOST_ROWS).tolist()
        ],
        2,
        f"The {MOST_ROWS} classes of each run that have most to gain from a single type.",
    )
    add(
        "by_size",
        f"Points of {ap} to gain by fixing only the errors of one size",
        ("size", "objects", "found (%)", *ERRORS),
        [
            (
                one.run.name,
                size.name,
                f"{one.sizes.objects[s]:,}",
                percent(one.sizes.found[s], one.sizes.objects[s]),
                *(_points(one.sizes.delta_ap[e][s]) for e in ERRORS),
            )
            for one in found
            if one.sizes
            for s, size in enumerate(one.sizes.sizes)
        ],
        2,
        *(size_sentence(one.sizes.sizes, settings.convention) for one in found[:1] if one.sizes),
    )
    add(
        "by_iou",
        "AP at each IoU threshold, and the points of it to gain by fixing one type of error",
        ("IoU", "AP", *ERRORS, "FP", "FN"),
        [
            (one.run.name, threshold, *map(_points, values))
            for one in found
            if one.ious
            for threshold, values in [
                *(
                    (f"{iou:.2f}", [one.ious.ap[t], *(one.ious.delta_ap[e][t] for e in (*ERRORS, *SPECIAL))])
                    for t, iou in enumerate(one.ious.ious.tolist())
                ),
                ("mean", [one.ious.mean_ap, *(one.ious.mean_delta_ap[e] for e in (*ERRORS, *SPECIAL))]),
            ]
        ],
        2,
    )
    add(
        "by_crowding",
        "What became of the objects, by their highest IoU with another of their class",
        ("IoU", "objects", *(name for i, name in enumerate(OUTCOME_NAMES) if i != IGNORED), "duplicates"),
        [
            (
                one.run.name,
                bin_,
                f"{objects:,}",
                *(percent(one.crowding.outcome[b, i], objects) for i in range(len(OUTCOME_NAMES)) if i != IGNORED),
                _points(one.crowding.duplicate_rate[b]),
            )
            for one in found
            if one.crowding
            for b, (bin_, objects) in enumerate(zip(one.crowding.names, one.crowding.objects.tolist(), strict=True))
        ],
        2,
        "Fates in % of the objects; duplicates for each found object.",
    )
    add(
        "confusion",
        f"Which class is taken for which, and the points of {ap} to gain if it were not",
        ("class", "taken for", "detections", "objects lost", "to gain"),
        [
            (
                one.run.name,
                names[one.confusion.true[i]],
                names[one.confusion.predicted[i]],
                f"{one.confusion.count[i]:,}",
                f"{one.confusion.objects[i]:,}",
                _points(one.confusion.cost[i]) if one.confusion.cost is not None else "",
            )
            for one in found
            if one.confusion
            for i in one.confusion.wrong(MOST_ROWS).tolist()
        ],
        3,
        "cls errors; an object is lost to one if it was not found and no better claim to it was made.",
    )
    return tables


def percent(part: int, whole: int) -> str:
    """A share as a whole number of percent, empty where there is nothing.

    >>> percent(1, 3), percent(0, 0)
    ('33', '')
    """
    return f"{100 * part / whole:.0f}" if whole else ""


def _points(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _made_from(ground_truth: GroundTruth, settings: Settings) -> str:
    return (
        f"{settings_sentence(settings)} Ground truth: {ground_truth.path.name}, {len(ground_truth.image_id):,} images, "
        f"{len(ground_truth):,} objects, digest {ground_truth.digest[:12]}."
    )


FIRST_ROWS = 10  # classes and confused pairs of a run; with many runs fewer
FIRST_OF_MANY = 5
LONGEST_NAME = 32


def where_screen(
    ground_truth: GroundTruth, settings: Settings, found: Sequence[RunAnalysis], everything: bool = False
) -> list[RenderableType]:
    """The parts one below the other; ``everything``: all classes and pairs, not only the first."""
    most = None if everything else FIRST_ROWS if len(found) <= SIDE_BY_SIDE else FIRST_OF_MANY
    ap = ap_name(settings.iou)
    sentences = [where_findings(ground_truth, one) for one in found]
    screen: list[RenderableType] = []

    def part(name: str, title: str, table: Table, note: str = "") -> None:
        if not table.row_count:
            return
        grid = Table.grid(padding=(0, 2))
        for one, said in zip(found, sentences, strict=True):
            if name in said:
                grid.add_row(Text(_short(one.run.name), style="bold"), Text(one_line(said[name])))
        said_first: list[RenderableType] = [grid, Text("")] if grid.row_count else []
        screen.extend([Text(""), Text(title, style="bold underline"), *said_first, table])
        if note:
            screen.append(Text(note, style="dim"))

    part("class", f"By class: points of its own {ap} to gain by fixing one type of error everywhere",
         _classes(found, ap, most), _of_how_many(found, most))  # fmt: skip
    if found[0].sizes:
        part("size", f"By size: points of {ap} to gain by fixing only the errors of one size", _sizes(found),
             size_sentence(found[0].sizes.sizes, settings.convention))  # fmt: skip
    part("iou", "By threshold: points of AP to gain at each IoU from which a detection is right", _thresholds(found))
    part("crowding", "By crowding: objects by their highest IoU with another of their class, and what became of them",
         _crowding(found), "In % of the objects; dup: second detections for each found object.")  # fmt: skip
    part("confusion", f"Confusion: points of {ap} to gain if objects of one class were not taken for another",
         _confusion(ground_truth, found, most),
         "lost: objects that were not found, with this as the best claim to them.")  # fmt: skip
    return screen


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _table(found: Sequence[RunAnalysis], *heads: str, words: int = 1) -> Table:
    """A table whose first column is the run where there are several."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    if len(found) > 1:
        table.add_column("run", no_wrap=True)
    for number, head in enumerate(heads):
        table.add_column(Text(head, style=COLORS.get(head, "")), justify="left" if number < words else "right")
    return table


def _add(
    table: Table, found: Sequence[RunAnalysis], one: RunAnalysis, first: bool, cells: Sequence[str | Text]
) -> None:
    """A row; the run's name stands in its first one, after a free line."""
    if len(found) > 1:
        if first and table.row_count:
            table.add_row()
        cells = [Text(_short(one.run.name) if first else "", style="bold"), *cells]
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _gains(values: Sequence[float]) -> list[Text]:
    """Points, the largest marked."""
    most = max((v for v in values if not np.isnan(v)), default=0.0)
    return [
        Text("-" if np.isnan(v) else f"{v:.2f}", style=f"bold {COLORS[e]}" if v == most > 0 else "")
        for e, v in zip(ERRORS, values, strict=True)
    ]


def _classes(found: Sequence[RunAnalysis], ap: str, most: int | None) -> Table:
    table = _table(found, "class", "objects", ap, *ERRORS)
    for one, classes in [(one, one.classes) for one in found if one.classes]:
        for place, c in enumerate(classes.costliest(most).tolist()):
            gains = _gains([classes.delta_ap[e][c] for e in ERRORS])
            head = [_short(classes.names[c]), f"{classes.positives[c]:,}", f"{classes.ap[c]:.1f}"]
            _add(table, found, one, not place, [*head, *gains])
    return table


def _of_how_many(found: Sequence[RunAnalysis], most: int | None) -> str:
    classes = found[0].classes
    known = len(classes.costliest()) if classes else 0
    if most is None or known <= most:
        return ""
    return f"The {most} of {known:,} classes with most to gain from a single type; --all shows every class."


def _sizes(found: Sequence[RunAnalysis]) -> Table:
    table = _table(found, "size", "objects", "found %", *ERRORS)
    for one, sizes in [(one, one.sizes) for one in found if one.sizes]:
        for place, size in enumerate(sizes.sizes):
            gains = _gains([sizes.delta_ap[e][place] for e in ERRORS])
            share = percent(sizes.found[place], sizes.objects[place]) or "-"
            _add(table, found, one, not place, [_short(size.name), f"{sizes.objects[place]:,}", share, *gains])
    return table


def _thresholds(found: Sequence[RunAnalysis]) -> Table:
    """All thresholds of a few runs, the mean of many."""
    table = _table(found, "IoU", "AP", *ERRORS)
    for one, ious in [(one, one.ious) for one in found if one.ious]:
        rows = range(len(ious.ious)) if len(found) <= SIDE_BY_SIDE else ()
        for place in rows:
            gains = _gains([ious.delta_ap[e][place] for e in ERRORS])
            _add(table, found, one, not place, [f"{ious.ious[place]:.2f}", f"{ious.ap[place]:.1f}", *gains])
        mean = [Text("mean", style="bold"), Text(f"{ious.mean_ap:.1f}", style="bold")]
        _add(table, found, one, not rows, [*mean, *_gains([ious.mean_delta_ap[e] for e in ERRORS])])
    return table


def _crowding(found: Sequence[RunAnalysis]) -> Table:
    table = _table(found, "IoU", "objects", *(name for i, name in enumerate(OUTCOME_NAMES) if i != IGNORED), "dup")
    for one, bins in [(one, one.crowding) for one in found if one.crowding]:
        rows = [*zip(bins.names, bins.outcome, bins.duplicates, strict=True)]
        rows.append(("all", bins.outcome.sum(axis=0), bins.duplicates.sum()))
        for place, (name, outcome, duplicates) in enumerate(rows):
            objects = int(outcome.sum() - outcome[IGNORED])
            shares = [percent(outcome[i], objects) or "-" for i in range(len(OUTCOME_NAMES)) if i != IGNORED]
            twice = f"{duplicates / outcome[FOUND]:.2f}" if outcome[FOUND] else "-"
            _add(table, found, one, not place, [name, f"{objects:,}", *shares, twice])
    return table


def _confusion(ground_truth: GroundTruth, found: Sequence[RunAnalysis], most: int | None) -> Table:
    table = _table(found, "class", "taken for", "to gain", "detections", "lost", words=2)
    names = ground_truth.category_name
    for one, confusion in [(one, one.confusion) for one in found if one.confusion]:
        for place, i in enumerate(confusion.wrong(most).tolist()):
            gain = "-" if confusion.cost is None else f"{confusion.cost[i]:.2f}"
            pair = [_short(names[confusion.true[i]]), _short(names[confusion.predicted[i]])]
            _add(table, found, one, not place, [*pair, gain, f"{confusion.count[i]:,}", f"{confusion.objects[i]:,}"])
    return table
