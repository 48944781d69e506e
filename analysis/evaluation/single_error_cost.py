"""What one single error costs: the AP to gain by fixing it alone, and the costliest errors of each type.

The fix is that of its type (:data:`analysis.evaluation.error_types.ERROR_TYPES`), for one detection or object: a cls or
loc error that would win its object becomes right, any other wrong detection is dropped, a missed object is removed from
the ground truth. Curves are COCO's (101 recalls), in both conventions, over the detections that count.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.arrays import Bools, Floats, Ints, inverse, place_in_group
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import (
    COCO_RECALLS,
    average_over_recalls,
    best_from_here,
    rank,
    recall_steps,
)
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, ErrorType
from analysis.evaluation.matched_run import IGNORED, LOC, TRUE_POSITIVE, Labels
from analysis.evaluation.matching import score_order
from analysis.evaluation.tide import Breakdown

BLOCK = 1 << 20  # ranks at a time
COSTLY = 0.9  # of what the errors of a type cost one by one


def costly(cost: Floats) -> Bools:
    """Of errors that cost f64[E] each alone, bool[E] the fewest that hold 90 % of the sum; none where nothing costs.

    Most errors of a detector that reports low scores cost next to nothing: hardly a true positive comes after them.

    >>> costly(np.array([0.0, 6.0, 0.5, 3.5])).tolist()
    [False, True, False, True]
    """
    order = np.argsort(-cost, kind="stable")
    before = np.cumsum(cost[order]) - cost[order]
    found = np.zeros(len(cost), dtype=np.bool_)
    found[order[(before < COSTLY * cost.sum()) & (cost[order] > 0)]] = True
    return found


@dataclass(frozen=True)
class Example:
    """One error of one run."""

    error: str  # cls, loc, both, dup, bg, miss
    detection: int  # row of the detections, -1 for a missed object
    truth: int  # row of the object that it points at or that was missed, -1 for none
    cost: float  # points of the mean AP, 0..100


@dataclass(frozen=True, eq=False)
class _Category:
    """The curve of one category: where its true positives are among the detections that count."""

    scores: Floats  # [n] descending, of all that count
    hits: Ints  # [H] ranks from 1 of the true positives
    steps: Ints  # [101] the number of true positives at which each recall is reached
    steps_of_a_miss: Ints  # [101] likewise with one object less
    points: float  # of the mean AP in an AP of 1 of this category

    @cached_property
    def _base(self) -> float:
        return average_over_recalls(self.hits, self.steps)

    @cached_property
    def _without(self) -> Floats:
        """f64[H + 1] AP without a wrong detection that has 0, 1, ... H true positives before it.

        Only this number matters: what is dropped raises the precision of all later true positives alike.
        """
        count = len(self.hits)
        number = np.arange(1, count + 1)
        before = number / self.hits
        after = np.append(best_from_here(number / np.maximum(self.hits - 1, number)), 0.0)
        total = np.zeros(count + 1)
        for step, times in zip(*np.unique(self.steps[self.steps <= count], return_counts=True), strict=True):
            curve = np.full(count + 1, after[step - 1])
            curve[step:] = np.maximum(np.maximum.accumulate(before[step - 1 :]), after[step:])
            total += times * curve
        return total / len(self.steps)

    def gains_without(self, places: Ints) -> Floats:
        """f64[P] points to gain without the wrong detection at each of the ranks i64[P] from 1."""
        gains: Floats = (self._without[np.searchsorted(self.hits, places)] - self._base) * self.points
        return gains

    def gains_with_hit(self, places: Ints, shift: int) -> Floats:
        """f64[P] points to gain when one more detection is right, at each rank i64[P] from 1.

        All later true positives stand ``shift`` ranks further back then.
        """
        count = len(self.hits) + 1
        reached = self.steps[self.steps <= count] - 1
        number = np.arange(count)
        before, after = np.append(self.hits, 0), np.concatenate([[0], self.hits + shift])
        gains = []
        for part in np.array_split(places, -(-len(places) * count // BLOCK) or 1):
            first, place = np.searchsorted(self.hits, part)[:, None], part[:, None]
            ranks = np.where(number < first, before, np.where(number == first, place, after))
            precision = (number + 1) / np.maximum(ranks, 1)
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            gains.append((envelope[:, reached].sum(axis=1) / len(self.steps) - self._base) * self.points)
        return np.concatenate(gains)

    def gains_with_one_more(self, scores: Floats) -> Floats:
        """f64[P] points to gain when one more detection is right, moved here behind its equals in score f64[P]."""
        return self.gains_with_hit(np.searchsorted(-self.scores, -scores, side="right") + 1, shift=1)

    def gain_of_a_miss(self) -> float:
        """Points to gain without one missed object."""
        return self._points_of(average_over_recalls(self.hits, self.steps_of_a_miss))

    def _points_of(self, ap: float) -> float:
        return (float(ap) - self._base) * self.points


@dataclass(frozen=True, eq=False)
class SingleErrorCosts:
    """What every error of a run costs alone, in points of the mean AP (0..100)."""

    detection: Floats  # [N] rows of the detections; 0 where there is no error
    missed: Floats  # [M] objects; 0 where they are not missed

    def of(self, one: ErrorType) -> Floats:
        """f64[N] of detections or f64[M] of objects, whichever has this type of error."""
        return self.missed if one.of_object else self.detection


def single_error_costs(ground_truth: GroundTruth, detections: Detections, breakdown: Breakdown) -> SingleErrorCosts:
    """The cost of every single error.

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
    by_score = _by_score(ground_truth, detections, counts)
    ranking = rank(np.arange(len(by_score)), detections.category[by_score], classes)
    ranked = by_score[ranking.rows]
    place = inverse(ranked, len(detections)) - ranking.start[detections.category] + 1  # from 1, within the category
    positives = np.bincount(ground_truth.category[~ground_truth.ignore], minlength=classes)
    points = 100 / max(int((positives > 0).sum()), 1)
    winners = np.flatnonzero(labels.recovers_gt & counts)
    winners = winners[np.argsort(ground_truth.category[labels.target[winners]], kind="stable")]
    to = ground_truth.category[labels.target[winners]]
    occur = np.unique(np.concatenate([detections.category[ranked], to, ground_truth.category[labels.missed]]))
    low, high = np.searchsorted(to, occur), np.searchsorted(to, occur, side="right")
    steps, steps_of_a_miss = (
        recall_steps(objects, COCO_RECALLS) for objects in (positives[occur], np.maximum(positives[occur] - 1, 0))
    )
    detection, comes_to = np.zeros(len(detections)), np.zeros(len(detections))
    gain_of_a_miss = np.zeros(classes)
    for i, category in enumerate(occur.tolist()):
        rows = ranked[ranking.start[category] : ranking.start[category + 1]]
        hit = labels.error[rows] == TRUE_POSITIVE
        own = _Category(detections.score[rows], place[rows[hit]], steps[i], steps_of_a_miss[i], points)
        here = winners[low[i] : high[i]]
        stays, comes = here[labels.error[here] == LOC], here[labels.error[here] != LOC]
        detection[rows[~hit]] = own.gains_without(place[rows[~hit]])
        detection[stays] = own.gains_with_hit(place[stays], shift=0)
        # A cls error leaves its own category besides, which may be one that is yet to come.
        comes_to[comes] = own.gains_with_one_more(detections.score[comes])
        gain_of_a_miss[category] = own.gain_of_a_miss()
    detection += comes_to
    missed = np.where(labels.missed, gain_of_a_miss[ground_truth.category], 0.0)
    return SingleErrorCosts(detection, missed)


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
