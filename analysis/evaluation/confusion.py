"""Which category is taken for which: cls errors by pair of categories, and what each pair costs.

A pair's cost is the AP to gain when only its cls errors are fixed. Only two curves change, that of the object's
category and that of the detections'; each is made from its true positives alone (`hit_ranks`), so that thousands of
pairs take less time than one matching.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import Bools, Floats, Ints, group_starts, is_among, occurring
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.hit_ranks import HitRanks
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
        inside = np.flatnonzero(is_among(self.true, categories) & is_among(self.predicted, categories))
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
    pairs, place = np.unique(pair, return_inverse=True)
    gain = _gains(matched_run, pairs // confusion.categories, pairs % confusion.categories, wrong, place)
    cost = np.zeros(len(confusion.true))
    wanted = confusion.true * confusion.categories + confusion.predicted
    occurs = is_among(wanted, pairs)
    cost[occurs] = gain[np.searchsorted(pairs, wanted[occurs])]
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


def _gains(run: MatchedRun, true: Ints, predicted: Ints, errors: Ints, pair: Ints) -> Floats:
    """f64[P] points of the mean AP when the errors of one pair of categories leave one curve and join the other.

    Args:
        run: the matched run.
        true: i64[P] the category whose curve the errors join where they win their object.
        predicted: i64[P] the category whose curve they leave.
        errors: i64[E] positions of the cls errors.
        pair: i64[E] the pair of each.
    """
    rows = run.ranking_fixed.rows
    rows = rows[run.base.not_ignored[rows]]
    in_mean = run.positives > 0
    if run.settings.convention == "tidecv":
        in_mean |= np.bincount(run.category[rows], minlength=run.categories) > 0
    points = 100 / max(int(in_mean.sum()), 1)
    # Of a million categories few may be confused: these alone are numbered.
    confused = occurring(run.categories, true, predicted)
    number = np.full(run.categories, -1)
    number[confused] = np.arange(len(confused))
    true, predicted = number[true], number[predicted]
    rows = rows[number[run.category[rows]] >= 0]
    category = number[run.category[rows]]
    start = group_starts(category, len(confused))
    steps = run.steps(run.positives[confused])
    curves = HitRanks.of_ranking(run.base.is_tp[rows], start, steps, run.epsilon)
    key = category * (len(run.row) + 1) + run.place[rows]  # ascending

    def before(category: Ints, place: Ints) -> Ints:
        """How many detections of a category that count come before a place in the order by score."""
        return np.searchsorted(key, category * (len(run.row) + 1) + place) - start[category]

    counts, wins = run.base.not_ignored[errors], run.recovers_gt[errors]
    leaving, left = errors[counts], pair[counts]
    gone = before(predicted[left], run.place[leaving]) + 1
    joining, joined = errors[wins], pair[wins]
    behind = before(true[joined], run.place_if_moved(joining))
    base, gain = curves.ap(), np.zeros(len(true))
    for curve, moved, of, join in ((predicted, gone, left, False), (true, behind, joined, True)):
        order = np.lexsort((moved, of))
        gain += curves.ap_moved(curve, moved[order], group_starts(of, len(true)), join=join) - base[curve]
    return gain * points
