"""What each confusion costs: the AP to gain when only the cls errors of one pair of categories are fixed.

Only two curves change, that of the object's category and that of the detections'; each is made from its true positives
alone, so that thousands of pairs take less time than one matching.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import COCO_RECALLS, EPSILON, recall_steps
from analysis.error_types import CLS
from analysis.verdict import TIDE_RECALLS, Verdict
from analysis.where.confusion import Confusion

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def with_costs(confusion: Confusion, verdict: Verdict) -> Confusion:
    """The confusion with the points of the mean AP (0..100) of each pair, the costliest first.

    In the ``coco`` convention the cost is exactly that of :meth:`Verdict.fixed` on the errors of the pair. In
    ``tidecv`` it is measured within the order of its fixed curves, over the categories in the mean before the fix.

    >>> from analysis import Settings, read_detections, read_ground_truth
    >>> from analysis.where.confusion import category_confusion
    >>> from analysis.judging import judge
    >>> from analysis.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["confused-classes"], gt)
    >>> verdict = judge(gt, dt, Settings())
    >>> confusion = with_costs(category_confusion(gt, dt, verdict.labels), verdict)
    >>> bool(confusion.cost[0] >= confusion.cost[1] > 0)
    True
    """
    wrong = np.flatnonzero(verdict.label == CLS)
    target = verdict.labels.target[verdict.row[wrong]]
    pair = verdict.object_category[target] * confusion.categories + verdict.category[wrong]
    order = np.argsort(pair, kind="stable")
    wrong, pair = wrong[order], pair[order]
    wanted = confusion.true * confusion.categories + confusion.predicted
    low, high = np.searchsorted(pair, wanted, side="left"), np.searchsorted(pair, wanted, side="right")
    curves = _Curves(verdict)
    wins = verdict.labels.fixes[verdict.row]
    cost = np.zeros(len(wanted))
    for place in np.flatnonzero(low < high).tolist():
        errors = wrong[low[place] : high[place]]
        cost[place] = curves.gain(int(confusion.true[place]), int(confusion.predicted[place]), errors, wins[errors])
    best = np.lexsort((-confusion.count, -confusion.objects, -cost))
    columns = {name: getattr(confusion, name)[best] for name in ("true", "predicted", "count", "objects")}
    return replace(confusion, cost=cost[best], **columns)


class _Curves:
    """Each category's curve as the ranks of its true positives among what counts."""

    def __init__(self, verdict: Verdict) -> None:
        ranking, self._verdict = verdict.ranking_fixed, verdict
        coco = verdict.settings.convention == "coco"
        self._epsilon = EPSILON if coco else 0.0
        self._steps = recall_steps(verdict.positives, COCO_RECALLS if coco else TIDE_RECALLS)
        rows = ranking.rows[verdict.base.counted[ranking.rows]]
        edge = np.searchsorted(verdict.category[rows], np.arange(verdict.categories + 1))
        place = np.split(verdict.place[rows], edge[1:-1])
        right = np.split(verdict.base.right[rows], edge[1:-1])
        self._place = place  # of what counts in a category, ascending
        self._hits = [np.flatnonzero(one) + 1 for one in right]
        known = (verdict.positives > 0) | (np.diff(edge) > 0) if not coco else verdict.positives > 0
        self._points = 100 / max(int(known.sum()), 1)
        self._base = [self._ap(c, hits) for c, hits in enumerate(self._hits)]

    def gain(self, true: int, predicted: int, errors: Ints, wins: NDArray[np.bool_]) -> float:
        """Points of the mean AP when errors (positions) on objects of one category leave another's curve."""
        counted = errors[self._verdict.base.counted[errors]]
        gone = np.searchsorted(self._place[predicted], np.sort(self._verdict.place[counted])) + 1
        hits = self._hits[predicted]
        gain = self._ap(predicted, hits - np.searchsorted(gone, hits)) - self._base[predicted]
        if wins.any():
            # A winner comes behind this many of those that count; the winners before it push it further back.
            behind = np.sort(np.searchsorted(self._place[true], self._verdict.place_if_moved(errors[wins])))
            hits = self._hits[true]
            pushed = hits + np.searchsorted(behind, hits)
            new = behind + np.arange(1, len(behind) + 1)
            gain += self._ap(true, np.sort(np.concatenate([pushed, new]))) - self._base[true]
        return gain * self._points

    def _ap(self, category: int, hits: Ints) -> float:
        """The AP (0..1) of a category whose true positives have these ranks, ascending from 1."""
        if not len(hits) or not self._verdict.positives[category]:
            return 0.0
        number = np.arange(1, len(hits) + 1)
        precision = number / (hits.astype(np.float64) + self._epsilon)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        steps = self._steps[category]
        return float(envelope[steps[steps <= len(hits)] - 1].sum()) / len(steps)
