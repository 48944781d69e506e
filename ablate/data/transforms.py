"""Geometry of training and evaluation images: large-scale jitter, flip, resize and pad, and the way back.

Large-scale jitter is the paper's training formula: the image is scaled so that it just fits a square of ``side *
scale``, cropped to ``side`` at a random place where it is larger, and padded at the right and bottom where it is
smaller. Crop and resize are one step, so only what is kept is computed. detectron2's ``ResizeScale`` and
``FixedSizeCrop`` draw and pad otherwise in part: ``docs/engine-differences.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROUNDING = 1e-6  # pixels
MIN_SIDE = 1.0  # pixels; a box that a crop leaves thinner than this is dropped


@dataclass(frozen=True)
class ResizeCrop:
    """How an image lands in the square: resized to ``scaled``, of which the window at ``corner`` is kept, then flipped.

    All in pixels, (height, width) or (top, left). The kept window ends up at the top left of the square.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    corner: tuple[int, int]
    kept: tuple[int, int]
    flip: bool = False

    def draw_image(self, image: Image.Image, canvas: NDArray[np.uint8]) -> None:
        """Draw what is kept of an RGB image at the top left of u8[3, h, w]; bilinear, antialiased where it shrinks."""
        (height, width), (tall, wide) = self.original, self.scaled
        (top, left), (rows, columns) = self.corner, self.kept
        region = (
            left * width / wide,
            top * height / tall,
            min(width, (left + columns) * width / wide),
            min(height, (top + rows) * height / tall),
        )
        resized = image.resize((columns, rows), Image.Resampling.BILINEAR, box=region)
        for plane, band in zip(canvas, resized.split(), strict=True):
            plane[:rows, :columns] = np.asarray(band)[:, :: -1 if self.flip else 1]

    def boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """f64[n, 4] xyxy of the original -> f64[n, 4] xyxy in the square, clipped to the kept window."""
        (height, width), (tall, wide) = self.original, self.scaled
        (top, left), (rows, columns) = self.corner, self.kept
        moved = boxes.astype(np.float64)
        moved[:, 0::2] = np.clip(moved[:, 0::2] * (wide / width) - left, 0, columns)
        moved[:, 1::2] = np.clip(moved[:, 1::2] * (tall / height) - top, 0, rows)
        if self.flip:
            moved[:, 0::2] = columns - moved[:, 2::-2]
        return moved

    def cuts(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes f64[n, 4] xyxy of the original reach beyond the kept window."""
        whole = ResizeCrop(self.original, self.scaled, (0, 0), self.scaled).boxes(boxes)
        low, high = np.array(self.corner)[::-1], np.add(self.corner, self.kept)[::-1]
        return np.any((whole[:, :2] < low - ROUNDING) | (whole[:, 2:] > high + ROUNDING), axis=1)  # type: ignore[no-any-return]

    def polygon(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Corners f64[n, 2] x, y in the original -> f64[n, 2] in the square; what is cut away lies outside of it."""
        moved = points * np.divide(self.scaled, self.original)[::-1] - np.array(self.corner)[::-1]
        if self.flip:
            moved[:, 0] = self.kept[1] - moved[:, 0]
        return moved  # type: ignore[no-any-return]

    def draw_mask(self, mask: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> bool:
        """Draw what is kept of a mask, by the nearest pixel, where the canvas is 0 -> whether a pixel of it is left.

        Args:
            mask: u8[height, width] of the original, 0 or 1.
            canvas: u8[h, w] of zeros, at least of the kept size.
        """
        rows, columns = (self._nearest(axis) for axis in (0, 1))
        # A decoded mask lies in memory column by column. What surrounds the object is left out.
        by_column = mask.T
        tall, wide = _within(rows, by_column, 0), _within(columns, by_column, 1)
        kept = by_column.take(columns[wide], axis=0).take(rows[tall], axis=1).T
        if self.flip:
            kept, wide = kept[:, ::-1], slice(self.kept[1] - wide.stop, self.kept[1] - wide.start)
        canvas[tall, wide] = kept
        return bool(kept.any())

    def _nearest(self, axis: int) -> NDArray[np.intp]:
        """The original row (axis 0) or column (1) whose area holds the centre of each kept one."""
        centre = 2 * (self.corner[axis] + np.arange(self.kept[axis])) + 1  # in halves of a scaled pixel
        return centre * self.original[axis] // (2 * self.scaled[axis])


def _within(places: NDArray[np.intp], mask: NDArray[np.uint8], across: int) -> slice:
    """Which of ``places``, rising indices along the other axis of a mask, lie between its first and its last pixel."""
    occupied: NDArray[np.bool_] = np.any(mask, axis=across)
    if not occupied.any():
        return slice(0, 0)
    last = len(occupied) - 1 - int(occupied[::-1].argmax())
    return slice(int(np.searchsorted(places, occupied.argmax())), int(np.searchsorted(places, last, side="right")))


def jitter(
    size: tuple[int, int], side: int, scale: tuple[float, float], flip: float, rng: np.random.Generator
) -> ResizeCrop:
    """Draw the training crop of an image of ``size`` (height, width) in a square of ``side`` pixels.

    Args:
        size: of the image.
        side: of the square.
        scale: range of the uniform jitter.
        flip: probability of a horizontal flip.
        rng: drawn from four times, whatever the outcome.
    """
    drawn = rng.uniform(*scale)
    place = rng.uniform(size=2)
    flipped = bool(rng.uniform() < flip)
    factor = min(side * drawn / size[0], side * drawn / size[1])
    scaled = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    kept = (min(scaled[0], side), min(scaled[1], side))
    corner = (round((scaled[0] - kept[0]) * place[0]), round((scaled[1] - kept[1]) * place[1]))
    return ResizeCrop(size, scaled, corner, kept, flipped)


def fit(size: tuple[int, int], side: int) -> ResizeCrop:
    """The resize for evaluation: the longer side becomes ``side``, nothing is cut."""
    factor = side / max(size)
    scaled = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    return ResizeCrop(size, scaled, (0, 0), scaled)


def restore_boxes(boxes: NDArray[np.float64], crop: ResizeCrop) -> NDArray[np.float64]:
    """f64[n, 4] xyxy in an evaluation square -> f64[n, 4] xyxy in the original image, clipped to it."""
    return ResizeCrop(original=crop.scaled, scaled=crop.original, corner=(0, 0), kept=crop.original).boxes(boxes)


def boxes_of_masks(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Tight boxes f64[n, 4] xyxy of masks u8[n, h, w]; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4))
    for axis, (low, high) in ((2, (1, 3)), (1, (0, 2))):
        occupied: NDArray[np.bool_] = np.any(masks, axis=axis)
        some = np.any(occupied, axis=1)
        boxes[:, low] = np.where(some, occupied.argmax(axis=1), 0)
        boxes[:, high] = np.where(some, occupied.shape[1] - occupied[:, ::-1].argmax(axis=1), 0)
    return boxes


def box_of_polygons(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.float64]:
    """The extents f64[4] xyxy of the part of polygons f64[n, 2] that lies in a window (height, width); zeros if none.

    They are reached by an edge, cut at the window's borders, or by a corner of the window inside a polygon.
    """
    room = np.array(size[::-1], dtype=np.float64)
    corners = room * [[0, 0], [0, 1], [1, 0], [1, 1]]
    reached = [
        points for polygon in polygons for points in (_cut_edges(polygon, room), corners[_inside(corners, polygon)])
    ]
    points = np.concatenate([np.zeros((0, 2)), *reached])
    found: NDArray[np.float64] = (
        np.concatenate([points.min(axis=0), points.max(axis=0)]) if len(points) else np.zeros(4)
    )
    return found


def _cut_edges(polygon: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ends f64[m, 2] of the part of each edge of a polygon that lies in the window from 0 to ``room``."""
    step = np.roll(polygon, -1, axis=0) - polygon
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where along the edge, from 0 to 1, it crosses the four borders; an edge along an axis never does.
        crossings = np.stack([-polygon / step, (room - polygon) / step])
    along = step == 0
    within = ~np.any(along & ((polygon < 0) | (polygon > room)), axis=1)
    enter = np.where(along, 0, crossings.min(axis=0)).max(axis=1).clip(min=0)
    leave = np.where(along, 1, crossings.max(axis=0)).min(axis=1).clip(max=1)
    seen = within & (enter <= leave)
    ends = np.concatenate([polygon[seen] + at[seen, None] * step[seen] for at in (enter, leave)])
    inside: NDArray[np.float64] = np.clip(ends, 0, room)  # rounding
    return inside


def _inside(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points f64[m, 2] lie in a polygon, by the parity of the edges to their right."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, None, 0], points[:, None, 1]
    straddles = (start[:, 1] > y) != (end[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = start[:, 0] + (y - start[:, 1]) * (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
    return np.sum(straddles & (crossing > x), axis=1) % 2 == 1  # type: ignore[no-any-return]


def large_enough(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes f64[n, 4] xyxy have sides of at least ``MIN_SIDE``."""
    return np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE, axis=1)  # type: ignore[no-any-return]
