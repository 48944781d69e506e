"""COCO's numbers of a run under caps of choice, with what the cap and a smallest score leave out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.coco import Detections, GroundTruth
from analysis.evaluation.ap_evaluation import coco_metrics
from analysis.evaluation.cap import CapEffect, OverCap, count_over_cap
from analysis.evaluation.selection import LowScores
from analysis.evaluation.settings import Settings


@dataclass(frozen=True, eq=False)
class RunMetrics:
    """One run as ``analyze ap`` shows it."""

    name: str
    detections: Detections
    metrics: dict[str, float]  # in points, -1: nothing to average
    over_cap: OverCap | None  # None: nothing falls to the largest cap
    low_scores: LowScores | None  # None: no smallest score was asked for


def measure_metrics(
    name: str, ground_truth: GroundTruth, detections: Detections, settings: Settings, caps: Sequence[int]
) -> RunMetrics:
    """COCO's numbers under some caps, and the AP without the largest and with the low scores.

    Raises:
        BadInput: masks are asked for and a record has none.
    """

    def metrics(caps: Sequence[int], min_score: float | None) -> dict[str, float]:
        return coco_metrics(ground_truth, detections, iou_type=settings.iou_type, max_dets=caps, min_score=min_score)

    found = metrics(caps, settings.min_score)
    over = count_over_cap(ground_truth, detections, settings)
    if over:
        over = replace(over, effect=CapEffect(found["AP"], metrics([over.most], settings.min_score)["AP"], None))
    low = None
    if settings.min_score is not None:
        left_out = int((detections.score < settings.min_score).sum())
        low = LowScores(left_out, found["AP"], metrics(caps, None)["AP"], None)
    return RunMetrics(name, detections, found, over, low)
