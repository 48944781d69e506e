"""A folder of parts is read as the one file that they were cut from."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import BadInput, Detections, break_down, read_detections, read_ground_truth
from analysis.cli.analyze import Output, look_into
from analysis.coco.detections import parts_of
from tests.analysis.mutations import KINDS, documents


def by_image(results: list[dict[str, Any]], images: set[int]) -> list[dict[str, Any]]:
    return [one for one in results if one["image_id"] in images]


@pytest.fixture(params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    truth, results = documents(request.param)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "parts").mkdir()
    return tmp_path, results


def read(path: Path) -> Detections:
    return read_detections(path, read_ground_truth(path.parent / "gt.json"))


def test_parts_are_the_file_that_they_were_cut_from(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, results = whole
    parts = [by_image(results, images) for images in ({2}, {1}, {3})]
    for number, part in zip((2, 10, 11), parts, strict=True):  # in the order of the numbers
        content = json.dumps(part).encode()
        name = folder / "parts" / f"rank{number}.json"
        if number == 10:
            name.with_suffix(".json").write_bytes(gzip.compress(content))  # known by its content
        else:
            name.write_bytes(content)
    (folder / "dt.json").write_text(json.dumps([one for part in parts for one in part]))
    one, other = read(folder / "dt.json"), read(folder / "parts")
    for name in ("box", "score", "category", "image", "row"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.warnings == other.warnings
    assert one.masks.present.tolist() == other.masks.present.tolist()
    rows = np.flatnonzero(one.masks.present).tolist()
    assert one.masks.rles(rows) == other.masks.rles(rows)
    kind = "segm" if one.masks.present.all() else "bbox"
    truth = read_ground_truth(folder / "gt.json")
    assert break_down(truth, one, iou_type=kind).raw == break_down(truth, other, iou_type=kind).raw
    assert look_into(folder / "parts") == Output(folder / "parts", None)


def test_files_that_share_an_image_are_several_results(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, results = whole
    for number in (1, 2):
        (folder / "parts" / f"epoch{number}.json").write_text(json.dumps(results))
    with pytest.raises(
        BadInput, match=r"epoch1.json and epoch2.json both contain detections of image 1.*give only one of them"
    ):
        read(folder / "parts")


def test_a_bad_part_is_named(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, results = whole
    (folder / "parts" / "1.json").write_text(json.dumps(by_image(results, {1})))
    (folder / "parts" / "2.json").write_text(json.dumps(by_image(results, {2}))[:-9])
    with pytest.raises(BadInput, match=r"parts/2.json: "):
        read(folder / "parts")


def test_a_bad_mask_is_told_with_its_file_and_its_place_there(tmp_path: Path) -> None:
    truth, results = documents("compressed")
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "parts").mkdir()
    last = by_image(results, {3})
    last[0]["segmentation"]["counts"] = "1"
    (tmp_path / "parts" / "1.json").write_text(json.dumps(by_image(results, {1})))
    (tmp_path / "parts" / "2.json").write_text(json.dumps(last))
    found = read(tmp_path / "parts")
    with pytest.raises(BadInput, match=r"parts/2.json: the segmentation of record\[0\]"):
        found.masks.decode()


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["a.json"], []),
        (["a.bbox.json", "a.segm.json"], []),
        (["a1.json", "a2.json", "gt.json"], []),
        (["a10.json", "a9.json", "notes.txt"], ["a9.json", "a10.json"]),
        (["x-1-of-2.json.gz", "x-2-of-2.json.gz"], ["x-1-of-2.json.gz", "x-2-of-2.json.gz"]),
    ],
)
def test_parts_have_names_that_differ_in_numbers_alone(names: list[str], parts: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in parts_of(tmp_path)] == parts
