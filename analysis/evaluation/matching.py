"""Greedy matching of detections to objects, as COCO does it, over candidate pairs in rounds instead of a loop.

All overlapping (detection, object) pairs of an image with their IoU, as flat arrays, built in blocks of images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints, order_by_index
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.exceptions import BadInput

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


def build_pairs(
    ground_truth: GroundTruth, detections: Detections, order: Ints, iou_type: str, inside: NDArray[np.bool_]
) -> Pairs:
    """Pairs of the detections ``order`` (rows, image by image in ascending order) with the objects of their images.

    Args:
        ground_truth: the objects.
        detections: the detections.
        order: i64[N] rows of ``detections`` to pair, sorted by image index.
        iou_type: ``bbox`` or ``segm``.
        inside: bool[M] the objects for which IoU is the share of the detection inside them (crowds).

    Raises:
        BadInput: another ``iou_type``, or masks are asked for and a record has none.
    """
    if iou_type not in ("bbox", "segm"):
        raise BadInput(f"iou_type {iou_type!r} is unknown; choose bbox or segm")
    images = len(ground_truth.image_id)
    by_image = order_by_index(ground_truth.image, images)
    truth_start = np.concatenate([[0], np.cumsum(np.bincount(ground_truth.image, minlength=images))])
    image = detections.image[order]
    detection_start = np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))])
    if iou_type == "segm":
        parts = list(_mask_blocks(ground_truth, detections, order, by_image, truth_start, detection_start, inside))
    else:
        parts = list(_box_blocks(ground_truth, detections, order, by_image, truth_start, inside))
    return Pairs(
        np.concatenate([p[0] for p in parts] or [np.empty(0, np.int64)]),
        np.concatenate([p[1] for p in parts] or [np.empty(0, np.int64)]),
        np.concatenate([p[2] for p in parts] or [np.empty(0)]),
    )


def _box_blocks(
    ground_truth: GroundTruth,
    detections: Detections,
    order: Ints,
    by_image: Ints,
    truth_start: Ints,
    inside: NDArray[np.bool_],
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Box IoU with the arithmetic of COCO's bbIou, operation by operation, so that every bit agrees."""
    dx, dy, dw, dh = np.ascontiguousarray(detections.box[order].T)
    gx, gy, gw, gh = np.ascontiguousarray(ground_truth.box[by_image].T)
    dx2, dy2, darea = dw + dx, dh + dy, dw * dh
    gx2, gy2, garea = gw + gx, gh + gy, gw * gh
    crowd = inside[by_image]
    some_crowd = bool(crowd.any())
    image = detections.image[order]
    objects = np.diff(truth_start)[image]  # of the detection's image
    first = truth_start[image]
    ends = np.cumsum(objects)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(BLOCK, total, BLOCK))
    edges = np.unique(np.concatenate([[0], cuts, [len(order)]]))
    for low, high in pairwise(edges.tolist()):
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
        yield d, by_image[g], intersection / union


def _mask_blocks(
    ground_truth: GroundTruth,
    detections: Detections,
    order: Ints,
    by_image: Ints,
    truth_start: Ints,
    detection_start: Ints,
    inside: NDArray[np.bool_],
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Mask IoU by pycocotools, image by image."""
    from pycocotools import mask

    detections.masks.rles(order.tolist())  # all at once: faster than image by image, and nothing escapes the checks
    ground_truth.masks.rles(by_image.tolist())
    for image in np.flatnonzero((np.diff(truth_start) > 0) & (np.diff(detection_start) > 0)):
        low, high = detection_start[image], detection_start[image + 1]
        truths = by_image[truth_start[image] : truth_start[image + 1]]
        iou = mask.iou(
            detections.masks.rles(order[low:high].tolist()),
            ground_truth.masks.rles(truths.tolist()),
            inside[truths].astype(np.uint8).tolist(),
        )
        d, g = np.nonzero(iou > 0)
        yield d + low, truths[g], iou[d, g]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs that may match (same category, IoU high enough), each detection's in the order of its preference.

    Detections count in order of priority within their image and category: the better score first.
    """

    detection: Ints  # [P] ascending
    truth: Ints  # [P]
    iou: NDArray[np.float64]  # [P]


def candidates(pairs: Pairs, same_category: Bools, iou: float, prefer_last: bool) -> Candidates:
    """Candidate pairs with IoU >= ``iou``, sorted for matching.

    ``prefer_last``: of equal IoUs the last object wins (COCOeval's loop keeps going), else the first (tidecv).
    """
    keep = np.flatnonzero(same_category & (pairs.iou >= iou))
    detection, truth, overlap = pairs.detection[keep], pairs.truth[keep], pairs.iou[keep]
    # Most detections have one candidate; only the others need sorting, and each of them stays where it is.
    again = detection[1:] == detection[:-1]
    several = np.flatnonzero(np.append(again, False) | np.append(False, again))
    d, g, iou_ = detection[several], truth[several], overlap[several]
    order = np.lexsort((-g if prefer_last else g, -iou_, d))
    truth[several], overlap[several] = g[order], iou_[order]
    return Candidates(detection, truth, overlap)


def match_greedily(pairs: Candidates, usable: Bools, detections: int, truths: int, shared: Bools | None = None) -> Ints:
    """The object i64[detections] that each detection takes, -1 for none.

    In order of priority every detection takes the free object that it overlaps most. In a round, each detection names
    its best free object and gets it if no earlier unserved detection could still take it; a few rounds settle all.

    Args:
        pairs: the candidates; detections of other images or categories do not share objects.
        usable: bool[P] which pairs take part.
        detections: how many detections there are.
        truths: how many objects there are.
        shared: bool[truths] objects that any number of detections may take (crowds).
    """
    matched = np.full(detections, -1, dtype=np.int64)
    first_claim = np.full(truths, -1, dtype=np.int64)
    free = np.ones(truths, dtype=np.bool_)
    d, g = pairs.detection[usable], pairs.truth[usable]
    while len(d):
        best = np.empty(len(d), dtype=np.bool_)
        best[0] = True
        np.not_equal(d[1:], d[:-1], out=best[1:])
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
    return matched
