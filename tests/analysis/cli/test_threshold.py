"""`analyze threshold` and `analyze ap` with other parameters, as a person and a script meet them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.coco.synthetic import write_example
from tests.analysis import cases
from tests.command_line import run

BOX = [10.0, 10.0, 40.0, 40.0]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    truth, files = write_example(tmp_path_factory.mktemp("example"), images=40, categories=4)
    return truth, list(files.values())


def test_the_document_and_the_files_say_the_same(
    example: tuple[Path, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth, files = example
    out = tmp_path / "out"
    options = ("--gt", truth, "--resamples", "20", "--per-class", "--json", "--out", out)
    assert run(monkeypatch, "analyze", "threshold", *files, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((out / "threshold.json").read_text()) == document
    first = document["runs"][0]
    with (out / "threshold.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["threshold"]) == first["threshold"]
    assert float(row["f1_value"]) == first["rates"]["f1"]["value"]
    assert first["cross_fitted"] is True
    assert len(first["fold_thresholds"]) == 5
    with (out / "threshold_curves.csv").open() as file:
        at = [one for one in csv.DictReader(file) if one["run"] == first["name"]]
    chosen = next(one for one in at if float(one["score"]) == first["threshold"])
    assert int(chosen["true_positives"]) == first["in_sample"]["true_positives"]
    assert float(chosen["f1"]) == max(float(one["f1"]) for one in at)
    shown = sum(one["count"] for one in first["confusion"] if one["shown"] != "(background)")
    assert shown == first["in_sample"]["true_positives"] + first["in_sample"]["false_positives"]
    assert (out / "threshold_confusion.png").read_bytes().startswith(b"\x89PNG")
    assert document["f1_minus_first"][document["runs"][1]["name"]]["n"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "0.7"], "stays at 0.7 or above"),
        (["--recall", "1"], "recall 1 is never reached"),
        (["--score", "5"], "no detection has a score of 5 or more"),
        (["--score", "0.5", "--all"], "Rates at the threshold"),
    ],
)
def test_every_criterion_is_said(
    options: list[str], words: str, example: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    truth, files = example
    assert run(monkeypatch, "analyze", "threshold", files[0], "--gt", truth, "--resamples", "0", *options) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_wrong_detections_with_high_scores_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best score is wrong: precision never stays at 0.6, though 0.5 reaches it with all objects found."""
    objects = [cases.object_(1, BOX, image) for image in (1, 2, 3)]
    results = [cases.found(1, [120.0, 120.0, 30.0, 30.0], 0.9, 1)]
    results += [cases.found(1, BOX, score, image) for image, score in ((1, 0.8), (2, 0.7), (3, 0.5))]
    gt, dt = cases.write(tmp_path / "gt.json", cases.document(objects, (1, 2, 3))), tmp_path / "dt.json"
    cases.write(dt, results)
    assert run(monkeypatch, "analyze", "threshold", dt, "--gt", gt, "--precision", "0.6", "--resamples", "5") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "precision stays at 0.6 or above at no score" in shown
    assert "--score 0.5 reaches 0.750 too, with recall 1.000" in shown


@pytest.mark.parametrize(
    "options",
    [
        ["threshold", "--precision", "0"],
        ["threshold", "--recall", "1.5"],
        ["threshold", "--score", "nan"],
        ["threshold", "--resamples", "-1"],
        ["ap", "--iou", "0.5:0.9"],
        ["ap", "--iou", "0.9:0.5:0.1"],
        ["ap", "--iou", "0.5:0.95:0"],
        ["ap", "--iou", "0.5:0.95:0.07"],
        ["ap", "--iou", "0,0.5"],
        ["ap", "--iou", "half"],
        ["ap", "--iou", "0.5:0.6:1e-9"],
        ["ap", "--sizes", "all:0-32"],
        ["ap", "--sizes", "small"],
        ["ap", "--by", "crowding"],
        ["ap", "--by", ""],
        ["ap", "--voc", "12"],
        ["ap", "--voc", "07", "--iou", "0.5,0.75"],
    ],
    ids=" ".join,
)
def test_what_means_nothing_is_a_usage_error(
    options: list[str], example: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    truth, files = example
    assert run(monkeypatch, "analyze", options[0], files[0], "--gt", truth, *options[1:]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_ap_files_hold_the_curves(
    example: tuple[Path, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth, files = example
    out = tmp_path / "out"
    options: list[Any] = ["--iou", "0.5,0.75", "--by", "all", "--out", out, "--json", "--verify"]
    assert run(monkeypatch, "analyze", "ap", *files, "--gt", truth, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert all("largest difference 0.0e+00" in one["result"] for one in document["verify"])
    first = document["runs"][0]
    curve = first["by_class"][0]["precision"][1]
    assert 100 * sum(curve) / 101 == pytest.approx(first["by_class"][0]["AP75"])
    assert first["by_iou"][0]["ap"] == pytest.approx(first["AP50"])
    with (out / "precision_recall.csv").open() as file:
        rows = [one for one in csv.DictReader(file) if one["run"] == first["name"]]
    own = [float(one["precision"]) for one in rows if one["class"] == first["by_class"][0]["class"]]
    assert own[101:] == curve
    assert {"ap.md", "ap_by_class.csv", "ap_by_size.tex", "precision_recall.png"} <= {p.name for p in out.iterdir()}


def test_voc_and_one_curve(
    example: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, files = example
    assert run(monkeypatch, "analyze", "ap", *files, "--gt", truth, "--voc", "10", "--json") == 0
    voc = json.loads(capsys.readouterr().out)
    assert 0 < voc["runs"][0]["mAP"] < 100
    assert run(monkeypatch, "analyze", "ap", *files, "--gt", truth, "--voc", "07") == 0
    assert "Pascal VOC: AP at IoU >= 0.5, mean precision at 11 recalls" in capsys.readouterr().out
    assert run(monkeypatch, "analyze", "ap", *files, "--gt", truth, "--micro") == 0
    assert "one curve over the detections of all categories" in " ".join(capsys.readouterr().out.split())
