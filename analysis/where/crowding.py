"""How crowded each object stands, and what becomes of objects the more they are crowded.

An object's crowding is its highest box IoU with another object of its category in the image, the MaxIoU of OCHuman
(arXiv 1803.10683, section 3), which calls an object heavily occluded above 0.5 and hard above 0.75. Non-maximum
suppression at an IoU of t must lose one of two perfectly boxed objects that overlap by more than t.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from analysis.detections import Detections
from analysis.error_types import DUP, Labels
from analysis.fates import FATE_NAMES, FOUND, IGNORED, MISSED, Fates
from analysis.ground_truth import GroundTruth
from analysis.grouping import order_by_index
from analysis.pairs import build_pairs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CROWDING_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def object_crowding(ground_truth: GroundTruth) -> Floats:
    """f64[M] the highest box IoU of each object with another of its category in its image; 0 where there is none.

    Crowd regions are no neighbours; objects marked as ignored are. Boxes are compared for masks too: masks of
    different objects hardly ever overlap.
    """
    order = order_by_index(ground_truth.image, len(ground_truth.image_id))
    count = len(ground_truth)
    objects = Detections(
        ground_truth.path, ground_truth.box, np.ones(count), ground_truth.category, ground_truth.image,
        np.arange(count), ground_truth.masks, has_box=True,
    )  # fmt: skip
    pairs = build_pairs(ground_truth, objects, order, "bbox", np.zeros(count, dtype=np.bool_))
    one, other = order[pairs.detection], pairs.truth
    neighbours = (one != other) & (ground_truth.category[one] == ground_truth.category[other])
    neighbours &= ~ground_truth.crowd[other]
    crowding = np.zeros(count)
    np.maximum.at(crowding, one[neighbours], pairs.iou[neighbours])
    return crowding


@dataclass(frozen=True, eq=False)
class CrowdingBins:
    """What became of the objects of each range of crowding; the first bin holds those that touch no neighbour."""

    names: tuple[str, ...]
    low: Floats  # [B] exclusive; the first bin is exactly 0
    high: Floats  # [B] inclusive
    fate: Ints  # [B, fates] objects
    duplicates: Ints  # [B] dup errors on the objects of the bin

    @property
    def objects(self) -> Ints:
        """i64[B] the objects that count."""
        counted: Ints = self.fate.sum(axis=1) - self.fate[:, IGNORED]
        return counted

    @property
    def recall(self) -> Floats:
        """f64[B] the share of the objects that were found; NaN where there are none."""
        return _share(self.fate[:, FOUND], self.objects)

    @property
    def miss_rate(self) -> Floats:
        """f64[B] the share of the objects that nothing points at."""
        return _share(self.fate[:, MISSED], self.objects)

    @property
    def duplicate_rate(self) -> Floats:
        """f64[B] dup errors for each found object."""
        return _share(self.duplicates, self.fate[:, FOUND])


def by_crowding(
    crowding: Floats, fates: Fates, labels: Labels, edges: tuple[float, ...] = CROWDING_EDGES
) -> CrowdingBins:
    """Count fates and duplicates in bins of crowding f64[M]: exactly 0, then ``(edges[i], edges[i + 1]]``.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.fates import object_fates
    >>> from analysis.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> labels = break_down(gt, read_detections(predictions["sloppy-boxes"], gt)).labels
    >>> bins = by_crowding(object_crowding(gt), object_fates(labels), labels)
    >>> bins.names, int(bins.objects.sum()) == len(gt)
    (('alone', '0-0.25', '0.25-0.5', '0.5-0.75', '0.75-1'), True)
    """
    bins = len(edges)
    place = np.where(crowding > 0, np.searchsorted(edges, crowding, side="left"), 0)
    fate = np.bincount(place * len(FATE_NAMES) + fates.fate, minlength=bins * len(FATE_NAMES))
    target = labels.target[labels.error == DUP]
    return CrowdingBins(
        names=("alone", *(f"{low:g}-{high:g}" for low, high in pairwise(edges))),
        low=np.array([0.0, *edges[:-1]]),
        high=np.array(edges),
        fate=fate.reshape(bins, len(FATE_NAMES)),
        duplicates=np.bincount(place[target], minlength=bins),
    )


def _share(part: Ints, whole: Ints) -> Floats:
    share: Floats = np.full(len(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
