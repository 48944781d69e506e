"""Reading ground truth and predictions: the spellings that are taken, and what each wrong file is told."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import BadInput, break_down, read_detections, read_ground_truth
from tests.analysis.cases import Record, document, found, object_, read, write

BOX = (10, 10, 50, 50)


def truth() -> Record:
    return document([object_(1, BOX), object_(2, (70, 70, 20, 30), image=2)], images=(1, 2))


def results() -> list[Record]:
    return [found(1, BOX, 0.9), found(2, (70, 70, 20, 30), 0.8, image=2)]


def refusal(read_it: Callable[[], object]) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(BadInput) as caught:
        read_it()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def refused_truth(folder: Path, content: Any) -> str:
    path = folder / "gt.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    sentence = refusal(lambda: read_ground_truth(path))
    assert sentence.startswith(f"{path}: ")
    return sentence.removeprefix(f"{path}: ")


def refused_results(folder: Path, content: Any, truth_document: Record | None = None, **options: bool) -> str:
    gt = read_ground_truth(write(folder / "gt.json", truth_document or truth()))
    path = folder / "dt.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    sentence = refusal(lambda: read_detections(path, gt, **options))
    assert sentence.startswith(f"{path}: ")
    return sentence.removeprefix(f"{path}: ")


def changed(records: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The document with one value replaced, or removed where the value is Ellipsis."""
    inner = records
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return records


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "nothing.json"
        assert refusal(lambda: read_ground_truth(path)) == f"{path}: no such file; check the path"

    def test_folder(self, tmp_path: Path) -> None:
        assert "is a folder" in refusal(lambda: read_ground_truth(tmp_path))

    @pytest.mark.parametrize("content", [b"", b" \n", b"\xef\xbb\xbf"])
    def test_empty(self, content: bytes, tmp_path: Path) -> None:
        assert "the file is empty" in refused_truth(tmp_path, content)
        assert "the file is empty" in refused_results(tmp_path, content)

    def test_truncated(self, tmp_path: Path) -> None:
        whole = json.dumps(truth()).encode()
        for end in range(1, len(whole), 7):
            assert "the file is cut short" in refused_truth(tmp_path, whole[:end])
        whole = json.dumps(results()).encode()
        for end in range(1, len(whole), 5):
            assert "the file is cut short" in refused_results(tmp_path, whole[:end])

    def test_truncated_gzip(self, tmp_path: Path) -> None:
        assert "gzip data is damaged or cut short" in refused_truth(
            tmp_path, gzip.compress(json.dumps(truth()).encode())[:-20]
        )

    def test_not_json(self, tmp_path: Path) -> None:
        assert "not valid JSON at byte 2 of 15" in refused_truth(tmp_path, b"{ images: [1]  ")
        assert "UTF-16" in refused_truth(tmp_path, json.dumps(truth()).encode("utf-16"))
        text = json.dumps(truth()).replace("category 1", "caf\u00e9").encode("latin-1")
        assert "not UTF-8" in refused_truth(tmp_path, text)
        assert "far too deep" in refused_results(tmp_path, b'[{"segmentation": ' + b"[" * 100_000)

    def test_a_byte_order_mark_is_no_matter(self, tmp_path: Path) -> None:
        path = tmp_path / "gt.json"
        path.write_bytes(json.dumps(truth()).encode("utf-8-sig"))
        assert len(read_ground_truth(path)) == 2

    def test_the_two_files_swapped(self, tmp_path: Path) -> None:
        assert "were the two files swapped?" in refused_truth(tmp_path, results())
        assert "is a COCO ground truth document, not predictions" in refused_results(tmp_path, truth())

    def test_annotations_given_as_predictions(self, tmp_path: Path) -> None:
        records = [{**a, "iscrowd": 0} for a in truth()["annotations"]]
        assert "they are annotations" in refused_results(tmp_path, records)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ([1, 2, 3], "record[0] is not a record but 1"),
            ([[1, 1, 0.5]], "record[0] is not a record but [1, 1, 0.5]"),
            (
                [{"boxes": [], "labels": []}],
                "none has image_id or category_id or score (the first has 'boxes, labels')",
            ),
            ({"bbox": [[1, 2, 3, 4]]}, "is a JSON object with bbox, but predictions are a list"),
            ({}, "is a JSON object with nothing"),
            ("predictions", "is a single text, but predictions are a list"),
            (None, "is a single null"),
        ],
        ids=str,
    )
    def test_a_list_of_the_wrong_things(self, content: Any, expected: str, tmp_path: Path) -> None:
        assert expected in refused_results(tmp_path, content)


