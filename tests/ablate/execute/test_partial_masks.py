"""One rule on objects without masks and without boxes: for `data check`, for training, and for what is measured."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ablate.config.schema import Coco
from ablate.data.check import check
from ablate.data.coco import TrainingSet
from ablate.data.sources import Files
from ablate.execute.run import execute
from ablate.runs.folder import Workspace
from ablate.train.outcome import RuntimeOptions
from analysis import read_ground_truth
from analysis.exceptions import BadInput
from tests.ablate.tiny import tiny_config, write_data

NO_MASK: tuple[dict[str, Any], ...] = ({"segmentation": []}, {"segmentation": None})


def changed(folder: Path, *changes: dict[str, Any]) -> Coco:
    """A data set whose first annotations are changed."""
    data = write_data(folder)
    document = json.loads(Path(data.annotations).read_text())
    for record, change in zip(document["annotations"], changes, strict=False):
        record.update(change)
    Path(data.annotations).write_text(json.dumps(document))
    return data


def findings(data: Coco) -> list[tuple[str, str, int]]:
    report = check("data", Files(Path(data.annotations), Path(data.images)))
    return [(finding.level, finding.kind, finding.count) for finding in report.findings]


def training_set(data: Coco, *, masks: bool) -> TrainingSet:
    return TrainingSet(
        read_ground_truth(data.annotations), Path(data.images), side=32, scale=(1.0, 1.0), flip=0.0, masks=masks, seed=0
    )


@pytest.mark.parametrize("change", NO_MASK)
def test_objects_without_mask_among_others_are_an_error_as_in_training(change: dict[str, Any], tmp_path: Path) -> None:
    data = changed(tmp_path / "data", change)
    assert findings(data) == [("error", "no mask", 1)]
    with pytest.raises(BadInput, match=r"set model\.detector\.masks=false"):
        training_set(data, masks=True)
    assert len(training_set(data, masks=False)) == 6


def test_boxes_alone_are_a_sound_data_set(tmp_path: Path) -> None:
    data = changed(tmp_path / "data", *[{"segmentation": []}] * 20)
    assert findings(data) == []
    assert len(training_set(data, masks=False)) == 6


def test_a_crowd_without_mask_is_no_matter_in_training(tmp_path: Path) -> None:
    data = changed(tmp_path / "data", {"segmentation": [], "iscrowd": 1})
    assert findings(data) == [("warning", "no mask", 1)]
    assert len(training_set(data, masks=True)) == 5


def test_a_box_is_taken_from_its_mask_where_it_is_missing(tmp_path: Path) -> None:
    whole, data = changed(tmp_path / "whole"), changed(tmp_path / "data", {"bbox": None})
    assert findings(data) == [("warning", "no box", 1)]
    ours, theirs = training_set(data, masks=True)[0, 0].target, training_set(whole, masks=True)[0, 0].target
    assert torch.equal(ours.boxes, theirs.boxes)
    neither = changed(tmp_path / "neither", {"bbox": None, "segmentation": []})
    assert ("error", "bad box", 1) in findings(neither)
    with pytest.raises(BadInput, match="neither bbox nor segmentation"):
        training_set(neither, masks=False)


@pytest.mark.parametrize("crowd", [0, 1])
def test_what_cannot_be_measured_is_refused_before_training(crowd: int, tmp_path: Path) -> None:
    validation = changed(tmp_path / "validation", {"segmentation": [], "iscrowd": crowd})
    config = tiny_config(write_data(tmp_path / "train"))
    config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, validation=validation))
    with pytest.raises(
        BadInput, match=r"1 of 9 annotations have no segmentation .*: --set model\.detector\.masks=false"
    ):
        execute(config, Workspace(tmp_path), RuntimeOptions(device="cpu"))
    assert not list((tmp_path / "results" / "runs").glob("*/checkpoints/*"))
