"""What the version before the packages were laid out anew wrote and printed: it stays readable, and equal.

Its runs were made before the images entered the run id: they are shown as such, and new runs do not reuse them.
"""

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import run
from tests.shared_data import shared_data

GOLDEN = Path(__file__).parent / "golden"
STORED_RUN = "20c16ee46a4d"
VAL = "coco_val2017_206"
DETECTORS = [f"dt_bbox_{name}.json.gz" for name in ("yolov8n", "yolov8m", "efficientdet-lite2", "yolov5s-seg")]
SHARED = {
    "boxes-coco": (VAL, "gt_bbox_206.json", DETECTORS, ["errors"]),
    "boxes-tidecv": (VAL, "gt_bbox_206.json", DETECTORS[:2], ["errors", "--convention", "tidecv"]),
    "masks-coco": (VAL, "gt_masks_179.json", ["dt_masks_yolov5s-seg.json.gz"], ["errors", "--iou-type", "segm"]),
    "voc-difficult-ignored": (
        "voc2007_test_4952", "gt_voc2007_test.json.gz", ["dt_yolov2.json.gz"], ["errors", "--respect-ignore"],
    ),
    "boxes-ap": (VAL, "gt_bbox_206.json", DETECTORS, ["ap"]),
    "masks-ap": (VAL, "gt_masks_179.json", ["dt_masks_yolov5s-seg.json.gz"], ["ap", "--iou-type", "segm"]),
}  # fmt: skip


def assert_equal(found: Any, expected: Any, at: str = "document") -> None:
    """The same keys (there may be new ones), lengths, words and whole numbers; floats within 1e-9 of each other."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), at
        assert [key for key in found if key in expected] == list(expected), at
        for key, value in expected.items():
            assert_equal(found[key], value, f"{at}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list), at
        assert len(found) == len(expected), at
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{at}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), at
    else:
        assert type(found) is type(expected), at
        assert found == expected, at


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert run(monkeypatch, *arguments) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("golden", "command"),
    [
        ("errors", ["errors", "--by", "all", "--intervals"]),
        ("errors-tidecv", ["errors", "--by", "all", "--convention", "tidecv"]),
        ("ap", ["ap"]),
        ("compare", ["compare"]),
    ],
)
def test_documents_of_simulated_detectors(
    golden: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for packed in (GOLDEN / "analysis").glob("*.json.gz"):
        (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.chdir(tmp_path)
    files = ("confused-classes.json", "sloppy-boxes.json", "--gt", "ground_truth.json", "--json")
    found = printed(monkeypatch, capsys, "analyze", command[0], *files, *command[1:])
    assert_equal(found, json.loads((GOLDEN / "analysis" / f"{golden}.json").read_text()))


@pytest.mark.parametrize("name", SHARED)
def test_documents_of_real_detectors(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth, predictions, command = SHARED[name]
    files = [shared_data(folder, file) for file in predictions]
    found = printed(
        monkeypatch, capsys, "analyze", command[0], *files, "--gt", shared_data(folder, truth), *command[1:], "--json"
    )
    found["ground_truth"].pop("path")
    for one in found["runs"]:
        one.pop("path")
    assert_equal(found, json.loads((GOLDEN / "analysis" / "shared-detectors.json").read_text())[name])


@pytest.fixture
def store(shapes_data: Path, tmp_path: Path) -> Path:
    """A root with the stored study of two variants and two seeds and the stored run, and the data they were made of."""
    root = tmp_path / "root"
    shutil.copytree(GOLDEN / "store", root)
    for packed in root.glob("results/runs/*/predictions.json.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    shutil.copytree(shapes_data, root / "results" / "data")
    return root


@pytest.mark.parametrize("verb", ["table", "compare"])
def test_documents_of_a_stored_study(
    verb: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(monkeypatch, capsys, "ablate", verb, "golden", "--root", store, "--json")
    expected = json.loads((GOLDEN / "store" / f"{verb}.json").read_text())
    for document in (found, expected):
        if "ground_truth" in document:
            document["ground_truth"].pop("path")
        for one in document.get("runs", []):
            one.pop("path", None)
        for one in document.get("published", []):  # more of what the papers say is told since then
            for known in ("epochs", "iterations", "schedule", "note"):
                one["finding"].pop(known, None)
    assert_equal(found, expected)


def test_without_a_file_the_first_line_says_whose_predictions_are_analyzed(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = r"study golden, finished (less than a minute|\d+ \w+) ago; runs window, seed 0; window, seed 1; hybrid, .*"
    assert run(monkeypatch, "analyze", "ap", "--root", store) == 0
    assert re.fullmatch(said, capsys.readouterr().out.splitlines()[0])
    document = printed(monkeypatch, capsys, "analyze", "errors", "--root", store, "--json")
    assert re.fullmatch(said, document["source"])


def test_a_stored_study_is_finished(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(monkeypatch, capsys, "ablate", "status", "golden", "--root", store, "--json")
    assert [one["state"] for one in found["runs"]] == ["finished"] * 4


@pytest.mark.parametrize("verb", ["table", "list", "status"])
def test_a_stored_study_is_shown_as_older(
    verb: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = () if verb == "list" else ("golden",)
    assert run(monkeypatch, "ablate", verb, *study, "--root", store) == 0
    assert "made before image contents entered the run id" in " ".join(capsys.readouterr().out.split())


def test_a_stored_study_is_not_planned_again_under_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((store / "results" / "studies" / "golden" / "study.json").read_text())
    settings = [part for key, value in stored["settings"].items() for part in ("--set", f"{key}={json.dumps(value)}")]
    only = [part for name in ("window", "hybrid") for part in ("--only", name)]
    command = ["ablate", "attention", "--root", store, "--name", "golden", "--seeds", "0,1", *only, *settings]
    assert run(monkeypatch, *command) == 4
    assert "whose images, annotations, weights or rules in this program have changed" in capsys.readouterr().err


def test_a_stored_run_stays_as_it_is_and_lends_no_weights(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The config of its folder is another run now, trained from the start."""
    from ablate.runs.folder import RunFolder
    from ablate.runs.manifest import older_rule

    runs = store / "results" / "runs"
    stored = {path.name for path in runs.iterdir()}
    folder = runs / STORED_RUN
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert run(monkeypatch, "ablate", "run", folder / "config.yaml", "--root", store) == 0
    (new,) = {path.name for path in runs.iterdir()} - stored
    assert f"results/runs/{new}" in capsys.readouterr().out
    events = [event["event"] for event in RunFolder(runs / new).read_events()]
    assert "trained" in events
    assert "weights taken over" not in events
    assert older_rule(RunFolder(runs / new)) == ""
    assert older_rule(RunFolder(folder)) == "made before image contents entered the run id"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_a_stored_checkpoint_is_read(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ablate.runs.folder import RunFolder
    from ablate.train.checkpoint import load_newest

    damaged: list[str] = []
    state = load_newest(RunFolder(store / "results" / "runs" / STORED_RUN), damaged.append)
    assert damaged == []
    assert state is not None
    assert state["iteration"] == 6
    assert set(state) >= {"model", "optimizer", "scaler", "seconds", "peak_gib"}
