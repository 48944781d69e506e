"""The base AP of the `coco` convention equals pycocotools' bit for bit, the 12 numbers to 1e-12."""

import json
from pathlib import Path

import pytest

from analysis import break_down, coco_metrics, read_detections, read_ground_truth
from analysis.evaluation.verify import pycocotools_metrics as verify_metrics
from tests.analysis import real_pairs
from tests.analysis.peers import load, plain, pycocotools_ap, pycocotools_metrics
from tests.analysis.real_pairs import RealPair


def check(truth: Path, results: Path, iou_type: str = "bbox", respect_ignore: bool = False) -> None:
    """Compare on two plain files."""
    gt = read_ground_truth(truth, respect_ignore=respect_ignore)
    dt = read_detections(results, gt)
    expected = pycocotools_metrics(truth, results, iou_type=iou_type, respect_ignore=respect_ignore)
    assert coco_metrics(gt, dt, iou_type=iou_type) == pytest.approx(expected, rel=0, abs=1e-12)
    assert break_down(gt, dt, iou_type=iou_type).ap == expected["AP50"]  # to the last bit


@pytest.mark.parametrize("pair", real_pairs.ALL_IN_TWO_TIERS, ids=str)
def test_twelve_numbers_and_base_ap_on_real_predictions(pair: RealPair, tmp_path: Path) -> None:
    truth, results = (plain(path, tmp_path) for path in pair.paths())
    check(truth, results, pair.iou_type)


def test_twelve_numbers_and_base_ap_on_a_part_of_voc(tmp_path: Path) -> None:
    check(*real_pairs.part_of_voc(tmp_path))


def test_verify_feeds_pycocotools_the_same(tmp_path: Path) -> None:
    for pair in (real_pairs.FAKE_BOXES, real_pairs.FAKE_MASKS, real_pairs.FAKE_MASKS_BOXES):
        truth, results = pair.paths()
        gt = read_ground_truth(truth)
        found = verify_metrics(gt, read_detections(results, gt), iou_type=pair.iou_type)
        assert found == pycocotools_metrics(truth, plain(results, tmp_path), iou_type=pair.iou_type)


@pytest.mark.parametrize(("iou", "max_dets"), [(0.3, 100), (0.75, 100), (0.5, 10), (0.5, 1), (0.6, 10)])
@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_base_ap_at_other_thresholds_and_caps(pair: RealPair, iou: float, max_dets: int, tmp_path: Path) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    found = break_down(gt, read_detections(results, gt), iou=iou, max_dets=max_dets, iou_type=pair.iou_type)
    expected = pycocotools_ap(truth, plain(results, tmp_path), iou=iou, max_dets=max_dets, iou_type=pair.iou_type)
    assert found.ap == expected


@pytest.mark.parametrize("decimals", [1, 2])
def test_tied_scores(decimals: int, tmp_path: Path) -> None:
    truth, results = real_pairs.EFFICIENTDET.paths()
    copy = tmp_path / "rounded.json"
    copy.write_text(json.dumps([{**record, "score": round(record["score"], decimals)} for record in load(results)]))
    check(truth, copy)


def test_ignore_is_respected_on_request(tmp_path: Path) -> None:
    """VOC's difficult objects: pycocotools overwrites their `ignore`, unless it is patched not to."""
    check(*real_pairs.part_of_voc(tmp_path, images=400), respect_ignore=True)
