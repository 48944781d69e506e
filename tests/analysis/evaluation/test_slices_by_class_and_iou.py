"""Errors by class and by threshold: they come to the whole, and to what other programs say of each class."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from analysis import BadInput, break_down, coco_metrics, read_detections, read_ground_truth
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import CONVENTIONS, Settings
from analysis.evaluation.slices import ClassErrors, by_class, by_iou
from analysis.evaluation.tide import Breakdown, break_down_matched, match_and_label
from tests.analysis import real_pairs
from tests.analysis.cases import found, object_, read
from tests.analysis.evaluation.test_random_scenes import SAMPLE
from tests.analysis.peers import load, plain, pycocotools_class_ap, tidecv_tide
from tests.analysis.real_pairs import RealPair
from tests.analysis.scenes import SceneFiles, scenes

ALL = (*ERRORS, *SPECIAL)
both_conventions = pytest.mark.parametrize("convention", CONVENTIONS)


def split(gt: GroundTruth, dt: Detections, **settings: str) -> tuple[Breakdown, ClassErrors]:
    matched_run = match_and_label(gt, dt, Settings(**settings))  # type: ignore[arg-type]
    whole = break_down_matched(matched_run, dt)
    return whole, by_class(gt, dt, matched_run, whole)


def check_classes_come_to_the_whole(whole: Breakdown, classes: ClassErrors) -> None:
    known = ~np.isnan(classes.ap)
    assert (known == (classes.positives > 0)).all()
    for name in ALL:
        assert np.isnan(classes.raw[name][~known]).all()
        mean = classes.raw[name][known].mean() if known.any() else 0
        assert mean == pytest.approx(whole.raw[name], rel=0, abs=1e-12)
    assert (classes.ap[known].mean() if known.any() else 0) == pytest.approx(whole.ap, rel=0, abs=1e-12)
    assert {name: int(count.sum()) for name, count in classes.count.items()} == whole.count
    assert classes.true_positives.sum() == whole.true_positives
    assert classes.positives.sum() == whole.positives


@pytest.mark.parametrize("pair", [*real_pairs.SMALL, real_pairs.YOLOV5S], ids=str)
def test_classes_average_to_the_whole(pair: RealPair) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    dt = read_detections(results, gt)
    whole, classes = split(gt, dt, iou_type=pair.iou_type)
    check_classes_come_to_the_whole(whole, classes)
    assert whole.ap == break_down(gt, dt, iou_type=pair.iou_type).ap


@given(scenes())
@settings(SAMPLE, max_examples=50)
def test_classes_of_random_scenes_average_to_the_whole(scene: SceneFiles) -> None:
    check_classes_come_to_the_whole(*split(*scene.read()))


@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_the_ap_of_a_class_is_pycocotools_s(pair: RealPair, tmp_path: Path) -> None:
    truth, results = (plain(path, tmp_path) for path in pair.paths())
    gt = read_ground_truth(truth)
    _, classes = split(gt, read_detections(results, gt), iou_type=pair.iou_type)
    expected = pycocotools_class_ap(truth, results, iou=0.5, iou_type=pair.iou_type)
    assert classes.ap.tolist() == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_BOXES, real_pairs.FAKE_MASKS], ids=str)
def test_every_class_of_every_fix_equals_tidecv_s(pair: RealPair) -> None:
    """tidecv prints the mean alone, but its curves are there class by class."""
    pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    _, classes = split(gt, read_detections(results, gt), iou_type=pair.iou_type, convention="tidecv")
    run = tidecv_tide(load(truth), load(results), iou_type=pair.iou_type).runs["dt"]

    def of_classes(curves: object) -> list[float]:
        objs = {c: curve for c, curve in curves.objs.items() if not curve.is_empty()}  # type: ignore[attr-defined]
        return [objs[c].get_ap() if c in objs else np.nan for c in gt.category_id]

    base = of_classes(run.ap_data)
    assert classes.ap.tolist() == pytest.approx(base, rel=0, abs=1e-9, nan_ok=True)
    for name, kind in zip(ERRORS, run.error_dict, strict=True):
        fixed = of_classes(run.fix_errors(lambda error, kind=kind: isinstance(error, kind)))
        expected = (np.array(fixed) - np.array(base)).tolist()
        assert classes.raw[name].tolist() == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)
        assert classes.count[name].sum() == len(run.error_dict[kind])


@both_conventions
def test_a_cls_error_costs_both_classes(convention: str, tmp_path: Path) -> None:
    """Category 1 loses precision, category 2 recall; category 3 is not there; category 4 is never detected."""
    box, other = (0, 0, 100, 100), (300, 300, 50, 50)
    objects = [object_(2, box), object_(1, other), object_(4, (500, 0, 9, 9))]
    gt, dt = read(tmp_path, objects, [found(1, box, 0.9), found(1, other, 0.8)], categories=4)
    _, classes = split(gt, dt, convention=convention)
    assert classes.ap.tolist() == pytest.approx([50, 0, np.nan, 0], nan_ok=True)
    assert classes.raw["cls"].tolist() == pytest.approx([50, 100, np.nan, 0], nan_ok=True)
    assert classes.count["cls"].tolist() == [1, 0, 0, 0]
    assert classes.count["miss"].tolist() == [0, 0, 0, 1]
    assert classes.positives.tolist() == [1, 1, 0, 1]
    assert classes.detections.tolist() == [2, 0, 0, 0]
    assert classes.costliest().tolist() == [1, 0, 3]
    assert classes.costliest(1).tolist() == [1]
    # Once its missed object is not asked for, nothing is left of category 4 in tidecv; in COCO's terms it stays at 0.
    assert np.isnan(classes.raw["miss"][3]) == (convention == "tidecv")


@both_conventions
@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_thresholds_share_their_pairs_and_nothing_else(pair: RealPair, convention: str) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    dt = read_detections(results, gt)
    curve = by_iou(gt, dt, Settings(pair.iou_type, convention=convention))
    assert curve.ious.tolist() == np.linspace(0.5, 0.95, 10).tolist()
    for place, iou in enumerate(curve.ious.tolist()):
        alone = break_down(gt, dt, iou=iou, iou_type=pair.iou_type, convention=convention)
        assert curve.ap[place] == alone.ap
        assert {name: values[place] for name, values in curve.delta_ap.items()} == alone.delta_ap
        assert {name: values[place] for name, values in curve.count.items()} == alone.count
    if convention == "coco":
        assert curve.mean_ap == pytest.approx(coco_metrics(gt, dt, iou_type=pair.iou_type)["AP"], rel=0, abs=1e-9)


@pytest.mark.parametrize("ious", [[0.9, 0.5, 0.75, 1.0], [0.3], []], ids=str)
def test_other_thresholds_in_any_order(ious: list[float], tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, (0, 0, 100, 100))], [found(1, (0, 0, 80, 100), 0.9)])
    curve = by_iou(gt, dt, Settings(), ious)
    assert curve.ap.tolist() == pytest.approx([100.0 if iou <= 0.8 else 0.0 for iou in ious])
    assert curve.raw["loc"].tolist() == pytest.approx([0.0 if iou <= 0.8 else 100.0 for iou in ious])


def test_thresholds_start_at_the_background_s(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, (0, 0, 100, 100))], [found(1, (0, 0, 80, 100), 0.9)])
    assert by_iou(gt, dt, Settings(iou=0.8, background_iou=0.6)).ious.round(2).tolist() == [
        0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95,
    ]  # fmt: skip
    with pytest.raises(BadInput, match="background_iou"):
        by_iou(gt, dt, Settings(iou=0.97, background_iou=0.96))


@both_conventions
def test_nothing_to_split(convention: str, tmp_path: Path) -> None:
    object_1, detection = object_(1, (0, 0, 9, 9)), found(1, (0, 0, 9, 9), 0.5)
    for objects, results, known in (([], [], 0), ([object_1], [], 1), ([], [detection], int(convention == "tidecv"))):
        gt, dt = read(tmp_path, objects, results)
        _, classes = split(gt, dt, convention=convention)
        assert len(classes.costliest()) == known
        assert by_iou(gt, dt, Settings(convention=convention)).mean_ap == 0
