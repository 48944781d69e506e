"""What results show of themselves in Python: frames whose labels are names, figures, one line, and HTML."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import detablate
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.render.results import figures, frames
from tests.command_line import run

PARTS = ("size", "iou", "crowding", "confusion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    detablate.write_example(folder, images=60)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    gt = detablate.read_ground_truth(folder / "ground_truth.json")
    sloppy, confused = (
        detablate.read_detections(folder / f"{name}.json", gt) for name in ("sloppy-boxes", "confused-classes")
    )
    candidates = [detablate.Candidate("sloppy <b>", (sloppy,)), detablate.Candidate("confused", (confused,))]
    return {
        "truth": gt,
        "detections": sloppy,
        "breakdown": detablate.break_down(gt, sloppy),
        "run": detablate.Analysis(gt, detablate.Settings(), PARTS).of("sloppy <b>", sloppy),
        "ap": detablate.evaluate(gt, sloppy),
        "voc": detablate.voc_ap(gt, sloppy),
        "comparison": detablate.compare(gt, candidates, resamples=400),
        "threshold": detablate.operating_points(gt, [("sloppy <b>", sloppy)], resamples=50)[0],
    }


SHOWN = {
    "breakdown": ("error", "class", "detection"),
    "run": ("error", "class", "detection", "object", *PARTS),
    "ap": ("metric", "class", "iou"),
    "voc": ("class",),
    "comparison": ("number", "class"),
    "threshold": ("rate", "class", "confusion"),
}


@pytest.mark.parametrize(("name", "by"), [(name, by) for name, ways in SHOWN.items() for by in ways])
def test_a_frame_has_names_for_labels(name: str, by: str, results: dict[str, Any]) -> None:
    frame = results[name].to_frame(by)
    assert len(frame)
    whole = frame.reset_index()
    for column in whole.columns.intersection(["class", "category", "taken for", "true", "shown", "target_category"]):
        names = set(whole[column].dropna())
        assert names <= {*results["truth"].category_name, "(background)"}, column
    if by == SHOWN[name][0]:
        pd.testing.assert_frame_equal(frame, results[name].to_frame())


def test_frames_hold_the_numbers_of_the_results(results: dict[str, Any], folder: Path) -> None:
    breakdown, truth = results["breakdown"], results["truth"]
    errors = breakdown.to_frame()
    assert [*errors.index] == [*ERRORS, *SPECIAL]
    assert errors["delta_ap"].to_dict() == breakdown.delta_ap
    assert errors["count"].dropna().astype(int).to_dict() == breakdown.count
    detections = breakdown.to_frame("detection")
    assert detections["label"].value_counts().get("loc") == breakdown.count["loc"]
    assert [*breakdown.labels.names] == [*detections["label"]]
    classes = breakdown.to_frame("class")
    assert classes["AP50"].mean() == pytest.approx(breakdown.ap)
    assert results["run"].to_frame("object")["fate"].isin(["found", "mislocalised", "confused", "missed"]).all()
    assert len(results["run"].to_frame("object")) == len(truth)
    metrics = results["ap"].to_frame()["value"]
    assert metrics.to_dict() == detablate.coco_metrics(truth, results["detections"])
    by_class = results["ap"].to_frame("class")
    assert by_class["AP"].mean() == pytest.approx(metrics["AP"])
    assert results["ap"].to_frame("iou")["AP"].mean() == pytest.approx(metrics["AP"])
    assert results["voc"].to_frame()["AP"].mean() == pytest.approx(results["voc"].mean)
    difference = results["comparison"].to_frame().loc[("confused", "AP50")]
    assert difference["difference"] == pytest.approx(
        difference["value"] - results["comparison"].to_frame().loc[("sloppy <b>", "AP50"), "value"]
    )
    assert results["threshold"].to_frame().loc["f1", "value"] == results["threshold"].point.rates["f1"].value


def test_the_frame_of_detections_is_the_file_that_out_writes(
    results: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [folder / "sloppy-boxes.json", "--gt", folder / "ground_truth.json", "-o", folder / "out"]
    assert run(monkeypatch, "analyze", "errors", *files) == 0
    written = pd.read_csv(folder / "out" / "detections.csv.gz")
    shown = results["breakdown"].to_frame("detection")
    assert [*written["label"]] == [*shown["label"]]
    assert np.allclose(written["iou"], shown["iou"], atol=1e-3)


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_is_one_line_and_a_table_and_a_figure(name: str, results: dict[str, Any]) -> None:
    result = results[name]
    line = repr(result)
    assert line.startswith(f"{type(result).__name__}(")
    assert "\n" not in line
    assert len(line) < 200
    page = result._repr_html_()
    assert "<table" in page
    assert "<b>" not in page
    picture = result.plot()._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 5000


@pytest.mark.parametrize(("name", "by"), [("breakdown", "class"), ("ap", "iou")])
def test_figures_of_parts(name: str, by: str, results: dict[str, Any]) -> None:
    assert results[name].plot(by).axes[0].has_data()


def test_another_way_to_split_is_refused_with_those_there_are(results: dict[str, Any], folder: Path) -> None:
    with pytest.raises(
        detablate.BadInput, match="Breakdown cannot be split by 'colour'; choose from error, class, detection"
    ):
        results["breakdown"].to_frame("colour")
    with pytest.raises(detablate.BadInput, match=r"cannot be split by 'size'; choose from error, class$"):
        results["breakdown"].plot("size")
    gt = results["truth"]
    plain = detablate.Analysis(gt, detablate.Settings()).of("plain", results["detections"])
    with pytest.raises(detablate.BadInput, match=r"analyze it with parts=\('size',\)"):
        plain.to_frame("size")


def test_ground_truth_and_detections_are_one_line(results: dict[str, Any]) -> None:
    assert repr(results["truth"]) == "GroundTruth(ground_truth.json: 60 images, 438 objects, 12 categories)"
    assert repr(results["detections"]) == "Detections(sloppy-boxes.json: 2,359)"


def test_numbers_alone_import_no_pandas_and_no_matplotlib(folder: Path) -> None:
    code = (
        "import sys, detablate\n"
        f"gt = detablate.read_ground_truth({str(folder / 'ground_truth.json')!r})\n"
        f"dt = detablate.read_detections({str(folder / 'sloppy-boxes.json')!r}, gt)\n"
        "detablate.break_down(gt, dt), detablate.evaluate(gt, dt)\n"
        "assert not {'pandas', 'matplotlib', 'rich'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.parametrize("annotated", [True, False])
def test_nothing_found_or_nothing_annotated_is_shown_too(annotated: bool) -> None:
    """Names that look like markup or mathematics among it."""
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "a $x$ <b>"}, {"id": 2, "name": "b_c"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.5}]
    gt, dt = detablate.load(truth if annotated else truth | {"annotations": []}, [] if annotated else found)
    for result in (
        detablate.Analysis(gt, detablate.Settings(), PARTS).of("x", dt),
        detablate.evaluate(gt, dt),
        detablate.voc_ap(gt, dt),
        detablate.operating_points(gt, [("x", dt)], resamples=10)[0],
    ):
        assert "<b>" not in result._repr_html_()
        for by in frames(result):
            assert len(result.to_frame(by)) >= 0
        for by in figures(result):
            assert result.plot(by)._repr_png_()
