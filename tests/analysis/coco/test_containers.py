"""What people hand in as predictions: read, or refused by the name of what it is; never loaded as code."""

import gzip
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask

from analysis import BadInput, Detections, GroundTruth, coco_metrics, read_detections, read_ground_truth
from analysis.exceptions import BadRecords
from tests.analysis.cases import Record, document, found, object_, write
from tests.shared_data import shared_case

BOX = (10, 10, 50, 50)


@pytest.fixture
def gt(tmp_path: Path) -> GroundTruth:
    return read_ground_truth(
        write(tmp_path / "gt.json", document([object_(1, BOX), object_(2, BOX, 2)], images=(1, 2)))
    )


def results() -> list[Record]:
    return [found(1, BOX, 0.9), found(2, BOX, 0.8, image=2)]


def scored(**changes: Any) -> Record:
    """A COCO document whose annotations have scores."""
    doc = document([{**record, "area": 2500, "iscrowd": 0} for record in results()], images=(1, 2))
    return {"info": {"description": "export"}, **doc, **changes}


def lines(records: list[Record]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def as_read(path: Path, content: Any, gt: GroundTruth, **options: bool) -> Detections:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_detections(path, gt, **options)


SPELLINGS: list[tuple[str, Callable[[], Any]]] = [
    ("list", results),
    ("predictions", lambda: {"predictions": results()}),
    ("results among other keys", lambda: {"version": 1, "classes": ["a", "b"], "results": results()}),
    ("annotations", lambda: {"annotations": results()}),
    ("a list under its own name", lambda: {"yolo": results()}),
    ("scored document", scored),
    ("JSON Lines", lambda: lines(results())),
    ("JSON Lines with empty lines", lambda: b"\n" + lines(results()).replace(b"\n", b"\r\n\n")),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("spelling", [one for _, one in SPELLINGS], ids=[name for name, _ in SPELLINGS])
def test_every_container_gives_the_list(
    spelling: Callable[[], Any], packed: bool, gt: GroundTruth, tmp_path: Path
) -> None:
    value = spelling()
    content = value if isinstance(value, bytes) else json.dumps(value, indent=1).encode()
    dt = as_read(tmp_path / "dt", gzip.compress(content) if packed else content, gt)
    plain = read_detections(write(tmp_path / "plain.json", results()), gt)
    for column in ("box", "score", "category", "image", "row"):
        assert getattr(dt, column).tolist() == getattr(plain, column).tolist()
    assert dt.warnings == ()


def test_one_line_of_json_lines_is_one_record(gt: GroundTruth, tmp_path: Path) -> None:
    assert len(as_read(tmp_path / "dt.jsonl", lines(results()[:1]), gt)) == 1


def test_a_bad_record_is_told_from_every_container(gt: GroundTruth, tmp_path: Path) -> None:
    records = [{**results()[0], "score": float("nan")}, results()[1]]
    for content in (records, {"predictions": records}, scored(annotations=records), lines(records)):
        with pytest.raises(BadInput, match=r"the score of record\[0\] is nan"):
            as_read(tmp_path / "dt.json", content, gt)
        assert as_read(tmp_path / "dt.json", content, gt, drop_invalid=True).row.tolist() == [1]


def test_an_empty_list_of_predictions_is_none(gt: GroundTruth, tmp_path: Path) -> None:
    assert len(as_read(tmp_path / "dt.json", {"predictions": []}, gt)) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (document([object_(1, BOX)]), "is a COCO ground truth document, not predictions"),
        ({"a": results(), "b": results()}, "with several lists of records (a, b)"),
        (lines(results())[:-9], "the file is cut short"),
        (b'[{"image_id": 1},]', "write it with a JSON library"),
        (b'[{"image_id": 1}] x', "write it with a JSON library"),
        (json.dumps(results()).encode()[:-1] + b",]", "write it with a JSON library"),
        (json.dumps(results()).encode()[:-7], "the file is cut short"),
        (pickle.dumps(results()), "is a Python pickle (as mmdetection's --out and old PyTorch files are)"),
        (pickle.dumps(results(), protocol=0), "is a Python pickle"),
        (gzip.compress(pickle.dumps([]), mtime=0), "is a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "is a Git LFS pointer"),
        (b"<annotation>\n</annotation>", "is XML or HTML"),
        (b"0 0.5 0.5 0.25 0.25 0.9\n1 0.5 0.5 0.25 0.25 0.8\n", "as YOLO's label files are"),
        (b"\x93NUMPY\x01\x00", "is a file of binary arrays or tables"),
        (b"\x00" * 100, "begins with zero bytes"),
    ],
)  # fmt: skip
def test_what_it_is_instead(content: Any, words: str, gt: GroundTruth, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        as_read(tmp_path / "dt", content, gt)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'dt'}: ")


def test_no_pickle_is_ever_executed(gt: GroundTruth, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "instances_predictions.pth"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(BadInput):
            as_read(path, pickle.dumps(Harmful(), protocol=protocol), gt)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harmful()))
    with pytest.raises(BadInput, match=r"is a zip archive .* give coco_instances_results.json"):
        read_detections(path, gt)
    assert not (tmp_path / "executed").exists()


