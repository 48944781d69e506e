"""Where the AP went, as tables for a paper: the first rows of each part, rounded, with what they mean."""

import math
from collections.abc import Sequence

from analysis.error_types import ERRORS, SPECIAL, Settings
from analysis.fates import FATE_NAMES, IGNORED
from analysis.ground_truth import GroundTruth
from analysis.printed import Printed
from analysis.runs import Run
from analysis.tables import ap_name, settings_sentence
from analysis.where.analysis import Where
from analysis.where.by_size import Size

MOST_ROWS = 20  # classes and confused pairs of a run; the CSV has all


def size_sentence(sizes: Sequence[Size], convention: str) -> str:
    """What the names of the sizes mean, and of what they are.

    >>> from analysis.where.by_size import COCO_SIZES
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


def where_printed(ground_truth: GroundTruth, settings: Settings, found: Sequence[Where]) -> dict[str, Printed]:
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
        ("IoU", "objects", *(name for i, name in enumerate(FATE_NAMES) if i != IGNORED), "duplicates"),
        [
            (
                one.run.name,
                bin_,
                f"{objects:,}",
                *(percent(one.crowding.fate[b, i], objects) for i in range(len(FATE_NAMES)) if i != IGNORED),
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
