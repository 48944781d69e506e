"""The settings that decide the numbers besides the two files: thresholds, caps, convention, boxes or masks."""

from dataclasses import dataclass, replace
from typing import Any

from analysis.coco import GroundTruth
from analysis.exceptions import BadInput

CONVENTIONS = ("coco", "tidecv")
IOU_TYPES = ("bbox", "segm")
LVIS_MAX_DETS = 300  # LVIS's cap of an image, over all categories


@dataclass(frozen=True)
class Settings:
    """How detections are matched and labelled; ``docs/conventions.md`` lists the differences of the two conventions.

    Attributes:
        iou_type: ``bbox`` or ``segm``.
        iou: TIDE's t_f: a detection is correct at this IoU and above.
        background_iou: TIDE's t_b: at this IoU and below a detection is on the background.
        max_dets: highest number of detections per image (``coco`` convention: per image and category).
        convention: ``coco`` (pycocotools' AP) or ``tidecv`` (tidecv's numbers).
        class_agnostic: the categories of both files were taken as one (`selection.class_agnostic`).
        min_score: detections with a lower score are left out; None: no detection is.
        federated: LVIS's rules apply: categories that were not looked for in an image are not evaluated there.

    Raises:
        BadInput: a value is unknown or out of range.

    >>> Settings(iou=0.75).iou_type
    'bbox'
    """

    iou_type: str = "bbox"
    iou: float = 0.5
    background_iou: float = 0.1
    max_dets: int = 100
    convention: str = "coco"
    class_agnostic: bool = False
    min_score: float | None = None
    federated: bool = False

    def __post_init__(self) -> None:
        for name, known in (("iou_type", IOU_TYPES), ("convention", CONVENTIONS)):
            if getattr(self, name) not in known:
                raise BadInput(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        if not 0 < self.background_iou <= self.iou <= 1:
            raise BadInput(
                f"background_iou {self.background_iou} and iou {self.iou} must satisfy 0 < background_iou <= iou <= 1"
            )
        if self.max_dets < 1:
            raise BadInput(f"max_dets {self.max_dets} must be at least 1")
        if self.federated and self.class_agnostic:
            raise BadInput(
                "class_agnostic is not possible under LVIS's rules, where each category counts only in some images"
            )

    @property
    def caps(self) -> tuple[int, ...]:
        """The caps for recall: COCO's 1 and 10 and the cap of the settings; under LVIS's rules only the last.

        >>> Settings().caps, Settings(max_dets=5).caps
        ((1, 10, 100), (1, 5))
        """
        return (*(cap for cap in (1, 10) if cap < self.max_dets and not self.federated), self.max_dets)

    @property
    def cap_per_category(self) -> bool:
        """Whether the cap counts the detections of an image and category, not those of an image."""
        return self.convention == "coco" and not self.federated

    @classmethod
    def on(cls, ground_truth: GroundTruth, *, max_dets: int | None = None, **values: Any) -> "Settings":
        """Settings with the rules that apply to a ground truth: COCO's, or LVIS's with its cap of 300.

        Raises:
            BadInput: a value is unknown or out of range.
        """
        cap = 100 if max_dets is None else max_dets
        return cls(max_dets=cap, **values).under_rules_of(ground_truth, own_cap=max_dets is not None)

    def under_rules_of(self, ground_truth: GroundTruth, *, own_cap: bool) -> "Settings":
        """The same under the rules that hold on a ground truth; ``own_cap``: the cap was asked for and stays.

        Raises:
            BadInput: categories are taken as one under LVIS's rules.
        """
        if ground_truth.federated is None:
            return self
        return replace(self, federated=True, max_dets=self.max_dets if own_cap else LVIS_MAX_DETS)


MEAN_AP = "AP"  # COCO's, over ten IoUs


def ap_name(iou: float) -> str:
    """``AP50`` for whole percents, else ``AP@0.333``.

    >>> ap_name(0.5), ap_name(0.3), ap_name(0.333)
    ('AP50', 'AP30', 'AP@0.333')
    """
    percent = round(iou * 100)
    return f"AP{percent}" if abs(iou * 100 - percent) < 1e-9 else f"AP@{iou:g}"


def iou_name(iou_type: str) -> str:
    """The IoU of boxes is called IoU, that of masks by its name.

    >>> iou_name("bbox"), iou_name("segm")
    ('IoU', 'mask IoU')
    """
    return "IoU" if iou_type == "bbox" else "mask IoU"
