"""The numbers of a run for IoUs, sizes and caps of choice, with what the cap and a smallest score leave out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.arrays import Floats
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.ap_evaluation import Evaluation, evaluate
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.evaluation.cap import CapEffect, OverCap, count_over_cap
from analysis.evaluation.matching import AREA_RANGES
from analysis.evaluation.selection import LowScores
from analysis.evaluation.settings import Settings


@dataclass(frozen=True, eq=False)
class RunMetrics:
    """One run as ``analyze ap`` shows it."""

    name: str
    detections: Detections
    evaluation: Evaluation
    metrics: dict[str, float]  # in points, -1: nothing to average
    over_cap: OverCap | None  # None: nothing falls to the largest cap
    low_scores: LowScores | None  # None: no smallest score was asked for


def measure_metrics(
    name: str,
    ground_truth: GroundTruth,
    detections: Detections,
    settings: Settings,
    caps: Sequence[int] | None = None,
    *,
    ious: Sequence[float] | Floats = COCO_IOUS,
    sizes: Mapping[str, tuple[float, float]] = AREA_RANGES,
    micro: bool = False,
) -> RunMetrics:
    """The numbers under some caps, and the AP without the largest and with the low scores.

    Args:
        name: of the run.
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        settings: boxes or masks, the smallest score, the rules that hold.
        caps: of detections; none: those of the settings.
        ious: that the AP is the mean over.
        sizes: ranges of areas in square pixels by name, all first.
        micro: one curve over the detections of all categories.

    Raises:
        BadInput: masks are asked for and a record has none.
    """

    def measured(caps: Sequence[int], min_score: float | None) -> Evaluation:
        return evaluate(
            ground_truth,
            detections,
            iou_type=settings.iou_type,
            ious=ious,
            sizes=sizes,
            max_dets=caps,
            min_score=min_score,
            micro=micro,
        )

    evaluation = measured(caps or settings.caps, settings.min_score)
    found = evaluation.names
    over = count_over_cap(ground_truth, detections, settings)
    if over:
        without = measured([over.most], settings.min_score).names["AP"]
        over = replace(over, effect=CapEffect(found["AP"], without, None))
    low = None
    if settings.min_score is not None:
        left_out = int((detections.score < settings.min_score).sum())
        low = LowScores(left_out, found["AP"], measured(caps or settings.caps, None).names["AP"], None)
    return RunMetrics(name, detections, evaluation, found, over, low)
