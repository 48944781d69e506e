"""Everything that the page tells about runs, computed once; no HTML here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import coco_metrics
from analysis.by_size import SizeErrors, by_size
from analysis.confusion import Confusion, category_confusion
from analysis.costs import Example, costliest
from analysis.detections import Detections
from analysis.errors import ERRORS, Breakdown, Settings, Verdict, break_down_verdict, judge_at
from analysis.fates import Fates, object_fates
from analysis.ground_truth import GroundTruth
from analysis.runs import Run

Floats = NDArray[np.float64]

CURVE_IOUS = (0.5, 0.75, 0.9)  # at which precision is drawn against recall, besides the setting's


@dataclass(frozen=True, eq=False)
class RunMaterial:
    """One run."""

    run: Run
    metrics: dict[str, float]  # COCO's 12 numbers in points, -1: nothing to average
    precision: dict[float, Floats]  # by IoU: [K, 101] interpolated precision at recalls, NaN rows where there is no AP
    sizes: SizeErrors
    confusion: Confusion
    fates: Fates
    examples: dict[str, list[Example]]  # by error type, the costliest

    @property
    def name(self) -> str:
        """As the run is called."""
        return self.run.name

    @property
    def breakdown(self) -> Breakdown:
        """Of the run."""
        return self.run.breakdown

    @property
    def detections(self) -> Detections:
        """Of the run."""
        return self.run.detections


@dataclass(frozen=True, eq=False)
class Material:
    """All runs, on one ground truth and under one setting."""

    ground_truth: GroundTruth
    settings: Settings
    runs: list[RunMaterial]

    @property
    def names(self) -> list[str]:
        """Of the runs."""
        return [one.name for one in self.runs]

    @property
    def objects(self) -> NDArray[np.int64]:
        """i64[K] the objects that count, by category."""
        asked = ~self.ground_truth.ignore
        return np.bincount(self.ground_truth.category[asked], minlength=len(self.ground_truth.category_id))


def gather(
    ground_truth: GroundTruth, detections: Sequence[tuple[str, Detections]], settings: Settings, pictures: int
) -> Material:
    """Analyse the runs; ``pictures`` is how many examples are chosen in all, shared evenly by runs and error types."""
    most = max(1, pictures // (len(detections) * len(ERRORS))) if pictures else 0
    return Material(
        ground_truth, settings, [_gather_run(ground_truth, name, dt, settings, most) for name, dt in detections]
    )


def _gather_run(ground_truth: GroundTruth, name: str, dt: Detections, settings: Settings, most: int) -> RunMaterial:
    ious = sorted({settings.iou, *(iou for iou in CURVE_IOUS if iou > settings.background_iou)})
    verdicts = dict(zip(ious, judge_at(ground_truth, dt, settings, ious), strict=True))
    verdict = verdicts[settings.iou]
    breakdown = break_down_verdict(verdict, dt)
    return RunMaterial(
        run=Run(name, dt, breakdown),
        metrics=coco_metrics(ground_truth, dt, iou_type=settings.iou_type),
        precision={iou: _precision(one) for iou, one in verdicts.items()},
        sizes=by_size(ground_truth, dt, verdict),
        confusion=category_confusion(ground_truth, dt, breakdown.labels),
        fates=object_fates(breakdown.labels),
        examples=costliest(ground_truth, dt, breakdown, most),
    )


def _precision(verdict: Verdict) -> Floats:
    curves = verdict.precision(verdict.base)
    curves[verdict.positives == 0] = np.nan
    return curves