class TestFilesWithoutAnEnd:
    def test_a_pipe_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(BadInput, match="is a FIFO, not a regular file"):
            read_ground_truth(tmp_path / "pipe")

    def test_a_device_is_refused(self) -> None:
        with pytest.raises(BadInput, match="is a device, not a regular file"):
            read_ground_truth("/dev/zero")

    def test_a_gzip_bomb_is_refused_early(self, tmp_path: Path) -> None:
        path = tmp_path / "gt.json.gz"
        path.write_bytes(gzip.compress(bytes(100_000_000), 1))
        with pytest.raises(
            BadInput, match=r"unpacks to more than 4.,...,... bytes from 4..,..., unlike any annotations"
        ):
            read_ground_truth(path)

    def test_a_sparse_file_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "gt.json").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(BadInput, match="holds 1,099,511,627,776 bytes"):
            read_ground_truth(tmp_path / "gt.json")

    def test_repetitive_but_real_content_is_read(self, gt: GroundTruth, tmp_path: Path) -> None:
        content = json.dumps([found(1, (10, 10, 50, 50), 0.5)] * 20_000).encode()
        packed = gzip.compress(content)
        assert len(content) > 100 * len(packed)
        assert len(as_read(tmp_path / "dt.json.gz", packed, gt)) == 20_000


