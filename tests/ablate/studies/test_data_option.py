"""`--data` in the place of a config's own data sets, and the command lines that presets give."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ablate.cli.verbs import ablate_verbs
from ablate.config.schema import Coco
from ablate.config.yaml import dump_config, preset_names, presets_folder
from ablate.runs.folder import RunFolder
from detablate import command_line
from tests.ablate.tiny import tiny_config, write_data


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(command_line(), ["ablate", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("name", preset_names())
def test_the_command_of_a_preset_can_be_typed(name: str) -> None:
    preset = (presets_folder() / f"{name}.yaml").read_text()
    (line,) = re.findall(r"^# Command: +detablate ablate (.*)$", preset, re.MULTILINE)
    verb, *arguments = re.split(r" {2,}", line)[0].split()
    command = next(row for row in ablate_verbs() if row.name == verb).load()
    assert command.make_context(verb, [*arguments]).params["config"] == name
    for option, value in re.findall(r"(--[a-z-]+) ([A-Z_]+)", line):
        given = command.make_context(verb, [*arguments, option, value]).params
        assert list(given[option.strip("-")]) == [value]


def test_a_run_takes_its_data_from_the_command_line(tmp_path: Path) -> None:
    there = write_data(tmp_path / "data")
    config = tmp_path / "tiny.yaml"
    config.write_text(dump_config(tiny_config(Coco(annotations="gone.json", images="gone"))))
    data = [part for path in (there.annotations, there.images) * 2 for part in ("--data", path)]
    described = json.loads(run("describe", config, *data, "--root", tmp_path, "--json"))
    run("run", config, *data, "--root", tmp_path)
    (path,) = (tmp_path / "results" / "runs").iterdir()
    status = RunFolder(path).read_status()
    assert status is not None
    assert status.state == "finished"
    assert json.loads(RunFolder(path).manifest.read_text())["evaluation"] == described["identities"]["evaluation"]


def test_changes_are_on_top_of_the_data_and_its_use_stays_the_files(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("base: vit-b-coco\ndata: {images_without_boxes: keep}\n")
    change = ["--set", "data.train.images=20"]
    described = json.loads(run("describe", config, "--data", "shapes", *change, "--root", tmp_path, "--json"))
    no_choice = {"limit_seed": "none", "limit_list": "none"}
    assert described["config"]["data"] == {
        "train": {"type": "shapes", "split": "train", "limit": 20, **no_choice},
        "validation": {"type": "shapes", "split": "validation", "limit": "all", **no_choice},
        "images_without_boxes": "keep",
    }
