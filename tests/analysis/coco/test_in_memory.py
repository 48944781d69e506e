"""Detections from records and arrays in memory: the same values, checks and sentences as from a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import Detections, GroundTruth, read_detections, read_ground_truth
from analysis.exceptions import BadInput
from tests.analysis.cases import document, found, object_, write

BOX = (10, 10, 50, 50)
RECORDS = [found(5, BOX, 0.9, 4), found(9, (0, 0, 30, 20), 0.4, 30)]
SQUARE = [[10, 10, 60, 10, 60, 60, 10, 60]]
COLUMNS = ("box", "score", "category", "image", "row", "area")


@pytest.fixture
def gt(tmp_path: Path) -> GroundTruth:
    content = document([object_(5, BOX, image=4), object_(9, BOX, image=30)], images=(30, 4), categories=0)
    content["categories"] = [{"id": 9}, {"id": 5}]
    return read_ground_truth(write(tmp_path / "gt.json", content))


def arrays(**changes: Any) -> dict[str, Any]:
    columns = {
        "box": np.array([BOX, (0, 0, 30, 20)], dtype=np.float64),
        "score": np.array([0.9, 0.4]),
        "category": np.array([0, 1]),
        "image": np.array([0, 1]),
    }
    return columns | changes


@pytest.mark.parametrize("masks", [False, True])
def test_a_file_records_and_arrays_come_to_the_same(masks: bool, gt: GroundTruth, tmp_path: Path) -> None:
    records = [record | ({"segmentation": SQUARE} if masks else {}) for record in RECORDS]
    read = read_detections(write(tmp_path / "dt.json", records), gt)
    others = (
        Detections.from_records(records, gt),
        Detections.from_arrays(gt, **arrays(), masks=[SQUARE, SQUARE] if masks else None),
    )
    for other in others:
        for name in COLUMNS:
            assert getattr(other, name).tolist() == getattr(read, name).tolist(), name
        assert other.masks.present.tolist() == [masks, masks]
        assert other.warnings == read.warnings
        if masks:
            assert other.masks.rles([0, 1]) == read.masks.rles([0, 1])


@pytest.mark.parametrize(
    "change",
    [{"score": "0.5"}, {"image_id": 77}, {"bbox": [1, 2, 3, -4]}, {"bbox": [1, 2, 3]}, {"category_id": 2**70}],
    ids=str,
)
def test_records_are_refused_in_the_words_of_the_reader(change: Any, gt: GroundTruth, tmp_path: Path) -> None:
    records = [RECORDS[0], RECORDS[1] | change]
    path = write(tmp_path / "dt.json", records)
    with pytest.raises(BadInput) as of_file:
        read_detections(path, gt)
    with pytest.raises(BadInput) as of_records:
        Detections.from_records(records, gt, name="run 7")
    assert str(of_records.value) == str(of_file.value).replace(str(path), "run 7")


def test_unknown_records_may_be_dropped(gt: GroundTruth) -> None:
    dt = Detections.from_records([RECORDS[0], RECORDS[1] | {"image_id": 77}], gt, drop_unknown=True)
    assert dt.row.tolist() == [0]
    assert "left out (--drop-unknown)" in dt.warnings[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_named(value: float, gt: GroundTruth) -> None:
    expected = r"detections: record \[1\].score is NaN or infinite"
    with pytest.raises(BadInput, match=expected):
        Detections.from_records([RECORDS[0], RECORDS[1] | {"score": value}], gt)
    with pytest.raises(BadInput, match=expected):
        Detections.from_arrays(gt, **arrays(score=np.array([0.9, value])))


def test_what_json_does_not_have_is_refused(gt: GroundTruth) -> None:
    with pytest.raises(BadInput, match=r"cannot be written as JSON .*; give plain Python numbers"):
        Detections.from_records([RECORDS[0] | {"score": object()}], gt)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"score": np.array([0.9])}, r"have shapes \[\(2, 4\), \(1,\)"),
        ({"box": np.zeros((2, 5))}, r"have shapes \[\(2, 5\)"),
        ({"masks": [SQUARE]}, "give N x 4 and N"),
        ({"category": np.array([0, 2])}, "the category 2 of record 1 is not an index into the ground truth's 2"),
        ({"image": np.array([-1, 0])}, "the image -1 of record 0 is not an index"),
        ({"box": np.array([BOX, (0, 0, -1, 5)])}, r"of record\[1\] has a negative side"),
        ({"box": np.array([BOX, (0, np.nan, 1, 5)])}, r"of record\[1\] is NaN or infinite"),
    ],
    ids=str,
)
def test_arrays_are_checked(changes: dict[str, Any], expected: str, gt: GroundTruth) -> None:
    with pytest.raises(BadInput, match=expected):
        Detections.from_arrays(gt, **arrays(**changes))


def test_no_detections(gt: GroundTruth) -> None:
    nothing = Detections.from_arrays(
        gt, box=np.empty((0, 4)), score=np.empty(0), category=np.empty(0, np.int64), image=np.empty(0, np.int64)
    )
    assert len(nothing) == len(Detections.from_records([], gt)) == 0
    assert nothing.warnings == ("there are no detections: every object is missed",)
