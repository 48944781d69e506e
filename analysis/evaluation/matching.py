"""Greedy matching of detections to objects, as COCO does it, over candidate pairs in rounds instead of a loop.

All overlapping (detection, object) pairs of an image with their IoU, as flat arrays, built in blocks of images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from analysis import native
from analysis.arrays import (
    Bools,
    Floats,
    Ints,
    best_in_group,
    blocks,
    group_starts,
    inverse,
    order_by_index,
    order_descending,
    place_in_group,
)
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.settings import Settings
from analysis.exceptions import BadInput
from analysis.parallel import side_by_side, threads

AREA_RANGES: dict[str, tuple[float, float]] = {  # square pixels, both ends inclusive
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
PAIR = (np.int64, np.int64, np.float64)  # a detection, an object, their IoU
PARTS, MASK_COST = 4, 8  # parts of the images for each thread; how many boxes are paired in the time of a mask
BLOCK = 1 << 16  # candidate pairs at a time: half a MB a column, which stays in the cache and bounds the memory


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs with IoU > 0, by detection in ascending order, then by object in the order of the file.

    ``detection`` counts in the order that the pairs were built for (see :func:`build_pairs`), ``truth`` is a row of
    the ground truth. Against a crowd the IoU is the share of the detection inside it, as COCO defines it.
    """

    detection: Ints  # [P]
    truth: Ints  # [P]
    iou: Floats  # [P]

    def at(self, places: Ints) -> "Pairs":
        """Some of the pairs, by their places i64."""
        return Pairs(self.detection[places], self.truth[places], self.iou[places])


def build_pairs(ground_truth: GroundTruth, detections: Detections, order: Ints, iou_type: str, inside: Bools) -> Pairs:
    """Pairs of the detections ``order`` (rows, image by image in ascending order) with the objects of their images.

    Args:
        ground_truth: the objects.
        detections: the detections.
        order: i64[N] rows of ``detections`` to pair, sorted by image index.
        iou_type: ``bbox`` or ``segm``.
        inside: bool[M] the objects for which IoU is the share of the detection inside them (crowds).

    Raises:
        BadInput: masks are asked for and a record has none.
    """
    images = len(ground_truth.image_id)
    by_image = order_by_index(ground_truth.image, images)
    sides = _Sides(
        ground_truth=ground_truth,
        detections=detections,
        order=order,
        by_image=by_image,
        detection_start=group_starts(detections.image[order], images),
        truth_start=group_starts(ground_truth.image, images),
        inside=inside[by_image],
    )
    masks = iou_type == "segm"
    if native.core is not None and (not masks or sides.core_counts_masks):
        parts = _core_pairs(sides, masks)
    else:
        parts = [list(part) for part in (_mask_blocks(sides) if masks else _box_blocks(sides))]
    # Column by column, so that never all of them are in memory twice.
    d, g, iou = parts[0] if len(parts) == 1 else (_joined(parts, kind) for kind in PAIR)
    return Pairs(d, by_image[g], iou)


def _joined(parts: list[list[Any]], kind: type) -> Any:
    """The first column of all parts, which they lose."""
    return np.concatenate([np.empty(0, kind), *(part.pop(0) for part in parts)])


@dataclass(frozen=True, eq=False)
class _Sides:
    """Detections and objects that are to be paired, both image by image.

    Pairs are found as places in ``order`` and ``by_image``.
    """

    ground_truth: GroundTruth
    detections: Detections
    order: Ints  # [n] rows of the detections
    by_image: Ints  # [M] rows of the objects
    detection_start: Ints  # [images + 1] where those of each image begin in `order`
    truth_start: Ints  # [images + 1] likewise in `by_image`
    inside: Bools  # [M] by place

    @property
    def core_counts_masks(self) -> bool:
        """Whether all masks are such as the compiled core counts as pycocotools does."""
        both = self.detections.masks, self.ground_truth.masks
        ours, theirs = side_by_side(lambda masks: masks.run_lengths, both, threads())
        return ours is not None and theirs is not None and bool(ours.minimal.all() and theirs.minimal.all())


