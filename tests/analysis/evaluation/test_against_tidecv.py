"""The `tidecv` convention equals tidecv 1.0.1 on real predictions: AP, eight deltas, six counts."""

import json
from pathlib import Path

import pytest

from analysis import break_down, read_detections, read_ground_truth
from analysis.evaluation.settings import Settings
from analysis.evaluation.verify import tidecv_breakdown, tidecv_evaluated
from tests.analysis import real_pairs
from tests.analysis.peers import Numbers, largest_difference, load, ours, tidecv_numbers
from tests.analysis.real_pairs import RealPair

pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")


def check(truth: Path, results: Path, iou_type: str = "bbox") -> None:
    gt = read_ground_truth(truth)
    found = ours(break_down(gt, read_detections(results, gt), convention="tidecv", iou_type=iou_type))
    expected = tidecv_numbers(load(truth), load(results), iou_type=iou_type)
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9


@pytest.mark.parametrize("pair", real_pairs.ALL_IN_TWO_TIERS, ids=str)
def test_every_number_on_real_predictions(pair: RealPair) -> None:
    check(*pair.paths(), pair.iou_type)


def test_every_number_on_a_part_of_voc(tmp_path: Path) -> None:
    check(*real_pairs.part_of_voc(tmp_path))


@pytest.mark.parametrize("pair", real_pairs.SMALL, ids=str)
def test_verify_feeds_tidecv_the_same(pair: RealPair) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    found = Numbers(*tidecv_breakdown(tidecv_evaluated(gt, read_detections(results, gt), Settings(pair.iou_type))))
    expected = tidecv_numbers(load(truth), load(results), iou_type=pair.iou_type)
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9


@pytest.mark.parametrize(
    ("iou", "background_iou", "max_dets"),
    [
        (0.3, 0.1, 100),
        (0.75, 0.1, 100),
        (0.5, 0.05, 100),
        (0.5, 0.2, 100),
        (0.75, 0.2, 10),
        (0.5, 0.1, 10),
        (0.5, 0.1, 1),
    ],
)
@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_other_thresholds_and_caps(pair: RealPair, iou: float, background_iou: float, max_dets: int) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    settings = {"iou": iou, "background_iou": background_iou, "max_dets": max_dets, "iou_type": pair.iou_type}
    found = ours(break_down(gt, read_detections(results, gt), convention="tidecv", **settings))  # type: ignore[arg-type]
    expected = tidecv_numbers(load(truth), load(results), **settings)  # type: ignore[arg-type]
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9


@pytest.mark.parametrize("decimals", [1, 2])
def test_tied_scores(decimals: int, tmp_path: Path) -> None:
    """Its fixed curves put tied false positives before tied true positives; so must this convention."""
    truth, results = real_pairs.EFFICIENTDET.paths()
    rounded = [{**record, "score": round(record["score"], decimals)} for record in load(results)]
    copy = tmp_path / "rounded.json"
    copy.write_text(json.dumps(rounded))
    gt = read_ground_truth(truth)
    found = ours(break_down(gt, read_detections(copy, gt), convention="tidecv"))
    expected = tidecv_numbers(load(truth), rounded)
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9
