"""Geometry against Pillow, pycocotools, torchvision and literal pixels."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.ops import masks_to_boxes

from ablate.data.transforms import ResizeCrop, box_of_polygons, boxes_of_masks, fit, jitter, large_enough, restore_boxes

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))
PLACEMENTS = st.builds(
    lambda size, side, low, ratio, flip, seed: jitter(
        size, side, (low, low * ratio), float(flip), np.random.default_rng(seed)
    ),
    SIZES,
    st.integers(1, 64),
    st.floats(0.1, 2.0),
    st.floats(1.0, 4.0),
    st.booleans(),
    st.integers(0, 2**32),
)


def the_long_way(mask: NDArray[np.uint8], crop: ResizeCrop) -> NDArray[np.uint8]:
    """Resize the whole mask on a grid fine enough for both sizes, cut, flip."""
    for axis, (original, scaled, corner, kept) in enumerate(
        zip(crop.original, crop.scaled, crop.corner, crop.kept, strict=True)
    ):
        fine = np.repeat(mask, scaled, axis=axis)  # every original pixel is `scaled` fine ones
        centres = np.arange(scaled) * original + original // 2  # every scaled pixel is `original` fine ones
        mask = fine.take(centres, axis=axis).take(range(corner, corner + kept), axis=axis)
    return mask[:, ::-1] if crop.flip else mask


def moved_mask(mask: NDArray[np.uint8], crop: ResizeCrop) -> NDArray[np.uint8]:
    """What the crop keeps; the canvas is larger, and stays empty beside it."""
    canvas = np.zeros(np.add(crop.kept, 3), dtype=np.uint8)
    assert crop.draw_mask(mask, canvas) == canvas.any()
    assert canvas.sum() == canvas[:-3, :-3].sum()
    return canvas[:-3, :-3]


def moved_image(image: Image.Image, crop: ResizeCrop) -> NDArray[np.uint8]:
    """u8[kept height, kept width, 3]."""
    canvas = np.zeros((3, *crop.kept), dtype=np.uint8)
    crop.draw_image(image, canvas)
    return canvas.transpose(1, 2, 0)


@given(PLACEMENTS, st.integers(0, 2**32))
def test_masks_move_as_literal_pixels_do(crop: ResizeCrop, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, crop.original, dtype=np.uint8)
    mask[rng.integers(0, crop.original[0] + 1) :] = 0  # empty rows and columns are passed over
    mask[:, : rng.integers(0, crop.original[1] + 1)] = 0
    np.testing.assert_array_equal(moved_mask(mask, crop), the_long_way(mask, crop))


@given(PLACEMENTS, st.data())
def test_boxes_move_with_the_masks_of_their_pixels(crop: ResizeCrop, data: st.DataObject) -> None:
    height, width = crop.original
    x1, x2 = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    y1, y2 = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    mask = np.zeros(crop.original, dtype=np.uint8)
    mask[y1:y2, x1:x2] = 1
    (box,) = crop.boxes(np.array([[x1, y1, x2, y2]], dtype=float))
    (seen,) = boxes_of_masks(moved_mask(mask, crop)[None])
    assert box[0] <= box[2]
    assert box[1] <= box[3]
    assert box[2] <= crop.kept[1]
    assert box[3] <= crop.kept[0]
    if seen.any():  # an edge lies between the centres of two pixels
        assert np.abs(box - seen).max() <= 0.5 + 1e-9


@given(PLACEMENTS)
def test_a_crop_keeps_what_fits(crop: ResizeCrop) -> None:
    for original, scaled, corner, kept in zip(crop.original, crop.scaled, crop.corner, crop.kept, strict=True):
        assert original >= 1
        assert 0 <= corner <= scaled - kept
        assert 1 <= kept <= scaled


def test_the_image_moves_with_its_boxes() -> None:
    """A white rectangle on black stays where its box says, whatever the crop."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        size = tuple(rng.integers(40, 120, 2).tolist())
        pixels = np.zeros((*size, 3), dtype=np.uint8)
        pixels[10:30, 12:37] = 255
        crop = jitter(size, 96, (0.4, 2.0), 0.5, rng)
        moved = moved_image(Image.fromarray(pixels), crop)
        assert moved.shape == (*crop.kept, 3)
        (box,) = crop.boxes(np.array([[12.0, 10, 37, 30]]))
        bright = boxes_of_masks((moved[None, :, :, 0] > 127).astype(np.uint8))[0]
        if large_enough(box[None])[0] and bright.any():
            assert np.abs(box - bright).max() <= 1.0


def test_the_image_is_that_of_resizing_whole_and_cutting_inside() -> None:
    rng = np.random.default_rng(2)
    pixels = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    for scale in (0.5, 1.0, 1.7):
        crop = jitter((50, 70), 64, (scale, scale), 0.5, rng)
        (tall, wide), (top, left), (rows, columns) = crop.scaled, crop.corner, crop.kept
        whole = np.asarray(pixels.resize((wide, tall), Image.Resampling.BILINEAR))[
            top : top + rows, left : left + columns
        ]
        whole = whole[:, ::-1] if crop.flip else whole
        inner = np.s_[3:-3, 3:-3]
        assert np.abs(moved_image(pixels, crop)[inner].astype(int) - whole[inner].astype(int)).max() <= 1


