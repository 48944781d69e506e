"""Several launches of one study on hosts that share a disk: each run once, and each drain ends by itself."""

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from ablate.launch import local
from ablate.launch.base import Drain, LaunchOptions, Outcome, devices_of
from ablate.launch.status import RunStatus
from ablate.launch.view import PlainView
from ablate.runs import lock
from ablate.runs.folder import Status, Workspace
from ablate.runs.lock import PREFIX, SUFFIX, Owner
from ablate.studies.study import Study, StudyRun
from analysis.exceptions import BadInput
from tests.ablate.finished import end
from tests.ablate.launch.studies import (
    a_run,
    a_study,
    begun,
    folder_of,
    play,
    played,
    player_command,
    start_launcher,
    state_of,
)


def drained(root: Path, study: Study, view: PlainView | None = None, **given: object) -> Outcome:
    options, drain = LaunchOptions(device="cpu"), Drain(**given)  # type: ignore[arg-type]
    return local.launch_here(Workspace(root), study, options, view or PlainView(), player_command, drain=drain)


def ended(process: "subprocess.Popen[str]") -> dict[str, object]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    outcome: dict[str, object] = json.loads(output.splitlines()[-1])
    return outcome


def start_drains(root: Path, study: Study, count: int, **drain: object) -> "list[subprocess.Popen[str]]":
    """As on so many hosts: their devices are not each other's."""
    found = []
    for number in range(count):
        folder = root / f"host-{number}"
        folder.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = str(folder)  # of this test alone, see conftest.py
        found.append(start_launcher(root, study, drain=drain))
    return found


def held_from_elsewhere(root: Path, run: StudyRun) -> Path:
    """The lock of a process on another host."""
    folder = folder_of(root, run)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_status(Status(state="running", phase="training", iteration=1, iterations=2))
    path = folder.path / f"{PREFIX}elsewhere{SUFFIX}"
    path.write_bytes(msgspec.json.encode(Owner(host="far", machine="another boot", pid=7, start_time="1")))
    return path


def test_two_drains_work_one_study_off_together_each_run_once(tmp_path: Path) -> None:
    study = a_study(tmp_path, [a_run("x", seed) for seed in range(4)])
    for run in study.runs:
        play(tmp_path, run, seconds=1.5)
    outcomes = [ended(process) for process in start_drains(tmp_path, study, 2)]
    assert sorted(begun(tmp_path)) == sorted(run.run_id for run in study.runs)
    assert [state_of(tmp_path, run) for run in study.runs] == ["finished"] * 4
    assert [outcome["failed"] for outcome in outcomes] == [[], []]
    using, most = 0, 0
    for note in played(tmp_path):
        using += 1 if note["what"] == "began" else -1
        most = max(most, using)
    assert most == 2, "both had a run at once"


def test_a_drain_waits_for_what_its_runs_need_and_not_for_other_runs(tmp_path: Path) -> None:
    first = a_run("first")
    study = a_study(tmp_path, [first, a_run("second", needs=(first.run_id,)), a_run("third"), a_run("fourth")])
    locks = [held_from_elsewhere(tmp_path, run) for run in (first, study.runs[3])]

    class Elsewhere(PlainView):
        """The other host: its processes live, and the first one ends when this drain has run what it can."""

        def update(self, statuses: list[RunStatus], stopping: str) -> None:
            if begun(tmp_path) == [study.runs[2].run_id] and statuses[2].state == "finished" and locks[0].exists():
                assert [status.state for status in statuses] == ["running", "waiting", "finished", "running"]
                end(folder_of(tmp_path, first))
                locks[0].unlink()
            for path in filter(Path.exists, locks):
                os.utime(path)

    outcome = drained(tmp_path, study, Elsewhere())
    assert begun(tmp_path) == [study.runs[2].run_id, study.runs[1].run_id]
    assert [status.state for status in outcome.statuses] == ["finished", "finished", "finished", "running"]
    assert (outcome.failed, outcome.left) == ([], 1)


def test_a_drain_starts_no_more_runs_than_it_may(tmp_path: Path) -> None:
    study = a_study(tmp_path, [a_run("x", seed) for seed in range(3)])
    outcome = drained(tmp_path, study, max_runs=2)
    assert (outcome.failed, outcome.stopped, outcome.left) == ([], "", 1)
    assert len(begun(tmp_path)) == 2
    end(folder_of(tmp_path, study.runs[2]))
    assert drained(tmp_path, study, max_runs=2).left == 0, "what others have done is done"


def test_a_drain_gives_back_what_runs_after_its_time(tmp_path: Path) -> None:
    study = a_study(tmp_path, [a_run("x", seed) for seed in range(2)])
    play(tmp_path, study.runs[0], seconds=60.0)
    outcome = drained(tmp_path, study, stop_after=4.0, limit="4s")
    assert (outcome.stopped, outcome.time_is_up, outcome.at_once, outcome.left) == ("--stop-after 4s", True, False, 1)
    assert state_of(tmp_path, study.runs[0]) == "interrupted"


@pytest.mark.parametrize("lives", [True, False])
def test_a_drain_takes_over_the_runs_of_a_dead_host_and_leaves_those_of_a_living_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    monkeypatch.setattr(lock, "SILENCE_SECONDS", 1.5)
    study = a_study(tmp_path, [a_run("window")])
    path = held_from_elsewhere(tmp_path, study.runs[0])

    class Beating(PlainView):
        """Touches the lock between two looks of the drain, as its owner does."""

        def update(self, statuses: list[RunStatus], stopping: str) -> None:
            if lives:
                os.utime(path)

    outcome = drained(tmp_path, study, Beating())
    assert outcome.failed == []
    assert outcome.left == int(lives)
    assert begun(tmp_path) == ([] if lives else [study.runs[0].run_id])
    assert path.exists() == lives


def test_the_cpu_of_a_job_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert devices_of("cpu", 1, 2) == ("cpu-SLURM_JOB_ID_17", "cpu-SLURM_JOB_ID_17-2")
    with pytest.raises(BadInput, match="GPUs are visible"):
        devices_of("cpu", 2)
