"""The verbs as a person types them."""

import json
import re
from pathlib import Path

import pytest

from ablate.axes import AXES
from ablate.runs.folder import Workspace
from ablate.studies.study import list_studies, read_study
from tests.ablate.finished import finish
from tests.command_line import run

TINY = ("--set", "data.train.images=4", "--set", "data.validation.images=4")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "ablate", "attention", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "nothing is written" in out
    for text in (
        "window",
        "(the baseline)",
        "pattern global",
        "at another cost: global, checkpointed",
        "param. M",
        "GMAC",
    ):
        assert text in out
    counts = [line.split()[-4:-2] for line in out.splitlines() if line.endswith("not started")]
    assert len({tuple(pair) for pair in counts}) == 3  # window, hybrid and global are told apart
    assert list(tmp_path.iterdir()) == []


def test_planning_then_the_table(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ("--root", shapes_root)
    assert run(monkeypatch, "ablate", "head", "--seeds", "0,1", *TINY, *root) == 0
    out = capsys.readouterr().out
    assert "2 not started" in out
    (hint,) = [line.removeprefix("Run it: ") for line in out.splitlines() if line.startswith("Run it: ")]
    assert hint.endswith(f"cli.py ablate launch --root '{shapes_root}' head-tiny-shapes")
    (study,) = list_studies(Workspace(shapes_root))
    assert [(r.variant, r.seed) for r in study.runs] == [("paper", 0), ("paper", 1), ("plain", 0), ("plain", 1)]
    for planned in study.runs:
        finish(shapes_root, study, planned, 40.0 + planned.seed)
    assert run(monkeypatch, "ablate", "head", "--seeds", "0,1", *TINY, *root) == 0
    assert f"\nSee it: {hint.replace(' launch ', ' table ')}\n" in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "table", *root, "--out", shapes_root / "out") == 0
    assert "40.5" in capsys.readouterr().out
    assert (shapes_root / "out" / "table.tex").exists()
    assert run(monkeypatch, "ablate", "table", "head-tiny-shapes", "--json", *root) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"][0]["metrics"]["AP"]["each"] == [40.0, 41.0]
    assert run(monkeypatch, "ablate", "table", "nothing", *root) == 4
    assert "there is no study 'nothing'" in capsys.readouterr().err