@given(SIZES, st.integers(0, 2**32))
def test_jitter_has_detectron2s_scale_and_stays_in_its_range(size: tuple[int, int], seed: int) -> None:
    crop = jitter(size, 64, (0.1, 2.0), 0.5, np.random.default_rng(seed))
    longest = max(crop.scaled)
    assert 64 * 0.1 - 1 <= longest <= 64 * 2.0 + 1
    factor = longest / max(size)
    assert abs(min(crop.scaled) - max(1, factor * min(size))) <= 0.5 + 0.5 * min(size) / max(size) + 1e-9


def test_jitter_draws_the_same_number_of_values_whatever_it_finds() -> None:
    ends = []
    for size, scale in (((10, 20), (0.1, 0.2)), ((50, 9), (1.5, 2.0))):
        rng = np.random.default_rng(3)
        jitter(size, 16, scale, 0.5, rng)
        ends.append(rng.random())
    assert ends[0] == ends[1]


def test_flip_has_its_probability() -> None:
    rng = np.random.default_rng(0)
    flips = [jitter((10, 10), 8, (1, 1), 0.25, rng).flip for _ in range(2000)]
    assert 0.2 < np.mean(flips) < 0.3
    assert not any(jitter((10, 10), 8, (1, 1), 0.0, rng).flip for _ in range(50))
    assert all(jitter((10, 10), 8, (1, 1), 1.0, rng).flip for _ in range(50))


@given(
    SIZES,
    st.integers(8, 128),
    hnp.arrays(np.float64, (3, 4), elements=st.floats(0, 1)),
)
def test_evaluation_has_a_way_back(size: tuple[int, int], side: int, parts: NDArray[np.float64]) -> None:
    crop = fit(size, side)
    assert max(crop.kept) == side
    assert crop.kept == crop.scaled
    boxes = np.sort(parts.reshape(3, 2, 2), axis=1).reshape(3, 4) * [size[1], size[0], size[1], size[0]]
    np.testing.assert_allclose(restore_boxes(crop.boxes(boxes), crop), boxes, atol=1e-9)
    outside = np.array([[-5.0, -5, 1e4, 1e4]])
    np.testing.assert_array_equal(restore_boxes(outside, crop), [[0, 0, size[1], size[0]]])


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1))
)
def test_boxes_of_masks_agree_with_pycocotools_and_torchvision(masks: NDArray[np.uint8]) -> None:
    boxes = boxes_of_masks(masks)
    for mask, box in zip(masks, boxes, strict=True):
        x, y, width, height = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask)))
        if not mask.any():
            np.testing.assert_array_equal(box, 0)
            continue
        np.testing.assert_array_equal(box, [x, y, x + width, y + height])
        inclusive = masks_to_boxes(torch.from_numpy(mask[None]))[0].numpy()
        np.testing.assert_array_equal(box, inclusive + np.array([0, 0, 1, 1]))


Point = tuple[Fraction, Fraction]


def clipped(polygon: list[Point], axis: int, limit: int, sign: int) -> list[Point]:
    """The part of a convex polygon where ``sign * (coordinate - limit) >= 0`` (Sutherland and Hodgman), exactly."""
    kept: list[Point] = []
    for one, other in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        here, there = (sign * (point[axis] - limit) for point in (one, other))
        if here >= 0:
            kept.append(one)
        if here * there < 0:
            part = here / (here - there)
            kept.append((one[0] + part * (other[0] - one[0]), one[1] + part * (other[1] - one[1])))
    return kept


@given(st.lists(st.tuples(st.integers(-20, 40), st.integers(-20, 40)), min_size=3, max_size=3, unique=True))
def test_the_extents_of_a_cut_triangle_are_exact(corners: list[tuple[int, int]]) -> None:
    left = [(Fraction(x), Fraction(y)) for x, y in corners]
    for axis, limit, sign in ((0, 0, 1), (1, 0, 1), (0, 25, -1), (1, 20, -1)):
        left = clipped(left, axis, limit, sign)
    found = box_of_polygons([np.array(corners, dtype=np.float64)], (20, 25))
    if left:
        xs, ys = zip(*left, strict=True)
        wanted = [float(value) for value in (min(xs), min(ys), max(xs), max(ys))]
    else:
        wanted = [0.0, 0, 0, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_the_extents_of_a_window_inside_a_ring_and_between_the_legs_of_a_u() -> None:
    around = np.array([[-5.0, -5], [30, -5], [30, 30], [-5, 30]])
    assert box_of_polygons([around], (10, 20)).tolist() == [0, 0, 20, 10]
    u = np.array([[-4.0, -2], [-2, -2], [-2, 12], [22, 12], [22, -2], [24, -2], [24, 14], [-4, 14]])
    assert box_of_polygons([u], (10, 20)).tolist() == [0, 0, 0, 0]
    assert box_of_polygons([u, u + np.array([5, 0])], (10, 20)).tolist() == [1, 0, 3, 10]
