"""Where the AP went, read aloud: a sentence for each part, with its numbers."""

import numpy as np

from analysis.error_types import ERRORS
from analysis.fates import FOUND
from analysis.ground_truth import GroundTruth
from analysis.tables import ap_name
from analysis.where.analysis import Where

ENOUGH_OBJECTS = 20  # of a class, before a sentence is made of it
CROWDED = 0.5  # IoU from which OCHuman calls an object heavily occluded


def where_findings(ground_truth: GroundTruth, one: Where) -> dict[str, str]:
    """A sentence for every part that was computed and has something to say, by the name of the part."""
    sentences = {
        "class": _of_classes(one),
        "size": _of_sizes(one),
        "iou": _of_thresholds(one),
        "crowding": _of_crowding(one),
        "confusion": _of_confusion(ground_truth, one),
    }
    return {part: sentence for part, sentence in sentences.items() if sentence}


def _of_classes(one: Where) -> str:
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


def _of_sizes(one: Where) -> str:
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


def _of_thresholds(one: Where) -> str:
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


def _of_crowding(one: Where) -> str:
    bins = one.crowding
    if bins is None:
        return ""
    crowded = bins.low >= CROWDED
    objects, found = int(bins.objects[crowded].sum()), int(bins.fate[crowded, FOUND].sum())
    if not objects or not bins.objects[0]:
        return ""
    return (
        f"{100 * bins.recall[0]:.0f} % of the objects that overlap no other of their class are found, and "
        f"{100 * found / objects:.0f} % of those that overlap one by more than {CROWDED:g} ({objects:,} objects)"
    )


def _of_confusion(ground_truth: GroundTruth, one: Where) -> str:
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
