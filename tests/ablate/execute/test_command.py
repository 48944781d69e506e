"""A run of somebody's own command: what becomes of it however the command ends, and what decides which run it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablate.config.foreign import CommandConfig
from ablate.config.yaml import load_any_config
from ablate.execute.command import CommandFailed, execute_foreign, prepare_command
from ablate.execute.evaluation import read_evaluation
from ablate.execute.outside import read_outside
from ablate.runs.folder import RunFolder, Workspace, read_json
from ablate.runs.manifest import Manifest, older_rule
from analysis.exceptions import BadInput
from tests.ablate.commands import write_trainer

DO = "python train.py --lr {lr} --seed {seed} --out {run} --do "


def load(path: Path, *changes: str) -> CommandConfig:
    config = load_any_config(path, changes)
    assert isinstance(config, CommandConfig)
    return config


def carry_out(folder: Path, *changes: str, **keys: Any) -> RunFolder:
    path = folder / "mine.yaml" if (folder / "mine.yaml").exists() else write_trainer(folder, **keys)
    return execute_foreign(load(path, *changes), Workspace(folder / "root"), name="a name")


def only_run(folder: Path) -> RunFolder:
    (run,) = Workspace(folder / "root").runs()
    return run


def test_a_command_becomes_a_finished_run(tmp_path: Path) -> None:
    folder = carry_out(tmp_path / "a b", metrics={"loss": {"file": "{run}/results.csv", "column": "train/loss"}})
    status = folder.read_status()
    assert status is not None
    assert status.state == "finished"
    assert set(status.files) == {"config.yaml", "manifest.json", "predictions.json", "evaluation.json"}
    assert read_evaluation(folder.evaluation).box.metrics["AP50"] > 20
    assert folder.read_metrics() == [{"iteration": 1, "loss": 1.0}, {"iteration": 2, "loss": 0.5}]
    manifest = read_json(folder.manifest, Manifest)
    assert (manifest.kind, manifest.hardware.gpus, older_rule(folder)) == ("command", (), "")
    cost = read_outside(folder)
    assert cost is not None
    assert [one.resumed for one in cost.attempts] == [False]
    before = folder.predictions.stat()
    again = carry_out(tmp_path / "a b")  # which has nothing to do
    assert again.predictions.stat() == before
    assert read_outside(folder) == cost


@pytest.mark.parametrize(
    ("do", "says"),
    [
        ("fail", "exit code 1; its last line: ValueError: the loss exploded"),
        ("nothing", "wrote no predictions: nothing matches"),
        ("half", "predictions.json"),
        ("others", "4711"),
    ],
)
def test_a_command_that_comes_to_nothing_fails_in_one_sentence(tmp_path: Path, do: str, says: str) -> None:
    with pytest.raises((CommandFailed, BadInput)) as failed:
        carry_out(tmp_path, command=DO + do)
    assert says in str(failed.value)
    assert "--drop-unknown" not in str(failed.value)
    folder = only_run(tmp_path)
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.message) == ("failed", str(failed.value))
    assert "\n" not in status.message
    assert not folder.predictions.exists()
    assert not folder.evaluation.exists()


def test_predictions_from_before_the_command_are_none(tmp_path: Path) -> None:
    """A run that goes on, and ends without writing again what an earlier attempt had written."""
    path = write_trainer(
        tmp_path,
        command=DO + "fail",
        resume="python -c 'pass' {run}",
        checkpoint="{run}/last.pt",
    )
    with pytest.raises(CommandFailed, match="exploded"):
        execute_foreign(load(path), Workspace(tmp_path / "root"), name="")
    folder = only_run(tmp_path)
    (folder.output / "predictions.json").write_text("[]")
    with pytest.raises(CommandFailed, match="is from before it began"):
        execute_foreign(load(path), Workspace(tmp_path / "root"), name="")
    cost = read_outside(folder)
    assert cost is not None
    assert [one.resumed for one in cost.attempts] == [False, True]


def test_what_an_attempt_left_is_removed_where_it_cannot_be_continued(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="wrote no predictions"):
        carry_out(tmp_path, command=DO + "{what}", parameters={"lr": 0.01, "what": "nothing"})
    folder = only_run(tmp_path)
    (folder.output / "left").write_text("of before")
    with pytest.raises(CommandFailed):
        carry_out(tmp_path)
    assert not (folder.output / "left").exists()
    assert (folder.output / "results.csv").read_text().count("epoch") == 1


def test_parts_of_predictions_are_joined_where_they_share_no_image(tmp_path: Path) -> None:
    script = (
        "import json, sys, pathlib; out = pathlib.Path(sys.argv[1]); "
        "record = lambda image: {'image_id': image, 'category_id': 1, 'bbox': [1, 2, 30, 40], 'score': 0.5}; "
        "[(out / f'part{n}.json').write_text(json.dumps(list(map(record, images)))) "
        "for n, images in enumerate(json.loads(sys.argv[2]))]"
    )
    path = write_trainer(
        tmp_path,
        parameters={"parts": "[[1, 2], [], [3]]"},
        command='python -c "'
        + script.replace("{", "{{").replace("}", "}}").replace("{{n}}", "{{n}}")
        + '" {run} {parts}',
        predictions="{run}/part*.json",
        sources=None,
    )
    folder = execute_foreign(load(path), Workspace(tmp_path / "root"), name="")
    assert [record["image_id"] for record in json.loads(folder.predictions.read_text())] == [1, 2, 3]
    assert "only 3 of the" in read_evaluation(folder.evaluation).notes[-1]
    with pytest.raises(BadInput, match="both hold detections of image 2"):
        execute_foreign(load(path, "parts='[[1, 2], [2]]'"), Workspace(tmp_path / "root"), name="")


def test_a_kill_behind_the_command_repeats_the_evaluation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ablate.execute.command.evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(tmp_path)
    folder = only_run(tmp_path)
    status = folder.read_status()
    assert status is not None
    assert status.state == "interrupted"
    carry_out(tmp_path)
    assert folder.evaluation.is_file()
    cost = read_outside(folder)
    assert cost is not None
    assert len(cost.attempts) == 1


def test_what_decides_the_result_decides_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_trainer(tmp_path / "one", env={"MODE": "fast"}, pass_env=["TOKEN"])
    workspace = Workspace(tmp_path / "root")

    def run_id(*changes: str, path: Path = path) -> str:
        return prepare_command(load(path, *changes), workspace).path.name

    base = run_id()
    same = (
        "pass_env=[OTHER]", "predictions='{run}/other.json'", "python=/usr/bin/python3", "cwd=/", "env.MODE=fast",
        "metrics.loss={file: x, column: y}", "resume='python train.py --resume {checkpoint}'",
    )  # fmt: skip
    for change in same[:-1]:
        assert run_id(change) == base, change
    for change in ("lr=0.02", "seed=1", "env.MODE=slow", "env.MORE=1", "command='python train.py {lr} {seed}'"):
        assert run_id(change) != base, change
    moved = tmp_path / "two"
    shutil.copytree(tmp_path / "one", moved)
    assert run_id(path=moved / "mine.yaml") == base
    (moved / "__pycache__").mkdir()
    (moved / "train.py").write_text("# another one")
    assert run_id(path=moved / "mine.yaml") != base
    (tmp_path / "one" / "images" / "3.png").write_bytes((tmp_path / "one" / "images" / "3.png").read_bytes() + b"x")
    assert run_id() != base
    with pytest.raises(BadInput, match="its sources, its validation data or this program changed since"):
        prepare_command(load(path), workspace, base)


def test_sources_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = write_trainer(tmp_path, sources=["train.py", "package"])
    with pytest.raises(BadInput, match="package: no such file or folder of sources"):
        prepare_command(load(path), Workspace(tmp_path))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "link").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="is a link to a folder"):
        prepare_command(load(path), Workspace(tmp_path))


def test_what_does_not_decide_the_result_may_change_until_it_has_finished(tmp_path: Path) -> None:
    path = write_trainer(tmp_path, command=DO + "{what}", parameters={"lr": 0.01, "what": "fail"})
    workspace = Workspace(tmp_path / "root")
    with pytest.raises(CommandFailed):
        execute_foreign(load(path), workspace, name="")
    folder = prepare_command(load(path, "predictions='{run}/other.json'"), workspace)
    stored = folder.read_any_config()
    assert isinstance(stored, CommandConfig)
    assert stored.predictions == "{run}/other.json"
    done = execute_foreign(load(path, "what=x"), workspace, name="")
    with pytest.raises(BadInput, match="differs from the config asked for"):
        prepare_command(load(path, "what=x", "predictions='{run}/other.json'"), workspace)
    assert done.read_status().state == "finished"  # type: ignore[union-attr]
