"""AP from the ranks of true positives alone, and what it becomes when single detections are dropped, fixed or moved.

Between two true positives the precision only falls, so these ranks decide the curve: a changed AP takes time in the
number of true positives of one category, not of all detections.
"""

from dataclasses import dataclass

import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints, group_starts
from analysis.evaluation.average_precision import best_from_here, interpolate_hits

BLOCK = 1 << 20  # ranks at a time


@dataclass(frozen=True, eq=False)
class HitRanks:
    """The curves of C categories, each given by the ranks of its true positives among the detections that count.

    >>> curves = HitRanks(np.array([1, 4]), np.array([0, 2]), np.array([[1, 2]]))
    >>> curves.ap()  # precision 1 at the first recall, 1/2 at the second
    array([0.75])
    >>> curves.ap_without()  # without a wrong detection that comes before, between or behind the true positives
    array([0.83333333, 0.83333333, 0.75      ])
    >>> curves.ap_with_one(np.array([0]), np.array([2]), shift=0)  # if the second detection were right
    array([1.])
    """

    hits: Ints  # [H] ranks from 1, ascending, one category after another
    start: Ints  # [C + 1] where those of each category begin
    steps: Ints  # [C, R] the number of true positives at which each recall is first reached, ascending
    epsilon: float = 0.0  # added to the denominator of the precision; by `ap` and `ap_moved` alone

    @classmethod
    def of_ranking(cls, is_tp: Bools, start: Ints, steps: Ints, epsilon: float = 0.0) -> "HitRanks":
        """From the true positives bool[n] of ranked detections that all count, category by category from ``start``."""
        hits = np.flatnonzero(is_tp)
        first = np.searchsorted(hits, start)
        return cls(hits + 1 - np.repeat(start[:-1], np.diff(first)), first, steps, epsilon)

    def ap(self) -> Floats:
        """f64[C] the AP (0..1) of each category."""
        found: Floats = _sum(interpolate_hits(self.start, self.hits, self.steps, self.epsilon)) / self.steps.shape[1]
        return found

    def ap_without(self) -> Floats:
        """f64[H + C] AP without one wrong detection: for each category, one that has 0, 1, ... H true positives before.

        Only this number matters: what is dropped raises the precision of all later true positives alike. The values of
        category c begin at ``start[c] + c``.
        """
        if native.core is not None:
            return np.frombuffer(native.core.hit_aps_without(*self._columns))
        each = [self._without(*self._of(i)) for i in range(len(self.steps))]
        return np.concatenate([np.empty(0), *each])

    def ap_with_one(self, category: Ints, place: Ints, *, shift: int) -> Floats:
        """f64[P] the AP of a category i64[P] when one more detection is right, at a rank i64[P] from 1.

        All later true positives stand ``shift`` ranks further back then.
        """
        if native.core is not None:
            columns = map(np.ascontiguousarray, (category, place))
            return np.frombuffer(native.core.hit_aps_with_one(*self._columns, *columns, shift))
        found = np.empty(len(category))
        order = np.argsort(category, kind="stable")
        edge = group_starts(category[order], len(self.steps))
        for i in np.unique(category).tolist():
            which = order[edge[i] : edge[i + 1]]
            found[which] = self._with_one(*self._of(i), place[which], shift)
        return found

    def ap_moved(self, category: Ints, moved: Ints, start: Ints, *, join: bool) -> Floats:
        """f64[P] the AP of a category i64[P] which some detections leave, or join as true positives.

        Args:
            category: i64[P].
            moved: i64[E] ascending for each of the P: the ranks of the detections that leave; of those that join, how
                many of the category's detections come before.
            start: i64[P + 1] where the detections of each begin.
            join: whether they join.
        """
        if native.core is not None:
            columns = map(np.ascontiguousarray, (category, moved, start))
            return np.frombuffer(native.core.hit_aps_moved(*self._columns, self.epsilon, *columns, join))
        found = np.empty(len(category))
        for i, one in enumerate(category.tolist()):
            (hits, steps), change = self._of(one), moved[start[i] : start[i + 1]]
            before = np.searchsorted(change, hits)
            if join:
                now = np.sort(np.concatenate([hits + before, change + np.arange(1, len(change) + 1)]))
            else:
                now = hits - before
            found[i] = self._average(now, steps)
        return found

    @property
    def _columns(self) -> tuple[Ints, Ints, Ints]:
        hits, start, steps = map(np.ascontiguousarray, (self.hits, self.start, self.steps))
        return hits, start, steps

    def _of(self, category: int) -> tuple[Ints, Ints]:
        return self.hits[self.start[category] : self.start[category + 1]], self.steps[category]

    def _average(self, hits: Ints, steps: Ints) -> float:
        envelope = best_from_here(np.arange(1, len(hits) + 1) / (hits + self.epsilon))
        return float(_sum(envelope[steps[steps <= len(hits)] - 1])) / len(steps)

    def _without(self, hits: Ints, steps: Ints) -> Floats:
        count = len(hits)
        number = np.arange(1, count + 1)
        before = number / hits
        after = np.append(best_from_here(number / np.maximum(hits - 1, number)), 0.0)
        total = np.zeros(count + 1)
        for step, times in zip(*np.unique(steps[steps <= count], return_counts=True), strict=True):
            curve = np.full(count + 1, after[step - 1])
            curve[step:] = np.maximum(np.maximum.accumulate(before[step - 1 :]), after[step:])
            total += times * curve
        return total / len(steps)

    def _with_one(self, hits: Ints, steps: Ints, places: Ints, shift: int) -> Floats:
        count = len(hits) + 1
        reached = steps[steps <= count] - 1
        number = np.arange(count)
        before, after = np.append(hits, 0), np.concatenate([[0], hits + shift])
        found = []
        for part in np.array_split(places, -(-len(places) * count // BLOCK) or 1):
            first, place = np.searchsorted(hits, part)[:, None], part[:, None]
            ranks = np.where(number < first, before, np.where(number == first, place, after))
            precision = (number + 1) / np.maximum(ranks, 1)
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            found.append(_sum(envelope[:, reached]) / len(steps))
        return np.concatenate(found)


def _sum(values: Floats) -> Floats:
    """The sum along the last axis from left to right, as the compiled core adds; `np.sum` adds in another order."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    total: Floats = np.add.accumulate(values, axis=-1)[..., -1]
    return total
