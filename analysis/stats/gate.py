"""A gate for continuous integration: whether a model is surely worse than another by more than is allowed.

It fails where the upper end of the 95 % paired interval of NEW - BASE lies below the allowed drop, so that a model that
is as good as the other passes in 97.5 % of all samples of images, and one that is worse by the allowed drop and twice
the half width of the interval fails in as many (`benchmarks/gate.py` simulates both). The interval is over the choice
of images, of these two models: what another training of either would give is not covered.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from analysis.coco import Detections, GroundTruth
from analysis.evaluation.settings import MEAN_AP, Settings
from analysis.exceptions import BadInput, DetablateError
from analysis.stats.compare import Candidate, Comparison, compare
from analysis.stats.intervals import Difference

METRIC = re.compile(r"AP(?P<percent>[1-9]\d?)?")


class GateFailed(DetablateError):
    """The new model is significantly worse, by more than the allowed drop."""

    exit_code = 6


@dataclass(frozen=True, eq=False)
class Gate:
    """The result of a gate.

    Attributes:
        new: name of the new model.
        metric: AP, or AP at an IoU, such as AP50.
        max_drop: points that are allowed to be lost.
        difference: NEW - BASE in this metric, in points.
        comparison: all differences.
    """

    new: str
    metric: str
    max_drop: float
    difference: Difference
    comparison: Comparison

    @property
    def base(self) -> str:
        """Name of the model that the new one is compared with."""
        return self.comparison.baseline

    @property
    def passed(self) -> bool:
        """Whether the drop is not significantly larger than allowed."""
        return not self.difference.high < -self.max_drop


def iou_of(metric: str) -> float:
    """The IoU of a metric's errors: that of AP50 is 0.5, as is that of AP.

    Raises:
        BadInput: it is neither AP nor AP at an IoU.
    """
    found = METRIC.fullmatch(metric)
    if found is None:
        raise BadInput(f"--metric {metric}: must be AP, or AP at an IoU in percent, such as AP50 or AP75")
    return int(found["percent"] or 50) / 100


def gate(
    ground_truth: GroundTruth,
    new: tuple[str, Detections],
    base: tuple[str, Detections],
    settings: Settings,
    *,
    metric: str = "AP50",
    max_drop: float = 0.0,
    resamples: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Gate:
    """Compare a model with another on the same images.

    Args:
        ground_truth: of both.
        new: name and detections of the new model.
        base: of the other.
        settings: whose IoU is `iou_of` the metric.
        metric: AP, or AP at an IoU.
        max_drop: points that may be lost.
        resamples: of the images; 0: enough.
        seed: of the resampling.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: there is no interval, the metric is unknown, or the allowed drop is not a number of at least 0.
    """
    iou_of(metric)
    if not (0 <= max_drop < math.inf):
        raise BadInput(f"--max-drop {max_drop:g}: must be a number of points, 0 or more")
    comparison = compare(
        ground_truth,
        [Candidate(name, (detections,)) for name, detections in (base, new)],
        settings,
        baseline=base[0],
        resamples=resamples,
        seed=seed,
        mean_ap=metric == MEAN_AP,
        progress=progress,
    )
    found = comparison.vs_baseline[0].differences[metric]
    if math.isnan(found.high):
        raise BadInput(
            f"{ground_truth.path}: too few images ({comparison.images:,}) for an interval of {metric}, so the gate "
            "cannot decide; give 200 or more images with objects"
        )
    return Gate(new[0], metric, max_drop, found, comparison)
