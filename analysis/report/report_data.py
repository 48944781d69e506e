"""All numbers and sentences of the page, computed once; no HTML here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import Floats, Ints
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.analysis import PARTS, Analysis, RunAnalysis
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.evaluation.confusion import Confusion
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import Settings
from analysis.evaluation.single_error_cost import Example, costliest
from analysis.evaluation.slices import ClassErrors, CrowdingBins, IouErrors, SizeErrors
from analysis.exceptions import BadInput
from analysis.parallel import side_by_side, threads
from analysis.render.comparison import objects_by_category
from analysis.render.takeaways import slice_takeaways
from analysis.stats.compare import Candidate, Comparison, compare
from analysis.stats.intervals import Interval
from analysis.stats.operating_point import RunAtThreshold, operating_points

CURVE_IOUS = (0.5, 0.75, 0.9)  # at which precision is drawn against recall, besides the setting's


@dataclass(frozen=True, eq=False)
class RunData(RunAnalysis):
    """The analysis of one run with every part, and all else that the page shows about it."""

    classes: ClassErrors
    sizes: SizeErrors
    ious: IouErrors
    crowding: CrowdingBins
    confusion: Confusion
    intervals: dict[str, Interval]  # of AP, AP50 and every error; empty: the images were not resampled for it alone
    takeaways: dict[str, str]  # sentences by part: class, size, iou, crowding, confusion
    precision: dict[float, Floats]  # by IoU: [K, 101] interpolated precision at recalls, NaN rows where there is no AP
    examples: dict[str, list[Example]]  # by error type, the costliest; empty where a run before has the same


@dataclass(frozen=True, eq=False)
class ReportData:
    """All runs, on one ground truth and under one setting."""

    ground_truth: GroundTruth
    settings: Settings
    runs: list[RunData]
    baseline: int  # the run that the others are compared with
    comparison: Comparison | None  # none where the images were not resampled
    at_thresholds: list[RunAtThreshold]  # each at the score with its best F1; empty outside the coco convention
    first_alike: list[int]  # for each run, the first that has the same predictions: itself, where no other has

    @property
    def names(self) -> list[str]:
        """Names of the runs."""
        return [one.name for one in self.runs]

    @property
    def objects(self) -> Ints:
        """i64[K] the objects that count, by category."""
        return objects_by_category(self.ground_truth)


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
        pictures: how many examples are chosen in all, shared evenly by error types and runs that differ.
        resamples: of the images, for intervals and differences; 0: as many as it takes, none: no intervals.
        comparison: one that is made already, in place of resampling here: of candidates of the same names, over more
            seeds than are shown.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: the baseline is none of the runs.
    """
    names = [name for name, _ in detections]
    if baseline and baseline not in names:
        raise BadInput(f"baseline {baseline!r} is not one of the runs; choose from {', '.join(names)}")
    base = names.index(baseline) if baseline else 0
    first_alike = find_alike([dt for _, dt in detections], settings.iou_type)
    most = max(1, pictures // (len(set(first_alike)) * len(ERRORS))) if pictures else 0
    drawn_at = sorted({settings.iou, *(iou for iou in CURVE_IOUS if iou > settings.background_iou)})
    analysis = Analysis(ground_truth, settings, PARTS, ious=[*drawn_at, *COCO_IOUS], metrics=True, at_stake=True)
    different = sorted(set(first_alike))
    analysed = side_by_side(lambda place: analysis.of(*detections[place]), different, threads())
    of_first = dict(zip(different, analysed, strict=True))
    analyses: list[RunAnalysis] = [
        replace(of_first[first], name=name, detections=dt)
        for (name, dt), first in zip(detections, first_alike, strict=True)
    ]
    if comparison is None and resamples is not None:
        candidates = [Candidate.of(one) for one in analyses]
        comparison = compare(
            ground_truth, candidates, settings, baseline=names[base], resamples=resamples, progress=progress
        )
    # An interval over several seeds is about their mean, not about the run that is shown.
    of_one = {one.name: one.numbers for one in comparison.candidates if len(one.seeds) == 1} if comparison else {}
    runs = []
    for place, one in enumerate(analyses):
        precision = {iou: one.matched_run.precision(one.curves[iou]) for iou in drawn_at}
        costs = None if one.at_stake is None else one.at_stake.costs
        for curve in precision.values():
            curve[one.matched_run.positives == 0] = np.nan
        runs.append(
            RunData(
                **vars(one),
                intervals=of_one.get(one.name, {}),
                takeaways=slice_takeaways(ground_truth, one),
                precision=precision,
                examples=costliest(ground_truth, one.detections, one.breakdown, most, costs)
                if first_alike[place] == place
                else {},
            )
        )
    at_thresholds = []
    if settings.convention == "coco":
        drawn = comparison.resamples if comparison is not None else 0
        matched = [one.matched_run for one in analyses]
        at_thresholds = operating_points(ground_truth, detections, settings, resamples=drawn, matched=matched)
    return ReportData(ground_truth, settings, runs, base, comparison, at_thresholds, first_alike)


def find_alike(runs: Sequence[Detections], iou_type: str) -> list[int]:
    """For each run the first that has the same detections in the same order; boxes, or masks where those are compared.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> one, other = (read_detections(path, gt) for path in predictions.values())
    >>> find_alike([one, other, other], "bbox")
    [0, 1, 1]
    """

    def are_alike(one: Detections, other: Detections) -> bool:
        columns = ("box", "score", "category", "image")
        if one.has_box != other.has_box or not all(
            np.array_equal(getattr(one, column), getattr(other, column)) for column in columns
        ):
            return False
        return iou_type == "bbox" or all(one.masks.rle(row) == other.masks.rle(row) for row in range(len(one)))

    found: list[int] = []
    for place, run in enumerate(runs):
        firsts = (first for first, at in enumerate(found) if first == at and are_alike(runs[first], run))
        found.append(next(firsts, place))
    return found
