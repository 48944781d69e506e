"""What a confused pair costs: exactly what fixing its errors alone gains in the whole evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from analysis import read_detections, read_ground_truth
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Analysis
from analysis.evaluation.confusion import Confusion, category_confusion, with_costs
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.matched_run import MatchedRun
from analysis.evaluation.settings import CONVENTIONS, Settings
from analysis.evaluation.tide import match_and_label
from tests.analysis import real_pairs
from tests.analysis.cases import found, most_confused, object_, read
from tests.analysis.evaluation.test_random_scenes import SAMPLE
from tests.analysis.peers import load
from tests.analysis.real_pairs import RealPair
from tests.analysis.scenes import SceneFiles, clustered_boxes, scenes


def costs(gt: GroundTruth, dt: Detections, **settings: str) -> tuple[MatchedRun, Confusion]:
    matched_run = match_and_label(gt, dt, Settings(**settings))  # type: ignore[arg-type]
    return matched_run, with_costs(category_confusion(gt, dt, matched_run.labels), matched_run)


def check(gt: GroundTruth, dt: Detections, most: int = 200) -> None:
    """Each pair against the whole evaluation with its errors alone fixed."""
    matched_run, confusion = costs(gt, dt)
    base = matched_run.average_precision(matched_run.base).mean
    target = matched_run.labels.target[matched_run.row]
    of_object = np.where(target >= 0, matched_run.object_category[target], -1) if len(gt) else target
    for i in confusion.wrong(most).tolist():
        chosen = (of_object == confusion.true[i]) & (matched_run.category == confusion.predicted[i])
        alone = matched_run.average_precision(ERROR_TYPES["cls"].fix(matched_run, chosen)).mean - base
        assert confusion.cost[i] == pytest.approx(alone, rel=0, abs=1e-9)
    right = confusion.true == confusion.predicted
    assert (confusion.cost[right] == 0).all()
    before = category_confusion(gt, dt, matched_run.labels)
    assert confusion.matrix.tolist() == before.matrix.tolist()


@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS_BOXES], ids=str)
def test_every_pair_of_real_predictions(pair: RealPair) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    check(gt, read_detections(results, gt))


@pytest.mark.campaign
@pytest.mark.parametrize("pair", real_pairs.ALL, ids=str)
def test_every_pair_of_all_real_predictions(pair: RealPair) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    check(gt, read_detections(results, gt), most=10_000)


def test_tied_scores(tmp_path: Path) -> None:
    truth, results = real_pairs.EFFICIENTDET.paths()
    copy = tmp_path / "rounded.json"
    copy.write_text(json.dumps([{**record, "score": round(record["score"], 1)} for record in load(results)]))
    gt = read_ground_truth(truth)
    check(gt, read_detections(copy, gt))


@given(scenes(boxes=clustered_boxes(), max_categories=3, max_objects=10, max_detections=20))
@settings(SAMPLE, max_examples=50)
def test_random_scenes(scene: SceneFiles) -> None:
    check(*scene.read())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_by_hand(convention: str, tmp_path: Path) -> None:
    """The object of category 2 is taken for 1: there it costs half the precision, here the whole recall."""
    box, other = (0, 0, 100, 100), (300, 300, 50, 50)
    objects = [object_(2, box), object_(1, other)]
    gt, dt = read(tmp_path, objects, [found(1, box, 0.9), found(1, other, 0.8)])
    _, confusion = costs(gt, dt, convention=convention)
    assert most_confused(confusion) == [(1, 0, 1, 1)]
    assert confusion.cost[confusion.wrong()].tolist() == pytest.approx([(50 + 100) / 2])


def test_a_part_of_the_matrix_is_that_of_the_whole() -> None:
    confusion = Confusion(
        4,
        np.array([0, 2, 3, 0]),
        np.array([2, 0, 1, 0]),
        np.array([5, 2, 9, 7]),
        np.zeros(4),
        np.array([1.5, 0.5, 3, 0]),
    )
    costs, counts = confusion.among(np.array([0, 2]))
    assert counts.tolist() == [[7, 5], [2, 0]]
    assert costs.tolist() == [[0, 1.5], [0.5, 0]]


def test_no_table_of_all_pairs_of_200_000_categories_is_made(tmp_path: Path) -> None:
    many = 200_000
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": [
            {"id": 1 + i, "image_id": 1, "category_id": c, "bbox": [30 * i, 0, 20, 20], "area": 400, "iscrowd": 0}
            for i, c in enumerate((1, many))
        ],
        "categories": [{"id": 1 + i, "name": str(i)} for i in range(many)],
    }
    results = [
        {"image_id": 1, "category_id": c, "bbox": [30 * i, 0, 20, 20], "score": 0.9}
        for i, c in enumerate((1, many // 2))
    ]
    for name, content in (("gt", truth), ("dt", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    gt = read_ground_truth(tmp_path / "gt.json")
    one = Analysis(gt, Settings(), parts=("confusion",)).of("dt", read_detections(tmp_path / "dt.json", gt))
    assert one.confusion is not None
    assert one.confusion.cost is not None
    wrong = one.confusion.wrong().tolist()
    assert [(one.confusion.true[i], one.confusion.predicted[i]) for i in wrong] == [(many - 1, many // 2 - 1)]
    assert one.confusion.cost[wrong].tolist() == pytest.approx([50.0])  # one of two categories with objects
    assert one.confusion.costly is not None
    assert one.confusion.costly[wrong].tolist() == [1]
