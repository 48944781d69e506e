"""COCO's 12 numbers on cases worked out by hand: size ranges, caps, what is undefined."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import BadInput, break_down, coco_metrics
from analysis.evaluation.average_precision import COCO_RECALLS, recall_steps
from tests.analysis.cases import Record, found, object_, read, write
from tests.analysis.peers import pycocotools_metrics

SMALL, MEDIUM, LARGE = (0, 0, 30, 30), (60, 0, 50, 50), (0, 60, 110, 110)


def metrics(folder: Path, objects: list[Record], results: list[Record], **kwargs: int) -> dict[str, float]:
    """Ours, after a comparison with pycocotools."""
    result = coco_metrics(*read(folder, objects, results, **kwargs))  # type: ignore[arg-type]
    expected = pycocotools_metrics(folder / "gt.json", write(folder / "dt.json", results))
    assert result == pytest.approx(expected, rel=0, abs=1e-12)
    return result


def test_each_size_counts_in_its_range(tmp_path: Path) -> None:
    objects = [object_(1, SMALL), object_(1, MEDIUM), object_(1, LARGE)]
    result = metrics(tmp_path, objects, [found(1, MEDIUM, 0.9)])
    assert (result["APs"], result["APm"], result["APl"]) == pytest.approx((0, 100, 0))
    assert result["AR100"] == pytest.approx(100 / 3)


def test_a_detection_of_an_object_out_of_range_is_left_out(tmp_path: Path) -> None:
    """Of medium size itself, on a small object, scored above the only right one: no false positive among the medium."""
    grown = (0, 0, 33, 33)
    result = metrics(tmp_path, [object_(1, SMALL), object_(1, MEDIUM)], [found(1, grown, 0.9), found(1, MEDIUM, 0.5)])
    # The IoU is 900 / 1089 = 0.826: at the three thresholds above it the detection is on nothing, and wrong.
    assert result["APm"] == pytest.approx((7 * 100 + 3 * 50) / 10)
    assert result["APs"] == pytest.approx(70)


def test_an_unmatched_detection_out_of_range_is_left_out(tmp_path: Path) -> None:
    stray = (150, 150, 5, 5)
    result = metrics(tmp_path, [object_(1, MEDIUM)], [found(1, stray, 0.9), found(1, MEDIUM, 0.5)])
    assert result["APm"] == pytest.approx(100)
    assert result["AP"] == pytest.approx(50)


@pytest.mark.parametrize("side", [32, 96])
def test_an_unmatched_detection_on_a_limit_counts_in_both_ranges(side: int, tmp_path: Path) -> None:
    stray, other = (100, 90, side, side), SMALL if side == 32 else LARGE
    objects = [object_(1, MEDIUM), object_(2, other)]
    results = [found(c, stray, 0.9) for c in (1, 2)] + [found(1, MEDIUM, 0.5), found(2, other, 0.5)]
    result = metrics(tmp_path, objects, results)
    assert result["APm"] == result["APs" if side == 32 else "APl"] == pytest.approx(50)


@pytest.mark.parametrize("side", [32, 96])
def test_an_area_on_a_limit_belongs_to_both_ranges(side: int, tmp_path: Path) -> None:
    box = (0, 0, side, side)
    result = metrics(tmp_path, [object_(1, box)], [found(1, box, 0.9)])
    assert result["APm"] == pytest.approx(100)
    assert result["APs" if side == 32 else "APl"] == pytest.approx(100)
    assert result["APl" if side == 32 else "APs"] == -1


def test_a_cap_of_1_10_and_100_detections(tmp_path: Path) -> None:
    boxes = [(4 * n, 0, 3, 30) for n in range(20)]
    result = metrics(
        tmp_path, [object_(1, box) for box in boxes], [found(1, b, 1 - n / 50) for n, b in enumerate(boxes)]
    )
    assert (result["AR1"], result["AR10"], result["AR100"]) == pytest.approx((5, 50, 100))


def test_more_than_100_detections_of_a_category_in_an_image(tmp_path: Path) -> None:
    """The 101st is the only right one; of another category it would count."""
    results = [found(1, (150, 150, 9, 9), 0.9)] * 100 + [found(1, MEDIUM, 0.5)]
    assert metrics(tmp_path, [object_(1, MEDIUM)], results)["AP"] == 0
    results[0] = found(2, (150, 150, 9, 9), 0.9)
    assert metrics(tmp_path, [object_(1, MEDIUM)], results)["AP"] == pytest.approx(1)


def test_several_detections_may_lie_in_one_crowd(tmp_path: Path) -> None:
    objects = [object_(1, LARGE, iscrowd=1), object_(1, SMALL)]
    results = [found(1, (10, 70, 40, 40), 0.9), found(1, (20, 80, 40, 40), 0.8), found(1, SMALL, 0.5)]
    assert metrics(tmp_path, objects, results)["AP"] == pytest.approx(100)


def test_an_area_beyond_all_ranges_is_left_out(tmp_path: Path) -> None:
    giant = (0, 0, 2e5, 1e5)
    objects = [object_(1, giant), object_(1, MEDIUM, image=2)]
    result = metrics(tmp_path, objects, [found(1, giant, 0.9), found(1, MEDIUM, 0.8, image=2)], images=(1, 2))
    assert result["AP"] == pytest.approx(100)


def test_an_unknown_kind_of_overlap_is_refused(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, MEDIUM)], [found(1, MEDIUM, 0.9)])
    with pytest.raises(BadInput, match="iou_type 'keypoints' is unknown"):
        coco_metrics(gt, dt, iou_type="keypoints")


def test_undefined_numbers_are_minus_one(tmp_path: Path) -> None:
    assert set(metrics(tmp_path, [], [found(1, SMALL, 0.9)]).values()) == {-1.0}


def test_annotation_id_0_is_matched_like_any_other(tmp_path: Path) -> None:
    """pycocotools takes a match with it for none; we do not, and say so."""
    results = [found(1, MEDIUM, 0.9)]
    gt, dt = read(tmp_path, [object_(1, MEDIUM, id=0)], results)
    assert break_down(gt, dt).ap == coco_metrics(gt, dt)["AP50"] == pytest.approx(100)
    assert pycocotools_metrics(tmp_path / "gt.json", write(tmp_path / "dt.json", results))["AP50"] == 0


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_recall_steps_equal_a_search_in_the_recalls(positives: list[int]) -> None:
    """With the rounding of the division and of the grid, as COCOeval and tidecv search."""
    for grid in (COCO_RECALLS, np.array([x / 100 for x in range(101)])):
        steps = recall_steps(np.array(positives), grid)
        for total, row in zip(positives, steps, strict=True):
            recalls = np.arange(1, total + 1) / total
            assert np.array_equal(row, np.searchsorted(recalls, grid, side="left") + 1)
