"""Where the AP of a run went: everything that one matching tells, of which a caller names the parts to compute."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detections import Detections
from analysis.error_types import Settings
from analysis.errors import break_down_verdict
from analysis.fates import Fates, object_fates
from analysis.ground_truth import GroundTruth
from analysis.judging import judge_at
from analysis.refusal import BadInput
from analysis.runs import Run
from analysis.where.by_class import ClassErrors, by_class
from analysis.where.by_iou import IouErrors, along_verdicts, thresholds
from analysis.where.by_size import COCO_SIZES, Size, SizeErrors, by_size
from analysis.where.confusion import Confusion, category_confusion
from analysis.where.confusion_cost import with_costs
from analysis.where.crowding import CrowdingBins, by_crowding, object_crowding

PARTS = ("class", "size", "iou", "crowding", "confusion")


@dataclass(frozen=True, eq=False)
class Where:
    """A run, the fate of every object, and the parts that were asked for."""

    run: Run
    fates: Fates
    classes: ClassErrors | None = None
    sizes: SizeErrors | None = None
    ious: IouErrors | None = None
    crowding: CrowdingBins | None = None
    confusion: Confusion | None = None


def parse_parts(text: str) -> tuple[str, ...]:
    """``class,size`` or ``all`` -> parts, in the order of :data:`PARTS`.

    Raises:
        BadInput: a part is unknown; the sentence lists them.

    >>> parse_parts("size, class"), len(parse_parts("all")) == len(PARTS)
    (('class', 'size'), True)
    """
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(wanted - {*PARTS, "all"})
    if unknown:
        raise BadInput(f"{unknown[0]!r} is no way to split the errors; choose of {', '.join(PARTS)}, or all")
    return tuple(part for part in PARTS if part in wanted or "all" in wanted)


class Analysis:
    """The analysis of several runs on one ground truth: what depends on the ground truth alone is computed once."""

    def __init__(
        self,
        ground_truth: GroundTruth,
        settings: Settings,
        parts: Collection[str] = (),
        sizes: Sequence[Size] = COCO_SIZES,
    ) -> None:
        self._ground_truth, self._settings, self._parts, self._sizes = ground_truth, settings, parts, sizes
        self._crowding: NDArray[np.float64] | None = None

    @property
    def crowding(self) -> NDArray[np.float64]:
        """f64[M] how crowded every object stands."""
        if self._crowding is None:
            self._crowding = object_crowding(self._ground_truth)
        return self._crowding

    def of(self, name: str, detections: Detections) -> Where:
        """Match a run once and compute the parts."""
        gt, parts = self._ground_truth, self._parts
        along = thresholds(self._settings) if "iou" in parts else []
        verdicts = judge_at(gt, detections, self._settings, [self._settings.iou, *along])
        verdict = next(verdicts)
        breakdown = break_down_verdict(verdict, detections)
        labels = breakdown.labels
        fates = object_fates(labels)
        return Where(
            run=Run(name, detections, breakdown),
            fates=fates,
            classes=by_class(gt, detections, verdict, breakdown) if "class" in parts else None,
            sizes=by_size(gt, detections, verdict, self._sizes) if "size" in parts else None,
            ious=along_verdicts(verdicts, detections, self._settings) if "iou" in parts else None,
            crowding=by_crowding(self.crowding, fates, labels) if "crowding" in parts else None,
            confusion=with_costs(category_confusion(gt, detections, labels), verdict) if "confusion" in parts else None,
        )
