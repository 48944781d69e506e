"""`analyze errors`, `ap` and `example` as a person and a script meet them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import break_down, coco_metrics, read_detections, read_ground_truth
from analysis.coco.synthetic import write_example
from tests.command_line import run

ERRORS = ["cls", "loc", "both", "dup", "bg", "miss"]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def example(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    return write_example(tmp_path / "example", images=60)


def test_the_document_is_the_whole_of_standard_output(example, monkeypatch, capsys):
    truth, files = example
    assert run(monkeypatch, "analyze", "errors", *files.values(), "--gt", truth, "--json") == 0
    document = json.loads(capsys.readouterr().out)

    gt = read_ground_truth(truth)
    assert document["schema"] == 1
    assert document["ground_truth"] == {
        "path": str(truth), "digest": gt.digest, "images": 60, "annotations": len(gt), "crowd": 0, "categories": 12,
    }  # fmt: skip
    assert document["settings"] == {
        "iou_type": "bbox", "iou": 0.5, "background_iou": 0.1, "max_dets": 100, "convention": "coco",
        "class_agnostic": False, "min_score": None, "federated": False,
    }  # fmt: skip
    for entry, (name, path) in zip(document["runs"], files.items(), strict=True):
        expected = break_down(gt, read_detections(path, gt))
        assert (entry["name"], entry["path"], entry["ap"]) == (name, str(path), expected.ap)
        assert entry["delta_ap"] == expected.delta_ap
        assert list(entry["delta_ap"]) == [*ERRORS, "fp", "fn"]
        assert entry["count"] == expected.count


def test_ap_document(example, monkeypatch, capsys):
    truth, files = example
    assert run(monkeypatch, "analyze", "ap", files["sloppy-boxes"], "--gt", truth, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    gt = read_ground_truth(truth)
    expected = coco_metrics(gt, read_detections(files["sloppy-boxes"], gt))
    assert {key: document["runs"][0][key] for key in expected} == expected


def test_settings_reach_the_numbers(example, monkeypatch, capsys):
    truth, files = example
    options = ("--iou", "0.75", "--background-iou", "0.2", "--max-dets", "10", "--convention", "tidecv")
    assert run(monkeypatch, "analyze", "errors", files["sloppy-boxes"], "--gt", truth, "--json", *options) == 0
    document = json.loads(capsys.readouterr().out)
    gt = read_ground_truth(truth)
    dt = read_detections(files["sloppy-boxes"], gt)
    expected = break_down(gt, dt, iou=0.75, background_iou=0.2, max_dets=10, convention="tidecv")
    assert document["runs"][0]["ap"] == expected.ap != break_down(gt, dt).ap
    assert document["settings"]["convention"] == "tidecv"


def test_the_screen_explains_itself(example, monkeypatch, capsys):
    truth, files = example
    assert run(monkeypatch, "analyze", "errors", *files.values(), "--gt", truth) == 0
    out = capsys.readouterr().out
    assert "AP50" in out
    assert "classification: wrong category" in out
    assert "at most 100 detections per image and category (coco convention)" in out
    assert "What to look at next" in out
    assert all(line == line.rstrip() for line in out.splitlines())
    table = [line for line in out.splitlines() if line.startswith("loc ")]
    assert len(table) == 1, "a row was broken in two"


def test_many_runs_stand_as_rows(example, monkeypatch, capsys):
    truth, files = example
    named = [f"{name}-{number}={path}" for number in range(3) for name, path in files.items()]
    assert run(monkeypatch, "analyze", "errors", *named, "--gt", truth) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line.split() for line in lines if line.startswith("run"))
    assert head == ["run", "AP50", *ERRORS, "FP", "FN"]
    assert any(line.startswith("cls   classification") for line in lines), "the legend is missing"


def test_out_writes_every_table_and_the_figure(example, monkeypatch, tmp_path):
    truth, files = example
    out = tmp_path / "a new" / "folder"
    assert run(monkeypatch, "analyze", "errors", *files.values(), "--gt", truth, "--out", out) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "detections.csv.gz", "errors.csv", "errors.json", "errors.md", "errors.pdf", "errors.png", "errors.tex",
        "errors_figures.tex", "objects.csv.gz",
    ]  # fmt: skip
    assert (out / "errors.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "errors.pdf").read_bytes().startswith(b"%PDF")

    gt = read_ground_truth(truth)
    frame = pd.read_csv(out / "errors.csv")
    for name, path in files.items():
        expected = break_down(gt, read_detections(path, gt))
        rows = frame[frame["run"] == name].set_index("error")
        assert rows["delta_ap (points)"].to_dict() == pytest.approx(expected.delta_ap, abs=1e-9)
        assert rows.loc[ERRORS, "count"].to_dict() == expected.count
        assert f"| {name} | {expected.ap:.2f} |" in (out / "errors.md").read_text().replace("**", "")


def test_every_detection_has_a_row_that_can_be_checked(example, monkeypatch, tmp_path):
    truth, files = example
    assert run(monkeypatch, "analyze", "errors", files["sloppy-boxes"], "--gt", truth, "--out", tmp_path / "out") == 0
    frame = pd.read_csv(tmp_path / "out" / "detections.csv.gz")
    records = json.loads(files["sloppy-boxes"].read_text())
    assert list(frame["row"]) == list(range(len(records)))
    annotations = {a["id"]: a for a in json.loads(truth.read_text())["annotations"]}
    right = frame[frame["label"] == "tp"]
    assert len(right) > 100
    assert (right["iou"] >= 0.5).all()
    assert right["target"].is_unique
    for row in right.head(40).itertuples():
        record, target = records[row.row], annotations[int(row.target)]
        assert (record["image_id"], record["category_id"]) == (target["image_id"], target["category_id"])
        assert row.iou == pytest.approx(_iou(record["bbox"], target["bbox"]))
    confused = frame[frame["label"] == "cls"]
    assert len(confused)
    for row in confused.head(20).itertuples():
        assert records[row.row]["category_id"] != annotations[int(row.target)]["category_id"]


def _iou(a: list[float], b: list[float]) -> float:
    a, b = np.array(a), np.array(b)
    side = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(side.clip(0)))
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def test_verify_says_how_far_the_peers_are(example, monkeypatch, capsys):
    pytest.importorskip("tidecv", reason="the peer that --verify asks; installed by the extra `verify`")
    truth, files = example
    arguments = (files["sloppy-boxes"], "--gt", truth, "--verify")
    assert run(monkeypatch, "analyze", "errors", *arguments, "--by", "size") == 0
    out = capsys.readouterr().out
    assert "pycocotools: AP differs by 0.0e+00 points" in out
    assert "counts are equal" in out
    assert re.search(r"tidecv by size: deltas of small, medium and large differ by .* \d\.\de(-1\d|\+00) points", out)
    assert run(monkeypatch, "analyze", "ap", *arguments) == 0
    assert "largest difference 0.0e+00 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["errors"], 4, "analyze example"),
        (["errors", "dt.json"], 4, "dt.json: no such file"),
        (["errors", "there.json"], 2, "--gt"),
        (["errors", "there.json", "--gt", "gone.json"], 4, "gone.json: no such file"),
        (["errors", "x=a.json", "x=b.json", "--gt", "gt.json"], 4, "have the same name 'x'"),
        (["errors", "dt.json", "--gt", "gt.json", "--iou", "0"], 2, "background-iou"),
        (["errors", "dt.json", "--gt", "gt.json", "--iou", "0.3", "--background-iou", "0.4"], 2, "background-iou"),
        (["errors", "dt.json", "--gt", "gt.json", "--iou-type", "keypoints"], 2, "segm"),
        (["errors", "dt.json", "--gt", "gt.json", "--max-dets", "0"], 2, "max-dets"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_refusals_are_one_sentence_with_the_right_code(arguments, code, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("[]")
    assert run(monkeypatch, "analyze", *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert "Traceback" not in printed.err
    if code == 4:
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_named_and_left_empty(example, monkeypatch, capsys, tmp_path):
    truth, files = example
    (tmp_path / "taken").write_text("a file, not a folder")
    out = tmp_path / "taken" / "out"
    assert run(monkeypatch, "analyze", "errors", files["sloppy-boxes"], "--gt", truth, "--out", out) == 4
    assert str(out) in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "a file, not a folder"


def test_no_part_of_a_file_is_left_when_writing_fails(monkeypatch, tmp_path):
    from analysis.exceptions import BadInput
    from analysis.files import write_bytes

    target = tmp_path / "result.json"
    write_bytes(target, b"old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(BadInput, match="No space left on device"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_warnings_go_to_standard_error(example, monkeypatch, capsys, tmp_path):
    truth, files = example
    records = json.loads(files["sloppy-boxes"].read_text())
    records[0]["score"] = 7.0
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(records))
    assert run(monkeypatch, "analyze", "errors", odd, "--gt", truth, "--json") == 0
    printed = capsys.readouterr()
    assert "outside 0..1" in json.loads(printed.out)["runs"][0]["warnings"][0]
    assert run(monkeypatch, "analyze", "errors", odd, "--gt", truth) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("warning: odd: 1 scores are outside 0..1")
    assert "warning" not in printed.out


def test_the_example_generates_and_analyzes(monkeypatch, capsys, tmp_path):
    out = tmp_path / "ex"
    assert run(monkeypatch, "analyze", "example", "--out", out, "--images", "40") == 0
    assert (out / "analysis" / "errors.json").exists()
    printed = capsys.readouterr().out
    assert "demonstration only, not evidence" in printed
    assert "sloppy-boxes" in printed


def test_the_example_shows_the_flaws_it_was_given(tmp_path):
    """Sloppy boxes lose more to localisation, confused classes more to classification, missed objects more to miss."""
    truth, files = write_example(tmp_path, images=150)
    gt = read_ground_truth(truth)
    sloppy, confused = (break_down(gt, read_detections(path, gt)).delta_ap for path in files.values())
    assert max(sloppy, key=lambda e: sloppy[e] if e in ERRORS else 0) == "loc"
    assert max(confused, key=lambda e: confused[e] if e in ERRORS else 0) == "cls"
    assert confused["miss"] > sloppy["miss"]


def test_help_and_plain_commands_import_nothing_heavy():
    script = (
        "import sys; sys.argv = ['cli.py', '--help']; import detablate; detablate.command_line()\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'seaborn', 'matplotlib', 'pycocotools', 'tensorboard'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