def test_names_that_look_like_markup_are_shown_as_they_are(
    shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[red]a[/b] :smile: [0]"
    base = tmp_path / "[x] [red].yaml"
    base.write_text("base: tiny-shapes\n")
    root = ("--root", shapes_root)
    assert run(monkeypatch, "ablate", "head", "--base", base, "--name", name, *TINY, *root) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^study +{re.escape(name)}: Heads", out, re.MULTILINE)
    assert re.search(rf"^base +{re.escape(str(base))}, everything", out, re.MULTILINE)
    for verb in ("status", "list", "table"):
        assert run(monkeypatch, "ablate", verb, *([] if verb == "list" else [name]), *root) == 0
        assert name in capsys.readouterr().out


def test_an_axis_that_does_not_fit_a_base_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "residual.yaml"
    backbone = "{type: resnet, depth: 50, image_size: 64}"
    base.write_text(f"base: tiny-shapes\nmodel:\n  backbone: {backbone}\n  pyramid: {{type: fpn}}\n")
    assert run(monkeypatch, "ablate", "axes", "--base", base) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "axis attention varies a ViT, but the base has a ResNet" in rows["attention"]
    assert "70 iterations | 140 iterations" in rows["schedule"]
    assert run(monkeypatch, "ablate", "axes", "--base", base, "--json") == 0
    axes = {axis["name"]: axis for axis in json.loads(capsys.readouterr().out)["axes"]}
    assert axes["attention"]["variants"] == []
    assert "the base has a ResNet" in axes["attention"]["refused"]
    assert (len(axes["schedule"]["variants"]), axes["schedule"]["refused"]) == (5, None)
    assert run(monkeypatch, "ablate", "axes", "attention", "--base", base) == 4


def test_a_dry_run_tells_that_the_name_is_taken(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("ablate", "head", *TINY, "--root", shapes_root)
    assert run(monkeypatch, *words) == 0
    assert run(monkeypatch, *words, "--dry-run") == 0
    assert capsys.readouterr().err == ""
    assert run(monkeypatch, *words, "--dry-run", "--seeds", "0,1") == 0
    captured = capsys.readouterr()
    assert "2 not started" in captured.out
    assert "refused: a study 'head-tiny-shapes' with another seeds exists; give the new one another" in captured.err
    assert "--name head-tiny-shapes-2" in captured.err
    assert run(monkeypatch, *words, "--seeds", "0,1", "--name", "head-tiny-shapes-2") == 0
    assert run(monkeypatch, *words, "--seeds", "0,1,2", "--name", "head-tiny-shapes-2") == 4
    assert "another name, such as --name head-tiny-shapes-3" in capsys.readouterr().err


def test_a_plan_whose_data_is_not_here_is_shown_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("ablate", "window-size", "--base", "vit-b-coco", "--root", tmp_path)
    assert run(monkeypatch, *words, "--dry-run") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "instances_train2017.json: annotation file not found; give its location with --data" in shown
    assert "115.68" in shown  # M parameters of the paper's ViT-B detector with 80 classes
    assert run(monkeypatch, *words) == 4
    assert list(tmp_path.iterdir()) == []


def test_json_of_a_plan_is_one_document(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "ablate",
        "vary",
        "--vary",
        "train.lr=1e-3,2e-3",
        *TINY,
        "--root",
        shapes_root,
        "--json",
        "--name",
        "ü 1",
    )
    assert run(monkeypatch, *arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == "ü 1"
    assert document["unit"] == "lr"
    assert [record["changes"] for record in document["runs"]] == [{"train.lr": 0.001}, {"train.lr": 0.002}]
    assert document["runs"][0]["identity"] == read_study(Workspace(shapes_root), "ü 1").runs[0].run_id


def test_a_file_is_an_axis_and_can_be_crossed(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    axis = shapes_root / "rates.yaml"
    axis.write_text("name: rates\ntouches: [train.lr]\nvariants: {low: {train.lr: 1e-4}, high: {train.lr: 1e-2}}\n")
    assert run(monkeypatch, "ablate", "vary", axis, "--dry-run", "--root", shapes_root) == 0
    assert "lr 0.01" in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "head", "--product", axis, "--dry-run", "--root", shapes_root) == 0
    assert "paper x low" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["attention", "--base", "tiny"], 4, "neither a file nor a preset"),
        (["attention", "--seeds", "0,x"], 4, "must be whole numbers"),
        (["attention", "--product", "speed"], 4, "there is no axis 'speed'; the axes are attention, scale"),
        (["attention", "--only", "globl"], 4, "no such variant"),
        (["attention", "--weights", "mae=/no/such"], 4, "--weights mae=/no/such: no such file"),
        (["attention", "--dry-run", "--launch"], 2, ""),
        (["vary"], 4, "name what to vary: a YAML file with an axis, or --vary"),
        (["axes", "speed"], 4, "there is no axis 'speed'"),
        (["table"], 4, "there is no study under"),
        (["probe"], 4, "there is no study under"),
        (["attention", "--set", "train.lr"], 4, "is not a change: write KEY=VALUE"),
        (["vary", "--vary", "seed=0,1"], 4, "the seed cannot be varied as a factor: give --seeds 0,1"),
        (["head", "--name", "a\nb", "--dry-run"], 4, "--name 'a\\nb': must be one line of printable characters"),
        (["head", "--name", "a\udcff", "--dry-run"], 4, "--name 'a\\udcff': must be one line"),
        (["head", "--name", " ", "--dry-run"], 4, "--name ' ': is empty"),
        (
            ["attention", "--set", "model.backbone.attention.pattern=window", "--dry-run"],
            4,
            "--set model.backbone.attention.pattern=window has no effect: every variant of axis attention sets this",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "ablate", *arguments) == code
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_axes_are_shown_with_their_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "axes") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in AXES)
    assert run(monkeypatch, "ablate", "axes", "scale", "--base", "vit-b-coco") == 0
    out = capsys.readouterr().out
    assert "single-scale" in out
    assert "48.4" in out
    assert "arXiv 2111.11429, Table 2" in out
    assert run(monkeypatch, "ablate", "axes", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [axis["name"] for axis in document["axes"]] == list(AXES)
    assert document["axes"][0]["variants"][0]["name"] == "window"


def test_without_training_packages_help_still_answers() -> None:
    import subprocess
    import sys

    code = "import sys, ablate.cli.study; print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
