from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import break_down, coco_metrics, read_detections, read_ground_truth
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Analysis, RunAnalysis
from analysis.evaluation.average_precision import COCO_IOUS, COCO_RECALLS
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.matched_run import Curve, MatchedRun
from analysis.evaluation.settings import Settings
from analysis.evaluation.tide import match_and_label
from analysis.stats.bootstrap import Resampled, WeightedAP, resample, weighted_ap
from analysis.stats.resampling import draw_weights
from tests.analysis import real_pairs
from tests.analysis.peers import load
from tests.analysis.scenes import SceneFiles, clustered_boxes, grid_boxes, scenes

FIXES = tuple(ERROR_TYPES)


def repeated(truth: dict[str, Any], results: list[dict[str, Any]], times: dict[int, int]) -> SceneFiles:
    """The data set in which every image stands as often as it was drawn, each copy an image of its own."""
    images, annotations, records = [], [], []
    for image in truth["images"]:
        for _ in range(times[image["id"]]):
            new = len(images) + 1
            images.append({**image, "id": new})
            of_image = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            annotations += [{**a, "image_id": new, "id": len(annotations) + n} for n, a in enumerate(of_image, 1)]
            records += [{**r, "image_id": new} for r in results if r["image_id"] == image["id"]]
    return SceneFiles({**truth, "images": images, "annotations": annotations}, records)


def literal(truth: dict[str, Any], results: list[dict[str, Any]], gt: GroundTruth, weights: Any) -> dict[str, float]:
    """Every number of one resample, by analysing the repeated data set."""
    times = dict(zip(gt.image_id, weights.tolist(), strict=True))
    again, detections = repeated(truth, results, times).read()
    result = break_down(again, detections)
    mean_ap = coco_metrics(again, detections)["AP"]
    return {"AP": mean_ap, "AP50": result.ap, **result.raw}


def drawn(result: Resampled, number: int) -> dict[str, float]:
    return dict(zip(result.numbers, result.drawn[:, number].tolist(), strict=True))


def analysed(gt: GroundTruth, dt: Detections, iou_type: str = "bbox") -> RunAnalysis:
    return Analysis(gt, Settings(iou_type), ious=COCO_IOUS).of("run", dt)


def resampled(gt: GroundTruth, *runs: Detections, resamples: int = 5, seed: int = 0) -> list[Resampled]:
    return resample(gt, [analysed(gt, dt) for dt in runs], resamples=resamples, seed=seed)


