"""docs/where.md says what is so: its terminal capture and its Python."""

import re
import shutil
from pathlib import Path

from analysis.coco.synthetic import write_example
from tests.command_line import run
from tests.shared_data import shared_data

GUIDE = (Path(__file__).parents[3] / "docs" / "where.md").read_text()


def block(mark: str) -> str:
    """The fenced block after ``<!-- mark -->``."""
    found = re.search(rf"<!-- {mark} -->\n```[a-z]*\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert found, f"no block marked {mark}"
    return found[1]


def test_the_terminal_capture_is_what_the_command_prints(monkeypatch, capsys):
    command, _, capture = block("capture").partition("\n...\n")
    monkeypatch.setenv("COLUMNS", "120")
    assert command == "$ detablate analyze errors yolov8n.json --gt gt_bbox_206.json --by all"
    predictions = shared_data("coco_val2017_206", "dt_bbox_yolov8n.json.gz")
    truth = shared_data("coco_val2017_206", "gt_bbox_206.json")
    assert run(monkeypatch, "analyze", "errors", f"yolov8n={predictions}", "--gt", truth, "--by", "all") == 0
    assert capsys.readouterr().out.endswith(f"\n{capture}")
    assert capture.startswith("By class")


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    truth, files = write_example(tmp_path, images=30)
    shutil.copy(files["confused-classes"], tmp_path / "predictions.json")
    assert truth.name == "ground_truth.json"
    monkeypatch.chdir(tmp_path)
    exec(compile(block("executed"), "where.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 4
