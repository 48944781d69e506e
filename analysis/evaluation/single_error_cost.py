"""What one single error costs: the AP to gain by fixing it alone, and the costliest errors of each type.

The fix is the one of ``verdict.py``, for one detection or object instead of a whole type: a cls or loc error that would
win its object becomes right, any other wrong detection is dropped, a missed object is no longer asked for. Curves are
COCO's (101 recalls), in both conventions, over the detections that count.
"""

from dataclasses import dataclass

import numpy as np

from analysis.arrays import Floats, Ints, order_by_index, place_in_group
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.average_precision import COCO_RECALLS, rank, recall_steps, score_order
from analysis.evaluation.error_types import CLS, ERRORS, IGNORED, LOC, OVER_CAP, TRUE_POSITIVE
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
    """The curve of one category: where its true positives stand among the detections that count."""

    scores: Floats  # [n] descending, of all that count
    hits: Ints  # [K] places from 1 of the true positives
    steps: Ints  # [101] the number of true positives at which each recall is reached

    def ap(self, steps: Ints | None = None) -> float:
        """Its AP, 0..1."""
        return _average(np.arange(1, len(self.hits) + 1) / self.hits, self.steps if steps is None else steps)

    def without(self) -> Floats:
        """f64[K + 1] AP without a wrong detection that has 0, 1, ... K true positives before it.

        Only this number matters: what is dropped raises the precision of all later true positives alike.
        """
        count = len(self.hits)
        number = np.arange(1, count + 1)
        before = number / self.hits
        after = np.append(_best_from_here(number / np.maximum(self.hits - 1, number)), 0.0)
        total = np.zeros(count + 1)
        for step, times in zip(*np.unique(self.steps[self.steps <= count], return_counts=True), strict=True):
            curve = np.full(count + 1, after[step - 1])
            curve[step:] = np.maximum(np.maximum.accumulate(before[step - 1 :]), after[step:])
            total += times * curve
        return total / len(self.steps)

    def with_one_more(self, score: float, moved: bool) -> float:
        """AP when one more detection of a score is right: one of its own, or one ``moved`` here behind its equals."""
        place = int(np.searchsorted(-self.scores, -score, side="right")) + 1
        return self.with_hit_at(place, 1 if moved else 0)

    def with_hit_at(self, place: int, shift: int) -> float:
        """AP when the detection at a place from 1 is right, all later ones standing ``shift`` places further back."""
        first = int(np.searchsorted(self.hits, place))
        hits = np.concatenate([self.hits[:first], [place], self.hits[first:] + shift])
        return _average(np.arange(1, len(hits) + 1) / hits, self.steps)


def _best_from_here(values: Floats) -> Floats:
    best: Floats = np.maximum.accumulate(values[::-1])[::-1]
    return best


def _average(precision: Floats, steps: Ints) -> float:
    """The mean over the recalls of the best precision at each or a higher one; 0 where it is not reached."""
    envelope = _best_from_here(precision)
    reached = steps[steps <= len(envelope)]
    return float(envelope[reached - 1].sum()) / len(steps)


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
    labels = breakdown.labels
    classes = len(ground_truth.category_id)
    counts = (labels.error != IGNORED) & (labels.error != OVER_CAP) & ~labels.ignored
    by_score = score_order(detections, np.arange(len(ground_truth.image_id)))
    by_score = by_score[counts[by_score]]
    ranking = rank(np.arange(len(by_score)), detections.category[by_score], classes)
    ranked = by_score[ranking.rows]
    place = np.empty(len(detections), dtype=np.int64)  # from 1, within the category
    place[ranked] = np.arange(len(ranked)) - ranking.start[ranking.category] + 1
    positives = np.bincount(ground_truth.category[~ground_truth.ignore], minlength=classes)
    curves = _Curves(
        [
            _Category(detections.score[rows], place[rows][labels.error[rows] == TRUE_POSITIVE], steps)
            for rows, steps in zip(
                np.split(ranked, ranking.start[1:-1]), recall_steps(positives, COCO_RECALLS), strict=True
            )
        ],
        positives,
    )
    found: dict[str, list[Example]] = {}
    for error, name in enumerate(ERRORS[:5]):
        rows = by_score[labels.error[by_score] == error]
        wins = labels.fixes[rows]
        aim = np.full(len(rows), -1)
        aim[wins] = ground_truth.category[labels.target[rows[wins]]]
        # Within a group the better score costs more, whatever the curves are: a few of each suffice.
        group = detections.category[rows] * (classes + 1) + aim + 1
        rows, aim = _first_of_each(rows, aim, group, classes * (classes + 1), most)
        cost = np.array(
            [
                curves.cost(error, own, target, place[row], detections.score[row])
                for row, own, target in zip(
                    rows.tolist(), detections.category[rows].tolist(), aim.tolist(), strict=True
                )
            ]
        )
        order = _variety(cost, detections.category[rows], detections.image[rows], most)
        found[name] = [Example(name, int(rows[i]), int(labels.target[rows[i]]), float(cost[i])) for i in order.tolist()]
    lost = np.flatnonzero(labels.missed)
    lost = lost[np.argsort(-ground_truth.area[lost], kind="stable")]
    lost_cost = curves.of_a_miss()[ground_truth.category[lost]]
    order = _variety(lost_cost, ground_truth.category[lost], ground_truth.image[lost], most)
    found["miss"] = [Example("miss", -1, int(lost[i]), float(lost_cost[i])) for i in order.tolist()]
    return found


class _Curves:
    """The categories of a run, with what is worth computing once."""

    def __init__(self, categories: list[_Category], positives: Ints) -> None:
        self._of, self._positives = categories, positives
        self._base = [one.ap() for one in categories]
        self._without: dict[int, Floats] = {}
        self._points = 100 / max(int((positives > 0).sum()), 1)

    def cost(self, error: int, own: int, target: int, place: int, score: float) -> float:
        """Points of the mean AP; ``target`` is the category of the object that the detection wins, -1 if none."""
        if error == LOC and target >= 0:
            return self._gain(own, self._of[own].with_hit_at(place, 0))
        gain = self._gain(own, self._dropped(own)[np.searchsorted(self._of[own].hits, place)])
        if error == CLS and target >= 0:
            gain += self._gain(target, self._of[target].with_one_more(score, moved=True))
        return gain

    def of_a_miss(self) -> Floats:
        """Points f64[K] by category."""
        fewer = recall_steps(np.maximum(self._positives - 1, 0), COCO_RECALLS)
        return np.array([self._gain(c, one.ap(fewer[c])) for c, one in enumerate(self._of)])

    def _gain(self, category: int, ap: float) -> float:
        return (float(ap) - self._base[category]) * self._points if self._positives[category] else 0.0

    def _dropped(self, category: int) -> Floats:
        if category not in self._without:
            self._without[category] = self._of[category].without()
        return self._without[category]


def _first_of_each(rows: Ints, aim: Ints, group: Ints, groups: int, most: int) -> tuple[Ints, Ints]:
    by_group = order_by_index(group, groups)
    kept = by_group[place_in_group(group[by_group]) < most]
    return rows[kept], aim[kept]


def _variety(cost: Floats, category: Ints, image: Ints, most: int) -> Ints:
    """The places of up to ``most`` examples, given best first among equals: costly, of many categories and images."""
    order = np.argsort(-cost, kind="stable")
    same_picture = category[order] * (int(image.max(initial=0)) + 1) + image[order]
    order = order[np.argsort(place_in_group(same_picture), kind="stable")]
    return order[np.argsort(place_in_group(category[order]), kind="stable")][:most]
