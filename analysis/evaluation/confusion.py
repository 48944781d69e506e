"""Which category is taken for which: cls errors by pair of categories, and what each pair costs.

A pair's cost is the AP to gain when only its cls errors are fixed. Only two curves change, that of the object's
category and that of the detections'; each is made from its true positives alone, so that thousands of pairs take less
time than one matching.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import Bools, Floats, Ints
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import average_over_recalls
from analysis.evaluation.matched_run import CLS, TRUE_POSITIVE, Labels, MatchedRun


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pairs (true category, predicted category) that occur, the most frequent first; equal ones are true positives.

    A cls error counts whether or not its object was also found rightly; ``objects`` counts the objects that the
    confusion cost: unfound, with this error as the best claim. ``cost`` is there after
    :func:`analysis.evaluation.confusion.with_costs`, which puts the costliest first.
    """

    categories: int
    true: Ints  # [P] category index of the object
    predicted: Ints  # [P] category index of the detection
    count: Ints  # [P] detections
    objects: Ints  # [P] objects lost to it (for a true positive: found)
    cost: Floats | None = None  # [P] points of AP to gain by fixing the errors of this pair alone
    costly: Ints | None = None  # [P] detections that are among the costly cls errors (see `single_error_cost`)

    @property
    def matrix(self) -> Ints:
        """i64[K, K] detections by true category (row) and predicted category (column)."""
        return self.among(np.arange(self.categories))[1]

    def among(self, categories: Ints) -> tuple[Floats, Ints]:
        """Points of AP to gain f64[C, C] and detections i64[C, C] between some categories i64[C], ascending.

        By true category (row) and predicted category (column). There may be a million categories: no table of all.
        """
        costs = np.zeros((len(categories), len(categories)))
        counts = np.zeros(costs.shape, dtype=np.int64)
        inside = np.flatnonzero(np.isin(self.true, categories) & np.isin(self.predicted, categories))
        place = tuple(np.searchsorted(categories, one[inside]) for one in (self.true, self.predicted))
        counts[place] = self.count[inside]
        if self.cost is not None:
            costs[place] = self.cost[inside]
        return costs, counts

    def wrong(self, most: int | None = None) -> Ints:
        """Indices i64 of the off-diagonal pairs, the first ``most`` of them in the order of the pairs."""
        return np.flatnonzero(self.true != self.predicted)[:most]


