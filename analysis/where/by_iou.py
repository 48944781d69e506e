"""What each type of error costs as more overlap is asked for: the breakdown at COCO's thresholds, .50 to .95."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import COCO_IOUS
from analysis.detections import Detections
from analysis.error_types import ERRORS, SPECIAL, Settings
from analysis.errors import break_down_verdict
from analysis.ground_truth import GroundTruth
from analysis.judging import judge_at
from analysis.refusal import BadInput
from analysis.verdict import Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class IouErrors:
    """A breakdown at every threshold, in points of the AP at that threshold.

    The mean over COCO's ten thresholds is the change of COCO's AP (.50:.95) in the ``coco`` convention.
    """

    settings: Settings  # their own threshold is not used
    ious: Floats  # [T]
    ap: Floats  # [T]
    raw: dict[str, Floats]  # cls, loc, both, dup, bg, miss, fp, fn: [T] unclamped
    count: dict[str, Ints]  # cls, loc, both, dup, bg, miss: [T]

    @property
    def delta_ap(self) -> dict[str, Floats]:
        """What to show: the ``tidecv`` convention clamps the six types at 0."""
        clamped = ERRORS if self.settings.convention == "tidecv" else ()
        return {name: np.maximum(values, 0.0) if name in clamped else values for name, values in self.raw.items()}

    @property
    def mean_ap(self) -> float:
        """The mean AP over the thresholds."""
        return float(self.ap.mean())

    @property
    def mean_delta_ap(self) -> dict[str, float]:
        """The mean over the thresholds of what is shown at each."""
        return {name: float(values.mean()) for name, values in self.delta_ap.items()}


def thresholds(settings: Settings) -> list[float]:
    """COCO's thresholds, .50 to .95, from the background's on.

    Raises:
        BadInput: none is left.
    """
    found = [iou for iou in COCO_IOUS.tolist() if iou >= settings.background_iou]
    if not found:
        raise BadInput(
            f"background_iou {settings.background_iou:g} lies above all of COCO's thresholds, .50 to .95, so there is "
            "nothing to show along them; lower it"
        )
    return found


def by_iou(
    ground_truth: GroundTruth, detections: Detections, settings: Settings, ious: Sequence[float] | None = None
) -> IouErrors:
    """Break down at each threshold, the background's threshold held.

    None: COCO's ten, or as many of them as lie above the background's.

    Raises:
        BadInput: a threshold lies below the background's, or none of COCO's above it.

    >>> from analysis import Settings, coco_metrics, read_detections, read_ground_truth
    >>> from analysis.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> found = by_iou(gt, dt, Settings())
    >>> abs(found.mean_ap - coco_metrics(gt, dt)["AP"]) < 1e-9
    True
    >>> bool(found.delta_ap["loc"][-1] > found.delta_ap["loc"][0])
    True
    """
    wanted = thresholds(settings) if ious is None else list(ious)
    return along_verdicts(judge_at(ground_truth, detections, settings, wanted), detections, settings)


def along_verdicts(verdicts: Iterable[Verdict], detections: Detections, settings: Settings) -> IouErrors:
    """The breakdown of each verdict, for who has them at hand; each is let go before the next is asked for."""
    each = [break_down_verdict(one, detections) for one in verdicts]
    return IouErrors(
        settings=settings,
        ious=np.array([one.settings.iou for one in each]),
        ap=np.array([one.ap for one in each]),
        raw={name: np.array([one.raw[name] for one in each]) for name in (*ERRORS, *SPECIAL)},
        count={name: np.array([one.count[name] for one in each], dtype=np.int64) for name in ERRORS},
    )
