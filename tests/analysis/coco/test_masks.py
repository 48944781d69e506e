"""Polygons, compressed and uncompressed RLE: the same mask gives the same numbers, and a damaged one is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from analysis import BadInput, break_down, coco_metrics, read_detections, read_ground_truth
from analysis.coco.masks import covers, run_lengths
from tests.analysis.cases import Record, document, found, object_, read, write
from tests.analysis.mutations import HEIGHT, WIDTH, documents
from tests.analysis.real_pairs import FAKE_MASKS, MASKS

decoding = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on NumPy 2
FEW = settings(max_examples=100, deadline=None)


@st.composite
def pixels(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Random masks, u8[height, width] in Fortran order, with runs short and long."""
    height, width = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    runs = draw(st.lists(st.one_of(st.integers(1, 40), st.integers(1, 3000)), min_size=1, max_size=40))
    flat = np.resize(np.repeat(np.arange(len(runs)) % 2, runs), height * width).astype(np.uint8)
    return np.asfortranarray(flat.reshape(width, height).T)


@given(st.lists(pixels(), min_size=1, max_size=6))
@FEW
def test_runs_equal_pycocotools(images: list[np.ndarray[Any, Any]]) -> None:
    codes = []
    for image in images:
        rle = mask.encode(image)
        codes.append(rle["counts"])
        runs = run_lengths(rle["counts"].decode())
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), image.ravel(order="F"))
    assert covers(codes, [image.shape for image in images]).all()
    assert not covers(codes, [(height, width + 1) for height, width in (image.shape for image in images)]).any()


@given(st.lists(pixels(), min_size=2, max_size=6), st.data())
@FEW
def test_one_damaged_code_among_others_is_found(images: list[np.ndarray[Any, Any]], data: st.DataObject) -> None:
    """Whatever the damage, its neighbours stay good."""
    codes = [mask.encode(image)["counts"] for image in images]
    place = data.draw(st.integers(0, len(codes) - 1))
    code = codes[place]
    damage = data.draw(st.sampled_from(["cut", "empty", "letter", "longer", "endless"]))
    codes[place] = {
        "cut": code[:-1], "empty": b"", "letter": b"~" + code, "longer": code + b"1", "endless": code + b"o" * 12,
    }[damage]  # fmt: skip
    good = covers(codes, [image.shape for image in images])
    assert good.tolist() == [i != place for i in range(len(codes))]


@decoding
@pytest.mark.parametrize("kind", ["polygons", "compressed", "uncompressed"])
def test_every_spelling_gives_the_same_masks(kind: str, tmp_path: Path) -> None:
    (truth, results), (other_truth, other_results) = documents(kind), documents("compressed")
    gt = read_ground_truth(write(tmp_path / "gt.json", truth))
    dt = read_detections(write(tmp_path / "dt.json", results), gt)
    expected_gt = read_ground_truth(write(tmp_path / "other_gt.json", other_truth))
    expected_dt = read_detections(write(tmp_path / "other_dt.json", other_results), expected_gt)
    for masks, expected in ((gt.masks, expected_gt.masks), (dt.masks, expected_dt.masks)):
        for row in range(len(expected.area)):
            assert np.array_equal(mask.decode(masks.rle(row)), mask.decode(expected.rle(row)))
        assert masks.area.tolist() == expected.area.tolist()
    for convention in ("coco", "tidecv"):
        result = break_down(gt, dt, convention=convention, iou_type="segm")
        assert result.raw == break_down(expected_gt, expected_dt, convention=convention, iou_type="segm").raw
        assert result.labels.iou.tolist() == break_down(gt, dt, convention=convention).labels.iou.tolist()
    assert coco_metrics(gt, dt, iou_type="segm") == coco_metrics(expected_gt, expected_dt, iou_type="segm")


def test_boxes_come_from_masks_where_there_are_none(tmp_path: Path) -> None:
    truth, results = documents("compressed")
    bare_truth, bare_results = documents("only-masks")
    gt = read_ground_truth(write(tmp_path / "gt.json", bare_truth))
    dt = read_detections(write(tmp_path / "dt.json", bare_results), gt)
    assert gt.box.tolist() == [a["bbox"] for a in truth["annotations"]]
    assert dt.box.tolist() == [r["bbox"] for r in results]
    assert gt.warnings == ("5 annotations have no bbox: it was computed from their masks",)


def test_areas_come_from_masks_where_there_are_none(tmp_path: Path) -> None:
    truth, _ = documents("polygons")
    for a in truth["annotations"]:
        del a["area"]
        a["bbox"][0] += 0.5
        a["bbox"][2] -= 0.5
    gt = read_ground_truth(write(tmp_path / "gt.json", truth))
    assert gt.area_of("segm").tolist() == [64, 36, 100, 48, 320]
    assert gt.area_of("bbox").tolist() == [60, 33, 95, 44, 312]


