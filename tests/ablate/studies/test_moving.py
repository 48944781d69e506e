"""A study on another machine: its part of `results/` is copied, its data lies elsewhere, and nothing runs again."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ablate.config.yaml import dump_config, with_changes
from ablate.execute.run import execute
from ablate.runs.folder import Workspace
from ablate.studies.study import list_studies, read_study
from ablate.train.outcome import RuntimeOptions
from tests.ablate.launch.studies import a_run, a_study
from tests.ablate.tiny import tiny_config, write_data
from tests.command_line import run


def test_a_study_moves_with_the_folders_that_status_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    config = with_changes(tiny_config(write_data(here / "data")), {"train.iterations": 1})
    (tmp_path / "base.yaml").write_text(dump_config(config))
    words = ("ablate", "vary", "--base", tmp_path / "base.yaml", "--vary", "train.lr=1e-3,2e-3", "--name", "lr")
    assert run(monkeypatch, *words, "--device", "cpu", "--root", here) == 0
    study = read_study(Workspace(here), "lr")
    for one in study.runs:
        assert one.config is not None
        execute(one.config, Workspace(here), RuntimeOptions(device="cpu"), run_id=one.run_id)
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "status", "lr", "--root", here, "--json") == 0
    folders = [Path(record["folder"]) for record in json.loads(capsys.readouterr().out)["runs"]]

    a_study(there, [a_run("other")], "other")  # the other machine has studies of its own
    for folder in (*folders, here / "results" / "studies" / "lr", here / "configs" / "studies" / "lr"):
        shutil.copytree(folder, there / folder.relative_to(here))
    shutil.move(here / "data", tmp_path / "moved")
    shutil.rmtree(here)

    assert run(monkeypatch, "ablate", "status", "lr", "--root", there) == 0
    assert "lr: 2 of 2 runs done" in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "table", "lr", "--root", there) == 0
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "compare", "lr", "--root", there) == 4
    assert "instances.json: annotation file not found; give its location with --data" in capsys.readouterr().err

    four = [part for name in ("instances.json", "images") * 2 for part in ("--data", tmp_path / "moved" / name)]
    assert run(monkeypatch, *words, "--device", "cpu", "--root", there, *four) == 0
    assert "finished" in capsys.readouterr().out
    moved = read_study(Workspace(there), "lr")
    assert [one.run_id for one in moved.runs] == [one.run_id for one in study.runs]
    assert run(monkeypatch, "ablate", "compare", "lr", "--root", there) == 0
    assert {one.name for one in list_studies(Workspace(there))} == {"lr", "other"}