class TestCategoriesOfPredictions:
    def renamed(self, *categories: tuple[int, str]) -> Record:
        """A scored document whose detections have categories 1 and 2."""
        return scored(categories=[{"id": i, "name": name} for i, name in categories])

    def test_equal_names_need_no_note(self, gt: GroundTruth, tmp_path: Path) -> None:
        dt = as_read(tmp_path / "dt.json", self.renamed((1, "Category_1"), (2, "category 2")), gt)
        assert (dt.category.tolist(), dt.warnings) == ([0, 1], ())

    def test_names_under_other_ids_are_matched_by_name(self, gt: GroundTruth, tmp_path: Path) -> None:
        dt = as_read(tmp_path / "dt.json", self.renamed((1, "category 2"), (2, "category 1")), gt)
        assert dt.category.tolist() == [1, 0]
        assert dt.warnings[0] == (
            "category ids differ from those of the ground truth: matched by name (1 category 2, 2 category 1; there "
            "1 category 1, 2 category 2)"
        )

    def test_names_in_the_records_are_used_too(self, gt: GroundTruth, tmp_path: Path) -> None:
        records = [{**results()[0], "category_id": 7, "category_name": "category 1"}]
        assert as_read(tmp_path / "dt.json", records, gt).category.tolist() == [0]
        records.append({**records[0], "category_name": "category 2"})
        with pytest.raises(BadInput, match="category_id 7 has two names, 'category 1' and 'category 2'"):
            as_read(tmp_path / "dt.json", records, gt)

    def test_a_name_that_is_unknown_is_an_unknown_category(self, gt: GroundTruth, tmp_path: Path) -> None:
        content = self.renamed((1, "category 2"), (2, "zebra"))
        with pytest.raises(BadInput, match="the category_id of 1 of 2 detections is not in the ground truth"):
            as_read(tmp_path / "dt.json", content, gt)
        assert as_read(tmp_path / "dt.json", content, gt, drop_unknown=True).category.tolist() == [1]

    def test_ids_that_agree_but_for_one_name_are_refused(self, gt: GroundTruth, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="its category ids and names contradict those of the ground truth") as caught:
            as_read(tmp_path / "dt.json", self.renamed((1, "category 1"), (2, "zebra")), gt)
        assert "(here: 1 category 1, 2 zebra; there: 1 category 1, 2 category 2)" in str(caught.value)

    def test_names_in_another_language_leave_the_ids(self, gt: GroundTruth, tmp_path: Path) -> None:
        dt = as_read(tmp_path / "dt.json", self.renamed((1, "eins"), (2, "zwei")), gt)
        assert dt.category.tolist() == [0, 1]
        assert "matched by id" in dt.warnings[0]

    def test_words_are_separated_in_any_way(self, gt: GroundTruth, tmp_path: Path) -> None:
        dt = as_read(tmp_path / "dt.json", self.renamed((1, "CATEGORY-2"), (2, "category_1")), gt)
        assert dt.category.tolist() == [1, 0]

    def test_a_category_without_a_name_among_moved_ones_is_refused(self, gt: GroundTruth, tmp_path: Path) -> None:
        """Its id may be moved too."""
        with pytest.raises(
            BadInput, match=r"its category ids and names contradict those of the ground truth.*\(here: 1 category 2;"
        ):
            as_read(tmp_path / "dt.json", self.renamed((1, "category 2")), gt)

    def test_an_unknown_category_is_told_by_its_name(self, gt: GroundTruth, tmp_path: Path) -> None:
        content = scored(categories=[{"id": 0, "name": "category 1"}, {"id": 1, "name": "category 2"}, {"id": 2,
                                     "name": "zebra"}])  # fmt: skip
        with pytest.raises(BadInput) as caught:
            as_read(tmp_path / "dt.json", content, gt)
        assert "(first at record 1: 2 zebra); use --drop-unknown to leave them out" in str(caught.value)
        assert "class indices" not in str(caught.value)

    @pytest.mark.parametrize("table", [str, float])
    @pytest.mark.parametrize("records", [int, str])
    def test_ids_of_the_tables_in_another_spelling(
        self, table: Callable[[int], Any], records: Callable[[int], Any], gt: GroundTruth, tmp_path: Path
    ) -> None:
        """Images and categories 1 and 2 have changed places: the names alone tell it."""
        content = scored(
            images=[{"id": table(i), "file_name": f"photo_{3 - i}.jpg"} for i in (1, 2)],
            categories=[{"id": str(i), "name": f"category {3 - i}"} for i in (1, 2)],
        )
        for record in content["annotations"]:
            record["image_id"] = records(record["image_id"])
        dt = as_read(tmp_path / "dt.json", content, gt)
        assert (dt.image.tolist(), dt.category.tolist()) == ([1, 0], [1, 0])

    def test_an_image_with_two_names_is_refused(self, gt: GroundTruth, tmp_path: Path) -> None:
        content = scored(images=[{"id": 1, "file_name": "photo_1.jpg"}, {"id": "1", "file_name": "photo_2.jpg"}])
        with pytest.raises(BadInput, match=r"id '1' of the images has two names, 'photo_1.jpg' and 'photo_2.jpg'"):
            as_read(tmp_path / "dt.json", content, gt)

    def test_images_of_another_numbering_are_matched_by_file_name(self, gt: GroundTruth, tmp_path: Path) -> None:
        content = scored(images=[{"id": 2, "file_name": "photo_1.jpg"}, {"id": 1, "file_name": "photo_2.jpg"}])
        dt = as_read(tmp_path / "dt.json", content, gt)
        assert dt.image.tolist() == [1, 0]
        assert "matched by file_name" in dt.warnings[0]


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        ({"image_id": 1, "instances": results()}, "category_id or score"),  # detectron2's file of proposals
        ({"image_id": 1, "boxes": [[1, 1, 5, 5]], "scores": [0.5], "labels": [1]}, "category_id or score"),
        ({"name": "cat", "class": 0, "confidence": 0.9, "box": {"x1": 1}}, "image_id or category_id or score"),
        ({"image_id": 1, "category_id": 1, "confidence": 0.9, "bbox": BOX}, "score"),
    ],
)
def test_records_of_another_kind_are_told_once(record: Record, missing: str, gt: GroundTruth, tmp_path: Path) -> None:
    """By what they lack; leaving bad ones out would leave none."""
    for drop_invalid in (False, True):
        with pytest.raises(BadInput) as caught:
            as_read(tmp_path / "dt.json", [record, record], gt, drop_invalid=drop_invalid)
        assert f"none has {missing} (the first has '{', '.join(list(record)[:5])}')" in str(caught.value)
        assert not isinstance(caught.value, BadRecords)


@pytest.mark.parametrize("name", ["fiftyone_predictions", "fiftyone_other_numbering", "annotations_only"])
def test_scored_documents_of_the_shared_cases(name: str) -> None:
    """Values of pycocotools on the bare list."""
    folder = "r04-scored-coco-document"
    gt = read_ground_truth(shared_case(folder, "gt.json"))
    metrics = coco_metrics(gt, read_detections(shared_case(folder, f"{name}.json"), gt))
    assert (round(metrics["AP"], 1), round(metrics["AP50"], 1)) == (35.9, 62.9)


def test_counts_written_as_python_bytes_are_read(tmp_path: Path) -> None:
    """str() of pycocotools' counts: without the quotes, and with each backslash, which such codes hold, only once."""
    runs = [[44, 44, 39_912], [0, 44, 39_956], [1000, 5, 38_995]]
    codes = [mask.frPyObjects({"size": [200, 200], "counts": one}, 200, 200) for one in runs]
    assert any(b"\\" in code["counts"] for code in codes)
    spelled = [{"size": [200, 200], "counts": str(code["counts"])} for code in codes]
    doc = document([object_(1, BOX, segmentation=one) for one in spelled])
    gt = read_ground_truth(write(tmp_path / "gt.json", doc))
    assert [one["counts"] for one in gt.masks.rles(range(3))] == [code["counts"] for code in codes]
    assert gt.masks.notes == ("3 masks have counts written as Python bytes (b'...'): the text in them is read",)
