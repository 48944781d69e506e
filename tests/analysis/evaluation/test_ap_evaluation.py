"""Any IoUs, sizes and caps as pycocotools computes them; one curve for all; VOC's rule."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import BadInput, Detections, GroundTruth, evaluate, load, read_detections, read_ground_truth, voc_ap
from analysis.evaluation.average_precision import COCO_RECALLS
from analysis.evaluation.matching import AREA_RANGES
from analysis.evaluation.verify import pycocotools_arrays
from tests.analysis import cases, real_pairs
from tests.analysis.evaluation.test_random_scenes import SAMPLE
from tests.analysis.real_pairs import RealPair
from tests.analysis.scenes import SceneFiles, scenes

WHOLE = AREA_RANGES["all"]


def check_arrays(gt: GroundTruth, dt: Detections, iou_type: str = "bbox", **parameters: Any) -> None:
    """Every precision and recall is pycocotools', to the last bit."""
    found = evaluate(gt, dt, iou_type=iou_type, every_cap=True, **parameters)
    precision, recall = pycocotools_arrays(gt, dt, iou_type=iou_type, **parameters)
    ours = found.precision.transpose(2, 4, 3, 0, 1)  # [T, R, K, A, M]
    assert np.array_equal(ours, precision[:, :, found.category])
    assert np.array_equal(found.recall.transpose(2, 3, 0, 1), recall[:, found.category])
    others = np.setdiff1d(np.arange(len(gt.category_id)), found.category)
    assert (precision[:, :, others] == -1).all()


@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_arrays_are_those_of_pycocotools(pair: RealPair) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    sizes = {"all": WHOLE, "tiny": (0, 20**2), "rest": (20**2, WHOLE[1])}
    dt = read_detections(results, gt)
    check_arrays(gt, dt, pair.iou_type, ious=[0.3, 0.5, 0.72, 1.0], sizes=sizes, max_dets=[3, 7, 300])


@given(
    scenes(),
    st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.75, 1.0]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([1, 2, 5, 100]), min_size=1, max_size=2, unique=True),
)
@SAMPLE
def test_arrays_of_random_scenes(scene: SceneFiles, ious: list[float], caps: list[int]) -> None:
    gt, dt = scene.read()
    check_arrays(gt, dt, ious=sorted(ious), sizes={"all": WHOLE, "one": (100, 1024)}, max_dets=sorted(caps))


def test_names_follow_the_parameters() -> None:
    gt, dt = load(cases.document([cases.object_(1, [0, 0, 40, 40])]), [cases.found(1, [0, 0, 40, 40], 0.5)])
    found = evaluate(gt, dt, ious=[0.4, 0.75], sizes={"all": WHOLE, "big": (1000, 1e9)}, max_dets=[5])
    assert list(found.names) == ["AP", "AP75", "AP big", "AR5", "AR big"]
    assert list(evaluate(gt, dt, ious=[0.3], sizes={"all": WHOLE}, max_dets=[5]).names) == ["AP", "AP30", "AR5"]


@pytest.mark.parametrize(
    "wrong", [{"ious": []}, {"ious": [0.0]}, {"ious": [1.1]}, {"ious": [np.nan]}, {"max_dets": [0]}]
)
def test_parameters_that_mean_nothing(wrong: dict[str, Any]) -> None:
    gt, dt = load(cases.document([]), [])
    with pytest.raises(BadInput):
        evaluate(gt, dt, **wrong)


def test_one_curve_over_all_detections_by_hand() -> None:
    """Two objects of category 1 and one of 2. By score: right (1), wrong (2), right (2); the last object is missed."""
    boxes = [[0.0, 0, 40, 40], [60.0, 60, 40, 40], [120.0, 0, 40, 40]]
    objects = [cases.object_(1, boxes[0]), cases.object_(1, boxes[1]), cases.object_(2, boxes[2])]
    results = [cases.found(1, boxes[0], 0.9), cases.found(2, [0, 120, 30, 30], 0.8), cases.found(2, boxes[2], 0.7)]
    gt, dt = load(cases.document(objects), results)
    precision = np.where(COCO_RECALLS <= 1 / 3, 1.0, np.where(COCO_RECALLS <= 2 / 3, 2 / 3, 0.0))
    found = evaluate(gt, dt, ious=[0.5], micro=True)
    assert found.category.tolist() == [-1]
    assert found.precision[0, 0, 0, 0] == pytest.approx(precision, abs=1e-12)
    assert found.names["AP"] == pytest.approx(100 * precision.mean())
    assert evaluate(gt, dt, ious=[0.5]).names["AP"] != pytest.approx(found.names["AP"])


