"""The examples do what they say; those that need somebody else's package run where it is installed."""

import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ablate.config.yaml import parse_yaml
from analysis.coco.synthetic import write_example
from tests.ablate.tiny import write_data
from tests.command_line import run
from tests.detectron2 import needs_detectron2
from tests.shared_data import shared_data

EXAMPLES = Path(__file__).parent.parent / "examples"
needs_ultralytics = [
    pytest.mark.ultralytics,
    pytest.mark.skipif(find_spec("ultralytics") is None, reason="ultralytics is not in this environment"),
]


def copied(name: str, folder: Path) -> Path:
    """An example in a folder of its own, with a few small images in place of the embedded data set."""
    example = folder / name
    made = shutil.ignore_patterns("shapes", "results", "config*", "__pycache__")
    shutil.copytree(EXAMPLES / name, example, ignore=made)
    write_data(folder / "tiny")
    (example / "shapes" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copytree(folder / "tiny" / "images", example / "shapes" / split)
        shutil.copy(folder / "tiny" / "instances.json", example / "shapes" / "annotations" / f"instances_{split}.json")
    return example


def carry_out(monkeypatch: pytest.MonkeyPatch, example: Path, *changes: str) -> Path:
    """Run the config of an example once -> the folder of the run."""
    root = example / "root"
    settings = [part for change in changes for part in ("--set", change)]
    command = ("ablate", "run", example / "study.yaml", "--root", root, "--device", "cpu", *settings)
    assert run(monkeypatch, *command) == 0
    (folder,) = (root / "results" / "runs").iterdir()
    assert (folder / "evaluation.json").is_file()
    return folder


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in sorted(EXAMPLES.iterdir()) if path.is_dir() and path.name not in listed] == []


def test_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (EXAMPLES / "01-torchvision" / "train.py").read_text()
    assert len(script.splitlines()) <= 75
    folder = carry_out(monkeypatch, copied("01-torchvision", tmp_path), "iterations=2", f"python={sys.executable}")
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("_", [pytest.param("", marks=needs_ultralytics)])
def test_ultralytics(_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = copied("02-ultralytics", tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    changes = ("epochs=1", "imgsz=32", "pass_env=[PYTHONPATH]", f"python={sys.executable}")
    folder = carry_out(monkeypatch, example, *changes)
    assert (folder / "output" / "train" / "weights" / "last.pt").is_file()


@pytest.mark.parametrize("_", [pytest.param("", marks=needs_detectron2)])
def test_detectron2(_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path(os.environ.get("DETECTRON2", "")) / "tools" / "lazyconfig_train_net.py").is_file():
        pytest.skip("DETECTRON2 names no sources of detectron2")
    example = copied("03-detectron2", tmp_path)
    root = example / "root"
    assert run(monkeypatch, "ablate", "export", "tiny-shapes", "--out", example / "config.py", "--root", root) == 0
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    carry_out(monkeypatch, example, "iterations=2", "pass_env=[DETECTRON2, PYTHONPATH, PATH]")


def test_adopting_four_published_detectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shared_data("coco_val2017_206", "gt_bbox_206.json").parent
    text = (EXAMPLES / "04-adopt" / "adopt.sh").read_text().replace("\\\n", " ").replace("$DATA", str(data))
    (command,) = (line for line in text.splitlines() if not line.startswith("#"))
    program, *words = shlex.split(command)
    assert program == "detablate"
    monkeypatch.chdir(EXAMPLES / "04-adopt")
    assert run(monkeypatch, *words, "--root", tmp_path) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["YOLOv8n", "(baseline)", "40.5", "56.4", "43.4"] in rows  # pycocotools' numbers, as in the README
    assert ["YOLOv8m", "25.9", "500", "https://docs.ultralytics.com/models/yolov8"] in rows


def test_the_gate_of_the_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow: Any = parse_yaml((EXAMPLES / "05-gate" / "gate.yml").read_text(), "gate.yml")
    (step,) = (step for step in workflow["jobs"]["gate"]["steps"] if step.get("name") == "gate")
    program, *words = shlex.split(step["run"])
    assert program == "detablate"
    truth, files = write_example(tmp_path, images=40)
    for source, name in ((truth, "gt"), (files["sloppy-boxes"], "base"), (files["confused-classes"], "new")):
        shutil.copy(source, tmp_path / f"{name}.json")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) in (0, 6)
    assert (tmp_path / "comment.md").read_text().startswith("### detablate gate")
