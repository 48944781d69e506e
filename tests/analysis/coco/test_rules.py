"""One set of rules: what `data check` finds no error in is read, masks included, and the other way round."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ablate.data.check import check
from ablate.data.sources import Files
from analysis import BadInput, GroundTruth, coco_metrics, read_detections, read_ground_truth
from analysis.coco.rules import check_document, refuse
from analysis.exceptions import BadRecords
from tests.analysis.cases import Record, document, found, object_, write
from tests.analysis.mutations import documents, mutate
from tests.analysis.peers import pycocotools_metrics
from tests.shared_data import shared_case

ABOUT_IMAGE_FILES = {"missing image", "broken image", "size differs", "image without size", "image without file name"}
ABOUT_TRAINING = {"no mask", "nothing to learn"}


def errors_of_check(path: Path) -> set[str]:
    """The kinds of error that `data check` finds in annotations, the files of the images left out."""
    report = check("x", Files(path, path.parent / "images"))
    return {one.kind for one in report.findings if one.level == "error"} - ABOUT_IMAGE_FILES - ABOUT_TRAINING


def refusal_of_reader(path: Path) -> str:
    """What the reader, or the decoding of the masks there are, refuses a file for; empty if it is read."""
    try:
        gt = read_ground_truth(path)
        gt.masks.rles([row for row, there in enumerate(gt.masks.present) if there])
    except BadInput as error:
        return str(error)
    return ""


def square() -> Record:
    """Three images, four objects with polygons."""
    records = [object_(c, (10 * c, 20, 30, 40), i, segmentation=[[10 * c, 20, 10 * c + 30, 20, 10 * c + 30, 60]])
               for c, i in ((1, 1), (2, 1), (1, 2), (2, 3))]  # fmt: skip
    return document(records, images=(1, 2, 3))


def set_first(table: str, **fields: Any) -> Callable[[Record], None]:
    return lambda doc: doc[table][0].update(fields)


def set_all(table: str, **fields: Callable[[Record], Any]) -> Callable[[Record], None]:
    def change(doc: Record) -> None:
        for record in doc[table]:
            record.update({key: value(record) for key, value in fields.items()})

    return change


def delete(table: str, key: str, *, everywhere: bool = False) -> Callable[[Record], None]:
    def change(doc: Record) -> None:
        for record in doc[table] if everywhere else doc[table][:1]:
            del record[key]

    return change


def rename_image(to: Any) -> Callable[[Record], None]:
    def change(doc: Record) -> None:
        doc["images"][0]["id"] = to
        for record in doc["annotations"]:
            if record["image_id"] == 1:
                record["image_id"] = to

    return change


ACCEPTED, REFUSED = True, False
WHOLE = {"size": [200, 200]}

# (what is changed, the change, whether it is accepted): the decisions, each the same for the check and the reader.
DECISIONS: list[tuple[str, Callable[[Record], None], bool]] = [
    ("same", lambda doc: None, ACCEPTED),
    ("ann id string", set_first("annotations", id="1"), REFUSED),  # a text among numbers
    ("all ann ids string", set_all("annotations", id=lambda a: f"ann-{a['id']}"), ACCEPTED),  # numbered, with a note
    ("all ann ids text of numbers", set_all("annotations", id=lambda a: str(a["id"])), ACCEPTED),
    ("ann id whole float", set_first("annotations", id=1.0), ACCEPTED),
    ("ann id float", set_first("annotations", id=1.5), REFUSED),
    ("ann id missing in one", delete("annotations", "id"), REFUSED),
    ("ann id missing in all", delete("annotations", "id", everywhere=True), ACCEPTED),
    ("iscrowd 0.0", set_first("annotations", iscrowd=0.0), ACCEPTED),
    ("iscrowd 1.0", set_first("annotations", iscrowd=1.0), ACCEPTED),
    ("iscrowd false", set_first("annotations", iscrowd=False), ACCEPTED),
    ("iscrowd 2", set_first("annotations", iscrowd=2), REFUSED),
    ("iscrowd null", set_first("annotations", iscrowd=None), ACCEPTED),  # an absent flag
    ("ignore null", set_first("annotations", ignore=None), ACCEPTED),
    ("ignore text", set_first("annotations", ignore="0"), ACCEPTED),  # the only one of its field: all agree
    ("iscrowd text in one", set_first("annotations", iscrowd="0"), REFUSED),
    ("ignore 2", set_first("annotations", ignore=2), REFUSED),
    ("area missing in one", delete("annotations", "area"), REFUSED),
    ("area missing in all", delete("annotations", "area", everywhere=True), ACCEPTED),
    ("area null in one", set_first("annotations", area=None), REFUSED),
    ("area string", set_first("annotations", area="1200"), REFUSED),
    ("areas all strings", set_all("annotations", area=lambda a: str(a["area"])), ACCEPTED),
    ("area negative", set_first("annotations", area=-5), REFUSED),
    ("area list", set_first("annotations", area=[1200]), REFUSED),
    ("category name null", set_first("categories", name=None), ACCEPTED),
    ("category name int", set_first("categories", name=7), ACCEPTED),  # its text
    ("category name list", set_first("categories", name=["a"]), REFUSED),
    ("category id string", set_first("categories", id="1"), REFUSED),
    ("category id of an annotation string", set_first("annotations", category_id="1"), REFUSED),
    ("category ids all strings", lambda doc: (set_all("categories", id=lambda c: str(c["id"]))(doc),
                                              set_all("annotations", category_id=lambda a: str(a["category_id"]))(doc),
                                              None)[-1], ACCEPTED),
    ("image id string", lambda doc: (set_all("images", id=lambda i: f"x{i['id']}")(doc),
                                     set_all("annotations", image_id=lambda a: f"x{a['image_id']}")(doc), None)[-1],
     ACCEPTED),
    ("image ids text in annotations", set_all("annotations", image_id=lambda a: str(a["image_id"])), ACCEPTED),
    ("image ids text in images", set_all("images", id=lambda i: str(i["id"])), ACCEPTED),
    ("image ids mixed", rename_image("one"), REFUSED),
    ("image id huge", rename_image(2**70), REFUSED),
    ("image id bool", set_first("images", id=True), REFUSED),
    ("image id whole floats", set_all("annotations", image_id=lambda a: float(a["image_id"])), ACCEPTED),
    ("bbox huge", set_first("annotations", bbox=[0, 0, 1e300, 5]), REFUSED),
    ("bbox tiny side", set_first("annotations", bbox=[0, 0, 1e-300, 5]), REFUSED),
    ("bbox null, mask", set_first("annotations", bbox=None), ACCEPTED),  # the mask's box, with a warning
    ("bbox empty list, mask", set_first("annotations", bbox=[]), REFUSED),
    ("bbox 5 numbers", set_first("annotations", bbox=[1, 2, 3, 4, 5]), REFUSED),
    ("bbox outside its image", set_first("annotations", bbox=[300, 300, 10, 10]), ACCEPTED),  # pycocotools counts it
    ("segmentation {}", set_first("annotations", segmentation={}), REFUSED),
    ('segmentation ""', set_first("annotations", segmentation=""), REFUSED),
    ("segmentation [[]] everywhere", set_all("annotations", segmentation=lambda a: [[]]), ACCEPTED),  # no masks
    ("polygon wild point", set_first("annotations", segmentation=[[1, 1, 9, 1, 1e7, 9]]), REFUSED),
    ("polygon extra point", set_first("annotations", segmentation=[[1, 1, 9, 1, 9, 9], [5, 5]]), ACCEPTED),
    ("polygon first point", set_first("annotations", segmentation=[[5, 5, 6, 6], [1, 1, 9, 1, 9, 9]]), ACCEPTED),
    ("polygon a line only", set_first("annotations", segmentation=[[5, 5, 6, 6]]), REFUSED),
    ("polygon odd", set_first("annotations", segmentation=[[1, 1, 9, 1, 9, 9, 2]]), REFUSED),
    ("polygon flat", set_first("annotations", segmentation=[1, 1, 9, 1, 9, 9]), REFUSED),
    ("polygon pairs", set_first("annotations", segmentation=[[[1, 1], [9, 1], [9, 9]]]), REFUSED),
    ("polygon nan", set_first("annotations", segmentation=[[1, 1, 9, float("nan"), 9, 9]]), REFUSED),
    ("width missing", delete("images", "width"), REFUSED),  # polygons need it
    ("width 0 height 0", set_first("images", width=0, height=0), REFUSED),
    ("width 200.0", set_first("images", width=200.0), ACCEPTED),
    ("widths all text", set_all("images", width=lambda i: str(i["width"])), ACCEPTED),
    ("no categories", lambda doc: doc.update(categories=[]), REFUSED),
    ("no images", lambda doc: doc.update(images=[]), REFUSED),
    ("neg_category_ids", set_first("images", neg_category_ids=[1]), REFUSED),
    ("file_name int", set_first("images", file_name=5), REFUSED),
    ("RLE of bytes text", set_first("annotations", segmentation={**WHOLE, "counts": "b'0PR1b0'"}), REFUSED),  # damaged
    ("RLE float counts", set_first("annotations", segmentation={**WHOLE, "counts": [1e4, 3e4]}), ACCEPTED),
    ("RLE counts null", set_first("annotations", segmentation={**WHOLE, "counts": None}), REFUSED),
    ("images null", lambda doc: doc.update(images=None), REFUSED),
    ("an annotation that is no record", lambda doc: doc["annotations"].append(3), REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("change", "accepted"), [case[1:] for case in DECISIONS], ids=[case[0] for case in DECISIONS])
def test_the_check_and_the_reader_decide_alike(
    change: Callable[[Record], None], accepted: bool, tmp_path: Path
) -> None:
    doc = square()
    change(doc)
    path = write(tmp_path / "gt.json", doc)
    refusal, errors = refusal_of_reader(path), errors_of_check(path)
    assert (not refusal, not errors) == (accepted, accepted), (refusal, errors)
    assert "\n" not in refusal


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["polygons", "compressed", "uncompressed", "only-masks", "boxes"]), seed=st.integers(0, 10**9)
)
@example(kind="uncompressed", seed=3807800)  # a height of 10**400
def test_on_damaged_files_too(kind: str, seed: int, tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    path.write_bytes(mutate(documents(kind)[0], random.Random(seed)))
    refusal = refusal_of_reader(path)
    try:
        errors = errors_of_check(path)
    except BadInput:
        assert refusal  # no JSON at all
        return
    assert bool(refusal) == bool(errors), (refusal, errors)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["polygons", "compressed", "only-masks"]), seed=st.integers(0, 10**9))
def test_a_bad_record_that_is_refused_can_be_left_out(kind: str, seed: int, tmp_path: Path) -> None:
    """Where the refusal is of records, dropping them gives the file without them; otherwise it is refused as before."""
    path = tmp_path / "gt.json"
    path.write_bytes(mutate(documents(kind)[0], random.Random(seed)))
    refused = refusal_of(path)
    if isinstance(refused, BadRecords):
        left = refusal_of(path, drop_invalid=True)
        if left is None:
            gt = read_ground_truth(path, drop_invalid=True)
            assert any("bad records and are left out (--drop-invalid)" in warning for warning in gt.warnings)
        else:
            assert "annotations are bad records, so none would remain" in str(left)
    else:
        assert str(refusal_of(path, drop_invalid=True)) == str(refused)


def refusal_of(path: Path, **options: bool) -> BadInput | None:
    try:
        read_ground_truth(path, **options)
    except BadInput as error:
        return error
    return None


class TestSpellings:
    def same(self, folder: Path, change: Callable[[Record], None], *notes: str) -> GroundTruth:
        """The changed file is read as the plain one, with these notes."""
        doc = square()
        change(doc)
        plain = read_ground_truth(write(folder / "plain.json", square()))
        other = read_ground_truth(write(folder / "other.json", doc))
        assert other.digest == plain.digest
        assert len(other.warnings) == len(notes)
        for note, warning in zip(notes, other.warnings, strict=True):
            assert note in warning
        return other

    def test_whole_floats_are_numbers_without_a_note(self, tmp_path: Path) -> None:
        self.same(
            tmp_path, set_all("annotations", id=lambda a: float(a["id"]), category_id=lambda a: 1.0 * a["category_id"])
        )
        self.same(tmp_path, set_all("annotations", iscrowd=lambda a: 0.0, ignore=lambda a: None))

    def test_text_is_read_where_all_of_a_field_agree(self, tmp_path: Path) -> None:
        self.same(tmp_path, set_all("categories", id=lambda c: str(c["id"])), "id of the categories is text ('1')")
        self.same(
            tmp_path, set_all("annotations", image_id=lambda a: str(a["image_id"])), "image_id of the annotations"
        )
        self.same(tmp_path, set_all("images", width=lambda i: "200", height=lambda i: "200.0"), "width of", "height of")

    def test_a_drawn_name_of_an_annotation_is_replaced_by_a_number(self, tmp_path: Path) -> None:
        gt = self.same(tmp_path, set_all("annotations", id=lambda a: f"uuid-{a['id']}"), "numbered from 1 instead")
        assert gt.annotation_id.tolist() == [1, 2, 3, 4]

    def test_label_studio(self) -> None:
        """Expected values of pycocotools on the repaired file."""
        folder = "y04-label-studio"
        gt = read_ground_truth(shared_case(folder, "result_category_attribute.json"))
        metrics = coco_metrics(gt, read_detections(shared_case(folder, "dt_from_1.json"), gt))
        assert (round(metrics["AP"], 1), round(metrics["AP50"], 1)) == (47.5, 69.8)

    def test_of_predictions(self, tmp_path: Path) -> None:
        gt = read_ground_truth(write(tmp_path / "gt.json", square()))
        records = [found(1, (10, 20, 30, 40), 0.5, 1), found(2, (20, 20, 30, 40), 0.25, 3)]
        plain = read_detections(write(tmp_path / "plain.json", records), gt)
        other = [
            {**r, "image_id": float(r["image_id"]), "category_id": str(r["category_id"]), "score": str(r["score"])}
            for r in records
        ]
        read = read_detections(write(tmp_path / "other.json", other), gt)
        for column in ("box", "score", "category", "image", "row"):
            assert getattr(read, column).tolist() == getattr(plain, column).tolist()
        assert [warning.split(" is")[0] for warning in read.warnings[:2]] == ["category_id", "score"]


class TestDroppedRecords:
    def test_the_rest_is_as_a_file_without_them(self, tmp_path: Path) -> None:
        doc = square()
        clean = copy.deepcopy(doc)
        del clean["annotations"][1:3]
        doc["annotations"][1]["bbox"] = [1, 2, -3, 4]
        doc["annotations"][2]["image_id"] = 99
        path = write(tmp_path / "gt.json", doc)
        with pytest.raises(
            BadRecords, match=r"annotations\[1\] \(id 2\) has a negative side.* \(2 bad records in total\)"
        ):
            read_ground_truth(path)
        gt = read_ground_truth(path, drop_invalid=True)
        assert gt.digest == read_ground_truth(write(tmp_path / "clean.json", clean)).digest
        (note,) = gt.warnings
        assert note.startswith(
            "2 of 4 annotations are bad records and are left out (--drop-invalid): the bbox [1, 2, -3, 4] of "
        )

    def test_a_file_of_bad_records_alone_is_refused(self, tmp_path: Path) -> None:
        doc = square()
        for record in doc["annotations"]:
            record["category_id"] = 99
        with pytest.raises(
            BadInput, match=r"all 4 annotations are bad records, so none would remain: annotations\[0\]"
        ):
            read_ground_truth(write(tmp_path / "gt.json", doc), drop_invalid=True)
        gt = read_ground_truth(write(tmp_path / "gt.json", square()))
        with pytest.raises(BadInput, match="all 2 detections are bad records"):
            read_detections(write(tmp_path / "dt.json", [1, 2]), gt, drop_invalid=True)

    def test_a_bad_mask_matters_only_where_masks_are_compared(self, tmp_path: Path) -> None:
        doc = square()
        doc["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
        path = write(tmp_path / "gt.json", doc)
        assert len(read_ground_truth(path, drop_invalid=True)) == 4
        gt = read_ground_truth(path, drop_invalid=True, iou_type="segm")
        assert gt.annotation_id.tolist() == [2, 3, 4]
        gt.masks.decode()

    def test_of_predictions(self, tmp_path: Path) -> None:
        gt = read_ground_truth(write(tmp_path / "gt.json", square()))
        box = (10, 20, 30, 40)
        records = [
            found(1, box, 0.5, segmentation=[[1, 1, 9, 1, 9, 9]]),
            found(1, box, float("nan"), segmentation=[[1, 1, 9, 1, 9, 9]]),
            found(1, (1, 1, -1, 1), 0.5, segmentation=[[1, 1, 9, 1, 9, 9]]),
            found(1, box, 0.5, segmentation=[[1, 1]]),
            found(1, box, 0.5),
            3,
        ]
        path = write(tmp_path / "dt.json", records)
        with pytest.raises(BadRecords, match=r"record\[5\] is not a record but 3.* \(3 bad records in total\)"):
            read_detections(path, gt)
        assert read_detections(path, gt, drop_invalid=True).row.tolist() == [0, 3, 4]
        dt = read_detections(path, gt, drop_invalid=True, iou_type="segm")
        assert dt.row.tolist() == [0]
        assert [warning[:18] for warning in dt.warnings[:2]] == ["3 of 6 detections ", "2 of 3 detections "]

    @pytest.mark.parametrize("name", ["gt_extra_point", "gt_extra_line"])
    def test_parts_without_area_are_left_out(self, name: str) -> None:
        """Expected values of pycocotools, on the same file and on that without the stray part."""
        gt = read_ground_truth(shared_case("m01-one-point-polygons", f"{name}.json"))
        dt = read_detections(shared_case("m01-one-point-polygons", "dt.json"), gt)
        metrics = coco_metrics(gt, dt, iou_type="segm")
        assert (round(metrics["AP"], 1), round(metrics["AP50"], 1)) == (50.3, 73.6)
        assert gt.masks.notes == (
            "1 masks have polygon parts with fewer than 3 points: these parts have no area and are left out",
        )

    def test_a_dropped_object_is_one_that_pycocotools_does_not_see(self, tmp_path: Path) -> None:
        right = json.loads(shared_case("m01-one-point-polygons", "right.json").read_text())
        bad = json.loads(shared_case("m01-one-point-polygons", "gt_negative_side.json").read_text())
        ids = {a["id"] for a in bad["annotations"] if min(a["bbox"][2:]) < 0}
        right["annotations"] = [a for a in right["annotations"] if a["id"] not in ids]
        repaired = write(tmp_path / "repaired.json", right)
        results = shared_case("m01-one-point-polygons", "dt.json")
        gt = read_ground_truth(write(tmp_path / "bad.json", bad), drop_invalid=True, iou_type="segm")
        own = coco_metrics(gt, read_detections(results, gt), iou_type="segm")
        assert list(own.values()) == pytest.approx(
            list(pycocotools_metrics(repaired, results, iou_type="segm").values()), abs=1e-9
        )


def test_the_whole_file_is_told_before_its_records() -> None:
    """Where the tables are wrong, no record is called bad for it."""
    doc = square()
    doc["images"] = {}
    doc["annotations"][0]["bbox"] = 3
    checked = check_document(Path("gt.json"), json.dumps(doc).encode())
    with pytest.raises(BadInput, match="'images' is missing or not a list") as caught:
        refuse(checked.path, checked.problems)
    assert not isinstance(caught.value, BadRecords)
