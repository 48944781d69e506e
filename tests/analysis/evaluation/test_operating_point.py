"""Precision, recall and F1 from a score on, against plain loops and values of other programs."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import BadInput, Criterion, Settings, break_down, load, operating_points, read_detections
from analysis import read_ground_truth as read
from analysis.evaluation.operating_point import ScoredRun
from analysis.evaluation.selection import without_low_scores
from analysis.evaluation.tide import match_and_label
from tests.analysis import cases
from tests.analysis.evaluation.test_random_scenes import SAMPLE
from tests.analysis.peers import load as load_json
from tests.analysis.scenes import SceneFiles, scenes
from tests.shared_data import shared_data

# ultrafast-pycocotools 0.1.14, COCOeval.detection_metrics(iou_thr=0.5, score_thr=..., optimize="micro"): the score
# ("best_f1": found by it), TP, FP, FN.
ULTRAFAST = {
    "yolov8n": {None: (0.23518, 856, 375, 827), 0.25: (0.25, 840, 349, 843), 0.5: (0.5, 625, 95, 1058)},
    "yolov8m": {None: (0.35488, 1012, 254, 671), 0.25: (0.25, 1090, 476, 593), 0.5: (0.5, 871, 134, 812)},
    "efficientdet-lite2": {None: (0.30469, 801, 321, 882), 0.25: (0.25, 856, 485, 827), 0.5: (0.5, 542, 64, 1141)},
    "yolov5s-seg": {None: (0.32092, 890, 266, 793), 0.25: (0.25, 948, 455, 735), 0.5: (0.5, 704, 92, 979)},
}


@pytest.mark.parametrize("name", ULTRAFAST)
def test_the_counts_are_those_of_ultrafast_pycocotools(name: str) -> None:
    gt = read(shared_data("coco_val2017_206", "gt_bbox_206.json"))
    dt = read_detections(shared_data("coco_val2017_206", f"dt_bbox_{name}.json.gz"), gt)
    run = ScoredRun.of(match_and_label(gt, dt, Settings()), gt)
    for score, expected in ULTRAFAST[name].items():
        threshold = run.threshold(Criterion() if score is None else Criterion("score", score))
        counts = run.counts(threshold).total()
        assert (threshold, counts.right, counts.wrong, counts.missed) == expected


def test_confusion_is_nearly_that_of_supervision() -> None:
    """supervision 0.31.2's ConfusionMatrix on images without crowds, yolov8n from 0.5 at IoU 0.5.

    It has 504 right, 72 wrong and 726 missed, and 13 of another class. It serves pairs by IoU, not detections by score,
    and finds an object of another class for one detection more.
    """
    truth = load_json(shared_data("coco_val2017_206", "gt_bbox_206.json"))
    results = load_json(shared_data("coco_val2017_206", "dt_bbox_yolov8n.json.gz"))
    crowded = {one["image_id"] for one in truth["annotations"] if one.get("iscrowd")}
    truth["images"] = [one for one in truth["images"] if one["id"] not in crowded]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] not in crowded]
    gt, dt = load(truth, [one for one in results if one["image_id"] not in crowded])
    (one,) = operating_points(gt, [("yolov8n", dt)], criterion=Criterion("score", 0.5), resamples=0)
    matrix = one.shown.confusion
    right = int(matrix[:-1, :-1].trace())
    assert (right, int(matrix[-1].sum()), int(matrix[:, -1].sum())) == (504, 73, 727)
    assert int(matrix[:-1, :-1].sum()) - right == 12


def scored(scene: SceneFiles) -> tuple[Any, Any, ScoredRun]:
    gt, dt = scene.read()
    return gt, dt, ScoredRun.of(match_and_label(gt, dt, Settings()), gt)


@given(scenes())
@SAMPLE
def test_a_threshold_equals_a_file_without_lower_scores(scene: SceneFiles) -> None:
    gt, dt, run = scored(scene)
    curve, counts = run.curve()
    for place, score in enumerate(curve.tolist()):
        again = break_down(gt, without_low_scores(dt, score))
        ignored = int((again.labels.ignored).sum())
        shown = int((dt.score >= score).sum()) - ignored
        assert (counts.right[place], counts.shown[place]) == (again.true_positives, shown)
        total = run.counts(score).total()
        assert (total.right, total.shown, total.objects) == (again.true_positives, shown, again.positives)


@given(scenes(), st.sampled_from([0.2, 0.5, 2 / 3, 1.0]))
@SAMPLE
def test_what_is_chosen_by_trying_every_score(scene: SceneFiles, target: float) -> None:
    _, _, run = scored(scene)
    tried = []
    for score in sorted(set(run.score.tolist()), reverse=True):
        right = int((run.right & (run.score >= score)).sum())
        tried.append((score, right, int((run.score >= score).sum())))
    objects = len(run.object_category)
    f1 = [2 * right / (shown + objects) for _, right, shown in tried]
    best = tried[f1.index(max(f1))][0] if tried and max(f1) > 0 else None
    assert run.threshold(Criterion()) == best
    kept = []
    for score, right, shown in tried:
        if right < target * shown - 1e-12:
            break
        kept.append(score)
    assert run.threshold(Criterion("precision", target)) == (kept[-1] if kept else None)
    reached = [score for score, right, _ in tried if objects and right >= target * objects - 1e-12]
    assert run.threshold(Criterion("recall", target)) == (reached[0] if reached else None)
    ever = [score for score, right, shown in tried if right and right >= target * shown - 1e-12]
    assert run.lowest_score(target) == (ever[-1] if ever else None)


@given(scenes(max_categories=3), st.sampled_from([None, 0.25, 0.5, 0.9]))
@SAMPLE
def test_the_confusion_adds_up(scene: SceneFiles, score: float | None) -> None:
    gt, dt = scene.read()
    criterion = Criterion() if score is None else Criterion("score", score)
    (one,) = operating_points(gt, [("run", dt)], criterion=criterion, resamples=0, per_class=score is None)
    matrix, counts = one.shown.confusion, one.point.classes.counts
    assert matrix.diagonal()[:-1].tolist() == counts.right.tolist()
    assert matrix[-1, -1] == 0
    assert matrix[:-1].sum(axis=1).tolist() == counts.objects.tolist()
    assert matrix[:, :-1].sum(axis=0).tolist() == counts.shown.tolist()
    assert sum(one.shown.errors.values()) - one.shown.errors["miss"] == counts.wrong.sum()
    assert one.point.in_sample.right == counts.right.sum()


def test_confusion_by_hand() -> None:
    """By score: right; of the wrong category on the second object; on the background. A fourth object has nothing."""
    boxes = [[0.0, 0, 40, 40], [60.0, 0, 40, 40], [120.0, 0, 40, 40]]
    objects = [cases.object_(1, boxes[0]), cases.object_(1, boxes[1]), cases.object_(2, boxes[2])]
    results = [
        cases.found(1, boxes[0], 0.9),
        cases.found(2, boxes[1], 0.8),
        cases.found(2, [0, 100, 30, 30], 0.7),
        cases.found(2, boxes[2], 0.1),
    ]
    gt, dt = load(cases.document(objects), results)
    (one,) = operating_points(gt, [("run", dt)], criterion=Criterion("score", 0.5), resamples=0)
    assert one.shown.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert one.shown.errors == {"cls": 1, "loc": 0, "both": 0, "dup": 0, "bg": 1, "miss": 1}
    assert (float(one.point.in_sample.precision), float(one.point.in_sample.recall)) == (pytest.approx(1 / 3),) * 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [("precision", 0.0), ("precision", 1.01), ("recall", -1.0), ("score", math.nan), ("score", math.inf)],
)
def test_criteria_that_mean_nothing(kind: Any, value: float) -> None:
    with pytest.raises(BadInput, match=";"):
        Criterion(kind, value)


def test_other_conventions_are_refused() -> None:
    gt, dt = load(cases.document([]), [])
    with pytest.raises(BadInput, match="coco convention only"):
        operating_points(gt, [("run", dt)], Settings(convention="tidecv"))
