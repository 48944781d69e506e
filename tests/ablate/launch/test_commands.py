"""Studies of somebody else's trainer, from the command line to the table: killed, continued, and what goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.engines.command_guard import marked
from ablate.runs.folder import Workspace
from tests.ablate.commands import write_trainer
from tests.ablate.launch.studies import PROJECT, wait_until
from tests.command_line import run

SECRET = "s3cret-of-the-lab"
ON_CPU = ("--device", "cpu")


def screen(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_study_goes_on_where_a_command_fails_and_says_what_is_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)
    base = write_trainer(
        tmp_path,
        parameters={"lr": 0.01, "do": "same"},
        command="python train.py --lr {lr} --seed {seed} --do {do} --out {run}",
        pass_env=["SECRET_KEY"],
    )
    root = tmp_path / "root"
    code = run(
        monkeypatch, "ablate", "vary", "--base", base, "--vary", "lr=0.01,0.02,2", "--name", "odd", "--launch", *ON_CPU,
        "--root", root,
    )  # fmt: skip
    shown = capsys.readouterr()
    assert code == 3
    assert "1 of 3 runs have no result" in shown.err
    assert "Identical predictions of lr=0.01, seed 0 / lr=0.02, seed 0" in " ".join(shown.out.split())
    assert "measured from outside" in shown.out
    assert "ValueError: the loss exploded, key [SECRET_KEY]" in " ".join(shown.out.split())
    assert run(monkeypatch, "ablate", "logs", "odd", "--root", root) == 0
    assert "lr=0.01: key [SECRET_KEY]" in capsys.readouterr().out
    quick = ("--out", root / "report.html", "--pictures", "0", "--resamples", "0")
    for verb, *options in (
        ("status", "--json"),
        ("table", "--json"),
        ("compare", "--resamples", "800"),
        ("report", *quick),
    ):
        assert run(monkeypatch, "ablate", verb, "odd", *options, "--root", root) == 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 30
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_a_study_of_a_command_is_stopped_and_killed_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_trainer(
        tmp_path,
        command="python train.py --lr {lr} --seed {seed} --out {run} --epochs 6 --nap 0.3",
        resume="python train.py --resume {run}/last.pt",
        checkpoint="{run}/last.pt",
        metrics={"loss": {"file": "{run}/results.csv", "column": "train/loss"}},
    )
    root = tmp_path / "root"
    workspace = Workspace(root)
    plan = ("ablate", "vary", "--base", base, "--vary", "lr=0.01,0.05", "--seeds", "0", "--name", "mine")
    assert run(monkeypatch, *plan, "--root", root, *ON_CPU) == 0
    launch = [sys.executable, PROJECT / "cli.py", "ablate", "launch", "mine", "--root", root, *ON_CPU]
    stamps = []

    def start(epochs: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(launch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: any(file.read_text().count("\n") > epochs for file in root.rglob("output/results.csv")))
        (folder,) = {file.parents[1] for file in root.rglob("output/results.csv")}
        stamps.append(folder)
        return process

    first = start(1)
    assert run(monkeypatch, "ablate", "cancel", "mine", "--root", root) == 0
    assert first.wait(30) == 130
    assert marked(str(stamps[0])) == []
    status = workspace.run(stamps[0].name).read_status()
    assert status is not None
    assert (status.state, "continues from" in status.message) == ("interrupted", True)
    second = start(3)
    second.send_signal(signal.SIGKILL)
    second.wait()
    wait_until(lambda: not marked(str(stamps[0])), 20)
    assert subprocess.run(launch, capture_output=True, check=False).returncode == 0
    log = (stamps[0] / "log.txt").read_text()
    epochs = [int(number) for number in re.findall(r"^epoch (\d)", log, re.MULTILINE)]
    assert "resumed after epoch" in log
    assert set(epochs) == {1, 2, 3, 4, 5, 6}
    assert len(epochs) <= 9  # none is repeated but those that were under way
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "table", "mine", "--root", root, "--json") == 0
    table = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in table["rows"]] == ["finished", "finished"]
    assert table["kind"] == "command"
    attempts = json.loads((stamps[0] / "outside.json").read_text())["attempts"]
    assert [one["resumed"] for one in attempts][:2] == [False, True]


@pytest.mark.parametrize(
    ("keys", "options", "says"),
    [
        ({"command": "python train.py {lr}"}, ("--seeds", "0,1"), "has no {seed}, so every seed would be the same run"),
        ({}, ("--data", "shapes"), "--data: does not apply"),
        ({}, ("--weights", f"mae={__file__}"), "--weights: does not apply"),
        ({}, ("--set", "typo=1"), "parameters.typo: is not a placeholder"),
        ({}, ("--engine", "detectron2"), "trains its runs"),
        ({"predictions": None}, (), "predictions: is missing"),
        ({"validation": {"annotations": "none.json", "images": "images"}}, (), "none.json: annotation file not found"),
        ({"surces": ["x"]}, (), "did you mean sources"),
        ({"engine": "commnad"}, (), "so write engine: command, not 'commnad'"),
    ],
)
def test_what_cannot_be_studied_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    keys: dict[str, object], options: tuple[str, ...], says: str,
) -> None:  # fmt: skip
    base = write_trainer(tmp_path, **keys)
    plan = ("ablate", "vary", "--base", base, "--vary", "lr=0.01,0.02", "--root", tmp_path / "root", *options)
    assert run(monkeypatch, *plan) == 4
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "root").rglob("study.json"))


def test_no_other_verb_takes_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_trainer(tmp_path)
    for verb in (("ablate", "describe", base), ("ablate", "export", base), ("ablate", "attention", "--base", base)):
        assert run(monkeypatch, *verb) == 4
        assert "a command of your own" in capsys.readouterr().err
    assert os.listdir(tmp_path).count("results") == 0


def test_one_run_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_trainer(tmp_path)
    assert run(monkeypatch, "ablate", "run", base, "--set", "lr=0.02", "--root", tmp_path / "root", *ON_CPU) == 0
    assert "state finished" in screen(capsys)
    assert run(monkeypatch, "ablate", "run", base, "--data", "shapes", "--root", tmp_path / "root") == 4


def test_two_drains_share_a_study_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_trainer(
        tmp_path, command="python train.py --lr {lr} --seed {seed} --out {run} --epochs 2 --nap 0.5", resume=None
    )
    root = tmp_path / "root"
    plan = ("ablate", "vary", "--base", base, "--vary", "lr=0.01,0.05", "--seeds", "0,1", "--name", "mine")
    assert run(monkeypatch, *plan, "--root", root, *ON_CPU) == 0
    drain = [sys.executable, PROJECT / "cli.py", "ablate", "launch", "mine", "--drain", "--root", root, *ON_CPU]
    drains = []
    for number in range(2):  # as on two hosts, whose devices are not each other's
        own = tmp_path / f"host-{number}"
        own.mkdir()
        environment = {**os.environ, "TMPDIR": str(own)}
        drains.append(subprocess.Popen(drain, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment))
    said = [process.communicate(timeout=120)[1].decode() for process in drains]
    assert [process.returncode for process in drains] == [0, 0], said
    logs = [(folder.path / "log.txt").read_text() for folder in Workspace(root).runs()]
    assert [log.count("epoch 1") for log in logs] == [1] * 4, "each run once"
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "table", "mine", "--root", root, "--json") == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["finished"] * 2
