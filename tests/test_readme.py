"""The README says what is so: its commands, its Python, its terminal capture."""

import re
import shutil
from pathlib import Path

import pytest

from analysis.coco.synthetic import write_example
from tests.command_line import run
from tests.shared_data import shared_data

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(mark: str) -> str:
    """The fenced block after ``<!-- mark -->``."""
    found = re.search(rf"<!-- {mark} -->\n```[a-z]*\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"no block marked {mark}"
    return found[1]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    truth, files = write_example(tmp_path, images=30)
    shutil.copy(files["sloppy-boxes"], tmp_path / "predictions.json")
    assert truth.name == "ground_truth.json"
    monkeypatch.chdir(tmp_path)
    exec(compile(block("executed"), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_the_terminal_capture_is_what_the_command_prints(monkeypatch, capsys):
    command, _, capture = block("capture").partition("\n")
    monkeypatch.setenv("COLUMNS", "120")
    files = {name: shared_data("coco_val2017_206", f"dt_bbox_{name}.json.gz") for name in ("yolov8n", "yolov8m")}
    truth = shared_data("coco_val2017_206", "gt_bbox_206.json")
    assert command == "$ detablate analyze errors yolov8n.json yolov8m.json --gt gt_bbox_206.json"
    named = [f"{name}={path}" for name, path in files.items()]
    assert run(monkeypatch, "analyze", "errors", *named, "--gt", truth) == 0
    assert capsys.readouterr().out == capture


def test_the_threshold_capture_is_part_of_what_the_command_prints(monkeypatch, capsys):
    command, _, capture = block("threshold").partition("\n")
    files = {name: shared_data("coco_val2017_206", f"dt_bbox_{name}.json.gz") for name in ("yolov8n", "yolov8m")}
    assert command == "$ detablate analyze threshold yolov8n.json yolov8m.json --gt gt_bbox_206.json"
    named = [f"{name}={path}" for name, path in files.items()]
    truth = shared_data("coco_val2017_206", "gt_bbox_206.json")
    assert run(monkeypatch, "analyze", "threshold", *named, "--gt", truth) == 0
    printed = capsys.readouterr().out.splitlines()
    shown = [line for line in capture.splitlines() if line and line != "..."]
    assert len(shown) > 10
    assert [line for line in printed if line in shown] == shown


def test_ci_calls_the_test_command():
    assert block("tests").strip() in (ROOT / ".ci" / "run").read_text()


DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{document} links to {target}, which is not there"
