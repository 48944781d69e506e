"""What each type of error costs each category: the change of that category's AP when the error is fixed everywhere."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detections import Detections
from analysis.error_types import ERRORS, SPECIAL, TRUE_POSITIVE, Settings
from analysis.errors import Breakdown
from analysis.ground_truth import GroundTruth
from analysis.verdict import Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassErrors:
    """Rows are categories, in ascending order of their ids; points of each category's own AP (0..100).

    A category that is not in the mean has NaN: without objects in the ``coco`` convention, without objects and
    detections in ``tidecv``. In the ``coco`` convention the raw numbers average to the whole's. In ``tidecv`` they do
    where a fix takes no category out of the mean; one that it does take out has NaN there.

    A cls error costs two categories: the detection's loses precision, the object's recall. It is counted where the
    detection is, as are loc, both, dup and bg; a miss is counted where the object is.
    """

    settings: Settings
    names: tuple[str, ...]
    ap: Floats  # [K]
    raw: dict[str, Floats]  # cls, loc, both, dup, bg, miss, fp, fn: [K] unclamped
    count: dict[str, Ints]  # cls, loc, both, dup, bg, miss: [K]
    true_positives: Ints  # [K]
    positives: Ints  # [K] objects that count
    detections: Ints  # [K] all, those over the cap included

    @property
    def delta_ap(self) -> dict[str, Floats]:
        """What to show: the ``tidecv`` convention clamps the six types at 0."""
        clamped = ERRORS if self.settings.convention == "tidecv" else ()
        return {name: np.maximum(values, 0.0) if name in clamped else values for name, values in self.raw.items()}

    def costliest(self, most: int | None = None) -> Ints:
        """Categories in the mean, those with the most to gain from fixing a single type of error first.

        Equal gains (many rare categories can gain 100) stand by their number of objects, the most first.
        """
        known = np.flatnonzero(~np.isnan(self.ap))
        if not len(known):
            return known
        gain = np.max([np.nan_to_num(self.delta_ap[name][known]) for name in ERRORS], axis=0)
        order: Ints = known[np.lexsort((known, -self.positives[known], -gain))][:most]
        return order


def by_class(ground_truth: GroundTruth, detections: Detections, verdict: Verdict, breakdown: Breakdown) -> ClassErrors:
    """Split a breakdown by category.

    >>> from analysis import Settings, read_detections, read_ground_truth
    >>> from analysis.errors import break_down_verdict
    >>> from analysis.judging import judge
    >>> from analysis.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> verdict = judge(gt, dt, Settings())
    >>> result = break_down_verdict(verdict, dt)
    >>> classes = by_class(gt, dt, verdict, result)
    >>> bool(abs(classes.raw["loc"].mean() - result.raw["loc"]) < 1e-12)
    True
    """
    labels, kinds = breakdown.labels, len(ground_truth.category_id)

    def tally(category: Ints) -> Ints:
        return np.bincount(category, minlength=kinds)

    count = {name: tally(detections.category[labels.error == error]) for error, name in enumerate(ERRORS[:5])}
    count["miss"] = tally(ground_truth.category[labels.missed])
    return ClassErrors(
        settings=breakdown.settings,
        names=tuple(ground_truth.category_name),
        ap=breakdown.category_ap,
        raw={name: breakdown.category_raw[name] for name in (*ERRORS, *SPECIAL)},
        count=count,
        true_positives=tally(detections.category[labels.error == TRUE_POSITIVE]),
        positives=verdict.positives,
        detections=tally(detections.category),
    )