class TestGroundTruth:
    def test_what_may_be_missing(self, tmp_path: Path) -> None:
        bare = truth()
        for record in bare["annotations"]:
            del record["area"], record["id"]
        for image in bare["images"]:
            del image["file_name"], image["width"], image["height"]
        for category in bare["categories"]:
            del category["name"]
        gt = read_ground_truth(write(tmp_path / "gt.json", bare))
        assert gt.area.tolist() == [2500, 600]
        assert gt.annotation_id.tolist() == [1, 2]
        assert gt.image_size.tolist() == [[-1, -1], [-1, -1]]
        assert gt.category_name == ["category 1", "category 2"]
        assert gt.warnings == ()

    def test_images_and_categories_are_sorted_by_id(self, tmp_path: Path) -> None:
        gt, dt = read(tmp_path, [object_(2, BOX, image=30), object_(1, BOX, image=4)],
                      [found(1, BOX, 0.5, 4)], images=(30, 4))  # fmt: skip
        assert gt.image_id == [4, 30]
        assert gt.image_rank.tolist() == [1, 0]
        assert gt.file_name == ["photo_4.jpg", "photo_30.jpg"]
        assert gt.image.tolist() == [1, 0]
        assert gt.category.tolist() == [1, 0]
        assert dt.image.tolist() == [0]

    @pytest.mark.parametrize(
        ("place", "value", "expected"),
        [
            (("images",), ..., "'images' is missing or not a list"),
            (("annotations",), ..., "'annotations' is missing or not a list"),
            (("images",), [], "has no images"),
            (("categories",), [], "has no categories"),
            (("images", 1, "id"), 1, "images holds id 1 more than once"),
            (("images", 1, "id"), "one", "images mix integer and string ids"),
            (("images", 1, "id"), 2**80, "does not fit 64 bits"),
            (("images", 1, "width"), -5, "images[1] is -5 x 200 pixels"),
            (("images", 1, "width"), "wide", "images[1].width is 'wide'; write a whole number"),
            (("categories", 1, "id"), 1, "categories holds id 1 more than once"),
            (("categories", 0, "id"), 1.5, "categories[0].id is 1.5; write a whole number"),
            (("annotations", 1, "id"), 1, "annotation id 1 is used 2 times (first at annotations[0]"),
            (("annotations", 1, "id"), ..., "annotations[1] has no id but others do"),
            (("annotations", 1, "id"), 2**70, "has id 1180591620717411303424, which does not fit 64 bits"),
            (("annotations", 1, "image_id"), 9, "annotations[1] (id 2) has image_id 9, which is not one of the images"),
            (("annotations", 1, "category_id"), 7, "annotations[1] (id 2) has category_id 7, which is not one of"),
            (("annotations", 0, "bbox"), ..., "annotations[0] (id 1) has neither bbox nor segmentation"),
            (("annotations", 0, "bbox"), [1, 2, 3], "the bbox [1, 2, 3] of annotations[0] (id 1) is not four numbers"),
            (("annotations", 0, "bbox"), [1, 2, -3, 4], "of annotations[0] (id 1) has a negative side"),
            (("annotations", 0, "bbox", 2), 1e300, "of annotations[0] (id 1) is far too large"),
            (("annotations", 0, "bbox", 2), 1e-300, "of annotations[0] (id 1) has a side too small"),
            (("annotations", 0, "bbox", 2), float("nan"), "of annotations[0] (id 1) is NaN or infinite"),
            (("annotations", 0, "bbox", 2), float("inf"), "of annotations[0] (id 1) is NaN or infinite"),
            (("annotations", 0, "bbox", 2), "50", "of annotations[0] (id 1) is not four numbers"),
            (("annotations", 0, "area"), -1, "the area -1 of annotations[0] (id 1) is not a size"),
            (("annotations", 0, "area"), ..., "annotations[0] (id 1) has no area but others do"),
        ],
        ids=str,
    )  # fmt: skip
    def test_what_is_refused(self, place: tuple[Any, ...], value: Any, expected: str, tmp_path: Path) -> None:
        sentence = refused_truth(tmp_path, changed(truth(), place, value))
        assert expected in sentence
        assert ";" in sentence  # what is wrong; what to do

    def test_ignore_is_respected_on_request_only(self, tmp_path: Path) -> None:
        path = write(tmp_path / "gt.json", changed(truth(), ("annotations", 0, "ignore"), 1))
        gt = read_ground_truth(path)
        assert gt.ignore.tolist() == [False, False]
        (warning,) = gt.warnings
        assert "1 annotations have ignore=1" in warning
        gt = read_ground_truth(path, respect_ignore=True)
        assert gt.ignore.tolist() == [True, False]
        assert gt.warnings == ()


