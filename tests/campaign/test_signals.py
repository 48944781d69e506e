"""Signals while a run is probed and while tables and reports are written: one sentence, nothing torn, and again."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ablate.runs.folder import Workspace
from ablate.studies import benchmark
from ablate.studies.cost import COST_FILE
from ablate.studies.study import Study
from tests.ablate.launch.studies import PROJECT, environment
from tests.command_line import run

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIMIT = 300.0  # seconds for a command on a busy machine
WRITING = (
    "ablate table",
    "ablate compare --resamples 20",
    "ablate report --pictures 2 --resamples 0",
    "ablate probe --device cpu --again",
)


def signalled(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: signal.Signals, call: int) -> None:
    """Send a signal to this process when a function is called for the so manieth time."""
    function, calls = getattr(owner, name), []

    def struck(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, struck)


def arguments(command: str, root: Path, out: Path) -> list[str]:
    place = out / "page.html" if "report" in command else out
    return [*command.split(), *(["--out", str(place)] if "probe" not in command else []), "--root", str(root)]


def costs(root: Path, study: Study) -> list[bytes]:
    return [(Workspace(root).run(run.run_id).path / COST_FILE).read_bytes() for run in study.runs]


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("ablate report --pictures 2 --resamples 0", signal.SIGHUP),
        *(("ablate compare --resamples 20", number) for number in STOPPING),
    ],
    ids=str,
)
def test_a_signal_while_files_are_written(
    command: str,
    number: signal.Signals,
    finished: tuple[Path, Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = arguments(command, finished[0], tmp_path / "out")
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signalled(patch, os, "fsync", number, 1 if "report" in command else 3)  # of files and folders
        assert run(patch, *words) == 128 + number
    assert_one_sentence(capsys.readouterr().err, number)
    assert signal.getsignal(number) == before
    assert left(tmp_path) == []
    assert run(monkeypatch, *words) == 0
    assert list((tmp_path / "out").iterdir())


def assert_one_sentence(said: str, number: signal.Signals) -> None:
    last = said.splitlines()[-1]
    assert last.startswith(f"stopped by {number.name}; all written files are complete; run the same command again")
    assert "error: " not in said
    assert "Traceback" not in said


def test_a_signal_while_runs_are_probed(
    finished: tuple[Path, Study],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number, (root, study) = signal.SIGTERM, finished
    before = costs(root, study)
    monkeypatch.setattr(benchmark, "LEAST", 0.0)
    monkeypatch.setattr(benchmark, "PATIENCE", 0.0)
    words = arguments("ablate probe --device cpu --again", root, root)
    with monkeypatch.context() as patch:
        signalled(patch, benchmark.Prober, "_round", number, 2)
        assert run(patch, *words) == 128 + number
    assert_one_sentence(capsys.readouterr().err, number)
    assert costs(root, study) == before  # all are measured together, so that they can be compared
    assert run(monkeypatch, *words) == 0
    assert all(new != old for new, old in zip(costs(root, study), before, strict=True))
    for run_, content in zip(study.runs, before, strict=True):
        (Workspace(root).run(run_.run_id).path / COST_FILE).write_bytes(content)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_signals_and_kills(finished: tuple[Path, Study], tmp_path: Path, seed: int) -> None:
    """Real processes, at random moments; what is there afterwards is whole, and the same command ends well."""
    rng, (root, study) = random.Random(seed), finished
    seen: Counter[str] = Counter()
    for turn in range(12):
        command = rng.choice(WRITING)
        number = rng.choice([*STOPPING, signal.SIGKILL])
        out = tmp_path / f"out {turn}"
        words = arguments(command, root, out)
        process = start(words, root)
        with suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=rng.uniform(0, 6))
            assert process.returncode == 0, output
            continue
        process.send_signal(number)
        output, _ = process.communicate(timeout=LIMIT)
        seen[f"{number.name}: {process.returncode}"] += 1
        if process.returncode == 128 + number:
            assert_one_sentence(output, number)
        else:  # it had just ended, or it had not begun to take signals
            assert process.returncode in (0, -number), f"{words}: {output}"
        assert number == signal.SIGKILL or left(tmp_path) == []
        process = start(words, root)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, output
        assert left(tmp_path) == []
        assert all(json.loads(content) for content in costs(root, study))
    print(dict(seen))  # with -s


def start(words: list[str], root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "cli.py", *words],
        cwd=PROJECT,
        env=os.environ | environment(root) | {"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
