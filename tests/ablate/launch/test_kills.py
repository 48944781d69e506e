"""Real runs, killed at random moments: the same command ends with the numbers of an undisturbed study, bit by bit."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch

from ablate.axes.custom import axis_from_keys
from ablate.config.yaml import dump_config
from ablate.execute.run import execute
from ablate.runs.folder import RunFolder, Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.study import Study, write_study
from ablate.train.checkpoint import load_checkpoint
from ablate.train.outcome import RuntimeOptions
from tests.ablate.launch.studies import start_launcher, wait_until
from tests.ablate.tiny import tiny_config, write_data

LIMIT = 300.0  # seconds for one launch on a busy machine
VICTIMS = ("launcher", "worker", "both")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def a_real_study(root: Path, iterations: int, seeds: tuple[int, ...], **changes: object) -> Study:
    data = write_data(root / "data")
    (root / "base.yaml").write_text(dump_config(tiny_config(data, train__iterations=iterations, **changes)))
    axis = axis_from_keys(["train.lr=1e-3,2e-3"])
    study = plan(
        axis, Request(base=str(root / "base.yaml"), name="killed, ünd", seeds=seeds, device="cpu"), Workspace(root)
    )
    write_study(Workspace(root), study)
    return study


def undisturbed(root: Path, study: Study) -> None:
    for run in study.runs:
        assert run.config is not None
        execute(run.config, Workspace(root), RuntimeOptions(device="cpu", workers=0))


def children(process: subprocess.Popen[str]) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def strike(process: subprocess.Popen[str], victim: str) -> None:
    """Kill -9 the launcher, its worker, or both at once."""
    workers = children(process)
    if victim != "worker":
        process.kill()
    for pid in workers if victim != "launcher" else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT)  # a launcher that lost its worker goes on with the other runs


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    state = load_checkpoint(folder.checkpoints_newest_first()[0])
    model: dict[str, torch.Tensor] = state["model"]
    return model


def assert_same(study: Study, one: Path, other: Path) -> None:
    for run in study.runs:
        first, second = Workspace(one).run(run.run_id), Workspace(other).run(run.run_id)
        assert first.predictions.read_bytes() == second.predictions.read_bytes()
        assert first.evaluation.read_bytes() == second.evaluation.read_bytes()
        expected, found = weights(first), weights(second)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def finish(root: Path, study: Study) -> None:
    process = start_launcher(root, study, real=True, checkpoint_minutes=0)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    assert msgspec.json.decode(output.splitlines()[-1]) == {"failed": [], "stopped": ""}, output


def copy_of(root: Path, study: Study) -> Path:
    """Another root with the same study; the data is shared."""
    root.mkdir()
    write_study(Workspace(root), study)
    return root


def test_killed_with_its_launcher_and_launched_again_it_ends_with_the_same_numbers(tmp_path: Path) -> None:
    study = a_real_study(tmp_path, iterations=8, seeds=(0,))
    undisturbed(tmp_path, study)
    root = copy_of(tmp_path / "disturbed", study)
    first = Workspace(root).run(study.runs[0].run_id)

    process = start_launcher(root, study, real=True, checkpoint_minutes=0)
    wait_until(lambda: len(first.checkpoints_newest_first()) > 1, LIMIT)
    strike(process, "both")
    assert not first.predictions.exists()

    finish(root, study)
    assert "resumed" in [event["event"] for event in first.read_events()]
    assert_same(study, tmp_path, root)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(6))
def test_a_storm_of_kills_changes_no_number(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    study = a_real_study(tmp_path, iterations=30, seeds=(0, 1))
    began = time.monotonic()
    undisturbed(tmp_path, study)
    root = copy_of(tmp_path / "disturbed", study)
    # Also while it imports, prepares, predicts and writes.
    longest = 2 * (time.monotonic() - began) / len(study.runs) + 10
    for _ in range(8):
        process = start_launcher(root, study, real=True, checkpoint_minutes=rng.choice([0, 0.01, 10]))
        time.sleep(rng.uniform(0, longest))
        strike(process, rng.choice(VICTIMS))
    finish(root, study)
    assert_same(study, tmp_path, root)
