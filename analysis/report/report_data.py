"""Everything that the page tells about runs, computed once; no HTML here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Floats
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run, RunAnalysis
from analysis.evaluation.average_precision import coco_metrics
from analysis.evaluation.confusion import Confusion, category_confusion
from analysis.evaluation.error_types import ERRORS, Settings
from analysis.evaluation.outcomes import object_outcomes
from analysis.evaluation.single_error_cost import Example, costliest
from analysis.evaluation.slices import (
    ClassErrors,
    CrowdingBins,
    IouErrors,
    SizeErrors,
    by_class,
    by_crowding,
    by_iou,
    by_size,
    object_crowding,
)
from analysis.evaluation.tide import Breakdown, MatchedRun, break_down_verdict, match_and_label_at
from analysis.exceptions import BadInput
from analysis.render.takeaways import slice_takeaways
from analysis.stats.compare import Candidate, Comparison, compare
from analysis.stats.intervals import Interval

CURVE_IOUS = (0.5, 0.75, 0.9)  # at which precision is drawn against recall, besides the setting's


@dataclass(frozen=True, eq=False)
class RunData:
    """One run."""

    run: Run
    metrics: dict[str, float]  # COCO's 12 numbers in points, -1: nothing to average
    intervals: dict[str, Interval]  # of AP, AP50 and every error; empty: the images were not resampled for it alone
    classes: ClassErrors
    sizes: SizeErrors
    ious: IouErrors
    crowding: CrowdingBins
    confusion: Confusion
    said: dict[str, str]  # sentences by part: class, size, iou, crowding, confusion
    precision: dict[float, Floats]  # by IoU: [K, 101] interpolated precision at recalls, NaN rows where there is no AP
    examples: dict[str, list[Example]]  # by error type, the costliest

    @property
    def name(self) -> str:
        """As the run is called."""
        return self.run.name

    @property
    def breakdown(self) -> Breakdown:
        """The whole."""
        return self.run.breakdown

    @property
    def detections(self) -> Detections:
        """All of them."""
        return self.run.detections


@dataclass(frozen=True, eq=False)
class ReportData:
    """All runs, on one ground truth and under one setting."""

    ground_truth: GroundTruth
    settings: Settings
    runs: list[RunData]
    baseline: int  # the run that the others are compared with
    comparison: Comparison | None  # none where the images were not resampled

    @property
    def names(self) -> list[str]:
        """Of the runs."""
        return [one.name for one in self.runs]

    @property
    def objects(self) -> NDArray[np.int64]:
        """i64[K] the objects that count, by category."""
        asked = ~self.ground_truth.ignore
        return np.bincount(self.ground_truth.category[asked], minlength=len(self.ground_truth.category_id))


def collect(
    ground_truth: GroundTruth,
    detections: Sequence[tuple[str, Detections]],
    settings: Settings,
    *,
    baseline: str = "",
    pictures: int,
    resamples: int | None,
    comparison: Comparison | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReportData:
    """Analyse the runs.

    Args:
        ground_truth: of all runs.
        detections: of each run, with its name.
        settings: of the errors.
        baseline: the name of the run that the others are compared with; the first, if none is named.
        pictures: how many examples are chosen in all, shared evenly by runs and error types.
        resamples: of the images, for intervals and differences; 0: as many as it takes, none: no intervals.
        comparison: one that is made already, in place of resampling here: of entrants of the same names, over more
            seeds than are shown.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: the baseline is none of the runs.
    """
    names = [name for name, _ in detections]
    if baseline and baseline not in names:
        raise BadInput(f"baseline {baseline!r} is none of the runs; choose one of {', '.join(names)}")
    base = names.index(baseline) if baseline else 0
    most = max(1, pictures // (len(detections) * len(ERRORS))) if pictures else 0
    if comparison is None and resamples is not None:
        candidates = [Candidate(name, (dt,)) for name, dt in detections]
        comparison = compare(
            ground_truth, candidates, settings, baseline=names[base], resamples=resamples, progress=progress
        )
    # An interval over several seeds is about their mean, not about the run that is shown.
    of_one = {one.name: one.numbers for one in comparison.candidates if len(one.seeds) == 1} if comparison else {}
    crowding = object_crowding(ground_truth)
    runs = [_of_run(ground_truth, name, dt, settings, crowding, most, of_one.get(name, {})) for name, dt in detections]
    return ReportData(ground_truth, settings, runs, base, comparison)


def _of_run(
    ground_truth: GroundTruth, name: str, dt: Detections, settings: Settings, crowding: Floats, most: int,
    intervals: dict[str, Interval],
) -> RunData:  # fmt: skip
    ious = sorted({settings.iou, *(iou for iou in CURVE_IOUS if iou > settings.background_iou)})
    matched_runs = dict(zip(ious, match_and_label_at(ground_truth, dt, settings, ious), strict=True))
    matched_run = matched_runs[settings.iou]
    breakdown = break_down_verdict(matched_run, dt)
    outcomes = object_outcomes(breakdown.labels)
    where = RunAnalysis(
        run=Run(name, dt, breakdown),
        outcomes=outcomes,
        classes=(classes := by_class(ground_truth, dt, matched_run, breakdown)),
        sizes=(sizes := by_size(ground_truth, dt, matched_run)),
        ious=(along := by_iou(ground_truth, dt, settings)),
        crowding=(crowded := by_crowding(crowding, outcomes, breakdown.labels)),
        confusion=(confused := category_confusion(ground_truth, dt, breakdown.labels)),
    )
    return RunData(
        run=where.run,
        metrics=coco_metrics(ground_truth, dt, iou_type=settings.iou_type),
        intervals=intervals,
        classes=classes,
        sizes=sizes,
        ious=along,
        crowding=crowded,
        confusion=confused,
        said=slice_takeaways(ground_truth, where),
        precision={iou: _precision(one) for iou, one in matched_runs.items()},
        examples=costliest(ground_truth, dt, breakdown, most),
    )


def _precision(matched_run: MatchedRun) -> Floats:
    curves = matched_run.precision(matched_run.base)
    curves[matched_run.positives == 0] = np.nan
    return curves
