"""Whole commands killed at random moments: launcher, workers, table, report, pre-training; no number changes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from ablate.axes.custom import axis_from_keys
from ablate.execute.run import execute
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.study import Study, write_study
from ablate.train.outcome import RuntimeOptions
from tests.ablate.launch.studies import PROJECT, environment
from tests.ablate.launch.test_kills import a_real_study, assert_same, children, copy_of

LIMIT = 600.0  # seconds for a command on a busy machine
KILLS = 20  # of a seed; 10 seeds make 200


def start(root: Path, command: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "cli.py", *command.split(), *map(str, arguments), "--root", str(root)],
        cwd=PROJECT,
        env=os.environ | environment(root) | {"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(root: Path, command: str, *arguments: object) -> None:
    process = start(root, command, *arguments)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, f"{command}: {output}"
    assert "Traceback" not in output


def strike(process: "subprocess.Popen[str]", rng: random.Random) -> None:
    """Kill -9 the command, what it started, or both."""
    workers = children(process)
    chosen = [*([process.pid] * rng.randrange(2)), *workers] or [process.pid]
    for pid in chosen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if process.pid not in chosen:  # a launcher that lost its worker goes on with the other runs
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 5))
    with suppress(ProcessLookupError):
        process.kill()
    process.communicate(timeout=LIMIT)


def commands(whole: Path, root: Path, study: Study) -> dict[str, tuple[object, ...]]:
    """Every command that writes, in the order in which an undisturbed person gives them."""
    recipe = (
        "batch_size=2",
        "image_size=32",
        "decoder_width=8",
        "decoder_depth=1",
        "decoder_heads=2",
        "warmup_epochs=1",
        "epochs=8",
    )
    pretraining = [part for one in recipe for part in ("--set", f"init.pretraining.{one}")]
    images, base = whole / "data" / "images", whole / "base.yaml"
    where = ("--images", images, "--base", base, "--device", "cpu", "--checkpoint-minutes", 0)
    return {
        "ablate launch": (study.name, "--device", "cpu", "--yes", "--checkpoint-minutes", 0, "--workers", 0),
        "weights pretrain": (*where, *pretraining),
        "ablate table": (study.name, "--out", root / "out"),
        "ablate report": (study.name, "--out", root / "out" / "page.html", "--pictures", 4, "--resamples", 0),
    }


def assert_same_pretraining(one: Path, other: Path) -> None:
    (first,), (second,) = (sorted((root / "results" / "pretraining").glob("*/weights")) for root in (one, other))
    for path in sorted(first.iterdir()):
        expected, found = (torch.load(folder / path.name)["model"] for folder in (first, second))
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def assert_nothing_is_left(one: Path, other: Path) -> None:
    """No part of a file and no dead lock, and in `--out` what is there without kills."""
    expected, found = (
        {path.name for path in (root / "out").iterdir() if path.stem != "cost"}  # drawn where measured costs differ
        for root in (one, other)
    )
    assert found == expected
    left = (path for path in (other / "results").rglob("*") if path.name.endswith(".part") or "lease-" in path.name)
    assert [str(path) for path in left] == []


class Undisturbed(NamedTuple):
    """What the commands make of a study when nothing disturbs them."""

    root: Path
    study: Study
    seconds: dict[str, float]  # of each command


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    root = tmp_path_factory.mktemp("kills") / "whole"
    study = a_real_study(root, iterations=12, seeds=(0,))
    seconds = {}
    for command, arguments in commands(root, root, study).items():
        began = time.monotonic()
        finish(root, command, *arguments)
        seconds[command] = time.monotonic() - began
    return Undisturbed(root, study, seconds)


def killed(process: "subprocess.Popen[str]", seconds: float, rng: random.Random) -> bool:
    """Kill a command some time within so many seconds; whether it had not ended by then."""
    with suppress(subprocess.TimeoutExpired):
        output, _ = process.communicate(timeout=rng.uniform(0, seconds))
        assert "Traceback" not in output
        return False
    strike(process, rng)
    return True


def storm(tmp_path: Path, whole: Undisturbed, seed: int, kills: int) -> Counter[str]:
    """So many kills of commands that had not ended -> of which command how many."""
    rng = random.Random(seed)
    study = whole.study
    root = copy_of(tmp_path / "disturbed", study)
    given = commands(whole.root, root, study)
    struck: Counter[str] = Counter()
    while struck.total() < kills:
        command = rng.choice(["ablate launch", "ablate launch", *given])
        process = start(root, command, *given[command])
        if killed(process, whole.seconds[command], rng):
            struck[command] += 1
        elif process.returncode == 0 and command == "ablate launch":
            assert_same(study, whole.root, root)
            shutil.rmtree(root / "results" / "runs")  # so that there is something to disturb
        elif process.returncode == 0 and command == "weights pretrain":
            assert_same_pretraining(whole.root, root)
            shutil.rmtree(root / "results" / "pretraining")
    for command, arguments in given.items():
        finish(root, command, *arguments)
    assert_same(study, whole.root, root)
    assert_same_pretraining(whole.root, root)
    assert_nothing_is_left(whole.root, root)
    return struck


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
def test_a_storm_of_kills_over_every_command_changes_no_number(tmp_path: Path, whole: Undisturbed, seed: int) -> None:
    print(f"kills, seed {seed}: {dict(storm(tmp_path, whole, seed, KILLS))}")  # with -s


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(5))
def test_two_studies_that_share_a_run_survive_kills_and_killed_cancels_together(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = tmp_path / "whole"
    first = a_real_study(whole, iterations=12, seeds=(0,))
    request = Request(base=str(whole / "base.yaml"), name="second", seeds=(0,), device="cpu")
    second = plan(axis_from_keys(["train.lr=1e-3,4e-3"]), request, Workspace(whole))
    runs = {run.run_id: run for study in (first, second) for run in study.runs}
    assert len(runs) == 3
    for run in runs.values():
        assert run.config is not None
        execute(run.config, Workspace(whole), RuntimeOptions(device="cpu", workers=0))
    root = copy_of(tmp_path / "disturbed", first)
    write_study(Workspace(root), second)
    options = ("--device", "cpu", "--yes", "--checkpoint-minutes", 0, "--workers", 0)

    for _ in range(4):
        both = [start(root, "ablate launch", study.name, *options) for study in (first, second)]
        time.sleep(rng.uniform(0, 25))
        if rng.random() < 0.6:
            cancel = start(root, "ablate cancel", rng.choice([first, second]).name)
            time.sleep(rng.uniform(0, 4))
            strike(cancel, rng)
        for process in rng.sample(both, rng.choice([1, 2])):
            both.remove(process)
            strike(process, rng)
        for process in both:
            output, _ = process.communicate(timeout=LIMIT)
            assert "Traceback" not in output
    for study in (first, second):
        finish(root, "ablate launch", study.name, *options)
    for study in (first, second):
        assert_same(study, whole, root)
