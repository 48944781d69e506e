"""Where in the data the AP went: the errors of a run by class, by IoU, by size, and objects by how crowded they are.

By class, an error is fixed everywhere, and each category's own AP changes. By IoU, the run is broken down
at COCO's thresholds, .50 to .95. By size, only the errors of one size are fixed; the size is the object's for cls, loc
and miss, the detection's for dup, bg and both, as in tidecv's qualifiers, and is measured in the ``coco`` convention by
the area by which COCO judges sizes (the file's ``area`` of an object), in ``tidecv`` always by the box's.

An object's crowding is its highest box IoU with another object of its category in the image, the MaxIoU of OCHuman
(arXiv 1803.10683, section 3), which calls an object heavily occluded above 0.5 and hard above 0.75. Non-maximum
suppression at an IoU of t must lose one of two perfectly boxed objects that overlap by more than t.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from analysis.arrays import Bools, Floats, Ints, order_by_index
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.matched_run import DUP, TRUE_POSITIVE, Labels, MatchedRun
from analysis.evaluation.matching import build_pairs
from analysis.evaluation.outcomes import FOUND, IGNORED, MISSED, OUTCOME_NAMES, ObjectOutcomes
from analysis.evaluation.settings import Settings
from analysis.evaluation.tide import Breakdown, break_down_matched, match_and_label_at
from analysis.exceptions import BadInput


@dataclass(frozen=True, eq=False)
class SlicedErrors:
    """What each type of error costs in each slice of a run, in points (0..100); S slices."""

    settings: Settings
    raw: dict[str, Floats]  # cls, loc, both, dup, bg, miss, but by size also fp, fn: [S] unclamped
    count: dict[str, Ints]  # cls, loc, both, dup, bg, miss: [S]

    @property
    def delta_ap(self) -> dict[str, Floats]:
        """What to show: the ``tidecv`` convention clamps the six types at 0."""
        clamped = ERRORS if self.settings.convention == "tidecv" else ()
        return {name: np.maximum(values, 0.0) if name in clamped else values for name, values in self.raw.items()}


@dataclass(frozen=True, eq=False)
class ClassErrors(SlicedErrors):
    """Rows are categories, in ascending order of their ids; points of each category's own AP.

    A category that is not in the mean has NaN: without objects in the ``coco`` convention, without objects and
    detections in ``tidecv``. In the ``coco`` convention the raw numbers average to the whole's. In ``tidecv`` they do
    where a fix takes no category out of the mean; one that it does take out has NaN there.

    A cls error costs two categories: the detection's loses precision, the object's recall. It is counted where the
    detection is, as are loc, both, dup and bg; a miss is counted where the object is.
    """

    names: tuple[str, ...]
    ap: Floats  # [K]
    true_positives: Ints  # [K]
    positives: Ints  # [K] objects that count
    detections: Ints  # [K] all, those over the cap included

    def costliest(self, most: int | None = None, min_objects: int = 0) -> Ints:
        """Categories in the mean, those with the most AP at stake first: to gain from fixing a single type of error.

        All categories count alike in the mean, so its AP at stake is what a category can gain, divided by their number.
        Equal gains (many rare categories can gain 100) are in the order of their number of objects, the most first;
        categories with fewer than ``min_objects`` are left out.
        """
        known = np.flatnonzero(~np.isnan(self.ap) & (self.positives >= min_objects))
        gain = np.max([np.nan_to_num(self.delta_ap[name][known]) for name in ERRORS], axis=0)
        order: Ints = known[np.lexsort((known, -self.positives[known], -gain))][:most]
        return order


def by_class(
    ground_truth: GroundTruth, detections: Detections, matched_run: MatchedRun, breakdown: Breakdown
) -> ClassErrors:
    """Split a breakdown by category.

    >>> from analysis import Settings, read_detections, read_ground_truth
    >>> from analysis.evaluation.tide import break_down_matched, match_and_label
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> matched_run = match_and_label(gt, dt, Settings())
    >>> result = break_down_matched(matched_run, dt)
    >>> classes = by_class(gt, dt, matched_run, result)
    >>> bool(abs(classes.raw["loc"].mean() - result.raw["loc"]) < 1e-12)
    True
    """
    labels, kinds = breakdown.labels, len(ground_truth.category_id)

    def tally(of: GroundTruth | Detections, which: Bools | slice = slice(None)) -> Ints:
        return np.bincount(of.category[which], minlength=kinds)

    return ClassErrors(
        settings=breakdown.settings,
        names=tuple(ground_truth.category_name),
        ap=breakdown.category_ap,
        raw=breakdown.category_raw,
        count={
            one.name: tally(ground_truth if one.of_object else detections, one.occurs(labels))
            for one in ERROR_TYPES.values()
            if not one.is_total
        },
        true_positives=tally(detections, labels.error == TRUE_POSITIVE),
        positives=matched_run.positives,
        detections=tally(detections),
    )


@dataclass(frozen=True, eq=False)
class IouErrors(SlicedErrors):
    """A breakdown at every threshold, in points of the AP at that threshold; the IoU of ``settings`` is not used.

    The mean over COCO's ten thresholds is the change of COCO's AP (.50:.95) in the ``coco`` convention.
    """

    ious: Floats  # [T]
    ap: Floats  # [T]

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
            f"background_iou {settings.background_iou:g} is above all COCO thresholds (0.50 to 0.95), so there is "
            "nothing to show by IoU; use a lower value"
        )
    return found


def by_iou(
    ground_truth: GroundTruth, detections: Detections, settings: Settings, ious: Sequence[float] | None = None
) -> IouErrors:
    """Break down at each threshold, the background's threshold fixed.

    None: COCO's ten, or as many of them as lie above the background's.

    Raises:
        BadInput: a threshold lies below the background's, or none of COCO's above it.

    >>> from analysis import Settings, coco_metrics, read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> found = by_iou(gt, dt, Settings())
    >>> abs(found.mean_ap - coco_metrics(gt, dt)["AP"]) < 1e-9
    True
    >>> bool(found.delta_ap["loc"][-1] > found.delta_ap["loc"][0])
    True
    """
    each = [replace(settings, iou=iou) for iou in (thresholds(settings) if ious is None else ious)]
    return along_iou(
        (break_down_matched(one, detections) for one in match_and_label_at(ground_truth, detections, each)), settings
    )


def along_iou(breakdowns: Iterable[Breakdown], settings: Settings) -> IouErrors:
    """Breakdowns that are made already, one for each threshold in ascending order, side by side."""
    each = list(breakdowns)
    return IouErrors(
        settings=settings,
        raw={name: np.array([one.raw[name] for one in each]) for name in ERROR_TYPES},
        count={name: np.array([one.count[name] for one in each], dtype=np.int64) for name in ERRORS},
        ious=np.array([one.settings.iou for one in each]),
        ap=np.array([one.ap for one in each]),
    )


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
                f"the size {part.strip()!r} is not a size range: write NAME:FROM-TO with side lengths in pixels, "
                "FROM below TO, for example small:0-32,medium:32-96,large:96-"
            )
        sizes.append(size)
    names = [size.name for size in sizes]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two sizes have the name {name!r}; give each another name")
    return tuple(sizes)


@dataclass(frozen=True, eq=False)
class SizeErrors(SlicedErrors):
    """Points of AP to gain by fixing one type of error at one size; slices as in ``sizes``."""

    sizes: tuple[Size, ...]
    objects: Ints  # [S] objects that count
    found: Ints  # [S] of them, those that a detection took
    object_area: Floats  # [M] by which the size of each object is judged
    detection_area: Floats  # [N] likewise, by row


def by_size(
    ground_truth: GroundTruth, detections: Detections, matched_run: MatchedRun, sizes: Sequence[Size] = COCO_SIZES
) -> SizeErrors:
    """Fix the errors of each type and size alone.

    >>> from analysis import Settings, read_detections, read_ground_truth
    >>> from analysis.evaluation.tide import match_and_label
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> dt = read_detections(predictions["sloppy-boxes"], gt)
    >>> found = by_size(gt, dt, match_and_label(gt, dt, Settings()))
    >>> [size.name for size in found.sizes], int(found.objects.sum()) == len(gt)
    (['small', 'medium', 'large'], True)
    """
    settings, labels, row = matched_run.settings, matched_run.labels, matched_run.row
    object_area, detection_area = ground_truth.area_of(settings.iou_type), detections.area
    if settings.convention == "tidecv":
        object_area, detection_area = (box[:, 2] * box[:, 3] for box in (ground_truth.box, detections.box))
    base = matched_run.average_precision(matched_run.base).mean
    raw, count = np.zeros((len(ERRORS), len(sizes))), np.zeros((len(ERRORS), len(sizes)), dtype=np.int64)
    objects, found = np.zeros((2, len(sizes)), dtype=np.int64)
    for place, size in enumerate(sizes):
        of_object, of_detection = size.holds(object_area), size.holds(detection_area[row])
        of_target = np.append(of_object, False)[labels.target[row]]  # the target -1 is none
        objects[place] = (of_object & matched_run.gt_valid).sum()
        found[place] = (of_object & labels.matched).sum()
        for number, one in enumerate(ERROR_TYPES[name] for name in ERRORS):
            occurs = labels.missed if one.of_object else matched_run.label == one.code
            chosen = of_object if one.of_object else of_target if one.size_of_object else of_detection
            count[number, place] = (occurs & chosen).sum()
            raw[number, place] = matched_run.average_precision(one.fix(matched_run, chosen)).mean - base
    return SizeErrors(
        settings=settings,
        raw=dict(zip(ERRORS, raw, strict=True)),
        count=dict(zip(ERRORS, count, strict=True)),
        sizes=tuple(sizes),
        objects=objects,
        found=found,
        object_area=object_area,
        detection_area=detection_area,
    )


CROWDING_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def object_crowding(ground_truth: GroundTruth) -> Floats:
    """f64[M] the highest box IoU of each object with another of its category in its image; 0 where there is none.

    Crowd regions are no neighbours; objects marked as ignored are. Boxes are compared for masks too: masks of
    different objects hardly ever overlap.
    """
    order = order_by_index(ground_truth.image, len(ground_truth.image_id))
    count = len(ground_truth)
    objects = Detections.from_arrays(
        ground_truth,
        box=ground_truth.box,
        score=np.ones(count),
        category=ground_truth.category,
        image=ground_truth.image,
    )
    pairs = build_pairs(ground_truth, objects, order, "bbox", np.zeros(count, dtype=np.bool_))
    one, other = order[pairs.detection], pairs.truth
    alike = ground_truth.category[one] == ground_truth.category[other]
    neighbours = (one != other) & alike & ~ground_truth.crowd[other]
    crowding = np.zeros(count)
    np.maximum.at(crowding, one[neighbours], pairs.iou[neighbours])
    return crowding


@dataclass(frozen=True, eq=False)
class CrowdingBins:
    """What became of the objects of each range of crowding; the first bin holds those that touch no neighbour."""

    names: tuple[str, ...]
    low: Floats  # [B] exclusive; the first bin is exactly 0
    high: Floats  # [B] inclusive
    outcome: Ints  # [B, outcomes] objects
    duplicates: Ints  # [B] dup errors on the objects of the bin

    @property
    def objects(self) -> Ints:
        """i64[B] the objects that count."""
        counted: Ints = self.outcome.sum(axis=1) - self.outcome[:, IGNORED]
        return counted

    @property
    def recall(self) -> Floats:
        """f64[B] the share of the objects that were found; NaN where there are none."""
        return _share(self.outcome[:, FOUND], self.objects)

    @property
    def miss_rate(self) -> Floats:
        """f64[B] the share of the objects that no detection matches or nearly matches."""
        return _share(self.outcome[:, MISSED], self.objects)

    @property
    def duplicate_rate(self) -> Floats:
        """f64[B] dup errors for each found object."""
        return _share(self.duplicates, self.outcome[:, FOUND])


def by_crowding(
    crowding: Floats, outcomes: ObjectOutcomes, labels: Labels, edges: tuple[float, ...] = CROWDING_EDGES
) -> CrowdingBins:
    """Count outcomes and duplicates in bins of crowding f64[M]: exactly 0, then ``(edges[i], edges[i + 1]]``.

    >>> from analysis import break_down, read_detections, read_ground_truth
    >>> from analysis.evaluation.outcomes import object_outcomes
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> labels = break_down(gt, read_detections(predictions["sloppy-boxes"], gt)).labels
    >>> bins = by_crowding(object_crowding(gt), object_outcomes(labels), labels)
    >>> bins.names, int(bins.objects.sum()) == len(gt)
    (('alone', '0-0.25', '0.25-0.5', '0.5-0.75', '0.75-1'), True)
    """
    bins = len(edges)
    place = np.where(crowding > 0, np.searchsorted(edges, crowding, side="left"), 0)
    outcome = np.bincount(place * len(OUTCOME_NAMES) + outcomes.outcome, minlength=bins * len(OUTCOME_NAMES))
    return CrowdingBins(
        names=("alone", *(f"{low:g}-{high:g}" for low, high in pairwise(edges))),
        low=np.array([0.0, *edges[:-1]]),
        high=np.array(edges),
        outcome=outcome.reshape(bins, len(OUTCOME_NAMES)),
        duplicates=np.bincount(place[labels.target[labels.error == DUP]], minlength=bins),
    )


def _share(part: Ints, whole: Ints) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
