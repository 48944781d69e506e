"""The six error types of TIDE (arXiv 2008.08115): their names, what a detection can be labelled, and the settings.

``analysis.evaluation.tide`` assigns the labels, fixes the errors and says what each costs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints
from analysis.exceptions import BadInput

ERRORS = ("cls", "loc", "both", "dup", "bg", "miss")
SPECIAL = ("fp", "fn")
CONVENTIONS = ("coco", "tidecv")
IOU_TYPES = ("bbox", "segm")

# Labels of a detection; the first five are the indices of ERRORS.
CLS, LOC, BOTH, DUP, BG = range(5)
TRUE_POSITIVE, IGNORED, OVER_CAP = 5, 6, 7
LABEL_NAMES = ("cls", "loc", "both", "dup", "bg", "tp", "ignored", "over-cap")


@dataclass(frozen=True)
class Settings:
    """What decides the numbers besides the two files."""

    iou_type: str = "bbox"
    iou: float = 0.5  # t_f: a detection is right from this IoU on
    background_iou: float = 0.1  # t_b: up to this IoU a detection is on nothing
    max_dets: int = 100  # an image; the `coco` convention: of each category
    convention: str = "coco"

    def __post_init__(self) -> None:
        if self.iou_type not in IOU_TYPES:
            raise BadInput(f"iou_type {self.iou_type!r} is unknown; choose one of {', '.join(IOU_TYPES)}")
        if self.convention not in CONVENTIONS:
            raise BadInput(f"convention {self.convention!r} is unknown; choose one of {', '.join(CONVENTIONS)}")
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


@dataclass(frozen=True, eq=False)
class Labels:
    """The verdict on every detection (rows of the file's arrays) and every object."""

    error: NDArray[np.int8]  # [N] CLS .. BG, TRUE_POSITIVE, IGNORED, OVER_CAP
    ignored: Bools  # [N] left out of the AP by a crowd (the `tidecv` convention labels those too)
    iou: Floats  # [N] with the target; where there is none, the best with any object of the image
    target: Ints  # [N] the object it took or points at, -1 for none
    fixes: Bools  # [N] a cls or loc error that wins its object when fixed
    missed: Bools  # [M] objects that no detection took and no cls or loc error points at
    matched: Bools  # [M] objects that a detection took
