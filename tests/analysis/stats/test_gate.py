"""The gate passes equal models and fails worse ones, by its interval alone; its comment says what it covers."""

import json
from pathlib import Path

import msgspec
import pytest

from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.stats.gate import iou_of
from benchmarks.gate import simulate
from tests.command_line import run

IMAGES = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gate")
    scene = simulate_scene(IMAGES, 3, 1)
    flaws = {"good": Flaws(), "equal": Flaws(), "bad": Flaws(missed=0.7, confused=0.3)}
    documents = {"gt": ground_truth_document(scene)} | {
        name: simulate_detector(scene, one, seed) for seed, (name, one) in enumerate(flaws.items())
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(document))
    return {name: folder / f"{name}.json" for name in documents}


def test_in_simulation_equal_models_pass_and_a_true_drop_fails() -> None:
    """A small seeded sample; tests/campaign/test_gate.py has the proof."""
    rates = simulate(trials=12, images=200, resamples=200, seed=3)
    assert rates.equal_passed >= 0.9
    assert rates.worse_failed >= 0.9
    assert rates.drop > 2 * rates.half  # else a drop of nothing was allowed


def test_a_worse_model_fails_with_exit_code_6(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comment.md"
    gate = ("analyze", "gate", files["bad"], files["good"], "--gt", files["gt"], "--out", out)
    assert run(monkeypatch, *gate) == 6
    shown = capsys.readouterr()
    assert shown.err.startswith("error: AP50 of bad minus good: -")
    assert shown.err.count("\n") == 1
    assert shown.out == out.read_text()
    assert shown.out.startswith("### detablate gate FAILED\n")
    assert "variation between trainings is not covered" in shown.out
    assert "Error types that changed" in shown.out
    assert "| AP50 |" in shown.out


def test_the_limit_is_the_upper_end_of_the_interval(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ("analyze", "gate", files["bad"], files["good"], "--gt", files["gt"], "--metric", "AP75", "--json")
    assert run(monkeypatch, *gate) == 6
    high = json.loads(capsys.readouterr().out)["difference"]["high"]
    assert high < 0
    for allowed, code in ((-high - 0.01, 6), (-high + 0.01, 0)):
        assert run(monkeypatch, *gate, "--max-drop", allowed) == code
        document = json.loads(capsys.readouterr().out)
        assert (document["passed"], document["metric"], document["max_drop"]) == (code == 0, "AP75", allowed)


def test_the_interval_is_that_of_compare(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "analyze", "gate", files["equal"], files["good"], "--gt", files["gt"],
               "--json", "--seed", 5) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)["difference"]
    assert run(monkeypatch, "analyze", "compare", files["good"], files["equal"], "--gt", files["gt"], "--json",
               "--seed", 5) == 0  # fmt: skip
    theirs = json.loads(capsys.readouterr().out)["against_baseline"][0]["differences"]["AP50"]
    assert found == {key: theirs[key] for key in found}


def test_the_same_file_twice_passes_and_is_told(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (f"new={files['good']}", f"base={files['good']}")
    assert run(monkeypatch, "analyze", "gate", *names, "--gt", files["gt"]) == 0
    assert "check that they are from different models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--metric", "mAP"), 4, "must be AP, or AP at an IoU in percent"),
        (("--metric", "AP0"), 4, "must be AP, or AP at an IoU in percent"),
        (("--max-drop", "-1"), 2, "max-drop"),
        (("--max-drop", "inf"), 4, "must be a number of points"),
        (("--resamples", "5"), 4, "too few"),
    ],
)
def test_bad_options_are_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...], code: int, says: str,
) -> None:  # fmt: skip
    assert run(monkeypatch, "analyze", "gate", files["good"], files["bad"], "--gt", files["gt"], *options) == code
    assert says in capsys.readouterr().err


def test_one_image_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    scene = simulate_scene(1, 1, 1)
    (tmp_path / "gt.json").write_bytes(msgspec.json.encode(ground_truth_document(scene)))
    for seed, name in enumerate("ab"):
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(simulate_detector(scene, Flaws(), seed)))
    assert (
        run(monkeypatch, "analyze", "gate", tmp_path / "a.json", tmp_path / "b.json", "--gt", tmp_path / "gt.json") == 4
    )
    assert "the gate cannot decide" in capsys.readouterr().err


def test_the_iou_of_a_metric() -> None:
    assert [iou_of(name) for name in ("AP", "AP50", "AP75", "AP5")] == [0.5, 0.5, 0.75, 0.05]
