"""Which category is taken for which, from the cls errors: detections in the right place with a wrong name."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detections import Detections
from analysis.error_types import CLS, TRUE_POSITIVE, Labels
from analysis.ground_truth import GroundTruth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pairs (true category, predicted category) that occur, the most frequent first; equal ones are true positives.

    A cls error counts whether or not its object was also found rightly; ``objects`` counts the objects that the
    confusion cost: unfound, with this error as the best claim. ``cost`` is there after
    :func:`analysis.where.confusion_cost.with_costs`, which puts the costliest first.
    """

    categories: int
    true: Ints  # [P] category index of the object
    predicted: Ints  # [P] category index of the detection
    count: Ints  # [P] detections
    objects: Ints  # [P] objects lost to it (for a true positive: found)
    cost: Floats | None = None  # [P] points of AP to gain by fixing the errors of this pair alone

    @property
    def matrix(self) -> Ints:
        """i64[K, K] detections by true category (row) and predicted category (column)."""
        return self._dense(self.count)

    @property
    def lost(self) -> Ints:
        """i64[K, K] objects by true category and the category that they were lost to; found ones on the diagonal."""
        return self._dense(self.objects)

    def wrong(self, most: int | None = None) -> Ints:
        """The places of :meth:`wrong`."""
        return np.flatnonzero(self.true != self.predicted)[:most]

    def most_confused(self, most: int | None = None) -> list[tuple[int, int, int, int]]:
        """``(true, predicted, count, objects)`` of :meth:`wrong`."""
        columns = (self.true, self.predicted, self.count, self.objects)
        return list(zip(*(column[self.wrong(most)].tolist() for column in columns), strict=True))

    def row(self, true: int) -> Ints:
        """i64[K] detections on objects of one category, by predicted category."""
        counts = np.zeros(self.categories, dtype=np.int64)
        of_it = self.true == true
        counts[self.predicted[of_it]] = self.count[of_it]
        return counts

    def _dense(self, values: Ints) -> Ints:
        table = np.zeros((self.categories, self.categories), dtype=np.int64)
        table[self.true, self.predicted] = values
        return table


def category_confusion(ground_truth: GroundTruth, detections: Detections, labels: Labels) -> Confusion:
    """Count the pairs of a breakdown.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.synthetic import write_example
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
    costs = labels.fixes[rows] | (labels.error[rows] == TRUE_POSITIVE)
    pairs, place = np.unique(pair, return_inverse=True)
    count = np.bincount(place, minlength=len(pairs))
    objects = np.bincount(place, weights=costs, minlength=len(pairs)).astype(np.int64)
    order = np.lexsort((pairs, -objects, -count))
    return Confusion(classes, pairs[order] // classes, pairs[order] % classes, count[order], objects[order])
