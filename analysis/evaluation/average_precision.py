"""Precision-recall and 101-point average precision from flags, and COCO's 12 numbers."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analysis.arrays import Bools, Floats, Ints, order_by_index, place_in_group
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.matching import Candidates, build_pairs, candidates, match_greedily

COCO_RECALLS: Floats = np.linspace(0.0, 1.00, 101)
COCO_IOUS: Floats = np.linspace(0.5, 0.95, 10)
AREA_RANGES: dict[str, tuple[float, float]] = {  # square pixels, both ends inclusive
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
EPSILON = np.spacing(1)  # COCOeval's guard in the denominator of the precision


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections in descending order of score within their category, categories one after another."""

    rows: Ints  # [N] positions in whatever the caller numbers
    category: Ints  # [N] of each, ascending
    start: Ints  # [K + 1] where each category begins


def rank(order: Ints, category: Ints, categories: int) -> Ranking:
    """Split an order by score ``i64[N]`` (positions) into categories, keeping it within each."""
    rows = order[order_by_index(category[order], categories)]
    count = np.bincount(category, minlength=categories)
    return Ranking(rows, category[rows], np.concatenate([[0], np.cumsum(count)]))


def recall_steps(positives: Ints, recalls: Floats) -> Ints:
    """The number of true positives i64[K, R] at which each recall is first reached, for i64[K] objects a category.

    The same as ``searchsorted(arange(1, ...) / positives, recalls, "left") + 1``, with its rounding, for all at once.
    """
    total = np.maximum(positives, 1).astype(np.float64)[:, None]
    step = np.maximum(np.ceil(recalls * total), 1)
    step = np.where((step > 1) & ((step - 1) / total >= recalls), step - 1, step)
    return np.where(step / total < recalls, step + 1, step).astype(np.int64)


def precision_at_recalls(
    ranking: Ranking, right: Bools, counted: Bools, steps: Ints, epsilon: float = EPSILON
) -> Floats:
    """Interpolated precision f64[K, R] (0..1) of each category at the recalls of ``steps``.

    Only true positives matter: right after one, precision only falls until the next, so the envelope (the best
    precision at this recall or a higher one) is decided by them.

    Args:
        ranking: the order of the detections.
        right: bool[N] true positives, in the order of ``ranking.rows``.
        counted: bool[N] detections that count at all, likewise.
        steps: i64[K, R] from :func:`recall_steps`.
        epsilon: added to the denominator.
    """
    hit = np.flatnonzero(right & counted)
    seen = np.cumsum(counted)
    before = np.concatenate([[0], seen])[ranking.start[:-1]]
    place = np.searchsorted(hit, ranking.start)  # where each category's true positives begin
    category = ranking.category[hit]
    number = np.arange(1, len(hit) + 1) - place[category]  # 1, 2, ... within the category
    tp = number.astype(np.float64)
    precision = tp / ((seen[hit] - before[category] - number).astype(np.float64) + tp + epsilon)
    for low, high in pairwise(place.tolist()):
        part = precision[low:high][::-1]
        np.maximum.accumulate(part, out=part)
    hits = np.diff(place)
    reached = steps <= hits[:, None]
    index = np.where(reached, place[:-1, None] + steps - 1, 0)
    if not len(hit):
        return np.zeros(steps.shape)
    return np.where(reached, precision[index], 0.0)


def score_order(detections: Detections, image_order: Ints) -> Ints:
    """Rows by descending score; ties by image in the given order (i64[images] rank), then by place in the file."""
    start = order_by_index(image_order[detections.image], len(image_order))
    return start[np.argsort(-detections.score[start], kind="stable")]


def cap_per_group(order: Ints, group: Ints, cap: int) -> Ints:
    """The first ``cap`` rows of each group, of rows in ``order`` by descending score; keeps that order.

    ``group`` i64[N] is the image, or image and category, of each row.
    """
    if not len(order) or np.bincount(group).max() <= cap:
        return order
    return order[place_in_group(group[order]) < cap]


