"""What one single error costs: the AP to gain by fixing it alone, and the costliest errors of each type.

The fix is that of its type (:data:`analysis.evaluation.error_types.ERROR_TYPES`), for one detection or object: a cls or
loc error that would win its object becomes right, any other wrong detection is dropped, a missed object is removed from
the ground truth. Curves are COCO's (101 recalls), in both conventions, over the detections that count.
"""

from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import (
    Bools,
    Floats,
    Ints,
    blocks,
    inverse,
    occurring,
    place_in_group,
)
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import COCO_RECALLS, rank_ordered, recall_steps
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, ErrorType
from analysis.evaluation.hit_ranks import HitRanks
from analysis.evaluation.matched_run import IGNORED, LOC, TRUE_POSITIVE, Labels
from analysis.evaluation.matching import score_order
from analysis.evaluation.tide import Breakdown

COSTLY = 0.9  # of what the errors of a type cost one by one


def costly(cost: Floats) -> Bools:
    """Of errors that cost f64[E] each alone, bool[E] the fewest that hold 90 % of the sum; none where nothing costs.

    Most errors of a detector that reports low scores cost next to nothing: hardly a true positive comes after them.

    >>> costly(np.array([0.0, 6.0, 0.5, 3.5])).tolist()
    [False, True, False, True]
    """
    order = np.flatnonzero(cost > 0)
    order = order[np.argsort(-cost[order], kind="stable")]
    before = np.cumsum(cost[order]) - cost[order]
    found = np.zeros(len(cost), dtype=np.bool_)
    found[order[before < COSTLY * cost.sum()]] = True
    return found


@dataclass(frozen=True)
class Example:
    """One error of one run."""

    error: str  # cls, loc, both, dup, bg, miss
    detection: int  # row of the detections, -1 for a missed object
    truth: int  # row of the object that it points at or that was missed, -1 for none
    cost: float  # points of the mean AP, 0..100


@dataclass(frozen=True, eq=False)
class SingleErrorCosts:
    """What every error of a run costs alone, in points of the mean AP (0..100)."""

    detection: Floats  # [N] rows of the detections; 0 where there is no error
    missed: Floats  # [M] objects; 0 where they are not missed

    def of(self, one: ErrorType) -> Floats:
        """f64[N] of detections or f64[M] of objects, whichever has this type of error."""
        return self.missed if one.of_object else self.detection


def single_error_costs(
    ground_truth: GroundTruth, detections: Detections, breakdown: Breakdown, by_score: Ints | None = None
) -> SingleErrorCosts:
    """The cost of every single error.

    Args:
        ground_truth: of the breakdown.
        detections: of the breakdown.
        breakdown: in either convention.
        by_score: rows by descending score, all that count among them, if they are known; ties as in
            :func:`score_order` with the images in their order.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> costs = single_error_costs(gt, dt, break_down(gt, dt))
    >>> len(costs.detection) == len(dt), bool(costs.detection.max() > 0)
    (True, True)
    """
    labels, classes = breakdown.labels, len(ground_truth.category_id)
    counts = _counts(labels)
    by_score = _by_score(ground_truth, detections, counts) if by_score is None else by_score[counts[by_score]]
    winners = np.flatnonzero(labels.recovers_gt & counts)
    is_loc = labels.error[winners] == LOC
    stays, comes = winners[is_loc], winners[~is_loc]
    to = ground_truth.category[labels.target[comes]]
    objects = np.bincount(ground_truth.category[~ground_truth.ignore], minlength=classes)
    points = 100 / max(int((objects > 0).sum()), 1)
    category = detections.category[by_score]
    # Of a million categories few may occur: these alone are numbered.
    occur = occurring(classes, category, to, ground_truth.category[labels.missed])
    number = inverse(occur, classes)
    to, objects = number[to], objects[occur]

    ranking = rank_ordered(number[category], len(occur))
    ranked = by_score[ranking.rows]
    is_tp = labels.error[ranked] == TRUE_POSITIVE
    curves = HitRanks.of_ranking(is_tp, ranking.start, recall_steps(objects, COCO_RECALLS))
    base, without = curves.ap(), curves.ap_without()
    cost = np.zeros(len(detections))

    hits = 0  # of all categories before; `without` has one value more for each
    for block in blocks(len(ranked)):
        before = hits + np.cumsum(is_tp[block]) - is_tp[block]
        hits = int(before[-1]) + int(is_tp[block][-1])
        wrong = np.flatnonzero(~is_tp[block])
        within = ranking.category[block][wrong]
        cost[ranked[block][wrong]] = (without[before[wrong] + within] - base[within]) * points

    within = number[detections.category[stays]]
    order = np.argsort(within, kind="stable")
    stays, within = stays[order], within[order]
    place = inverse(ranked, len(detections))[stays] - ranking.start[within] + 1
    cost[stays] = (curves.ap_with_one(within, place, shift=0) - base[within]) * points

    # A cls error comes into the category of its object, behind its equals in score, and leaves its own category too.
    order = np.argsort(to, kind="stable")
    comes, to = comes[order], to[order]
    falling = detections.score[by_score]
    at_least = np.searchsorted(np.negative(falling, out=falling), -detections.score[comes], side="right")
    key = ranking.category * (len(by_score) + 1)
    key += ranking.rows  # ascending
    place = np.searchsorted(key, to * (len(by_score) + 1) + at_least) - ranking.start[to] + 1
    cost[comes] += (curves.ap_with_one(to, place, shift=1) - base[to]) * points

    fewer = replace(curves, steps=recall_steps(np.maximum(objects - 1, 0), COCO_RECALLS))
    of_a_miss = np.zeros(classes)
    of_a_miss[occur] = (fewer.ap() - base) * points
    return SingleErrorCosts(cost, np.where(labels.missed, of_a_miss[ground_truth.category], 0.0))


