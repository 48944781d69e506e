"""What is written for FiftyOne: COCO data sets with the label, target and cost of every detection and object."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import Settings, read_detections, read_ground_truth
from analysis.evaluation.analysis import Analysis
from analysis.evaluation.error_types import ERRORS
from analysis.render.fiftyone import fiftyone_files
from tests.analysis.cases import document, found, object_, write
from tests.analysis.report.pages import IMAGES, write_data
from tests.command_line import run

OURS = {"error", "iou", "cost", "costly", "row", "target", "target_category"}


def written(data: tuple[Path, Path, list[Path]], iou_type: str = "bbox") -> tuple[Any, dict[str, Any]]:
    """The analysis of one run, and its two files."""
    truth, _, files = data
    gt = read_ground_truth(truth)
    one = Analysis(gt, Settings(iou_type), at_stake=True).of("a/b", read_detections(files[0], gt))
    return one, {name: json.loads(content) for name, content in fiftyone_files(gt, [one]).items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_every_detection_and_object_is_there_with_what_became_of_it(data, iou_type: str) -> None:
    one, files = written(data, iou_type)
    assert list(files) == ["fiftyone/detections-a-b.json", "fiftyone/objects-a-b.json"]
    detections, objects = files.values()
    truth, predictions = json.loads(data[0].read_text()), json.loads(data[2][0].read_text())
    assert detections["images"] == objects["images"] == truth["images"]
    assert detections["categories"] == objects["categories"] == truth["categories"]
    by_row = {record["row"]: record for record in detections["annotations"]}
    assert len(by_row) == len(predictions)
    for row, record in enumerate(predictions):
        told = by_row[row]
        assert {key: told[key] for key in ("image_id", "category_id", "bbox", "score")} == {
            key: record[key] for key in ("image_id", "category_id", "bbox", "score")
        }
        assert told.keys() - OURS <= {*record, "id", "area", "iscrowd", "segmentation"}
        assert ("segmentation" in told) == (iou_type == "segm")
    labels = Counter(record["error"] for record in by_row.values())
    assert {error: labels[error] for error in ERRORS if error != "miss"} == {
        error: count for error, count in one.breakdown.count.items() if error != "miss"
    }
    annotation = {record["id"]: record for record in truth["annotations"]}
    for record in by_row.values():
        if record["error"] == "tp":
            target = annotation[record["target"]]
            assert (target["image_id"], target["category_id"]) == (record["image_id"], record["category_id"])
            assert record["cost"] == 0
        assert ("target" in record) == ("target_category" in record) == (record["error"] not in ("bg", "both"))
    assert {record["id"] for record in objects["annotations"]} == set(annotation)
    missed = [record for record in objects["annotations"] if record["cost"] > 0]
    assert missed
    assert all(record["fate"] == "missed" for record in missed)
    costs = one.at_stake.costs
    assert sum(record["cost"] for record in by_row.values()) == pytest.approx(costs.detection.sum())
    assert sum(record["cost"] for record in missed) == pytest.approx(costs.missed.sum())
    ids = [record["id"] for record in detections["annotations"]]
    assert len(set(ids)) == len(ids)


def test_the_cost_is_that_of_the_repaired_file(tmp_path: Path) -> None:
    box, far = [10, 10, 40, 40], [120, 120, 30, 30]
    results = [found(1, far, 0.9), found(1, box, 0.8)]
    truth = write(tmp_path / "gt.json", document([object_(1, box)]))
    gt = read_ground_truth(truth)
    aps, costs = [], []
    for records in (results, results[1:]):
        one = Analysis(gt, Settings(), at_stake=True).of(
            "run", read_detections(write(tmp_path / "dt.json", records), gt)
        )
        aps.append(one.breakdown.ap)
        annotations = json.loads(fiftyone_files(gt, [one])["fiftyone/detections-run.json"])["annotations"]
        costs.append([record["cost"] for record in annotations])
    assert aps == pytest.approx([50, 100], abs=0.01)
    np.testing.assert_allclose(costs[0], [aps[1] - aps[0], 0], atol=1e-9)
    assert costs[1] == [0]


@pytest.mark.parametrize("lacking", [["file_name"], ["width", "height"]])
def test_what_fiftyone_could_not_read_is_refused_before_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lacking: list[str]
) -> None:
    content = document([object_(1, [10, 10, 40, 40])])
    for key in lacking:
        del content["images"][0][key]
    truth, predictions = (
        write(tmp_path / "gt.json", content),
        write(tmp_path / "dt.json", [found(1, [9, 9, 9, 9], 0.5)]),
    )
    out = tmp_path / "out"
    command = ("analyze", "errors", predictions, "--gt", truth, "--export", "fiftyone")
    assert run(monkeypatch, *command, "--out", out) == 4
    message = capsys.readouterr().err
    assert f"gt.json: image 1 has no {' and '.join(lacking)}, which FiftyOne needs" in " ".join(message.split())
    assert not out.exists()
    assert run(monkeypatch, *command) == 2
    assert "--export needs --out" in capsys.readouterr().err


def test_the_importer_of_fiftyone_reads_it(data, tmp_path: Path) -> None:
    """Its classes alone: a data set in its database needs MongoDB."""
    coco = pytest.importorskip("fiftyone.utils.coco", reason="FiftyOne is not installed")
    _, files = written(data)
    shutil.copytree(data[1], tmp_path / "images")
    shutil.copy(data[1] / "<2>.jpg", tmp_path / "images" / f"<{IMAGES}>.jpg")  # it asks for every image
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(files["fiftyone/detections-a-b.json"]))
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(tmp_path / "images"), labels_path=str(labels), label_types="detections", include_id=True
    )
    read: list[Any] = []
    with importer:
        for _, _, label in importer:
            read += label["detections"].detections
    expected = json.loads(labels.read_text())["annotations"]
    assert len(read) == len(expected)
    assert Counter(one["error"] for one in read) == Counter(one["error"] for one in expected)
    assert sorted(one["cost"] for one in read) == sorted(one["cost"] for one in expected)