class TestDetections:
    @pytest.mark.parametrize(
        ("place", "value", "expected"),
        [
            ((1, "image_id"), 77, "the image_id of 1 of 2 detections is not in the ground truth (first at record 1"),
            ((1, "image_id"), 2**70, "is not in the ground truth (first at record 1: 1180591620717411303424)"),
            ((1, "image_id"), 1.5, "record[1] has image_id 1.5"),
            ((1, "category_id"), 77, "the category_id of 1 of 2 detections is not in the ground truth (first at rec"),
            ((1, "score"), ..., "record[1] has no score"),
            ((1, "score"), "0.5", "the score of record[1] is '0.5'"),
            ((1, "score"), None, "the score of record[1] is None"),
            ((1, "score"), float("nan"), "the score of record[1] is nan; write a finite number"),
            ((1, "score"), float("-inf"), "the score of record[1] is -inf; write a finite number"),
            ((1, "bbox"), ..., "record[1] has no bbox but others do"),
            ((1, "bbox"), [1, 2, 3, 4, 5], "the bbox [1, 2, 3, 4, 5] of record[1] is not four numbers"),
            ((1, "bbox"), [1, 2, 3, -4], "the bbox [1.0, 2.0, 3.0, -4.0] of record[1] has a negative side"),
            ((1, "bbox", 0), float("inf"), "of record[1] is NaN or infinite"),
            ((1, "image_id"), "photo_2", "is not in the ground truth (first at record 1: 'photo_2')"),
        ],
        ids=str,
    )  # fmt: skip
    def test_what_is_refused(self, place: tuple[Any, ...], value: Any, expected: str, tmp_path: Path) -> None:
        sentence = refused_results(tmp_path, changed(results(), place, value))
        assert expected in sentence
        assert ";" in sentence

    def test_a_number_too_large_for_a_float(self, tmp_path: Path) -> None:
        content = json.dumps(results()).replace("0.9", "1e999").encode()
        assert "the score of record[0] is inf" in refused_results(tmp_path, content)

    def test_nothing_but_unknown_ids_is_named_once(self, tmp_path: Path) -> None:
        records = [found(1, BOX, 0.5, image=i) for i in (5, 5, 6, 7, 8)]
        sentence = refused_results(tmp_path, records)
        assert (
            "the image_id of 5 of 5 detections is not in the ground truth (first at record 0: 5, 6, 7, ...)" in sentence
        )
        assert "--drop-unknown" in sentence

    def test_class_indices_instead_of_category_ids(self, tmp_path: Path) -> None:
        gt = document([object_(1, BOX)], categories=3)
        for category, identity in zip(gt["categories"], (1, 5, 9), strict=True):
            category["id"] = identity
        sentence = refused_results(tmp_path, [found(c, BOX, 0.5) for c in (0, 1, 2)], gt)
        assert "run from 0 to 2, like class indices, but those of the ground truth run from 1 to 9" in sentence
        sentence = refused_results(tmp_path, [found(c, BOX, 0.5) for c in (0, 4, 8)], gt)
        assert "is one less than a category id of the ground truth: add 1 to each" in sentence

    def test_unknown_ones_are_left_out_on_request(self, tmp_path: Path) -> None:
        gt = read_ground_truth(write(tmp_path / "gt.json", truth()))
        records = [found(1, BOX, 0.5, image=9), *results(), found(9, BOX, 0.5)]
        dt = read_detections(write(tmp_path / "dt.json", records), gt, drop_unknown=True)
        assert dt.row.tolist() == [1, 2]
        (warning,) = dt.warnings
        assert "1 of 4 detections" in warning
        assert "left out (--drop-unknown)" in warning
        dropped = [found(9, BOX, 0.5), found(1, (0, 0, 1, -1), 0.5)]
        assert "record[1] has a negative side" in refused_results(tmp_path, dropped, drop_unknown=True)

    def test_masks_on_unknown_images_are_left_out_before_they_are_decoded(self, tmp_path: Path) -> None:
        rle = {"size": [200, 200], "counts": [0, 40000]}
        other = {"size": [3, 3], "counts": [0, 9]}
        gt = read_ground_truth(write(tmp_path / "gt.json", truth()))
        records = [
            {"image_id": 9, "category_id": 1, "score": 0.5, "segmentation": other},
            {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": rle},
        ]
        dt = read_detections(write(tmp_path / "dt.json", records), gt, drop_unknown=True)
        assert dt.box.tolist() == [[0, 0, 200, 200]]

    def test_no_detections(self, tmp_path: Path) -> None:
        gt, dt = read(tmp_path, [object_(1, BOX)], [])
        assert dt.warnings == ("there are no detections: every object is missed",)
        assert break_down(gt, dt).count["miss"] == 1


class TestStringIds:
    @pytest.mark.parametrize(
        ("names", "ids", "what"),
        [
            (("a/photo_1.jpg", "a/photo_2.jpg"), ("photo_1", "photo_2"), "file_name stems"),
            (("photo_1.jpg", "photo_1.png"), ("photo_1.jpg", "photo_1.png"), "file names"),
            (("a/1.jpg", "b/1.jpg"), ("a/1.jpg", "b/1.jpg"), "file_name paths"),
        ],
    )
    def test_are_matched_to_file_names(
        self, names: tuple[str, str], ids: tuple[str, str], what: str, tmp_path: Path
    ) -> None:
        content = truth()
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name
        gt = read_ground_truth(write(tmp_path / "gt.json", content))
        records = [{**record, "image_id": i} for record, i in zip(results(), ids, strict=True)]
        dt = read_detections(write(tmp_path / "dt.json", records), gt)
        assert dt.image.tolist() == [0, 1]
        assert dt.warnings == (f"image ids are strings: all 2 were matched to the {what} of the ground truth's images",)

    def test_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        records = [{**record, "image_id": i} for record, i in zip(results(), ("photo_1", "photo_9"), strict=True)]
        sentence = refused_results(tmp_path, records)
        assert "first at record 1: 'photo_9'" in sentence

    def test_of_the_ground_truth_itself(self, tmp_path: Path) -> None:
        content = json.loads(json.dumps(truth()).replace('"image_id": 1', '"image_id": "x"'))
        content["images"][0]["id"], content["images"][1]["id"] = "x", "y"
        content["annotations"][1]["image_id"] = "y"
        gt = read_ground_truth(write(tmp_path / "gt.json", content))
        records = [{**record, "image_id": i} for record, i in zip(results(), ("x", "y"), strict=True)]
        dt = read_detections(write(tmp_path / "dt.json", records), gt)
        assert dt.image.tolist() == [0, 1]
        assert dt.warnings == ()


@pytest.mark.parametrize("writer", ["detectron2", "mmdetection", "ultralytics", "torchvision"])
def test_records_as_others_write_them(writer: str, tmp_path: Path) -> None:
    """Extra keys and rounding differ; the numbers must come through."""
    extra: dict[str, Record] = {
        "detectron2": {"segmentation": {"size": [200, 200], "counts": "PRVW1"}},
        "mmdetection": {},
        "ultralytics": {"file_name": "photo_1.jpg"},
        "torchvision": {"id": 17, "area": 2500.0, "iscrowd": 0},
    }
    box = [10.000000149011612, 10.5, 50, 49.25]
    record = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9123456478118896} | extra[writer]
    gt = read_ground_truth(write(tmp_path / "gt.json", truth()))
    path = tmp_path / "predictions.json.gz"
    path.write_bytes(gzip.compress(json.dumps([record]).encode()))
    dt = read_detections(path, gt)
    assert dt.box.tolist() == [box]
    assert dt.score.tolist() == [0.9123456478118896]
    assert dt.warnings == ()