def _core_pairs(sides: _Sides, masks: bool) -> list[list[Any]]:
    """By the compiled core; masks, which take long, some images at a time on each processor."""
    starts, rows = (sides.detection_start, sides.truth_start), (sides.order, sides.by_image)
    whole: list[Any] = [np.ascontiguousarray(one.box) for one in (sides.detections, sides.ground_truth)]
    if masks:
        both = sides.detections.masks.run_lengths, sides.ground_truth.masks.run_lengths
        whole = [one.parts for one in both if one is not None]

    def pair(images: tuple[int, int]) -> list[Any]:
        low, high = images
        places = [slice(start[low], start[high]) for start in starts]
        edges = [start[low : high + 1] - start[low] for start in starts]
        some = [one[place] for one, place in zip(rows, places, strict=True)]
        work = native.core.pair_masks if masks else native.core.pair_boxes
        found = work(high - low, *edges, *some, *whole, sides.inside[places[1]])
        columns = [np.frombuffer(one, dtype=kind) for one, kind in zip(found, PAIR, strict=True)]
        for column, place in zip(columns[:2], places, strict=True):
            if place.start:
                column += place.start
        return columns

    images, jobs = len(sides.truth_start) - 1, threads(len(sides.order) * MASK_COST) if masks else 1
    edges = np.linspace(0, images, (1 if jobs == 1 else PARTS * jobs) + 1).astype(np.int64).tolist()
    return side_by_side(pair, list(pairwise(edges)), jobs)


def _box_blocks(sides: _Sides) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Box IoU with the arithmetic of COCO's bbIou, operation by operation, so that every bit agrees."""
    dx, dy, dw, dh = np.ascontiguousarray(sides.detections.box[sides.order].T)
    gx, gy, gw, gh = np.ascontiguousarray(sides.ground_truth.box[sides.by_image].T)
    dx2, dy2, darea = dw + dx, dh + dy, dw * dh
    gx2, gy2, garea = gw + gx, gh + gy, gw * gh
    crowd = sides.inside
    some_crowd = bool(crowd.any())
    image = sides.detections.image[sides.order]
    objects = np.diff(sides.truth_start)[image]  # of the detection's image
    first = sides.truth_start[image]
    ends = np.cumsum(objects)
    cuts = np.searchsorted(ends, np.arange(BLOCK, objects.sum(), BLOCK))
    for low, high in pairwise(np.unique([0, *cuts, len(sides.order)]).tolist()):
        many = objects[low:high]
        d = np.repeat(np.arange(low, high), many)
        start = ends[low:high] - many
        g = np.arange(len(d)) + np.repeat(first[low:high] - (start - (start[0] if len(start) else 0)), many)
        w = np.minimum(dx2[d], gx2[g]) - np.maximum(dx[d], gx[g])
        keep = np.flatnonzero(w > 0)
        d, g, w = d[keep], g[keep], w[keep]
        h = np.minimum(dy2[d], gy2[g]) - np.maximum(dy[d], gy[g])
        keep = np.flatnonzero(h > 0)
        d, g = d[keep], g[keep]
        intersection = w[keep] * h[keep]
        union = darea[d] + garea[g] - intersection
        if some_crowd:
            union = np.where(crowd[g], darea[d], union)
        yield d, g, intersection / union


