"""The outcome of every object: found, mislocalised, confused, missed, or not counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Ints
from analysis.evaluation.matched_run import CLS, LOC, TRUE_POSITIVE, Labels

FOUND, MISLOCALISED, CONFUSED, MISSED, IGNORED = range(5)
OUTCOME_NAMES = ("found", "mislocalised", "confused", "missed", "ignored")


@dataclass(frozen=True, eq=False)
class ObjectOutcomes:
    """One outcome an object, at the threshold and in the convention of the breakdown.

    Of the cls and loc errors that claim the same unfound object, the one with the best score decides, as it decides
    which of them a fix turns right: an object is mislocalised or confused, never both. ``both`` errors claim nothing.
    """

    outcome: NDArray[np.int8]  # [M] FOUND .. IGNORED
    by: Ints  # [M] the detection that took it or has the best claim (row of the arrays), -1 for none

    @property
    def count(self) -> dict[str, int]:
        """How many objects have each outcome."""
        return dict(zip(OUTCOME_NAMES, np.bincount(self.outcome, minlength=len(OUTCOME_NAMES)).tolist(), strict=True))


def object_outcomes(labels: Labels) -> ObjectOutcomes:
    """The outcome of every object of a breakdown.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> result = break_down(gt, read_detections(predictions["confused-classes"], gt))
    >>> count = object_outcomes(result.labels).count
    >>> count["found"] == result.true_positives, count["missed"] == result.count["miss"]
    (True, True)
    >>> sum(count.values()) == len(gt) and count["confused"] > count["mislocalised"]
    True
    """
    outcome = np.full(len(labels.matched), IGNORED, dtype=np.int8)
    by = np.full(len(labels.matched), -1, dtype=np.int64)
    outcome[labels.missed] = MISSED
    for error, becomes in ((TRUE_POSITIVE, FOUND), (LOC, MISLOCALISED), (CLS, CONFUSED)):
        rows = np.flatnonzero((labels.error == error) & (labels.recovers_gt | (error == TRUE_POSITIVE)))
        outcome[labels.target[rows]], by[labels.target[rows]] = becomes, rows
    return ObjectOutcomes(outcome, by)