class TestDigest:
    def digest(self, folder: Path, content: bytes) -> str:
        path = folder / "gt.json"
        path.write_bytes(content)
        return read_ground_truth(path).digest

    def full(self) -> Record:
        content = truth()
        content["annotations"][0] |= {"iscrowd": 1, "segmentation": {"size": [200, 200], "counts": [0, 40000]}}
        content["annotations"][1] |= {"ignore": 0, "segmentation": [[1, 2, 30, 4, 5, 60]]}
        return content

    def test_spelling_does_not_matter(self, tmp_path: Path) -> None:
        content = self.full()
        expected = self.digest(tmp_path, json.dumps(content).encode())
        reordered = {key: content[key] for key in reversed(content)}
        reordered["annotations"] = [dict(reversed(a.items())) for a in content["annotations"]]
        reordered["annotations"][0]["segmentation"] = {"counts": [0, 40000], "size": [200, 200]}
        spellings = [
            gzip.compress(json.dumps(content).encode()),
            json.dumps(content, indent=4).encode(),
            json.dumps(reordered, separators=(",", ":")).encode(),
            json.dumps({**content, "info": {"year": 2017}, "licenses": []}).encode(),
            json.dumps(content)
            .replace("200,", "2e2,")
            .replace("2e2,", "200,")
            .replace("[[1, 2,", "[[1.0, 2e0,")
            .encode(),
        ]
        assert {self.digest(tmp_path, spelling) for spelling in spellings} == {expected}

    def test_every_value_matters(self, tmp_path: Path) -> None:
        changes: list[tuple[tuple[Any, ...], Any]] = [
            (("images", 0, "width"), 201),
            (("images", 0, "height"), ...),
            (("images", 0, "file_name"), "other.jpg"),
            (("images", 0, "file_name"), ...),
            (("categories", 1, "name"), "other"),
            (("annotations", 0, "id"), 3),
            (("annotations", 0, "image_id"), 2),
            (("annotations", 0, "category_id"), 2),
            (("annotations", 0, "bbox", 3), 51),
            (("annotations", 0, "area"), 2499.5),
            (("annotations", 0, "iscrowd"), 0),
            (("annotations", 1, "iscrowd"), 1),
            (("annotations", 1, "ignore"), 1),
            (("annotations", 0, "segmentation", "counts"), [1, 39999]),
            (("annotations", 1, "segmentation", 0, 0), 1.5),
            (("annotations", 1, "segmentation"), ...),
            (("annotations", 1), ...),
        ]
        digests = [self.digest(tmp_path, json.dumps(changed(self.full(), *change)).encode()) for change in changes]
        digests.append(self.digest(tmp_path, json.dumps(self.full()).encode()))
        reversed_images = self.full()
        reversed_images["images"].reverse()  # decides ties in the tidecv convention
        digests.append(self.digest(tmp_path, json.dumps(reversed_images).encode()))
        without_area = self.full()
        for a in without_area["annotations"]:
            del a["area"]
        digests.append(self.digest(tmp_path, json.dumps(without_area).encode()))
        assert len(set(digests)) == len(digests)

    def test_respecting_ignore_is_a_setting_not_content(self, tmp_path: Path) -> None:
        path = write(tmp_path / "gt.json", changed(truth(), ("annotations", 0, "ignore"), 1))
        assert read_ground_truth(path).digest == read_ground_truth(path, respect_ignore=True).digest


def test_arrays_are_columns_of_the_file(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, truth()["annotations"], results(), images=(1, 2))
    assert [str(column.dtype) for column in (gt.box, gt.category, gt.crowd)] == ["float64", "int64", "bool"]
    assert [str(column.dtype) for column in (dt.box, dt.score, dt.image, dt.row)] == ["float64"] * 2 + ["int64"] * 2
    assert gt.box.shape == dt.box.shape == (2, 4)