def _mask_blocks(sides: _Sides) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Mask IoU by pycocotools, image by image."""
    from pycocotools import mask

    ours, theirs = sides.detections.masks, sides.ground_truth.masks
    ours.rles(sides.order.tolist())  # all at once: faster than image by image, and nothing escapes the checks
    theirs.rles(sides.by_image.tolist())
    both = (np.diff(sides.truth_start) > 0) & (np.diff(sides.detection_start) > 0)
    for image in np.flatnonzero(both):
        low, high = sides.detection_start[image], sides.detection_start[image + 1]
        first, last = sides.truth_start[image], sides.truth_start[image + 1]
        iou = mask.iou(
            ours.rles(sides.order[low:high].tolist()),
            theirs.rles(sides.by_image[first:last].tolist()),
            sides.inside[first:last].astype(np.uint8).tolist(),
        )
        d, g = np.nonzero(iou > 0)
        yield d + low, g + first, iou[d, g]


def score_order(detections: Detections, image_order: Ints) -> Ints:
    """Rows by descending score; ties by image in the given order (i64[images] rank), then by place in the file."""
    start = order_by_index(image_order[detections.image], len(image_order))
    return start[order_descending(detections.score[start])]


def cap_per_group(order: Ints, group: Ints, cap: int) -> Ints:
    """The first ``cap`` rows of each group, of rows in ``order`` by descending score; keeps that order.

    ``group`` i64[N] is the image, or image and category, of each row.
    """
    few = not len(order) or np.bincount(group).max() <= cap
    return order if few else order[place_in_group(group[order]) < cap]


@dataclass(frozen=True, eq=False)
class PairedDetections:
    """The detections within the cap and the objects that they overlap: all that matching at any IoU needs.

    A *position* is a place among the n detections within the cap, by image and then descending score.
    """

    row: Ints  # [n] of the detections, at each position
    by_score: Ints  # [n] positions by descending score
    pairs: Pairs  # of positions and objects
    same_category: Bools  # [P]
    excused: Bools  # [n] left out where nothing matches them (LVIS: objects of the category may be missing)
    unchecked: Ints  # rows of the detections within the cap whose category was not looked for in their image (LVIS)

    def at(self, kept: Bools) -> "PairedDetections":
        """Some of the positions bool[n], numbered anew: in each group under the cap those of the highest scores."""
        number = np.cumsum(kept) - 1
        places = np.flatnonzero(kept[self.pairs.detection])
        pairs = self.pairs.at(places)
        return PairedDetections(
            self.row[kept],
            number[self.by_score[kept[self.by_score]]],
            Pairs(number[pairs.detection], pairs.truth, pairs.iou),
            self.same_category[places],
            self.excused[kept],
            self.unchecked,
        )


def pair_detections(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> PairedDetections:
    """Order and cap the detections as the convention does, and pair them with the objects of their images.

    Raises:
        BadInput: masks are asked for and a record has none, there are several categories to be taken as one, or the
            settings are not under the rules of the ground truth (:meth:`Settings.on`).
    """
    if settings.federated != (ground_truth.federated is not None):
        rules = "LVIS's" if ground_truth.federated else "COCO's"
        raise BadInput(f"{ground_truth.path}: this file needs {rules} rules, but the settings differ; use Settings.on")
    coco, image = settings.convention == "coco", detections.image
    images, classes = len(ground_truth.image_id), len(ground_truth.category_id)
    if settings.class_agnostic and classes > 1:
        raise BadInput("class_agnostic needs merged categories; merge them with analysis.evaluation.selection")
    by_score = score_order(detections, np.arange(images) if coco else ground_truth.image_rank)
    if settings.min_score is not None:
        by_score = by_score[detections.score[by_score] >= settings.min_score]
    group = image * classes + detections.category if settings.cap_per_category else image
    by_score = cap_per_group(by_score, group, settings.max_dets)
    unchecked = by_score[:0]
    if ground_truth.federated and coco:
        checked = ground_truth.federated.is_checked(image, detections.category)[by_score]
        by_score, unchecked = by_score[checked], by_score[~checked]
    row = by_score[order_by_index(image[by_score], images)]
    # What is ignored in the tidecv convention is a region, of which a detection has a share inside.
    inside = ground_truth.crowd if coco else ground_truth.ignore
    pairs = build_pairs(ground_truth, detections, row, settings.iou_type, inside)
    category = detections.category[row]
    same = np.empty(len(pairs.iou), dtype=np.bool_)
    for block in blocks(len(same)):
        same[block] = category[pairs.detection[block]] == ground_truth.category[pairs.truth[block]]
    excused = _excused(ground_truth, image[row], category, coco=coco)
    return PairedDetections(row, inverse(row, len(detections))[by_score], pairs, same, excused, unchecked)


def _excused(ground_truth: GroundTruth, image: Ints, category: Ints, *, coco: bool) -> Bools:
    """bool[n] the detections that LVIS's rules leave out where nothing matches them.

    tidecv keeps those of a category that was not looked for, in a region that holds the whole image.
    """
    rules = ground_truth.federated
    if rules is None:
        return np.zeros(len(image), dtype=np.bool_)
    excused = rules.is_incomplete(image, category)
    return excused if coco else excused | ~rules.is_checked(image, category)


def ignored_by_size(
    ground_truth: GroundTruth, detection_area: Floats, iou_type: str, limits: tuple[float, float]
) -> tuple[Bools, Bools]:
    """COCO's rule for a range of areas: the objects bool[M] that are ignored, the detections bool[n] out of range.

    ``limits`` are in square pixels, both inclusive, and ``detection_area`` f64[n] as well.
    """
    low, high = limits
    outside = [(area < low) | (area > high) for area in (ground_truth.area_of(iou_type), detection_area)]
    return ground_truth.ignore | outside[0], outside[1]


def candidates(paired: PairedDetections, iou: float, *, prefer_last: bool, usable: Bools | None = None) -> Pairs:
    """The pairs that may match (same category, IoU >= ``iou``), each detection's in the order of its preference.

    ``prefer_last``: of equal IoUs the last object wins (COCOeval's loop keeps going), else the first (tidecv).
    ``usable`` bool[P]: which pairs take part at all.
    """
    keep = paired.same_category & (paired.pairs.iou >= iou)
    found = paired.pairs.at(np.flatnonzero(keep if usable is None else keep & usable))
    return preferred_first(found, prefer_last=prefer_last)


def preferred_first(found: Pairs, *, prefer_last: bool) -> Pairs:
    """The same pairs, those of each detection by descending IoU; of equal ones the last object first, or the first."""
    # Most detections have one candidate; only the others need sorting, and each of them stays where it is.
    again = found.detection[1:] == found.detection[:-1]
    several = np.flatnonzero(np.append(again, False) | np.append(False, again))
    few = found.at(several)
    order = np.lexsort((-few.truth if prefer_last else few.truth, -few.iou, few.detection))
    found.truth[several], found.iou[several] = few.truth[order], few.iou[order]
    return found


def best_objects(pairs: Pairs, used: Bools, detections: int, truths: int) -> tuple[Floats, Ints]:
    """The highest IoU f64[detections] of each and the first object i64[detections] that has it; 0 and -1 for none.

    Args:
        pairs: of detections and objects.
        used: bool[P] the pairs that count.
        detections: how many there are.
        truths: how many objects there are.
    """
    if native.core is not None:
        columns = map(np.ascontiguousarray, (pairs.detection, pairs.truth, pairs.iou, used))
        found = native.core.best_objects(detections, truths, *columns)
        return np.frombuffer(found[0], dtype=np.float64), np.frombuffer(found[1], dtype=np.int64)
    best, target = np.zeros(detections), np.full(detections, -1, dtype=np.int64)
    some = pairs.at(np.flatnonzero(used))
    detection, row = best_in_group(some.detection, some.iou)
    best[detection], target[detection] = some.iou[row], some.truth[row]
    return best, target


MOST_ROUNDS = 32  # a round costs time for every pair, and where all overlap it settles one detection


def match_greedily(pairs: Pairs, usable: Bools, detections: int, truths: int, shared: Bools | None = None) -> Ints:
    """The object i64[detections] that each detection takes, -1 for none.

    In order of priority every detection takes the free object that it overlaps most. In a round, each detection names
    its best free object and gets it if no earlier unserved detection could still take it; a few rounds settle all but
    the most crowded images, where the rest goes one detection after another.

    Args:
        pairs: from :func:`candidates`; detections of other images or categories do not share objects.
        usable: bool[P] which pairs take part.
        detections: how many detections there are.
        truths: how many objects there are.
        shared: bool[truths] objects that any number of detections may take (crowds).
    """
    if native.core is not None:
        columns = (*map(np.ascontiguousarray, (pairs.detection, pairs.truth, usable)), shared)
        return np.frombuffer(native.core.match_pairs(detections, truths, *columns), dtype=np.int64)
    matched = np.full(detections, -1, dtype=np.int64)
    first_claim = np.full(truths, -1, dtype=np.int64)
    free = np.ones(truths, dtype=np.bool_)
    d, g = pairs.detection[usable], pairs.truth[usable]
    for _ in range(MOST_ROUNDS):
        if not len(d):
            return matched
        best = np.append(True, d[1:] != d[:-1])
        first_claim[g[::-1]] = d[::-1]  # the last write stays: the earliest detection with an edge to the object
        served = best & (first_claim[g] == d)
        if shared is not None:
            served |= best & shared[g]
        matched[d[served]] = g[served]
        free[g[served]] = False
        if shared is not None:
            free |= shared
        alive = free[g] & (matched[d] < 0)
        d, g = d[alive], g[alive]
    ends = np.append(np.flatnonzero(d[1:] != d[:-1]) + 1, len(d)).tolist() if len(d) else []
    for low, high in zip([0, *ends], ends, strict=False):
        options = g[low:high]
        first = int(free[options].argmax())
        if free[options[first]]:
            matched[d[low]] = options[first]
            free[options[first]] = shared is not None and shared[options[first]]
    return matched


def match_coco(found: Pairs, iou: float, ignored_truth: Bools, crowd: Bools, out_of_range: Bools) -> tuple[Ints, Bools]:
    """COCOeval's matching at one threshold: (i64[N] the object taken or -1, bool[N] left out) by position.

    First every detection may take an object that counts; those left may take an ignored one and are then left out,
    as is an unmatched detection whose own area is out of range.
    """
    detections, truths = len(out_of_range), len(ignored_truth)
    if native.core is not None:
        pairs = map(np.ascontiguousarray, (found.detection, found.truth, found.iou))
        both = native.core.match_coco(
            detections, truths, *pairs, min(iou, 1 - 1e-10), ignored_truth, crowd, out_of_range
        )
        return np.frombuffer(both[0], dtype=np.int64), np.frombuffer(both[1], dtype=np.bool_)
    enough = found.iou >= min(iou, 1 - 1e-10)
    taken = match_greedily(found, enough & ~ignored_truth[found.truth], detections, truths)
    ignored = match_greedily(
        found, enough & ignored_truth[found.truth] & (taken[found.detection] < 0), detections, truths, shared=crowd
    )
    return taken, (ignored >= 0) | ((taken < 0) & out_of_range)
