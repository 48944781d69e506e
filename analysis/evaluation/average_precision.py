"""Precision-recall and 101-point average precision from flags, and COCO's 12 numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Bools, Floats, Ints, group_starts, order_by_index, place_in_group
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.matching import (
    AREA_RANGES,
    PairedDetections,
    candidates,
    ignored_by_size,
    match_coco,
    pair_detections,
)
from analysis.evaluation.settings import Settings
from analysis.exceptions import BadInput

COCO_RECALLS: Floats = np.linspace(0.0, 1.00, 101)
COCO_IOUS: Floats = np.linspace(0.5, 0.95, 10)
MAX_DETS = (1, 10, 100)  # COCO's caps; all but AR1 and AR10 are measured under the last
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
    return Ranking(rows, category[rows], group_starts(category, categories))


def recall_steps(positives: Ints, recalls: Floats) -> Ints:
    """The number of true positives i64[K, R] at which each recall is first reached, for i64[K] objects a category.

    The same as ``searchsorted(arange(1, ...) / positives, recalls, "left") + 1``, with its rounding, for all at once;
    1 for a category without objects.
    """
    steps = np.ones((len(positives), len(recalls)), dtype=np.int64)
    known = np.flatnonzero(positives)  # of thousands of categories few may have objects
    total = positives[known].astype(np.float64)[:, None]
    step = np.maximum(np.ceil(recalls * total), 1)
    step = np.where((step > 1) & ((step - 1) / total >= recalls), step - 1, step)
    steps[known] = np.where(step / total < recalls, step + 1, step)
    return steps


def precision_at_recalls(
    ranking: Ranking, is_tp: Bools, not_ignored: Bools, steps: Ints, epsilon: float = EPSILON
) -> Floats:
    """Interpolated precision f64[K, R] (0..1) of each category at the recalls of ``steps``.

    Only true positives matter: right after one, precision only falls until the next, so the envelope (the best
    precision at this recall or a higher one) is decided by them.

    Args:
        ranking: the order of the detections.
        is_tp: bool[N] true positives, in the order of ``ranking.rows``.
        not_ignored: bool[N] detections that count, likewise.
        steps: i64[K, R] from :func:`recall_steps`.
        epsilon: added to the denominator.
    """
    hit = np.flatnonzero(is_tp & not_ignored)
    seen = np.cumsum(not_ignored)
    before = np.concatenate([[0], seen])[ranking.start[:-1]]
    place = np.searchsorted(hit, ranking.start)  # where each category's true positives begin
    category = ranking.category[hit]
    number = np.arange(1, len(hit) + 1) - place[category]  # 1, 2, ... within the category
    precision = number / ((seen[hit] - before[category] - number).astype(np.float64) + number + epsilon)
    hits = np.diff(place)
    found = np.flatnonzero(hits)  # the categories that have any; all others stay at 0
    for low, high in zip(place[found].tolist(), place[found + 1].tolist(), strict=True):
        precision[low:high] = best_from_here(precision[low:high])
    reached = steps[found] <= hits[found, None]
    interpolated = np.zeros(steps.shape)
    interpolated[found] = np.where(reached, precision[np.where(reached, place[found, None] + steps[found] - 1, 0)], 0.0)
    return interpolated


def average_over_recalls(hits: Ints, steps: Ints, epsilon: float = 0.0) -> float:
    """The AP (0..1) of one category from the ranks of its true positives alone.

    Args:
        hits: i64[H] ranks from 1 of the true positives among the detections that count, ascending.
        steps: i64[R] the number of true positives at which each recall is first reached (:func:`recall_steps`).
        epsilon: added to the denominator of the precision.

    >>> average_over_recalls(np.array([1, 4]), np.array([1, 2]))  # precision 1 at the first recall, 1/2 at the second
    0.75
    """
    envelope = best_from_here(np.arange(1, len(hits) + 1) / (hits + epsilon))
    return float(envelope[steps[steps <= len(hits)] - 1].sum()) / len(steps)


def best_from_here(values: Floats) -> Floats:
    """f64[N] the highest of each value and all after it: precision -> its envelope."""
    best: Floats = np.maximum.accumulate(values[::-1])[::-1]
    return best


def coco_metrics(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: str = "bbox",
    max_dets: Sequence[int] = MAX_DETS,
    min_score: float | None = None,
    paired: PairedDetections | None = None,
) -> dict[str, float]:
    """COCO's 12 numbers in points (0..100), -1 where there is nothing to average, as pycocotools 2.0 computes them.

    A list of other caps gives an AR for each of them, and all else at the largest.

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        iou_type: ``bbox`` or ``segm``.
        max_dets: caps of the detections of an image and category, in any order (pycocotools' ``maxDets``).
        min_score: detections with a lower score are left out.
        paired: the two, paired already as COCO does, under the largest cap.

    Raises:
        BadInput: another ``iou_type``, a cap below 1, or masks are asked for and a record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> metrics = coco_metrics(gt, read_detections(predictions["sloppy-boxes"], gt))
    >>> list(metrics)
    ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl']
    """
    caps = sorted(set(max_dets))
    if not caps or caps[0] < 1:
        raise BadInput(f"max_dets {list(max_dets)} must be one cap or more, each at least 1")
    paired = paired or pair_detections(
        ground_truth, detections, Settings(iou_type, max_dets=caps[-1], min_score=min_score)
    )
    found = candidates(paired, min(COCO_IOUS[0], 1 - 1e-10), prefer_last=True)
    area = detections.area[paired.row]
    # Numbered anew: of thousands of categories few may occur.
    occurring, category = np.unique(
        np.concatenate([ground_truth.category, detections.category[paired.row]]), return_inverse=True
    )
    classes = len(occurring)
    true_category, category = np.split(category, [len(ground_truth.category)])
    ranking = rank(paired.by_score, category, classes)
    place = place_in_group(detections.image[paired.row] * classes + category)[ranking.rows]

    precision = np.full((len(AREA_RANGES), len(COCO_IOUS), classes, len(COCO_RECALLS)), -1.0)
    recall = np.full((len(AREA_RANGES), len(caps), len(COCO_IOUS), classes), -1.0)
    for a, limits in enumerate(AREA_RANGES.values()):
        ignored, out_of_range = ignored_by_size(ground_truth, area, iou_type, limits)
        positives = np.bincount(true_category[~ignored], minlength=classes)
        known = positives > 0
        steps = recall_steps(positives, COCO_RECALLS)
        for t, iou in enumerate(COCO_IOUS):
            taken, left_out = match_coco(found, float(iou), ignored, ground_truth.crowd, out_of_range)
            is_tp, not_ignored = (taken >= 0)[ranking.rows], ~left_out[ranking.rows]
            for m, cap in enumerate(caps):
                if not a or cap == caps[-1]:
                    hits = np.bincount(ranking.category[is_tp & not_ignored & (place < cap)], minlength=classes)
                    recall[a, m, t, known] = hits[known] / positives[known]
            precision[a, t, known] = precision_at_recalls(ranking, is_tp, not_ignored, steps)[known]

    # Summed recall by recall, as COCOeval does; [areas, IoUs] of the precision, [areas, caps] of the recall.
    by_recall = np.swapaxes(precision, 2, 3)
    values = {
        "AP": by_recall[0], "AP50": by_recall[0, :1], "AP75": by_recall[0, 5:6],
        "APs": by_recall[1], "APm": by_recall[2], "APl": by_recall[3],
        **{f"AR{cap}": recall[0, m] for m, cap in enumerate(caps)},
        "ARs": recall[1, -1], "ARm": recall[2, -1], "ARl": recall[3, -1],
    }  # fmt: skip
    return {name: _mean(of) for name, of in values.items()}


def caps_up_to(max_dets: int) -> tuple[int, ...]:
    """COCO's caps with another last one.

    >>> caps_up_to(100), caps_up_to(300), caps_up_to(5)
    ((1, 10, 100), (1, 10, 300), (1, 5))
    """
    return (*(cap for cap in MAX_DETS[:-1] if cap < max_dets), max_dets)


def _mean(values: Floats) -> float:
    """COCOeval's mean, in its order of summation: over what is above -1; in points."""
    known = values[values > -1]
    return float(np.mean(known)) * 100 if len(known) else -1.0
