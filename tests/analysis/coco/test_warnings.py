"""Suspicious but legal input is analysed with exactly one clear warning; sound input gets none."""

from pathlib import Path
from typing import Any

import pytest

from analysis import Detections, GroundTruth, break_down, read_detections, read_ground_truth
from analysis.coco.synthetic import write_example
from tests.analysis import real_pairs
from tests.analysis.cases import Record, document, found, object_, write
from tests.analysis.peers import load
from tests.analysis.real_pairs import RealPair

IMAGES = tuple(range(1, 41))


def objects() -> list[Record]:
    """Two objects an image, of categories that shift between images."""
    return [
        record
        for i in IMAGES
        for record in (object_(i % 7 + 1, (10, 10, 60, 50), i), object_((i + 3) % 7 + 1, (100, 90, 60, 70), i))
    ]


def results() -> list[Record]:
    """All of them found, one not quite at its place."""
    return [
        found(o["category_id"], (o["bbox"][0] + 2, *o["bbox"][1:]), 0.9 - 0.001 * n, o["image_id"])
        for n, o in enumerate(objects())
    ]


def analyse(folder: Path, truth: Record, records: list[Record]) -> tuple[GroundTruth, Detections]:
    gt = read_ground_truth(write(folder / "gt.json", truth))
    dt = read_detections(write(folder / "dt.json", records), gt)
    for convention in ("coco", "tidecv"):
        assert 0 <= break_down(gt, dt, convention=convention).ap <= 100
    return gt, dt


def truth() -> Record:
    return document(objects(), IMAGES, categories=8)


def of_the_results(folder: Path, records: list[Record], truth_document: Record | None = None) -> str:
    gt, dt = analyse(folder, truth_document or truth(), records)
    assert gt.warnings == ()
    (warning,) = dt.warnings
    assert "\n" not in warning
    return warning


def of_the_truth(folder: Path, truth_document: Record) -> str:
    gt, dt = analyse(folder, truth_document, results())
    assert dt.warnings == ()
    (warning,) = gt.warnings
    return warning


def test_sound_files_give_none(tmp_path: Path) -> None:
    gt, dt = analyse(tmp_path, truth(), results())
    assert gt.warnings == dt.warnings == ()


class TestOfPredictions:
    def test_scores_outside_0_to_1(self, tmp_path: Path) -> None:
        records = results()
        for record, score in zip(records, (-3.5, 1.01, 0.0, 1.0), strict=False):
            record["score"] = score
        assert of_the_results(tmp_path, records).startswith("2 scores are outside 0..1")

    def test_zero_size_boxes(self, tmp_path: Path) -> None:
        records = results()
        records[3]["bbox"][2] = 0
        records[5]["bbox"][2:] = [0, 0]
        assert of_the_results(tmp_path, records).startswith("2 boxes have zero width or height")

    def test_normalised_boxes(self, tmp_path: Path) -> None:
        records = [{**r, "bbox": [side / 200 for side in r["bbox"]]} for r in results()]
        assert "are they normalised" in of_the_results(tmp_path, records)

    def test_corners_instead_of_sizes(self, tmp_path: Path) -> None:
        boxes = [(100, 120, 170, 180), (20, 100, 120, 180)]
        records = [{**r, "bbox": [*b[:2], *b[2:]]} for r, b in zip(results(), boxes * len(IMAGES), strict=True)]
        assert "is bbox written as x1, y1, x2, y2" in of_the_results(tmp_path, records)

    def test_a_few_boxes_past_the_edge_are_usual(self, tmp_path: Path) -> None:
        records = results()
        for record in records[::3]:
            record["bbox"] = [150, 150, 90, 90]
        _, dt = analyse(tmp_path, truth(), records)
        assert dt.warnings == ()

    @pytest.mark.parametrize("first", [0, 1])
    def test_class_indices_that_are_legal_category_ids(self, first: int, tmp_path: Path) -> None:
        """0-79 (or 1-80) against 1-90: nearly all are ids too, and mean something else."""
        ids = [1, 2, 3, 4, 5, 6, 7, 8] if first == 0 else [1, 3, 4, 5, 6, 7, 8, 9]
        content = truth()
        for category, identity in zip(content["categories"], ids, strict=True):
            category["id"] = identity
        for a in content["annotations"]:
            a["category_id"] = ids[a["category_id"] - 1]
        records = [{**r, "category_id": r["category_id"] - 1 + first} for r in results()]
        warning = of_the_results(tmp_path, [r for r in records if r["category_id"] in ids], content)
        assert warning.startswith("category ids look shifted")
        assert f"counted from {first}" in warning

    def test_many_images_without_a_detection(self, tmp_path: Path) -> None:
        records = [r for r in results() if r["image_id"] <= 19]
        assert of_the_results(tmp_path, records).startswith("21 of 40 images have no detection at all")

    def test_no_detections(self, tmp_path: Path) -> None:
        assert "there are no detections" in of_the_results(tmp_path, [])


