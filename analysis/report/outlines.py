"""Masks as outlines: the rim of a run-length mask as a few polygons, for drawing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.masks import run_lengths

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOLERANCE = 0.8  # pixels by which a simplified outline may leave the rim


def outline(rle: dict[str, Any], tolerance: float = TOLERANCE) -> list[Floats]:
    """The closed polygons f64[P, 2] (x, y in pixels) that bound a mask, holes too: fill them by the even-odd rule.

    >>> from pycocotools import mask
    >>> [polygon.tolist() for polygon in outline(mask.frPyObjects([[2, 1, 6, 1, 6, 3, 2, 3]], 9, 9)[0])]
    [[[2.0, 1.0], [6.0, 1.0], [6.0, 3.0], [2.0, 3.0]]]
    """
    height, width = rle["size"]
    runs = run_lengths(rle["counts"].decode())
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T  # column by column
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return []
    x, y = int(columns[0]), int(rows[0])
    part = inside[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1]
    return [np.add(_simplify(loop, tolerance), (x, y)) for loop in _loops(part)]


def _loops(inside: Bools) -> Iterator[Floats]:
    """Corner points of every rim, walked along the edges of pixels with the mask to the right.

    Where two pixels touch at a corner only, either way on is right under the even-odd rule.
    """
    padded = np.pad(inside, 1)
    stride = inside.shape[1] + 1  # corners are numbered row by row
    here = padded[1:-1, 1:-1]
    start, end = [], []
    # Each side of a pixel at (r, c) whose neighbour is outside: from corner to corner, clockwise on the screen.
    for neighbour, (r0, c0), (r1, c1) in (
        (padded[:-2, 1:-1], (0, 0), (0, 1)),
        (padded[1:-1, 2:], (0, 1), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (1, 0)),
        (padded[1:-1, :-2], (1, 0), (0, 0)),
    ):
        r, c = np.nonzero(here & ~neighbour)
        start.append((r + r0) * stride + c + c0)
        end.append((r + r1) * stride + c + c1)
    leaving: dict[int, list[int]] = {}
    for a, b in zip(np.concatenate(start).tolist(), np.concatenate(end).tolist(), strict=True):
        leaving.setdefault(a, []).append(b)
    while leaving:
        first = next(iter(leaving))
        corner, step, points = first, 0, []
        while True:
            ways = leaving[corner]
            following = ways.pop()
            if not ways:
                del leaving[corner]
            if following - corner != step:
                points.append(corner)
            step, corner = following - corner, following
            if corner == first:
                break
        places = np.array(points)
        yield np.stack([places % stride, places // stride], axis=1).astype(np.float64)


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
        if length:
            distance = np.abs(base[0] * between[:, 1] - base[1] * between[:, 0]) / length
        else:
            distance = np.hypot(between[:, 0], between[:, 1])
        furthest = int(np.argmax(distance))
        if distance[furthest] > tolerance:
            middle = low + 1 + furthest
            keep[middle] = True
            todo += [(low, middle), (middle, high)]
    kept = points[keep[:count]]
    return kept if len(kept) > 2 else points
