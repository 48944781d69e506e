"""What decides the numbers besides the two files: thresholds, caps, the convention, boxes or masks."""

from dataclasses import dataclass

from analysis.exceptions import BadInput

CONVENTIONS = ("coco", "tidecv")
IOU_TYPES = ("bbox", "segm")


@dataclass(frozen=True)
class Settings:
    """How detections are matched and labelled; ``docs/conventions.md`` says where the two conventions differ.

    Raises:
        BadInput: a value is unknown or out of range.
    """

    iou_type: str = "bbox"
    iou: float = 0.5  # t_f: a detection is correct at this IoU and above
    background_iou: float = 0.1  # t_b: at this IoU and below a detection is on the background
    max_dets: int = 100  # an image; the `coco` convention: of each category
    convention: str = "coco"
    class_agnostic: bool = False  # the categories of both files were taken as one (`selection.class_agnostic`)
    min_score: float | None = None  # detections with a lower score are left out; None: none are

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