@pytest.mark.parametrize("spelling", ["[]", "[ ]", "null", "[\n]", "[[]]", "[[], []]", None])
def test_an_empty_segmentation_is_no_mask(spelling: str | None, tmp_path: Path) -> None:
    """It is no matter for boxes, also where a reader of tidecv fails; masks need one."""
    truth, results = documents("polygons")
    if spelling is None:
        del truth["annotations"][1]["segmentation"]
    else:
        truth["annotations"][1]["segmentation"] = "HERE"
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(truth).replace('"HERE"', spelling or ""))
    gt = read_ground_truth(path)
    assert gt.masks.present.tolist() == [True, False, True, True, True]
    dt = read_detections(write(tmp_path / "dt.json", results), gt)
    assert break_down(gt, dt).true_positives == 2
    with pytest.raises(BadInput, match=r"gt.json: annotations\[1\] has no segmentation, so masks cannot be compared"):
        break_down(gt, dt, iou_type="segm")


def test_boxes_alone_cannot_be_compared_as_masks(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, (0, 0, 9, 9))], [found(1, (0, 0, 9, 9), 0.5)])
    for analysis in (break_down, coco_metrics):
        with pytest.raises(BadInput, match=r"dt.json: record\[0\] has no segmentation.*use --iou-type bbox"):
            analysis(gt, dt, iou_type="segm")


def test_boxes_alone_are_refused_on_an_image_without_objects_too(tmp_path: Path) -> None:
    """Nothing escapes the checks because there happens to be nothing to compare with."""
    gt, dt = read(tmp_path, [], [found(1, (0, 0, 9, 9), 0.5)])
    with pytest.raises(BadInput, match="has no segmentation"):
        break_down(gt, dt, iou_type="segm")


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        ([[1, 1, 2, 2]], "is not a polygon: it needs at least 3 points"),
        ([[1, 1, 2, 2, 3]], "is not a polygon"),
        ([[1, 1, 2, 2, 3, 3, 4]], "is not a polygon"),
        ([[1, 1, 2, 2, 3, 1e7]], "has coordinates far outside its image"),
        ([1, 1, 2, 2, 3, 3], "polygon [0]: expected array, got int"),
        ("PPP", "expected object | array, got str"),
        ({"size": [HEIGHT, WIDTH]}, "object missing required field counts"),
        ({"size": [WIDTH, HEIGHT], "counts": [320]}, "is 20 x 16 pixels (height x width) but its image is 16 x 20"),
        ({"size": [HEIGHT, WIDTH], "counts": [319]}, "does not cover its 16 x 20 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [321, -1]}, "does not cover its 16 x 20 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": []}, "does not cover its 16 x 20 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "does not cover its 16 x 20 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": "PO"}, "does not cover its 16 x 20 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": "\u20ac"}, "does not cover its 16 x 20 pixels"),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["gt", "dt"])
def test_what_is_refused(side: str, segmentation: Any, expected: str, tmp_path: Path) -> None:
    truth, results = documents("polygons")
    records = truth["annotations"] if side == "gt" else results
    records[2]["segmentation"] = segmentation
    gt = read_ground_truth(write(tmp_path / "gt.json", truth))
    dt = read_detections(write(tmp_path / "dt.json", results), gt)
    assert break_down(gt, dt).true_positives == 2  # boxes do not mind
    assert len(gt.digest) == 64
    with pytest.raises(BadInput) as caught:
        break_down(gt, dt, iou_type="segm")
    kind = "annotations" if side == "gt" else "record"
    assert str(caught.value).startswith(f"{tmp_path / side}.json: the segmentation of {kind}[2]")
    assert expected in str(caught.value)


def test_polygons_need_the_size_of_the_image(tmp_path: Path) -> None:
    truth, results = documents("polygons")
    for image in truth["images"]:
        del image["width"]
    gt = read_ground_truth(write(tmp_path / "gt.json", truth))
    dt = read_detections(write(tmp_path / "dt.json", results), gt)
    with pytest.raises(BadInput, match="its image has no width and height"):
        break_down(gt, dt, iou_type="segm")


def test_only_the_refused_mask_is_forgotten(tmp_path: Path) -> None:
    """After a refusal the good masks can still be had, the bad one is refused again."""
    truth, _ = documents("compressed")
    truth["annotations"][1]["segmentation"]["counts"] = "52203"
    gt = read_ground_truth(write(tmp_path / "gt.json", truth))
    for _ in range(2):
        with pytest.raises(BadInput, match=r"annotations\[1\]"):
            gt.masks.rles([0, 1, 2])
    assert gt.masks.rle(0)["size"] == [HEIGHT, WIDTH]


def test_areas_above_eight_bits(tmp_path: Path) -> None:
    """pycocotools returns a list's areas in eight bits; each alone is right."""
    rle = {"size": [200, 200], "counts": [0, 40000]}
    truth: Record = document([object_(1, (0, 0, 200, 200), segmentation=rle)] * 2)
    assert read_ground_truth(write(tmp_path / "gt.json", truth)).masks.area.tolist() == [40000, 40000]


@decoding
@pytest.mark.parametrize("pair", [MASKS, FAKE_MASKS], ids=str)
def test_real_masks_equal_pycocotools(pair: Any) -> None:
    from pycocotools.coco import COCO

    path, _ = pair.paths()
    gt = read_ground_truth(path)
    coco = COCO()
    coco.dataset = json.loads(path.read_bytes())
    coco.createIndex()
    for row in range(0, len(gt), 5):
        expected = coco.annToRLE(coco.dataset["annotations"][row])
        assert np.array_equal(mask.decode(gt.masks.rle(row)), mask.decode(expected))