def _counts(labels: Labels) -> Bools:
    """bool[N] the detections that count."""
    counts: Bools = (labels.error < IGNORED) & ~labels.ignored
    return counts


def _by_score(ground_truth: GroundTruth, detections: Detections, which: Bools) -> Ints:
    """Some rows of the detections, by descending score."""
    by_score = score_order(detections, np.arange(len(ground_truth.image_id)))
    return by_score[which[by_score]]


def costliest(
    ground_truth: GroundTruth,
    detections: Detections,
    breakdown: Breakdown,
    most: int,
    costs: SingleErrorCosts | None = None,
) -> dict[str, list[Example]]:
    """Up to ``most`` examples of every error type, the costliest first.

    They are chosen to show much: the costliest of every category, then the second of every category; a second one of
    the same image behind those of other images. Every missed object of a category costs the same, so the largest comes
    first.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> found = costliest(gt, dt, break_down(gt, dt), most=4)
    >>> [len(examples) for examples in found.values()]
    [4, 4, 4, 4, 4, 4]
    >>> found["bg"][0].cost >= found["bg"][1].cost > 0
    True
    """
    labels = breakdown.labels
    costs = costs or single_error_costs(ground_truth, detections, breakdown)
    by_score = _by_score(ground_truth, detections, _counts(labels))
    largest = np.argsort(-ground_truth.area, kind="stable")
    found: dict[str, list[Example]] = {}
    for one in (ERROR_TYPES[name] for name in ERRORS):
        order, of = (largest, ground_truth) if one.of_object else (by_score, detections)
        rows = order[one.occurs(labels)[order]]
        cost = costs.of(one)[rows]
        chosen = _variety(cost, of.category[rows], of.image[rows], most)
        chosen = chosen[np.argsort(-cost[chosen], kind="stable")]
        found[one.name] = [
            Example(one.name, -1, row, value)
            if one.of_object
            else Example(one.name, row, int(labels.target[row]), value)
            for row, value in zip(rows[chosen].tolist(), cost[chosen].tolist(), strict=True)
        ]
    return found


def _variety(cost: Floats, category: Ints, image: Ints, most: int) -> Ints:
    """The places of up to ``most`` examples, given best first among equals: costly, of many categories and images."""
    order = np.argsort(-cost, kind="stable")
    same_picture = category[order] * (int(image.max(initial=0)) + 1) + image[order]
    order = order[np.argsort(place_in_group(same_picture), kind="stable")]
    return order[np.argsort(place_in_group(category[order]), kind="stable")][:most]
