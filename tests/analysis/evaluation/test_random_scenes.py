"""Random small scenes, full of ties and boundaries, against the three other programs."""

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analysis import Detections, break_down, coco_metrics, read_detections, read_ground_truth
from tests.analysis.peers import (
    hotcoco_numbers,
    largest_difference,
    ours,
    pycocotools_ap,
    pycocotools_metrics,
    tidecv_numbers,
)
from tests.analysis.scenes import SceneFiles, clustered_boxes, loose_boxes, mask_scenes, scenes

SAMPLE = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CAMPAIGN = settings(SAMPLE, max_examples=4_000, derandomize=False)
thresholds = st.sampled_from([(0.5, 0.1), (0.5, 0.1), (0.5, 0.5), (0.75, 0.1), (0.2, 0.1), (0.5, 0.2), (1.0, 0.1)])
caps = st.sampled_from([100, 100, 1, 2, 3])


def check_tidecv(
    scene: SceneFiles, threshold: tuple[float, float] = (0.5, 0.1), max_dets: int = 100, iou_type: str = "bbox"
) -> None:
    iou, background_iou = threshold
    with scene.written() as (truth, results):
        gt = read_ground_truth(truth)
        result = break_down(
            gt,
            read_detections(results, gt),
            convention="tidecv",
            iou=iou,
            background_iou=background_iou,
            max_dets=max_dets,
            iou_type=iou_type,
        )
    found = ours(result)
    try:
        expected = tidecv_numbers(
            scene.truth, scene.results, iou=iou, background_iou=background_iou, max_dets=max_dets, iou_type=iou_type
        )
    except ZeroDivisionError:
        # It has nothing to average: no detection and no object counts, at first or after a fix.
        assert found.ap == 0
        assert all(value == value for value in found.delta_ap.values())
        return
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9, (found, expected)


def check_pycocotools(scene: SceneFiles, iou_type: str = "bbox") -> None:
    with scene.written() as (truth, results):
        gt = read_ground_truth(truth)
        dt = read_detections(results, gt)
        expected = pycocotools_metrics(truth, results, iou_type=iou_type)
    assert coco_metrics(gt, dt, iou_type=iou_type) == pytest.approx(expected, rel=0, abs=1e-12)
    assert break_down(gt, dt, iou_type=iou_type).ap == max(expected["AP50"], 0)


def check_pycocotools_at(scene: SceneFiles, iou: float, max_dets: int) -> None:
    with scene.written() as (truth, results):
        gt = read_ground_truth(truth)
        found = break_down(gt, read_detections(results, gt), iou=iou, background_iou=0.1, max_dets=max_dets)
        expected = pycocotools_ap(truth, results, iou=iou, max_dets=max_dets)
    assert found.ap == expected


def has_tied_ious(scene: SceneFiles) -> bool:
    """Whether a detection overlaps two objects of its image equally, of whatever category."""
    from pycocotools import mask

    objects = defaultdict(list)
    for a in scene.truth["annotations"]:
        objects[a["image_id"]].append(a["bbox"])
    for r in scene.results:
        others = objects[r["image_id"]]
        ious = [v for v in mask.iou([r["bbox"]], others, [False] * len(others))[0] if v > 0] if others else []
        if len(set(ious)) < len(ious):
            return True
    return False


def check_hotcoco(scene: SceneFiles) -> None:
    assume(scene.results)
    assume(not has_tied_ious(scene))
    with scene.written() as (truth, results):
        gt = read_ground_truth(truth)
        found = ours(break_down(gt, read_detections(results, gt)))
        expected = hotcoco_numbers(truth, results)
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9, (found, expected)


def check_low_scores(scene: SceneFiles) -> None:
    """No error with a score of -1 or less can win an object in tidecv (KeyError); only the order should matter."""
    raised = SceneFiles(scene.truth, [{**record, "score": record["score"] + 10} for record in scene.results])
    gt, dt = scene.read()
    found = ours(break_down(gt, dt, convention="tidecv"))
    assert ours(break_down(gt, Detections.from_records(raised.results, gt), convention="tidecv")) == found
    check_tidecv(raised)


crowd_free = st.one_of(
    scenes(boxes=loose_boxes(), crowds=False),
    scenes(boxes=clustered_boxes(), crowds=False, max_images=2, max_objects=3),
    scenes(crowds=False, max_objects=4),
)
low_scores = st.sampled_from([-1.0, -1.0, -2.0, -3.5, 0.5])


@given(scenes(), thresholds, caps)
@SAMPLE
def test_tidecv(scene: SceneFiles, threshold: tuple[float, float], max_dets: int) -> None:
    check_tidecv(scene, threshold, max_dets)


@given(scenes())
@SAMPLE
def test_pycocotools(scene: SceneFiles) -> None:
    check_pycocotools(scene)


@given(scenes(), thresholds, caps)
@SAMPLE
def test_pycocotools_at_other_thresholds(scene: SceneFiles, threshold: tuple[float, float], max_dets: int) -> None:
    check_pycocotools_at(scene, threshold[0], max_dets)


@given(crowd_free)
@SAMPLE
def test_hotcoco(scene: SceneFiles) -> None:
    check_hotcoco(scene)


@given(mask_scenes())
@SAMPLE
def test_masks(scene: SceneFiles) -> None:
    check_pycocotools(scene, "segm")
    check_tidecv(scene, iou_type="segm")


@given(st.one_of(scenes(scores=low_scores), scenes(boxes=clustered_boxes(), scores=low_scores)))
@SAMPLE
def test_scores_of_minus_one_and_below(scene: SceneFiles) -> None:
    check_low_scores(scene)


@pytest.mark.campaign
@given(mask_scenes())
@settings(CAMPAIGN, max_examples=2000)
def test_masks_campaign(scene: SceneFiles) -> None:
    check_pycocotools(scene, "segm")
    check_tidecv(scene, iou_type="segm")


@pytest.mark.campaign
@given(scenes(max_images=5, max_categories=4, max_objects=20, max_detections=40), thresholds, caps)
@CAMPAIGN
def test_tidecv_campaign(scene: SceneFiles, threshold: tuple[float, float], max_dets: int) -> None:
    check_tidecv(scene, threshold, max_dets)


@pytest.mark.campaign
@given(scenes(max_images=5, max_categories=4, max_objects=20, max_detections=40))
@CAMPAIGN
def test_pycocotools_campaign(scene: SceneFiles) -> None:
    check_pycocotools(scene)


@pytest.mark.campaign
@given(crowd_free)
@CAMPAIGN
def test_hotcoco_campaign(scene: SceneFiles) -> None:
    check_hotcoco(scene)
