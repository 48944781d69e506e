"""What each of the six error types of TIDE (arXiv 2008.08115) costs in AP, in two exact conventions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detections import Detections
from analysis.error_types import ERRORS, SPECIAL, TRUE_POSITIVE, Labels, Settings
from analysis.ground_truth import GroundTruth
from analysis.judging import judge
from analysis.verdict import Verdict

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Breakdown:
    """Where the AP went, in points (0..100).

    ``raw`` are the unclamped differences of AP when one type of error is fixed; ``delta_ap`` is what to show, which
    the ``tidecv`` convention clamps at 0 for the six main types.
    """

    settings: Settings
    ap: float
    raw: dict[str, float]  # cls, loc, both, dup, bg, miss, fp, fn
    category_ap: Floats  # [K] NaN: not in the mean (see CurveAP)
    category_raw: dict[str, Floats]  # [K] as `raw`, of each category
    count: dict[str, int]  # cls, loc, both, dup, bg, miss
    true_positives: int
    positives: int  # objects that count
    labels: Labels
    never_detected: tuple[int, ...]  # category indices with objects and without any detection

    @property
    def delta_ap(self) -> dict[str, float]:
        """Points of AP to gain by fixing each type of error alone."""
        if self.settings.convention == "coco":
            return dict(self.raw)
        return {name: max(value, 0.0) if name in ERRORS else value for name, value in self.raw.items()}


def break_down(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou: float = 0.5,
    background_iou: float = 0.1,
    max_dets: int = 100,
    convention: str = "coco",
    iou_type: str = "bbox",
) -> Breakdown:
    """Label every detection and measure what each type of error costs.

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        iou: the IoU from which a detection is right; 0 < ``background_iou`` <= ``iou`` <= 1.
        background_iou: the IoU up to which a detection is on nothing.
        max_dets: detections considered an image, in the ``coco`` convention of each category.
        convention: ``coco`` (the AP is pycocotools') or ``tidecv`` (every number is tidecv 1.0.1's).
        iou_type: ``bbox`` or ``segm``.

    Raises:
        BadInput: a setting is out of range, or masks are asked for and a record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> result = break_down(gt, read_detections(predictions["confused-classes"], gt))
    >>> max(result.delta_ap, key=result.delta_ap.get), result.count["cls"] > result.count["dup"]
    ('cls', True)
    """
    return break_down_as(ground_truth, detections, Settings(iou_type, iou, background_iou, max_dets, convention))


def break_down_as(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> Breakdown:
    """:func:`break_down` with its settings in one piece."""
    return break_down_verdict(judge(ground_truth, detections, settings), detections)


def break_down_verdict(verdict: Verdict, detections: Detections) -> Breakdown:
    """The AP of the run as it is, and what each type of error costs."""
    base = verdict.average_precision(verdict.base)
    fixed = {name: verdict.average_precision(verdict.fixed(name)) for name in (*ERRORS, *SPECIAL)}
    labels, positives = verdict.labels, verdict.positives
    count = {name: int((labels.error == error).sum()) for error, name in enumerate(ERRORS[:5])}
    count["miss"] = int(labels.missed.sum())
    seen = np.bincount(detections.category, minlength=len(positives)) > 0
    return Breakdown(
        settings=verdict.settings,
        ap=base.mean,
        raw={name: curve.mean - base.mean for name, curve in fixed.items()},
        category_ap=base.category,
        category_raw={name: curve.category - base.category for name, curve in fixed.items()},
        count=count,
        true_positives=int((labels.error == TRUE_POSITIVE).sum()),
        positives=int(positives.sum()),
        labels=labels,
        never_detected=tuple(np.flatnonzero((positives > 0) & ~seen).tolist()),
    )