def test_one_curve_of_one_category_is_that_of_the_category() -> None:
    truth, results = real_pairs.EFFICIENTDET.paths()
    gt = read_ground_truth(truth)
    person = [one for one in cases_of(results) if one["category_id"] == gt.category_id[0]]
    dt = Detections.from_records(person, gt)
    micro, each = evaluate(gt, dt, micro=True), evaluate(gt, dt)
    hits = 100 * each.recall[0, -1, 0, 0] * each.objects[0, 0] / each.objects[0].sum()
    assert 100 * micro.recall[0, -1, 0, 0] == pytest.approx(hits)


def cases_of(path: Any) -> list[dict[str, Any]]:
    from tests.analysis.peers import load as read_json

    found: list[dict[str, Any]] = read_json(path)
    return found


def devkit(document: dict[str, Any], results: list[dict[str, Any]], category: int, iou: float) -> list[str]:
    """What the devkit says of each detection of a class, one after another: tp, fp, or nothing."""
    objects = [one for one in document["annotations"] if one["category_id"] == category]
    detected: set[int] = set()
    verdicts = []
    for record in sorted((one for one in results if one["category_id"] == category), key=lambda one: -one["score"]):
        best, highest = None, -np.inf
        for one in objects:
            if one["image_id"] != record["image_id"]:
                continue
            (x, y, w, h), (a, b, c, d) = record["bbox"], one["bbox"]
            width, height = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
            overlap = width * height / (w * h + c * d - width * height) if min(width, height) > 0 else 0.0
            if overlap > highest:
                best, highest = one, overlap
        if best is not None and highest >= iou:
            if best.get("ignore"):
                verdicts.append("")
                continue
            verdicts.append("fp" if best["id"] in detected else "tp")
            detected.add(best["id"])
        else:
            verdicts.append("fp")
    return [one for one in verdicts if one]


def devkit_ap(verdicts: list[str], objects: int, year: str) -> float:
    tp, fp = np.cumsum([one == "tp" for one in verdicts]), np.cumsum([one == "fp" for one in verdicts])
    recall, precision = tp / objects, tp / np.maximum(tp + fp, 1)
    if year == "07":
        return float(np.mean([max(precision[10 * tp >= k * objects], default=0.0) for k in range(11)]))
    recall, precision = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    change = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[change] - recall[change - 1]) * precision[change]).sum())


@given(scenes(crowds=False, max_objects=6), st.sampled_from(["07", "10"]), st.sampled_from([0.5, 0.2]), st.data())
@SAMPLE
def test_voc_is_the_devkit(scene: SceneFiles, year: str, iou: float, data: st.DataObject) -> None:
    for one in scene.truth["annotations"]:
        one["ignore"] = data.draw(st.sampled_from([0, 0, 1]))
    # The devkit's order of equal scores is not told: images by id, then the place in the file.
    results = sorted(scene.results, key=lambda one: one["image_id"])
    gt, dt = load(scene.truth, results)
    found = voc_ap(gt, dt, year, iou=iou)
    for place, category in enumerate(gt.category_id):
        objects = sum(one["category_id"] == category and not one["ignore"] for one in scene.truth["annotations"])
        expected = 100 * devkit_ap(devkit(scene.truth, results, category, iou), objects, year) if objects else np.nan
        assert found.category[place] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_voc_by_hand() -> None:
    """The second detection overlaps the found object most, so it is wrong, though another object is near enough."""
    objects = [cases.object_(1, [0, 0, 40, 40]), cases.object_(1, [20, 0, 40, 40]), cases.object_(1, [100, 0, 40, 40])]
    objects[2]["ignore"] = 1
    boxes = [([0, 0, 40, 40], 0.9), ([6, 0, 40, 40], 0.8), ([100, 0, 40, 40], 0.7), ([20, 0, 40, 40], 0.6)]
    gt, dt = load(cases.document(objects, categories=1), [cases.found(1, box, score) for box, score in boxes])
    found = voc_ap(gt, dt, "10", iou=0.3)
    assert (found.objects[0], found.detections[0], found.true_positives[0]) == (2, 3, 2)
    assert found.mean == pytest.approx(100 * (0.5 * 1 + 0.5 * 2 / 3))
    assert voc_ap(gt, dt, "07", iou=0.3).mean == pytest.approx(100 * (6 + 5 * 2 / 3) / 11)
    coco = evaluate(gt, dt, ious=[0.3])
    assert coco.recall[0, -1, 0, 0] == pytest.approx(1)  # COCO gives the second one the object that is free


@pytest.mark.parametrize(("year", "iou"), [("12", 0.5), ("07", 0.0), ("07", 1.5)])
def test_voc_refuses(year: str, iou: float) -> None:
    gt, dt = load(cases.document([]), [])
    with pytest.raises(BadInput):
        voc_ap(gt, dt, year, iou=iou)
