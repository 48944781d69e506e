"""COCOeval's arrays of precision and recall for any IoUs, sizes and caps, and the numbers that are their means.

COCO's 12 numbers, and LVIS's 13 under its rules, which hold where the ground truth has its fields.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Floats, Ints, group_starts, inverse, occurring, place_in_group
from analysis.coco import Detections, GroundTruth
from analysis.coco.federated import FREQUENCIES
from analysis.evaluation.average_precision import (
    COCO_IOUS,
    COCO_RECALLS,
    interpolate_hits,
    rank,
    recall_steps,
)
from analysis.evaluation.matching import (
    AREA_RANGES,
    PairedDetections,
    Pairs,
    candidates,
    ignored_by_size,
    match_coco,
    pair_detections,
)
from analysis.evaluation.settings import Settings, ap_name
from analysis.exceptions import BadInput
from analysis.parallel import side_by_side, threads
from analysis.presentation import Presentable

INITIALS = {"small": "s", "medium": "m", "large": "l"}  # of COCO's sizes, in the names of its numbers


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Presentable):
    """Precision and recall (0..1) of the categories that occur, -1 where a category has no object that counts.

    ``micro``: all detections and objects together are the only category, -1. Shown by metric, class or iou.
    """

    ious: Floats  # [T]
    sizes: tuple[str, ...]  # [A], "all" first
    caps: tuple[int, ...]  # [M], ascending
    precision_caps: tuple[int, ...]  # [C] of them, those under which precision was kept
    category: Ints  # [K] index into the ground truth's category_id, ascending; -1: all together
    precision: Floats  # [A, C, T, K, 101] interpolated
    recall: Floats  # [A, M, T, K] the highest; by size under the largest cap alone, unless precision has every cap
    objects: Ints  # [A, K] that count
    detections: Ints  # [K] within the largest cap that count at the first IoU
    frequency: Ints  # [K] LVIS's r, c, f by place; -1: unknown
    category_names: tuple[str, ...]  # [K]

    @property
    def names(self) -> dict[str, float]:
        """The means in points (0..100), -1 where there is nothing to average: AP, AR at each cap, and by size."""
        return {name: _mean(values) for name, values in self._parts()}

    def _parts(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        # Summed recall by recall, as COCOeval does.
        by_recall = np.swapaxes(self.precision[:, -1], 2, 3)
        yield "AP", by_recall[0]
        for t, iou in enumerate(self.ious.tolist()):
            if len(self.ious) == 1 or any(abs(iou - known) < 1e-9 for known in (0.5, 0.75)):
                yield ap_name(iou), by_recall[0, t : t + 1]
        for a, size in enumerate(self.sizes[1:], start=1):
            yield f"AP{INITIALS.get(size, f' {size}')}", by_recall[a]
        if (self.frequency >= 0).any():
            for place, letter in enumerate(FREQUENCIES):
                yield f"AP{letter}", by_recall[0][:, :, self.frequency == place]
        for m, cap in enumerate(self.caps):
            yield f"AR{cap}", self.recall[0, m]
        for a, size in enumerate(self.sizes[1:], start=1):
            yield f"AR{INITIALS.get(size, f' {size}')}", self.recall[a, -1]

    def of_category(self, place: int) -> "Evaluation":
        """The same of one category alone, by its place in ``category``."""
        one = [place]
        return Evaluation(
            self.ious,
            self.sizes,
            self.caps,
            self.precision_caps,
            self.category[one],
            self.precision[:, :, :, one],
            self.recall[..., one],
            self.objects[:, one],
            self.detections[one],
            np.full(1, -1),
            (self.category_names[place],),
        )


def evaluate(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: str = "bbox",
    ious: Sequence[float] | Floats = COCO_IOUS,
    sizes: Mapping[str, tuple[float, float]] = AREA_RANGES,
    max_dets: Sequence[int] | None = None,
    min_score: float | None = None,
    micro: bool = False,
    every_cap: bool = False,
    paired: PairedDetections | None = None,
) -> Evaluation:
    """Match at every IoU and size, and interpolate precision, as COCOeval does (LVISEval under LVIS's rules).

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        iou_type: ``bbox`` or ``segm``.
        ious: pycocotools' ``iouThrs``.
        sizes: pycocotools' ``areaRng``: areas in square pixels, both ends inclusive, by name; the first one is all.
        max_dets: pycocotools' ``maxDets``, in any order; under LVIS's rules caps of an image over all categories. None:
            1, 10 and 100, or LVIS's 300.
        min_score: detections with a lower score are left out.
        micro: one curve over the detections of all categories, matched within their own.
        every_cap: keep precision under every cap, not under the largest alone.
        paired: the two, paired already as COCO does, under the largest cap.

    Raises:
        BadInput: an unknown ``iou_type``, a cap below 1, no IoU or one outside 0..1, or masks are asked for and a
            record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> found = evaluate(gt, read_detections(predictions["sloppy-boxes"], gt), ious=[0.3, 0.5])
    >>> found.precision.shape, list(found.names)[:2]
    ((4, 1, 2, 12, 101), ['AP', 'AP50'])
    """
    ious = np.array(ious, dtype=np.float64)
    if not len(ious) or not ((ious > 0) & (ious <= 1)).all():
        raise BadInput(f"IoUs {ious.tolist()} must be one or more above 0 and up to 1")
    federated = ground_truth.federated
    caps = sorted(set(max_dets if max_dets is not None else Settings.on(ground_truth).caps))
    if not caps or caps[0] < 1:
        raise BadInput(f"max_dets {caps} must be one cap or more, each at least 1")
    paired = paired or pair_detections(
        ground_truth,
        detections,
        Settings.on(ground_truth, max_dets=caps[-1], iou_type=iou_type, min_score=min_score),
    )
    found = candidates(paired, min(ious.min(), 1 - 1e-10), prefer_last=True)
    area, image = detections.area[paired.row], detections.image[paired.row]
    # Numbered anew: of thousands of categories few may occur.
    both = ground_truth.category, detections.category[paired.row]
    occur = occurring(len(ground_truth.category_id), *both)
    number = inverse(occur, len(ground_truth.category_id))
    true_category, category = (number[one] for one in both)
    if federated:
        place = np.arange(len(image)) - group_starts(image, len(ground_truth.image_id))[image]
    else:
        place = place_in_group(image * len(occur) + category)
    if micro:
        occur, true_category, category = np.full(1, -1), np.zeros_like(true_category), np.zeros_like(category)
    classes = len(occur)
    ranking = rank(paired.by_score, category, classes)
    place = place[ranking.rows]  # positions are image by image, and by descending score within each
    # Few detections overlap an object of their category. The others count or not, whatever the IoU.
    first = np.diff(found.detection, prepend=-1) > 0
    near = found.detection[first]
    found = Pairs(np.cumsum(first) - 1, found.truth, found.iou)
    rank_of_near = inverse(ranking.rows, len(category))[near]
    by_rank = np.argsort(rank_of_near)
    rank_of_near = rank_of_near[by_rank]
    near_category, near_place = ranking.category[rank_of_near], place[rank_of_near]
    near_start = group_starts(near_category, classes)

    shape = (len(sizes), len(ious), classes)
    precision_caps = caps if every_cap else caps[-1:]
    precision = np.full((shape[0], len(precision_caps), *shape[1:], len(COCO_RECALLS)), -1.0)
    recall = np.full((shape[0], len(caps), *shape[1:]), -1.0)
    objects = np.zeros((shape[0], classes), dtype=np.int64)
    counted = np.zeros(classes, dtype=np.int64)
    of_size = []
    total: NDArray[Any] = np.zeros(len(image) + 1, dtype=np.int32 if len(image) < 2**31 else np.int64)
    for a, limits in enumerate(sizes.values()):
        ignored, out_of_range = ignored_by_size(ground_truth, area, iou_type, limits)
        excused = out_of_range | paired.excused
        counts = ~excused[ranking.rows]
        before = []  # under each cap, how many of a category count before each detection that may match
        for cap in precision_caps:
            np.cumsum(counts & (place < cap), dtype=total.dtype, out=total[1:])
            before.append(total[rank_of_near] - total[ranking.start[near_category]])
        if not a:
            counted += np.bincount(ranking.category[counts], minlength=classes)
        objects[a] = np.bincount(true_category[~ignored], minlength=classes)
        steps = recall_steps(objects[a], COCO_RECALLS)
        of_size.append((ignored, excused[near], counts[rank_of_near], before, steps))

    def measure(one: tuple[int, int]) -> None:
        """The curves of one size at one IoU."""
        (a, t), known = one, objects[one[0]] > 0
        ignored, excused, unmatched_counts, before, steps = of_size[a]
        taken, left_out = match_coco(found, float(ious[t]), ignored, ground_truth.crowd, excused)
        is_tp, counts = taken[by_rank] >= 0, ~left_out[by_rank]
        change = counts.astype(np.int64) - unmatched_counts  # by matching
        if one == (0, 0):
            counted[:] += np.bincount(near_category, change, minlength=classes).astype(np.int64)
        for c, cap in enumerate(precision_caps):
            inside = near_place < cap
            hit = np.flatnonzero(is_tp & inside)
            total = np.concatenate([[0], np.cumsum(change * inside)])
            seen = before[c][hit] + (total[hit] - total[near_start[near_category[hit]]]) + 1
            curve = interpolate_hits(np.searchsorted(hit, near_start), seen, steps)
            precision[a, c, t, known] = curve[known]
        under = [np.bincount(near_category[is_tp & (near_place < cap)], minlength=classes) for cap in caps]
        whole = np.array(under if not a or every_cap else under[-1:])
        recall[a, -len(whole) :, t, known] = (whole[:, known] / objects[a, known]).T

    every = [(a, t) for a in range(len(sizes)) for t in range(len(ious))]
    side_by_side(measure, every, threads(len(near)))
    frequency = np.full(classes, -1)
    if federated and not micro:
        frequency = federated.frequency[occur]
    return Evaluation(
        ious, tuple(sizes), tuple(caps), tuple(precision_caps), occur, precision, recall, objects, counted,
        frequency, ("all",) if micro else tuple(ground_truth.category_name[c] for c in occur.tolist()),
    )  # fmt: skip


def coco_metrics(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: str = "bbox",
    max_dets: Sequence[int] | None = None,
    min_score: float | None = None,
    paired: PairedDetections | None = None,
) -> dict[str, float]:
    """COCO's 12 numbers in points (0..100), -1 where there is nothing to average, as pycocotools 2.0 computes them.

    Other caps give an AR for each of them; the other numbers are at the largest. Where the ground truth is LVIS's,
    its 13 numbers as lvis-api 0.5.3 computes them: APr, APc, APf, and AR300 in place of three.

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        iou_type: ``bbox`` or ``segm``.
        max_dets: caps on the detections per image and category, in any order (pycocotools' ``maxDets``); under LVIS's
            rules per image. None: 1, 10 and 100, or LVIS's 300.
        min_score: detections with a lower score are left out.
        paired: the two, paired already as COCO does, under the largest cap.

    Raises:
        BadInput: another ``iou_type``, a cap below 1, or masks are asked for and a record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> metrics = coco_metrics(gt, read_detections(predictions["sloppy-boxes"], gt))
    >>> list(metrics)
    ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl']
    """
    return evaluate(
        ground_truth, detections, iou_type=iou_type, max_dets=max_dets, min_score=min_score, paired=paired
    ).names


def _mean(values: Floats) -> float:
    """COCOeval's mean, in its order of summation: over what is above -1; in points."""
    known = values[values > -1]
    return float(np.mean(known)) * 100 if len(known) else -1.0
