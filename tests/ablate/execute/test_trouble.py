"""A machine in trouble: a clear word, and nothing lost that was done."""

import errno
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate.config.schema import RunConfig
from ablate.execute.finished import find_fault, is_finished
from ablate.execute.run import execute
from ablate.runs import folder as store
from ablate.runs.folder import RunFolder, Workspace
from ablate.runs.manifest import Manifest
from ablate.train.outcome import Interrupted, RuntimeOptions
from analysis.exceptions import BadInput, DetablateError
from tests.ablate.tiny import tiny_config, write_data

WORDS = {errno.ENOSPC: "No space left on device", errno.EROFS: "Read-only file system"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return tiny_config(write_data(tmp_path_factory.mktemp("data")), evaluate__score_threshold=0.01)


@pytest.fixture(scope="module")
def undisturbed(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    torch.set_num_threads(1)
    return carry_out(config, tmp_path_factory.mktemp("undisturbed"))


def carry_out(config: RunConfig, root: Path) -> RunFolder:
    return execute(config, Workspace(root), RuntimeOptions(device="cpu", workers=0, checkpoint_iterations=2)).folder


def copied(folder: RunFolder, root: Path) -> RunFolder:
    """The same run under another root."""
    shutil.copytree(folder.workspace.root, root, dirs_exist_ok=True)
    return Workspace(root).run(folder.path.name)


def assert_same(one: RunFolder, other: RunFolder) -> None:
    assert one.predictions.read_bytes() == other.predictions.read_bytes()
    assert one.evaluation.read_bytes() == other.evaluation.read_bytes()
    weights = [torch.load(run.checkpoint(6), weights_only=True)["model"] for run in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def state(folder: RunFolder) -> str:
    status = folder.read_status()
    assert status is not None
    return status.state


@pytest.mark.parametrize(
    ("good", "reason"), [*((good, errno.ENOSPC) for good in (0, 1, 4, 6, 8, 11)), (9, errno.EROFS)]
)
def test_writes_that_begin_to_fail(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int, reason: int
) -> None:
    count = itertools.count()

    def flaky(handle: int) -> None:
        if next(count) >= good:
            raise OSError(reason, WORDS[reason])

    monkeypatch.setattr(store.os, "fsync", flaky)
    with pytest.raises(DetablateError) as refusal:
        carry_out(config, tmp_path)
    assert WORDS[reason] in str(refusal.value)
    assert isinstance(refusal.value, Interrupted | BadInput)
    assert "run the same command to continue" in str(refusal.value) or "choose another --root" in str(refusal.value)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part")), "nothing half is left"
    assert_same(undisturbed, carry_out(config, tmp_path))


def test_a_disk_that_is_full_for_a_moment_interrupts(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.fsync, itertools.count()

    def flaky(handle: int) -> None:
        if next(count) == 8:
            raise OSError(errno.ENOSPC, WORDS[errno.ENOSPC])
        real(handle)

    monkeypatch.setattr(store.os, "fsync", flaky)
    with pytest.raises(Interrupted):
        carry_out(config, tmp_path)
    (folder,) = store.Workspace(tmp_path).runs()
    status = folder.read_status()
    assert status is not None
    assert status.state == "interrupted"
    assert "No space left on device; the saved state is not lost" in status.message
    assert_same(undisturbed, carry_out(config, tmp_path))


def test_deleted_checkpoints_are_named_and_trained_again(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = carry_out(config, tmp_path)
    for path in folder.checkpoints_newest_first():
        path.unlink()
    folder.predictions.unlink()
    folder.write_status(store.Status(state="interrupted", iteration=6, iterations=6))
    carry_out(config, tmp_path)
    lost = "its checkpoints are missing (it had reached iteration 6); training from the start"
    assert (logging.WARNING, f"{folder.path}: {lost}") in [(one.levelno, one.getMessage()) for one in caplog.records]
    assert "warning" in [event["event"] for event in folder.read_events()]
    assert_same(undisturbed, folder)


@pytest.mark.parametrize("cut", [0, 30])
def test_a_status_cut_in_half(config: RunConfig, undisturbed: RunFolder, tmp_path: Path, cut: int) -> None:
    folder = carry_out(config, tmp_path)
    before = folder.checkpoint(6).stat().st_mtime_ns
    folder.status.write_bytes(folder.status.read_bytes()[:cut])
    carry_out(config, tmp_path)
    assert state(folder) == "finished"
    assert folder.checkpoint(6).stat().st_mtime_ns == before, "it was not trained again"
    assert_same(undisturbed, folder)


@pytest.mark.parametrize("name", ["evaluation.json", "manifest.json"])
@pytest.mark.parametrize("cut", [0, 40, None])
def test_a_damaged_or_missing_file_is_made_again(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, name: str, cut: int | None
) -> None:
    folder = copied(undisturbed, tmp_path)
    kept = [folder.predictions, folder.checkpoint(6)]
    before = [path.stat().st_mtime_ns for path in kept]
    damaged = folder.path / name
    if cut is None:
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:cut])
    with pytest.raises(BadInput, match=r"(is damaged|no such file).*; launch creates it again"):
        store.read_json(damaged, store.Status)
    fault = find_fault(folder)
    assert fault is not None
    assert fault.sentence.startswith(f"{damaged}: ")
    assert fault.repairable
    carry_out(config, tmp_path)
    assert find_fault(folder) is None
    assert [path.stat().st_mtime_ns for path in kept] == before, "it was neither trained nor predicted again"
    assert (
        store.read_json(folder.manifest, Manifest).training == store.read_json(undisturbed.manifest, Manifest).training
    )
    assert_same(undisturbed, folder)


def test_missing_predictions_are_made_again_from_the_last_checkpoint(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path
) -> None:
    folder = copied(undisturbed, tmp_path)
    before = folder.checkpoint(6).stat().st_mtime_ns
    folder.predictions.unlink()
    folder.evaluation.unlink()
    carry_out(config, tmp_path)
    assert folder.checkpoint(6).stat().st_mtime_ns == before, "it was not trained again"
    assert is_finished(folder)
    assert_same(undisturbed, folder)


def test_missing_predictions_without_a_checkpoint_are_not_trained_again_unasked(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path
) -> None:
    folder = copied(undisturbed, tmp_path)
    folder.predictions.unlink()
    for path in folder.checkpoints_newest_first():
        path.unlink()
    with pytest.raises(
        BadInput, match=r"predictions.json: is missing, and there is no checkpoint to create it from; restore"
    ):
        carry_out(config, tmp_path)
    assert state(folder) == "finished", "nothing was written over"


def test_an_evaluation_is_made_again_also_after_a_kill_and_without_a_checkpoint(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(undisturbed, tmp_path)
    expected = folder.evaluation.read_bytes()
    for path in folder.checkpoints_newest_first():
        path.unlink()
    folder.evaluation.write_bytes(expected.replace(b"1", b"2"))  # somebody improves a number

    def killed(_: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ablate.execute.run.evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(config, tmp_path)
    assert state(folder) == "interrupted"
    carry_out(config, tmp_path)
    assert folder.evaluation.read_bytes() == expected
    assert folder.checkpoints_newest_first() == [], "it was not trained again"
    assert "warning" in [event["event"] for event in folder.read_events()]


@pytest.mark.parametrize("name", ["predictions.json", "config.yaml"])
def test_what_was_changed_is_named_and_not_used(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, name: str
) -> None:
    folder = copied(undisturbed, tmp_path)
    path = folder.path / name
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    fault = find_fault(folder)
    assert fault is not None
    assert fault.sentence.startswith(f"{path}: was changed after the run finished; restore it, or ")
    assert not is_finished(folder)
    with pytest.raises(BadInput, match="was changed after the run finished"):
        carry_out(config, tmp_path)
    path.write_bytes(before)
    assert is_finished(folder), "another time of change is no change"


def test_a_clock_that_goes_backwards(
    config: RunConfig, undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = (f"{2030 - number % 30}-01-01T00:00:00.000+00:00" for number in itertools.count())
    monkeypatch.setattr(store, "now", lambda: next(times))
    wall = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr("time.time", lambda: float(next(wall)))
    folder = carry_out(config, tmp_path)
    assert state(folder) == "finished"
    assert [event["event"] for event in folder.read_events()] == ["started", "trained", "predicted", "finished"]
    assert_same(undisturbed, folder)


def test_data_that_changed_since_the_plan_are_refused(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"0123456789ab: its data, weights or this program changed since it was"):
        execute(config, Workspace(tmp_path), RuntimeOptions(device="cpu"), run_id="0123456789ab")
    assert store.Workspace(tmp_path).runs() == []


def test_a_result_that_somebody_else_reached_first_stays(config: RunConfig, tmp_path: Path) -> None:
    folder = carry_out(config, tmp_path)
    folder.write_status(store.Status(state="out_of_memory", message="31.9 GiB reached"))
    execute(config, Workspace(tmp_path), RuntimeOptions(device="cpu"), again=False)
    assert state(folder) == "out_of_memory"
    execute(config, Workspace(tmp_path), RuntimeOptions(device="cpu", workers=0), again=True)
    assert state(folder) == "finished"
