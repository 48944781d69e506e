"""Outlines of masks as polygons, from their runs: a mask is never unpacked into pixels, which may be billions."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.arrays import Floats, Ints
from analysis.coco.masks import run_lengths

TOLERANCE = 0.8  # pixels by which a simplified outline may leave the rim
MOST_RUNS = 20_000  # of a mask whose rim is followed; masks of objects have a few for each column of theirs
COARSE_SIDE = 128  # samples along each side of a mask that has more


def outline(rle: dict[str, Any], tolerance: float = TOLERANCE) -> list[Floats]:
    """The closed polygons f64[P, 2] (x, y in pixels) that bound a mask, holes too: fill them by the even-odd rule.

    Time and memory grow with the number of runs of the mask, whatever its size. A mask of more than ``MOST_RUNS``,
    which is noise, is drawn as large steps, a few samples a side.

    >>> from pycocotools import mask
    >>> [polygon.tolist() for polygon in outline(mask.frPyObjects([[2, 1, 6, 1, 6, 3, 2, 3]], 9, 9)[0])]
    [[[2.0, 1.0], [6.0, 1.0], [6.0, 3.0], [2.0, 3.0]]]
    """
    height, width = rle["size"]
    runs, scale = run_lengths(rle["counts"].decode()), np.ones(2)
    if len(runs) > MOST_RUNS:
        rows, columns = min(height, COARSE_SIDE), min(width, COARSE_SIDE)
        scale = np.array([width / columns, height / rows])
        runs, height, width = _sampled(runs, height, width, rows, columns), rows, columns
    stride = width + 1
    return [
        _simplify(np.stack([loop % stride, loop // stride], axis=1) * scale, tolerance)
        for loop in _loops(_rectangles(runs, height), height, stride)
    ]


def _sampled(runs: Ints, height: int, width: int, rows: int, columns: int) -> Ints:
    """The runs of a mask of fewer rows and columns, each of its pixels as the middle of those that it stands for."""
    y, x = (np.arange(rows) * 2 + 1) * height // (2 * rows), (np.arange(columns) * 2 + 1) * width // (2 * columns)
    place = (x[:, None] * height + y).ravel()  # down the columns
    inside = np.searchsorted(np.cumsum(runs), place, side="right") % 2
    edges = np.flatnonzero(np.diff(inside, prepend=0))
    return np.diff(edges, prepend=0, append=len(place))


def _rectangles(runs: Ints, height: int) -> Ints:
    """A mask as rectangles i64[4, N] (left, right, top, bottom), at most three for a run.

    They do not overlap, and two in one column do not touch. ``runs`` i64[R] are pixels down the columns, background
    first.
    """
    ends = np.cumsum(runs)[: len(runs) // 2 * 2]  # the last run may be background, which ends no mask
    ends, times = np.unique(ends, return_counts=True)
    begin, end = ends[times % 2 == 1].reshape(-1, 2).T  # a run of no pixels parts nothing
    first, last = begin // height, (end - 1) // height
    top, bottom = begin % height, (end - 1) % height + 1
    zero, full = np.zeros_like(begin), np.full_like(begin, height)
    parts = (
        (first == last, (first, first + 1, top, bottom)),
        (first < last, (first, first + 1, top, full)),
        (first + 1 < last, (first + 1, last, zero, full)),
        (first < last, (last, last + 1, zero, bottom)),
    )
    return np.concatenate([np.stack(rectangles)[:, exist] for exist, rectangles in parts], axis=1)


def _loops(rectangles: Ints, height: int, stride: int) -> Iterator[Ints]:
    """The corners i64[P] of every rim, walked with the mask to the right; a corner is ``y * stride + x``.

    Where two pixels touch at a corner only, either way on is right under the even-odd rule. Not contourpy's: its
    contours run between the middles of pixels and cut the corners off, so that no box is drawn as one.
    """
    left, right, top, bottom = rectangles
    down_from, down_to, up_from, up_to = _vertical_sides(rectangles, height, stride)
    starts = np.sort(top * stride + left)
    start = np.concatenate([starts, down_from, bottom * stride + right, up_from])
    end = np.concatenate([np.sort(top * stride + right), down_to, bottom * stride + left, up_to])
    leaving: dict[int, list[int]] = {}
    for a, b in zip(start.tolist(), end.tolist(), strict=True):
        leaving.setdefault(a, []).append(b)
    for first in starts.tolist():  # the first of them in a loop is its upper left corner
        while first in leaving:
            points: list[int] = []
            corner, was_level = first, None
            while corner != first or not points:
                ways = leaving[corner]
                following = ways.pop()
                if not ways:
                    del leaving[corner]
                is_level = following // stride == corner // stride
                if is_level != was_level:
                    points.append(corner)
                corner, was_level = following, is_level
            yield np.array(points)


def _vertical_sides(rectangles: Ints, height: int, stride: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Where the rim goes down, from and to, and where it goes up: corners, each i64[S].

    Right sides of rectangles go down and left sides up; where both lie on each other is no rim.
    """
    left, right, top, bottom = rectangles
    line = height + 1  # corners of a line between two columns
    place = np.concatenate([right * line + top, right * line + bottom, left * line + bottom, left * line + top])
    change = np.repeat([1, -1, 1, -1], len(left))
    place, member = np.unique(place, return_inverse=True)
    change = np.bincount(member, change, len(place)).astype(np.int64)
    place, change = place[change != 0], change[change != 0]
    direction = np.cumsum(change)[:-1]  # between a place and the next: 1 down, -1 up, 0 no rim
    corner = place % line * stride + place // line
    here, below = corner[:-1], corner[1:]
    down, up = direction > 0, direction < 0
    return here[down], below[down], below[up], here[up]


def _simplify(points: Floats, tolerance: float) -> Floats:
    """Fewer points of a closed polygon, by Douglas and Peucker, from its two points that lie furthest apart."""
    count = len(points)
    if count < 5 or tolerance <= 0:
        return points
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([points, points[:1]])
    keep = np.zeros(count + 1, dtype=np.bool_)
    keep[[0, far]] = True
    todo = [(0, far), (far, count)]
    while todo:
        low, high = todo.pop()
        if high - low < 2:
            continue
        base, between = closed[high] - closed[low], closed[low + 1 : high] - closed[low]
        length = float(np.hypot(*base))
        off_line = np.abs(base[0] * between[:, 1] - base[1] * between[:, 0]) / (length or 1.0)
        distance = off_line if length else np.hypot(between[:, 0], between[:, 1])
        furthest = int(np.argmax(distance))
        if distance[furthest] > tolerance:
            middle = low + 1 + furthest
            keep[middle] = True
            todo += [(low, middle), (middle, high)]
    kept = points[keep[:count]]
    return kept if len(kept) > 2 else points
