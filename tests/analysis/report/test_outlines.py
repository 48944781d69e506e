"""Outlines against the masks that they were drawn around."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pycocotools import mask

from analysis import read_ground_truth
from analysis.report import outlines
from analysis.report.outlines import outline
from tests.shared_data import shared_data


def encoded(inside: "np.ndarray") -> dict:
    """A mask as compressed RLE."""
    runs, value, count = [], False, 0
    for pixel in inside.T.ravel().tolist():
        if pixel == value:
            count += 1
        else:
            runs.append(count)
            value, count = pixel, 1
    return mask.frPyObjects({"size": list(inside.shape), "counts": [*runs, count]}, *inside.shape)


def filled(loops: list, shape: tuple[int, int]) -> "np.ndarray":
    """The pixels whose middle lies inside by the even-odd rule, by matplotlib."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    middles = np.stack([columns.ravel(), rows.ravel()], axis=1)
    inside = np.zeros(len(middles), dtype=bool)
    for loop in loops:
        inside ^= Polygon(np.concatenate([loop, loop[:1]])).contains_points(middles)
    return inside.reshape(shape)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_an_exact_outline_holds_exactly_the_mask(height: int, width: int, data: st.DataObject) -> None:
    pixels = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    inside = np.array(pixels).reshape(height, width)
    loops = outline(encoded(inside), tolerance=0)
    assert np.array_equal(filled(loops, inside.shape), inside)
    for loop in loops:  # corners only: no point lies on the line between its neighbours
        before, after = np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0)
        straight = (before[:, 0] == after[:, 0]) | (before[:, 1] == after[:, 1])
        assert not ((before == loop).all(axis=1) | straight).any()


def test_a_simplified_outline_of_a_real_mask_is_close_and_short() -> None:
    gt = read_ground_truth(shared_data("coco_val2017_206", "gt_masks_179.json"))
    rows = np.flatnonzero(gt.area > 32**2)[[0, 7]]
    for rle in gt.masks.rles(rows.tolist()):
        loops = outline(rle)
        inside = filled(outline(rle, tolerance=0), tuple(rle["size"]))
        close = filled(loops, tuple(rle["size"]))
        assert inside.sum() == mask.area(rle)
        assert (inside & close).sum() / (inside | close).sum() > 0.9
        assert sum(map(len, loops)) < 0.6 * sum(len(loop) for loop in outline(rle, tolerance=0))


def test_an_empty_mask_has_no_outline() -> None:
    assert outline(encoded(np.zeros((4, 5), dtype=bool))) == []


@pytest.mark.parametrize("tolerance", [0.0, 0.8])
def test_a_hole_is_a_loop_of_its_own(tolerance: float) -> None:
    inside = np.ones((9, 9), dtype=bool)
    inside[3:6, 3:6] = False
    assert len(outline(encoded(inside), tolerance)) == 2


def test_a_mask_of_billions_of_pixels_is_as_quick_as_its_runs_are_few() -> None:
    side = 60_000
    whole = mask.frPyObjects({"size": [side, side], "counts": [0, side * side]}, side, side)
    assert [loop.tolist() for loop in outline(whole)] == [[[0, 0], [side, 0], [side, side], [0, side]]]
    begin, pixels = 3 * side + 10, 40_000 * side  # from row 10 of column 3 to row 9 of column 40,003
    counts = [begin, pixels, side * side - begin - pixels]
    stepped = mask.frPyObjects({"size": [side, side], "counts": counts}, side, side)
    corners = [[4, 0], [40_004, 0], [40_004, 10], [40_003, 10], [40_003, side], [3, side], [3, 10], [4, 10]]
    assert [loop.tolist() for loop in outline(stepped)] == [[[float(x), float(y)] for x, y in corners]]


def test_runs_of_no_pixels_change_nothing() -> None:
    plain = mask.frPyObjects({"size": [4, 5], "counts": [2, 9, 9]}, 4, 5)
    parted = mask.frPyObjects({"size": [4, 5], "counts": [2, 3, 0, 6, 4, 0, 5]}, 4, 5)
    assert [loop.tolist() for loop in outline(parted)] == [loop.tolist() for loop in outline(plain)]


def test_noise_is_drawn_as_steps_in_bounded_time_and_length() -> None:
    """A million pixels by chance have 400,000 corners, which no page should hold."""
    noise = np.asfortranarray(np.random.default_rng(0).integers(0, 2, (1000, 800), dtype=np.uint8))
    loops = outline(mask.encode(noise))
    assert 1000 < sum(map(len, loops)) < 20_000
    assert np.concatenate(loops).max(axis=0).tolist() == [800, 1000]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_steps_are_the_mask_where_the_pixels_of_every_sample_agree(tall: int, wide: int, data: st.DataObject) -> None:
    side = 4
    pixels = data.draw(st.lists(st.booleans(), min_size=side**2, max_size=side**2))
    inside = np.kron(np.array(pixels).reshape(side, side), np.ones((tall, wide), dtype=bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "MOST_RUNS", 0)
        patch.setattr(outlines, "COARSE_SIDE", side)
        assert np.array_equal(filled(outline(encoded(inside), tolerance=0), inside.shape), inside)
