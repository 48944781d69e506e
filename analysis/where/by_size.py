"""What each type of error costs at each size: the AP to gain when only the errors of that size are fixed.

The size is the object's for cls, loc and miss, the detection's for dup, bg and both, as in tidecv's qualifiers. In the
``coco`` convention it is the area by which COCO judges sizes (the file's ``area`` of an object), in ``tidecv`` always
the box's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detections import Detections
from analysis.error_types import ERRORS, Settings
from analysis.ground_truth import GroundTruth
from analysis.refusal import BadInput
from analysis.verdict import Verdict

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OF_OBJECT = ("cls", "loc", "miss")  # the others are judged by the detection: they point at no object


@dataclass(frozen=True)
class Size:
    """A range of areas, written as the sides of squares in pixels; 0 is the smallest, infinity the largest."""

    name: str
    low: float  # exclusive, but for 0
    high: float  # inclusive

    def holds(self, area: Floats) -> Bools:
        """Which areas f64[N], in square pixels, are of this size."""
        found: Bools = (area > self.low**2) & (area <= self.high**2)
        return found | (area == 0) if self.low == 0 else found


COCO_SIZES = (Size("small", 0, 32), Size("medium", 32, 96), Size("large", 96, math.inf))


def parse_sizes(text: str) -> tuple[Size, ...]:
    """``small:0-32,large:32-`` -> sizes; a range without an end goes on for ever.

    Raises:
        BadInput: a range is not written so, is empty, or two bear one name.

    >>> parse_sizes("tiny:0-16, rest:16-")
    (Size(name='tiny', low=0.0, high=16.0), Size(name='rest', low=16.0, high=inf))
    """
    sizes = []
    for part in text.split(","):
        name, _, limits = part.strip().partition(":")
        low, dash, high = limits.partition("-")
        try:
            size = Size(name.strip(), float(low), float(high) if high.strip() else math.inf)
        except ValueError:
            size = Size("", 0, 0)
        if not (size.name and dash and 0 <= size.low < size.high):
            raise BadInput(
                f"the size {part.strip()!r} is not understood: write sizes as NAME:FROM-TO with sides in pixels, "
                "FROM below TO, for instance small:0-32,medium:32-96,large:96-"
            )
        sizes.append(size)
    names = [size.name for size in sizes]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two sizes are called {name!r}; give each its own name")
    return tuple(sizes)


@dataclass(frozen=True, eq=False)
class SizeErrors:
    """Points of AP (0..100) to gain by fixing one type of error at one size; rows as in ``sizes``."""

    settings: Settings
    sizes: tuple[Size, ...]
    raw: dict[str, Floats]  # cls, loc, both, dup, bg, miss: [S] unclamped
    count: dict[str, Ints]  # likewise [S]
    objects: Ints  # [S] objects that count
    found: Ints  # [S] of them, those that a detection took

    @property
    def delta_ap(self) -> dict[str, Floats]:
        """What to show: the ``tidecv`` convention clamps at 0."""
        if self.settings.convention == "coco":
            return dict(self.raw)
        return {name: np.maximum(values, 0.0) for name, values in self.raw.items()}


def by_size(
    ground_truth: GroundTruth, detections: Detections, verdict: Verdict, sizes: Sequence[Size] = COCO_SIZES
) -> SizeErrors:
    """Fix the errors of each type and size alone.

    >>> from analysis import Settings, read_detections, read_ground_truth
    >>> from analysis.judging import judge
    >>> from analysis.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> found = by_size(gt, dt, judge(gt, dt, Settings()))
    >>> [size.name for size in found.sizes], int(found.objects.sum()) == len(gt)
    (['small', 'medium', 'large'], True)
    """
    settings = verdict.settings
    if settings.convention == "coco":
        object_area, detection_area = ground_truth.area_of(settings.iou_type), detections.area
    else:
        object_area, detection_area = (box[:, 2] * box[:, 3] for box in (ground_truth.box, detections.box))
    base = verdict.average_precision(verdict.base).mean
    labels = verdict.labels
    target = labels.target[verdict.row]
    raw = {name: np.zeros(len(sizes)) for name in ERRORS}
    count = {name: np.zeros(len(sizes), dtype=np.int64) for name in ERRORS}
    objects, found = np.zeros((2, len(sizes)), dtype=np.int64)
    for place, size in enumerate(sizes):
        of_object, of_detection = size.holds(object_area), size.holds(detection_area[verdict.row])
        of_target = (target >= 0) & of_object[target] if len(of_object) else np.zeros(len(target), dtype=np.bool_)
        objects[place] = (of_object & verdict.asked).sum()
        found[place] = (of_object & labels.matched).sum()
        for error, name in enumerate(ERRORS):
            if name == "miss":
                chosen = of_object
                count[name][place] = (labels.missed & of_object).sum()
            else:
                chosen = of_target if name in OF_OBJECT else of_detection
                count[name][place] = ((verdict.label == error) & chosen).sum()
            raw[name][place] = verdict.average_precision(verdict.fixed(name, chosen)).mean - base
    return SizeErrors(settings, tuple(sizes), raw, count, objects, found)
