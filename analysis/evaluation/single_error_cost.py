"""What one single error costs: the AP to gain by fixing it alone, and the costliest errors of each type.

The fix is that of its type (:data:`analysis.evaluation.error_types.ERROR_TYPES`), for one detection or object: a cls or
loc error that would win its object becomes right, any other wrong detection is dropped, a missed object is removed from
the ground truth. Curves are COCO's (101 recalls), in both conventions, over the detections that count.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.arrays import Floats, Ints, inverse, order_by_index, place_in_group
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import (
    COCO_RECALLS,
    average_over_recalls,
    best_from_here,
    rank,
    recall_steps,
)
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.matched_run import CLS, IGNORED, LOC, OVER_CAP, TRUE_POSITIVE
from analysis.evaluation.matching import score_order
from analysis.evaluation.tide import Breakdown


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

    def gain_without(self, place: int) -> float:
        """Points to gain without the wrong detection at a rank from 1."""
        return self._points_of(self._without[np.searchsorted(self.hits, place)])

    def gain_with_hit(self, place: int, shift: int) -> float:
        """Points to gain when the detection at a rank from 1 is right, all later ones ``shift`` ranks further back."""
        first = int(np.searchsorted(self.hits, place))
        return self._points_of(
            average_over_recalls(np.concatenate([self.hits[:first], [place], self.hits[first:] + shift]), self.steps)
        )

    def gain_with_one_more(self, score: float) -> float:
        """Points to gain when one more detection is right, moved here behind its equals in score."""
        return self.gain_with_hit(int(np.searchsorted(-self.scores, -score, side="right")) + 1, shift=1)

    def gain_of_a_miss(self) -> float:
        """Points to gain without one missed object."""
        return self._points_of(average_over_recalls(self.hits, self.steps_of_a_miss))

    def _points_of(self, ap: float) -> float:
        return (float(ap) - self._base) * self.points


def costliest(
    ground_truth: GroundTruth, detections: Detections, breakdown: Breakdown, most: int
) -> dict[str, list[Example]]:
    """Up to ``most`` examples of every error type, chosen to show much: the costliest of every category come first.

    Within a category and type the costlier stands first, and a second one of the same image behind those of other
    images. Every missed object of a category costs the same, so the largest comes first.

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
    labels, classes = breakdown.labels, len(ground_truth.category_id)
    counts = (labels.error != IGNORED) & (labels.error != OVER_CAP) & ~labels.ignored
    by_score = score_order(detections, np.arange(len(ground_truth.image_id)))
    by_score = by_score[counts[by_score]]
    ranking = rank(np.arange(len(by_score)), detections.category[by_score], classes)
    ranked = by_score[ranking.rows]
    place = inverse(ranked, len(detections)) - ranking.start[detections.category] + 1  # from 1, within the category
    positives = np.bincount(ground_truth.category[~ground_truth.ignore], minlength=classes)
    points = 100 / max(int((positives > 0).sum()), 1)
    steps, steps_of_a_miss = (
        recall_steps(objects, COCO_RECALLS) for objects in (positives, np.maximum(positives - 1, 0))
    )
    categories = [
        _Category(detections.score[rows], place[rows][labels.error[rows] == TRUE_POSITIVE], now, then, points)
        for rows, now, then in zip(np.split(ranked, ranking.start[1:-1]), steps, steps_of_a_miss, strict=True)
    ]
    found: dict[str, list[Example]] = {}
    for one in (ERROR_TYPES[name] for name in ERRORS):
        if one.of_object:
            rows = np.flatnonzero(one.occurs(labels))
            rows = rows[np.argsort(-ground_truth.area[rows], kind="stable")]
            detection, target = np.full(len(rows), -1), rows
            cost = np.array([c.gain_of_a_miss() for c in categories])[ground_truth.category[rows]]
        else:
            rows = by_score[labels.error[by_score] == one.code]
            wins = labels.recovers_gt[rows]
            aim = np.full(len(rows), -1)
            aim[wins] = ground_truth.category[labels.target[rows[wins]]]
            # Within a group the better score costs more, whatever the curves are: a few of each suffice.
            group = detections.category[rows] * (classes + 1) + aim + 1
            by_group = order_by_index(group, classes * (classes + 1))
            kept = by_group[place_in_group(group[by_group]) < most]
            rows, aim = rows[kept], aim[kept]
            detection, target = rows, labels.target[rows]
            cost = np.empty(len(rows))
            for i, (row, to) in enumerate(zip(rows.tolist(), aim.tolist(), strict=True)):
                own = categories[detections.category[row]]
                right = one.code == LOC and to >= 0
                cost[i] = own.gain_with_hit(place[row], shift=0) if right else own.gain_without(place[row])
                if one.code == CLS and to >= 0:
                    cost[i] += categories[to].gain_with_one_more(detections.score[row])
        of = ground_truth if one.of_object else detections
        found[one.name] = [
            Example(one.name, int(detection[i]), int(target[i]), float(cost[i]))
            for i in _variety(cost, of.category[rows], of.image[rows], most)
        ]
    return found


def _variety(cost: Floats, category: Ints, image: Ints, most: int) -> Ints:
    """The places of up to ``most`` examples, given best first among equals: costly, of many categories and images."""
    order = np.argsort(-cost, kind="stable")
    same_picture = category[order] * (int(image.max(initial=0)) + 1) + image[order]
    order = order[np.argsort(place_in_group(same_picture), kind="stable")]
    return order[np.argsort(place_in_group(category[order]), kind="stable")][:most]