def category_confusion(ground_truth: GroundTruth, detections: Detections, labels: Labels) -> Confusion:
    """Count the pairs of a breakdown.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["confused-classes"], gt)
    >>> result = break_down(gt, dt)
    >>> matrix = category_confusion(gt, dt, result.labels).matrix
    >>> int(matrix.trace()) == result.true_positives, int(matrix.sum() - matrix.trace()) == result.count["cls"]
    (True, True)
    """
    classes = len(ground_truth.category_id)
    rows = np.flatnonzero((labels.error == TRUE_POSITIVE) | (labels.error == CLS))
    pair = ground_truth.category[labels.target[rows]] * classes + detections.category[rows]
    costs = labels.recovers_gt[rows] | (labels.error[rows] == TRUE_POSITIVE)
    pairs, place, count = np.unique(pair, return_inverse=True, return_counts=True)
    objects = np.bincount(place, weights=costs, minlength=len(pairs)).astype(np.int64)
    order = np.lexsort((pairs, -objects, -count))
    return Confusion(classes, pairs[order] // classes, pairs[order] % classes, count[order], objects[order])


def with_costs(confusion: Confusion, matched_run: MatchedRun) -> Confusion:
    """The confusion with the points of the mean AP (0..100) of each pair, the costliest first.

    In the ``coco`` convention the cost is exactly that of the fix of cls on the errors of the pair. In ``tidecv`` it is
    measured within the order of its fixed curves, over the categories in the mean before the fix.

    >>> from analysis import Settings, read_detections, read_ground_truth
    >>> from analysis.evaluation.confusion import category_confusion
    >>> from analysis.evaluation.tide import match_and_label
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["confused-classes"], gt)
    >>> matched_run = match_and_label(gt, dt, Settings())
    >>> confusion = with_costs(category_confusion(gt, dt, matched_run.labels), matched_run)
    >>> bool(confusion.cost[0] >= confusion.cost[1] > 0)
    True
    """
    wrong = np.flatnonzero(matched_run.label == CLS)
    target = matched_run.labels.target[matched_run.row[wrong]]
    pair = matched_run.object_category[target] * confusion.categories + matched_run.category[wrong]
    order = np.argsort(pair, kind="stable")
    wrong, pair = wrong[order], pair[order]
    wanted = confusion.true * confusion.categories + confusion.predicted
    low, high = np.searchsorted(pair, wanted), np.searchsorted(pair, wanted, side="right")
    curves = _Curves(matched_run)
    cost = np.zeros(len(wanted))
    for place in np.flatnonzero(low < high).tolist():
        true, predicted = int(confusion.true[place]), int(confusion.predicted[place])
        cost[place] = curves.gain(true, predicted, wrong[low[place] : high[place]])
    best = np.lexsort((-confusion.count, -confusion.objects, -cost))
    return replace(
        confusion,
        true=confusion.true[best],
        predicted=confusion.predicted[best],
        count=confusion.count[best],
        objects=confusion.objects[best],
        cost=cost[best],
    )


def with_costly(
    confusion: Confusion, object_category: Ints, detections: Detections, labels: Labels, costly: Bools
) -> Confusion:
    """The confusion with the number of each pair's errors that are costly, bool[N] by row of the detections."""
    rows = np.flatnonzero((labels.error == CLS) & costly)
    pair = np.sort(object_category[labels.target[rows]] * confusion.categories + detections.category[rows])
    wanted = confusion.true * confusion.categories + confusion.predicted
    return replace(confusion, costly=np.searchsorted(pair, wanted, side="right") - np.searchsorted(pair, wanted))


def concerned(confusions: Sequence[Confusion], most: int) -> Ints:
    """Up to ``most`` categories of the costliest pairs of some runs on one ground truth, by index: for one matrix.

    Pair by pair, the costliest of each run first, then the second of each.
    """
    pairs = [
        (place, -float(one.cost[i]) if one.cost is not None else 0.0, int(one.true[i]), int(one.predicted[i]))
        for one in confusions
        for place, i in enumerate(one.wrong(most).tolist())
    ]
    chosen: list[int] = []
    for _, _, *categories in sorted(pairs):
        new = [category for category in categories if category not in chosen]
        if len(chosen) + len(new) <= most:
            chosen += new
    return np.sort(np.array(chosen, dtype=np.int64))


class _Curve:
    """One category's curve as the ranks of its true positives among what counts."""

    def __init__(self, place: Ints, hits: Ints, steps: Ints, epsilon: float) -> None:
        self.place, self.hits = place, hits  # of what counts, ascending; ranks from 1 of the true positives
        self._steps, self._epsilon = steps, epsilon
        self.base = self.ap(hits)

    def ap(self, hits: Ints) -> float:
        """The AP (0..1) if the true positives were at other ranks i64[H]."""
        return average_over_recalls(hits, self._steps, self._epsilon)


class _Curves:
    """The curves of the categories that are asked for, each made once."""

    def __init__(self, matched_run: MatchedRun) -> None:
        self._run = matched_run
        rows = matched_run.ranking_fixed.rows
        self._rows = rows[matched_run.base.not_ignored[rows]]
        self._edge = np.searchsorted(matched_run.category[self._rows], np.arange(matched_run.categories + 1))
        in_mean = matched_run.positives > 0
        if matched_run.settings.convention == "tidecv":
            in_mean |= np.diff(self._edge) > 0
        self._points = 100 / max(int(in_mean.sum()), 1)
        self._made: dict[int, _Curve] = {}

    def _of(self, category: int) -> _Curve:
        if category not in self._made:
            run, rows = self._run, self._rows[self._edge[category] : self._edge[category + 1]]
            hits = np.flatnonzero(run.base.is_tp[rows]) + 1
            steps = run.steps(run.positives[[category]])[0]
            self._made[category] = _Curve(run.place[rows], hits, steps, run.epsilon)
        return self._made[category]

    def gain(self, true: int, predicted: int, errors: Ints) -> float:
        """Points of the mean AP when errors (positions) on objects of one category leave another's curve."""
        run = self._run
        counted = np.sort(run.place[errors[run.base.not_ignored[errors]]])
        leaves, joins = self._of(predicted), self._of(true)
        gone = np.searchsorted(leaves.place, counted) + 1
        gain = leaves.ap(leaves.hits - np.searchsorted(gone, leaves.hits)) - leaves.base
        winners = errors[run.recovers_gt[errors]]
        if len(winners):
            # A winner comes behind this many of those that count; the winners before it push it further back.
            behind = np.sort(np.searchsorted(joins.place, run.place_if_moved(winners)))
            hits = joins.hits
            now = np.concatenate([hits + np.searchsorted(behind, hits), behind + np.arange(1, len(behind) + 1)])
            gain += joins.ap(np.sort(now)) - joins.base
        return gain * self._points