def coco_metrics(ground_truth: GroundTruth, detections: Detections, *, iou_type: str = "bbox") -> dict[str, float]:
    """COCO's 12 numbers in points (0..100), -1 where there is nothing to average, as pycocotools 2.0 computes them.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> metrics = coco_metrics(gt, read_detections(predictions["sloppy-boxes"], gt))
    >>> list(metrics)
    ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl']
    """
    classes, images = len(ground_truth.category_id), len(ground_truth.image_id)
    by_score = score_order(detections, np.arange(images))
    by_score = cap_per_group(by_score, detections.image * classes + detections.category, 100)
    order = by_score[order_by_index(detections.image[by_score], images)]
    position = np.empty(len(detections), dtype=np.int64)
    position[order] = np.arange(len(order))

    pairs = build_pairs(ground_truth, detections, order, iou_type, ground_truth.crowd)
    same = detections.category[order][pairs.detection] == ground_truth.category[pairs.truth]
    found = candidates(pairs, same, min(COCO_IOUS[0], 1 - 1e-10), prefer_last=True)
    category, dt_area = detections.category[order], detections.area[order]
    gt_area = ground_truth.area_of(iou_type)
    ranking = rank(position[by_score], category, classes)
    place = place_in_group((detections.image * classes + detections.category)[order])[ranking.rows]

    precision = np.full((len(AREA_RANGES), len(COCO_IOUS), classes, len(COCO_RECALLS)), -1.0)
    recall = np.full((len(AREA_RANGES), 3, len(COCO_IOUS), classes), -1.0)
    for a, (low, high) in enumerate(AREA_RANGES.values()):
        outside = (gt_area < low) | (gt_area > high)
        ignored_truth = ground_truth.ignore | outside
        positives = np.bincount(ground_truth.category[~ignored_truth], minlength=classes)
        has_objects = positives > 0
        steps = recall_steps(positives, COCO_RECALLS)
        out_of_range = (dt_area < low) | (dt_area > high)
        for t, iou in enumerate(COCO_IOUS):
            taken, dropped = match_coco(found, float(iou), ignored_truth, ground_truth.crowd, out_of_range)
            right, counted = (taken >= 0)[ranking.rows], ~dropped[ranking.rows]
            for m, cap in enumerate((1, 10, 100)):
                if a and cap < 100:
                    continue
                hits = np.bincount(ranking.category[right & counted & (place < cap)], minlength=classes)
                recall[a, m, t, has_objects] = hits[has_objects] / positives[has_objects]
            curve = precision_at_recalls(ranking, right, counted, steps)
            precision[a, t, has_objects] = curve[has_objects]

    def ap(area: int, thresholds: slice) -> float:
        return _mean(np.swapaxes(precision[area, thresholds], 1, 2))

    def ar(area: int, cap: int) -> float:
        return _mean(recall[area, cap])

    whole = slice(None)
    return {
        "AP": ap(0, whole), "AP50": ap(0, slice(0, 1)), "AP75": ap(0, slice(5, 6)),
        "APs": ap(1, whole), "APm": ap(2, whole), "APl": ap(3, whole),
        "AR1": ar(0, 0), "AR10": ar(0, 1), "AR100": ar(0, 2),
        "ARs": ar(1, 2), "ARm": ar(2, 2), "ARl": ar(3, 2),
    }  # fmt: skip


def _mean(values: Floats) -> float:
    """COCOeval's mean, in its order of summation: over what is above -1; in points."""
    known = values[values > -1]
    return float(np.mean(known)) * 100 if len(known) else -1.0


def match_coco(
    found: Candidates, iou: float, ignored_truth: Bools, crowd: Bools, out_of_range: Bools
) -> tuple[Ints, Bools]:
    """COCOeval's matching at one threshold: (i64[N] the object taken or -1, bool[N] left out) by position.

    First every detection may take an object that counts; those left may take an ignored one and are then left out,
    as is an unmatched detection whose own area is out of range.
    """
    detections, truths = len(out_of_range), len(ignored_truth)
    enough = found.iou >= min(iou, 1 - 1e-10)
    taken = match_greedily(found, enough & ~ignored_truth[found.truth], detections, truths)
    second = enough & ignored_truth[found.truth] & (taken[found.detection] < 0)
    ignored = match_greedily(found, second, detections, truths, shared=crowd)
    return taken, (ignored >= 0) | ((taken < 0) & out_of_range)
