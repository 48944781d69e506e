"""Average precision as the devkit of Pascal VOC computes it, where it differs from COCO's.

Each detection, by descending score, is held against the object of its class that it overlaps most, taken or not: the
first detection that overlaps it enough is right, every further one wrong. One on a difficult object does not count, and
difficult objects need not be found. There is no cap. AP is the mean precision at 11 recalls (2007), or the area under
the envelope of the curve (2010 on). Boxes are x, y, width, height: files with width = xmax - xmin + 1 have the
devkit's IoU.
"""

from dataclasses import dataclass

import numpy as np

from analysis.arrays import Bools, Floats, Ints, best_in_group, order_by_index
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import best_from_here
from analysis.evaluation.matching import build_pairs, score_order
from analysis.exceptions import BadInput
from analysis.presentation import Presentable

YEARS = ("07", "10")


@dataclass(frozen=True, eq=False, repr=False)
class VocAP(Presentable):
    """VOC's AP in points (0..100) of each category, and its counts."""

    year: str  # 07: 11 points; 10: all points
    iou: float
    mean: float  # over the categories with objects that are not difficult; -1: there is none
    category: Floats  # [K] NaN: no such object
    objects: Ints  # [K] not difficult
    detections: Ints  # [K] that count
    true_positives: Ints  # [K]
    category_names: tuple[str, ...]  # [K]


def voc_ap(
    ground_truth: GroundTruth,
    detections: Detections,
    year: str = "07",
    *,
    iou: float = 0.5,
    min_score: float | None = None,
) -> VocAP:
    """The AP of boxes by the rule of the VOC devkit.

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`; objects with ``ignore: 1`` and crowds are difficult.
        detections: from :func:`analysis.read_detections`.
        year: ``07`` or ``10``.
        iou: lowest IoU of a correct detection.
        min_score: detections with a lower score are left out.

    Raises:
        BadInput: another year, an IoU outside 0..1, or an LVIS ground truth.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> 0 < voc_ap(gt, dt, "10").mean < 100
    True
    """
    if year not in YEARS:
        raise BadInput(f"VOC rule {year!r} is unknown; choose 07 (11 points) or 10 (all points)")
    if not 0 < iou <= 1:
        raise BadInput(f"the IoU {iou:g} must be above 0 and up to 1")
    if ground_truth.federated:
        raise BadInput(f"{ground_truth.path}: this is an LVIS file, which VOC's rules do not fit; leave out --voc")
    classes = len(ground_truth.category_id)
    order = score_order(detections, np.arange(len(ground_truth.image_id)))
    if min_score is not None:
        order = order[detections.score[order] >= min_score]
    right, counts = _match(ground_truth, detections, order, iou)
    difficult = ground_truth.marked | ground_truth.crowd
    objects = np.bincount(ground_truth.category[~difficult], minlength=classes)
    category = detections.category[order]
    found = np.full(classes, np.nan)
    for one in np.flatnonzero(objects).tolist():
        hits = np.flatnonzero(right[(category == one) & counts]) + 1
        found[one] = 100 * _average(hits, int(objects[one]), year)
    known = ~np.isnan(found)
    return VocAP(
        year,
        iou,
        float(found[known].mean()) if known.any() else -1.0,
        found,
        objects,
        np.bincount(category[counts], minlength=classes),
        np.bincount(category[right], minlength=classes),
        tuple(ground_truth.category_name),
    )


def _match(ground_truth: GroundTruth, detections: Detections, order: Ints, iou: float) -> tuple[Bools, Bools]:
    """Of the detections in ``order``, by descending score: bool[n] which are right, bool[n] which count."""
    by_image = order_by_index(detections.image[order], len(ground_truth.image_id))
    rows = order[by_image]
    pairs = build_pairs(ground_truth, detections, rows, "bbox", np.zeros(len(ground_truth), dtype=np.bool_))
    same = np.flatnonzero(detections.category[rows[pairs.detection]] == ground_truth.category[pairs.truth])
    own = pairs.at(same)
    detection, best = best_in_group(own.detection, own.iou)
    enough = own.iou[best] >= iou
    place, target = by_image[detection[enough]], own.truth[best[enough]]  # places in the order by score
    first = np.argsort(place)
    place, target = place[first], target[first]
    difficult = (ground_truth.marked | ground_truth.crowd)[target]
    right, counts = np.zeros(len(order), dtype=np.bool_), np.ones(len(order), dtype=np.bool_)
    counts[place[difficult]] = False
    place, target = place[~difficult], target[~difficult]
    right[place[np.unique(target, return_index=True)[1]]] = True
    return right, counts


def _average(hits: Ints, objects: int, year: str) -> float:
    """AP (0..1) from the ranks i64[H], from 1, of the true positives among the detections that count."""
    number = np.arange(1, len(hits) + 1)
    envelope = np.append(best_from_here(number / np.maximum(hits, 1)), 0.0)
    if year == "10":
        return float(envelope[:-1].sum() / objects)
    # Recall r is reached by the first hit whose number is at least r times the objects, in whole numbers.
    needed = np.maximum(-(-np.arange(11) * objects // 10), 1)
    return float(envelope[np.minimum(needed - 1, len(hits))].mean())
