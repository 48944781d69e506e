"""``load``: the same numbers from every form in which a program holds ground truth and detections."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from analysis import BadInput, coco_metrics, load
from tests.analysis import real_pairs
from tests.analysis.peers import load as read_json

TARGET = {"boxes": np.array([[10.0, 10, 50, 50]]), "labels": np.array([3])}
PREDICTION = TARGET | {"scores": np.array([0.9])}


def corners(boxes: Any) -> Any:
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def test_objects_documents_arrays_and_paths_give_the_same() -> None:
    from pycocotools.coco import COCO

    truth, results = real_pairs.FAKE_MASKS.paths()
    expected = coco_metrics(*load(truth, results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        loaded = coco.loadRes(str(results))
    records = read_json(results)
    assert coco_metrics(*load(coco, loaded)) == expected
    assert coco_metrics(*load(coco.dataset, records)) == expected
    assert coco_metrics(*load(truth, loaded), iou_type="segm") == coco_metrics(*load(truth, results), iou_type="segm")
    gt, dt = load(truth, results)
    assert load(gt, dt) == (gt, dt)
    rows = [
        [gt.image_id[i], *b, s, gt.category_id[c]]
        for i, b, s, c in zip(dt.image, dt.box, dt.score, dt.category, strict=True)
    ]
    boxes = [
        {key: value for key, value in one.items() if key != "segmentation"} for one in loaded.dataset["annotations"]
    ]
    assert coco_metrics(*load(gt, np.array(rows))) == coco_metrics(*load(gt, boxes))


def test_torchvision_forms_give_the_same() -> None:
    """Corners cost a rounding; so the numbers agree, not every bit of a box."""
    truth, results = real_pairs.EFFICIENTDET.paths()
    gt, dt = load(truth, results)
    ids = np.array(gt.category_id)
    targets: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image, identifier in enumerate(gt.image_id):
        own, theirs = gt.image == image, dt.image == image
        targets.append(
            {"boxes": corners(gt.box[own]), "labels": ids[gt.category[own]], "iscrowd": gt.crowd[own],
             "area": gt.area[own], "image_id": np.array([identifier])}
        )  # fmt: skip
        predictions.append(
            {"boxes": corners(dt.box[theirs]), "labels": ids[dt.category[theirs]], "scores": dt.score[theirs]}
        )
    expected = coco_metrics(gt, dt)
    assert coco_metrics(*load(targets, predictions)) == pytest.approx(expected, abs=1e-6)
    by_image = dict(zip(gt.image_id, predictions, strict=True))
    assert coco_metrics(*load(targets, by_image)) == pytest.approx(expected, abs=1e-6)
    assert coco_metrics(*load(truth, by_image)) == pytest.approx(expected, abs=1e-6)


def test_masks_of_flags_and_of_probabilities() -> None:
    masks = np.zeros((1, 60, 60))
    masks[0, 10:50, 10:50] = 1
    target = TARGET | {"masks": masks.astype(np.uint8)}
    prediction = PREDICTION | {"masks": 0.9 * masks[:, None]}
    gt, dt = load([target], [prediction], iou_type="segm", names={3: "cat", 7: "dog"})
    assert coco_metrics(gt, dt, iou_type="segm")["AP"] == pytest.approx(100)
    assert gt.category_name == ["cat", "dog"]


@pytest.mark.parametrize(
    ("truth", "detections", "words"),
    [
        (5, [], "int is not a ground truth"),
        ([], [], "list is not a ground truth"),
        ({}, [], "'images' is missing"),
        ([TARGET], 5, "int is not a list of detections"),
        ([TARGET], "nowhere.json", "no such file"),
        ([TARGET], [PREDICTION] * 2, "2 predictions, 1 targets"),
        ([TARGET], np.zeros((3, 6)), "give a path, a list of COCO result records"),
        ([TARGET], np.full((1, 7), np.nan), "not a whole number"),
        ([TARGET], [PREDICTION | {"scores": np.zeros(3)}], "1 boxes but scores of shape (3,)"),
        ([TARGET], [TARGET], "prediction[0] has no scores"),
        ([TARGET], [PREDICTION | {"labels": np.array([1.5])}], "not a whole number"),
        ([TARGET], [PREDICTION | {"labels": np.array([9])}], "category_id of 1 of 1 detections is not in the ground"),
        ([TARGET], [PREDICTION | {"scores": np.array([np.nan])}], "NaN"),
        ([TARGET], [PREDICTION | {"boxes": np.array([["a", "b", "c", "d"]])}], "boxes that are not numbers"),
        ([TARGET | {"boxes": np.zeros((1, 3))}], [], "boxes of shape (1, 3)"),
        ([TARGET | {"boxes": [[5, 5, 1, 9]]}], [], "ends before it begins"),
        ([TARGET | {"image_id": 1}, TARGET], [], "target[1] has no image_id but others do"),
        ([TARGET | {"image_id": 1}] * 2, [], "holds id 1 more than once"),
    ],
)
def test_what_cannot_be_used_is_named(truth: Any, detections: Any, words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load(truth, detections)
    assert words in str(refusal.value)