def without_ties(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same order by score, and no two scores alike."""
    order = sorted(range(len(results)), key=lambda row: -results[row]["score"])
    place = {row: rank for rank, row in enumerate(order)}
    return [{**r, "score": 1 - place[row] / (len(results) + 1)} for row, r in enumerate(results)]


def agree(result: Resampled, gt: GroundTruth, truth: dict[str, Any], results: list[dict[str, Any]], seed: int) -> None:
    for number, weights in enumerate(draw_weights(len(gt.image_id), result.drawn.shape[1], seed)):
        if not weights[gt.image[~gt.ignore]].any():
            assert np.isnan(result.drawn[:, number]).all()
            continue
        expected = literal(truth, results, gt, weights)
        ours = drawn(result, number)
        assert ours.keys() == expected.keys()
        assert max(abs(ours[name] - expected[name]) for name in expected) < 1e-9


@given(scene=scenes(boxes=clustered_boxes(), max_images=4, max_categories=3), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_resample_is_the_repeated_data_set(scene: SceneFiles, seed: int) -> None:
    results = without_ties(scene.results)
    gt, dt = SceneFiles(scene.truth, results).read()
    (result,) = resampled(gt, dt, resamples=3, seed=seed)
    agree(result, gt, scene.truth, results, seed)


def test_a_resample_of_real_predictions_is_the_repeated_data_set() -> None:
    pair = real_pairs.EFFICIENTDET
    truth, results = (load(path) for path in pair.paths())
    results = without_ties(results)
    gt, dt = SceneFiles(truth, results).read()
    (result,) = resampled(gt, dt, resamples=3, seed=7)
    agree(result, gt, truth, results, 7)


def slow_ap(matched_run: MatchedRun, curve: Curve, gt: GroundTruth, weights: Any) -> list[float]:
    """COCOeval's accumulation, category by category, over an order in which every detection is repeated."""
    averages = []
    for category in range(len(gt.category_id)):
        own = curve.ranking.rows[curve.ranking.category == category]
        positives = int(weights[gt.image[curve.gt_valid & (gt.category == category)]].sum())
        valid_before_the_fix = int(weights[gt.image[matched_run.gt_valid & (gt.category == category)]].sum())
        tp = fp = 0
        recalls, precisions = [], []
        for position in own.tolist():
            for _ in range(int(weights[matched_run.image[position]])):
                if not curve.not_ignored[position]:
                    continue
                tp += bool(curve.is_tp[position])
                fp += not curve.is_tp[position]
                recalls.append(tp / max(positives, 1))
                precisions.append(tp / (fp + tp + np.spacing(1)))
        for n in range(len(precisions) - 1, 0, -1):
            precisions[n - 1] = max(precisions[n - 1], precisions[n])
        at = np.searchsorted(recalls, COCO_RECALLS, side="left")
        values = [precisions[n] if n < len(precisions) else 0.0 for n in at.tolist()]
        averages.append(100 * float(np.mean(values)) if valid_before_the_fix else float("nan"))
    return averages


@given(scene=scenes(boxes=grid_boxes(), max_images=4, max_categories=3), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equal_scores_stand_by_row_and_then_by_copy(scene: SceneFiles, seed: int) -> None:
    gt, dt = scene.read()
    matched_run = match_and_label(gt, dt, Settings())
    curves = [matched_run.base, *(one.fix(matched_run) for one in ERROR_TYPES.values())]
    ready = weighted_ap(curves, matched_run.image, gt.image, gt.category, len(gt.image_id), len(gt.category_id))
    each = np.array(list(draw_weights(len(gt.image_id), 3, seed)))
    for weights, found in zip(each, ready.average_precision(each), strict=True):
        expected = [slow_ap(matched_run, curve, gt, weights) for curve in curves]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_the_images_as_they_are_give_the_breakdown() -> None:
    for pair in (real_pairs.EFFICIENTDET, real_pairs.FAKE_BOXES, real_pairs.FAKE_MASKS):
        gt = read_ground_truth(pair.paths()[0])
        dt = read_detections(pair.paths()[1], gt)
        (result,) = resample(gt, [analysed(gt, dt, pair.iou_type)], resamples=1)
        expected = break_down(gt, dt, iou_type=pair.iou_type)
        value = dict(zip(result.numbers, result.value.tolist(), strict=True))
        assert value["AP"] == pytest.approx(coco_metrics(gt, dt, iou_type=pair.iou_type)["AP"], abs=1e-10)
        assert value["AP50"] == pytest.approx(expected.ap, abs=1e-10)
        assert {name: value[name] for name in FIXES} == pytest.approx(expected.raw, abs=1e-10)
        np.testing.assert_allclose(result.category_value[1], expected.category_ap, rtol=0, atol=1e-10)


def test_sums_too_large_for_32_bits_are_made_in_64() -> None:
    pair = real_pairs.FAKE_BOXES
    gt = read_ground_truth(pair.paths()[0])
    matched_run = match_and_label(gt, read_detections(pair.paths()[1], gt), Settings())

    def ready(images: int) -> WeightedAP:
        return weighted_ap([matched_run.base], matched_run.image, gt.image, gt.category, images, len(gt.category_id))

    narrow, wide = ready(len(gt.image_id)), ready(2**31)  # as if every detection could be in every draw
    assert (narrow.integer, wide.integer) == (np.int32, np.int64)
    weights = np.array(list(draw_weights(len(gt.image_id), 2, 0)))
    np.testing.assert_array_equal(narrow.average_precision(weights), wide.average_precision(weights))
    many = np.full((1, len(gt.image_id)), 10**8)  # copies of everything change nothing but the precision's guard
    np.testing.assert_allclose(
        wide.average_precision(many), wide.average_precision(np.full_like(many, 1000)), rtol=0, atol=1e-6
    )