class TestOfGroundTruth:
    def test_annotation_id_0(self, tmp_path: Path) -> None:
        content = truth()
        content["annotations"][0]["id"] = 0
        assert "annotation id 0 is used" in of_the_truth(tmp_path, content)

    def test_zero_size_boxes(self, tmp_path: Path) -> None:
        content = truth()
        content["annotations"][4]["bbox"][2] = 0
        assert of_the_truth(tmp_path, content).startswith("1 annotations have a zero-size box")

    def test_difficult_objects(self, tmp_path: Path) -> None:
        content = truth()
        content["annotations"][4]["ignore"] = 1
        content["annotations"][5] |= {"ignore": 1, "iscrowd": 1}  # a crowd is ignored anyway
        assert of_the_truth(tmp_path, content).startswith("1 annotations have ignore=1")

    def test_normalised_boxes(self, tmp_path: Path) -> None:
        content = truth()
        for a in content["annotations"]:
            a["bbox"] = [side / 200 for side in a["bbox"]]
        assert "normalised" in of_the_truth(tmp_path, content)


@pytest.mark.parametrize("pair", real_pairs.ALL, ids=str)
def test_real_files_get_only_warnings_that_are_true(pair: RealPair) -> None:
    truth_path, results_path = pair.paths()
    gt = read_ground_truth(truth_path)
    dt = read_detections(results_path, gt)
    records: list[dict[str, Any]] = load(results_path)
    flat = sum("bbox" in r and min(r["bbox"][2:]) == 0 for r in records)
    assert [w[:40] for w in dt.warnings] == ([f"{flat:,} boxes have zero width or height: they"[:40]] if flat else [])
    difficult = sum(bool(a.get("ignore")) and not a.get("iscrowd") for a in load(truth_path)["annotations"])
    assert [w.split(" (")[0] for w in gt.warnings] == (
        [f"{difficult:,} annotations have ignore=1"] if difficult else []
    )


def test_real_detections_with_class_indices_are_noticed(tmp_path: Path) -> None:
    """YOLO's 0-79 taken for COCO's 1-90; those that are no COCO id are left out."""
    truth_path, results_path = real_pairs.EFFICIENTDET.paths()
    gt = read_ground_truth(truth_path)
    index = {category: n for n, category in enumerate(gt.category_id)}
    records = [{**r, "category_id": index[r["category_id"]]} for r in load(results_path)]
    dt = read_detections(write(tmp_path / "dt.json", records), gt, drop_unknown=True)
    assert any(w.startswith("category ids look shifted") and "counted from 0" in w for w in dt.warnings)


def test_the_example_gives_none(tmp_path: Path) -> None:
    truth_path, predictions = write_example(tmp_path)
    gt = read_ground_truth(truth_path)
    assert gt.warnings == ()
    for path in predictions.values():
        assert read_detections(path, gt).warnings == ()
