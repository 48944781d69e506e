"""What leaves the evaluation at an implausible rate is warned of, with its numbers; no real file warns."""

from pathlib import Path

import pytest

from analysis import coco_metrics, read_detections, read_ground_truth
from tests.analysis import real_pairs
from tests.analysis.cases import Record, document, found, object_, write
from tests.analysis.real_pairs import RealPair
from tests.shared_data import shared_case

BOX = (10, 10, 60, 50)
RLE = {"size": [200, 200], "counts": [2010, 50, 37940]}


def with_crowds(crowds: int, of: int, **more: object) -> Record:
    return document([object_(1, BOX, iscrowd=int(n < crowds), **more) for n in range(of)])  # type: ignore[arg-type]


def warnings_of(folder: Path, doc: Record, **options: bool) -> tuple[str, ...]:
    return read_ground_truth(write(folder / "gt.json", doc), **options).warnings


@pytest.mark.parametrize(
    ("crowds", "of", "warned"), [(1, 1, True), (2, 9, False), (3, 9, True), (20, 100, False), (21, 100, True)]
)
def test_crowds(crowds: int, of: int, warned: bool, tmp_path: Path) -> None:
    for mask, cause in (
        ({}, "crowds (iscrowd 1) and left out of the evaluation: if each"),
        ({"segmentation": RLE}, "CVAT"),
    ):
        found_ = warnings_of(tmp_path, with_crowds(crowds, of, **mask))
        assert len(found_) == int(warned)
        assert all(one.startswith(f"{crowds} of {of} objects are crowds") and cause in one for one in found_)


def test_ignored_objects_where_the_mark_is_respected(tmp_path: Path) -> None:
    doc = document([object_(1, BOX, ignore=int(n < 5)) for n in range(10)])
    (warning,) = warnings_of(tmp_path, doc, respect_ignore=True)
    assert warning.startswith("5 of 10 objects are marked ignore=1 and left out of the evaluation")
    (warning,) = warnings_of(tmp_path, doc)
    assert "have ignore=1" in warning


class TestDetections:
    IMAGES = tuple(range(1, 21))

    def of(self, folder: Path, records: list[Record], objects: list[Record] | None = None) -> tuple[str, ...]:
        objects = objects or [object_(i % 6 + 1, BOX, i) for i in self.IMAGES]
        gt = read_ground_truth(write(folder / "gt.json", document(objects, self.IMAGES, categories=8)))
        return read_detections(write(folder / "dt.json", records), gt).warnings

    def test_of_every_object_are_fine(self, tmp_path: Path) -> None:
        assert self.of(tmp_path, [found(i % 6 + 1, BOX, 0.5, i) for i in self.IMAGES]) == ()

    def test_of_categories_without_objects(self, tmp_path: Path) -> None:
        records = [found(8 if i > 8 else i % 6 + 1, BOX, 0.5, i) for i in self.IMAGES]
        (warning,) = self.of(tmp_path, records)
        assert warning.startswith("12 of 20 detections are of categories without an object in the ground truth")

    def test_on_images_without_objects(self, tmp_path: Path) -> None:
        objects = [object_(i % 2 + 1, BOX, i) for i in self.IMAGES[:8]]
        (warning,) = self.of(tmp_path, [found(i % 2 + 1, BOX, 0.5, i) for i in self.IMAGES], objects)
        assert warning.startswith("12 of 20 detections are on images without an object in the ground truth")

    def test_of_few_categories(self, tmp_path: Path) -> None:
        (warning,) = self.of(tmp_path, [found(i % 2 + 1, BOX, 0.5, i) for i in self.IMAGES])
        assert warning.startswith("4 of 6 categories with objects have no detection (first: category 3, category 4, ")


@pytest.mark.parametrize("pair", real_pairs.ALL, ids=str)
def test_no_real_file_looks_implausible(pair: RealPair) -> None:
    truth, results = pair.paths()
    for respect_ignore in (False, True):
        gt = read_ground_truth(truth, respect_ignore=respect_ignore)
        allowed = ("boxes have zero width or height", "have ignore=1 (difficult in VOC?) and are counted")
        found_ = (*gt.warnings, *read_detections(results, gt).warnings)
        assert [one for one in found_ if not any(sentence in one for sentence in allowed)] == []


@pytest.mark.parametrize(("name", "numbers"), [("instances_mixed", "25 of 72"), ("instances_default", "72 of 72")])
def test_painted_masks_of_cvat(name: str, numbers: str) -> None:
    folder = "r07-cvat-masks-as-crowds"
    (warning,) = read_ground_truth(shared_case(folder, f"{name}.json")).warnings
    assert warning.startswith(f"{numbers} objects are crowds")
    assert "CVAT and Datumaro write every painted mask as RLE with iscrowd 1" in warning
    right = read_ground_truth(shared_case(folder, "right.json"))
    assert right.warnings == ()
    ap50 = coco_metrics(right, read_detections(shared_case(folder, "dt.json"), right))["AP50"]
    assert ap50 == pytest.approx(76.046, abs=5e-4)  # pycocotools
