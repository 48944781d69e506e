"""The queue over this machine's devices, with players in place of training."""

import itertools
import json
import logging
import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.launch import local
from ablate.launch.base import LOG, LaunchOptions, Outcome, holding_devices
from ablate.launch.status import RunStatus, cancel
from ablate.runs.folder import Status, Workspace
from ablate.runs.lock import holding
from ablate.studies.study import Study, study_folder
from analysis.exceptions import BadInput
from tests.ablate.finished import end
from tests.ablate.launch.studies import (
    a_run,
    a_study,
    begun,
    digest,
    folder_of,
    play,
    played,
    player_command,
    start_launcher,
    state_of,
    wait_until,
)

THREE = [a_run("window"), a_run("hybrid"), a_run("global")]


class Witness:
    """A view that remembers."""

    def __init__(self) -> None:
        self.looks: list[list[RunStatus]] = []
        self.stopping = ""

    def update(self, statuses: list[RunStatus], stopping: str) -> None:
        self.looks.append(statuses)
        self.stopping = stopping


def launch(root: Path, study: Study, view: Witness | None = None, **options: object) -> Outcome:
    given = {"device": "cpu"} | options
    options = LaunchOptions(**given)  # type: ignore[arg-type]
    return local.launch_here(Workspace(root), study, options, view or Witness(), player_command)


def ended(process: subprocess.Popen[str]) -> dict[str, object]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    outcome: dict[str, object] = json.loads(output.splitlines()[-1])
    return outcome


def states(root: Path, study: Study) -> list[str]:
    return [state_of(root, run) for run in study.runs]


def begun_variants(root: Path, study: Study) -> list[str]:
    names = {run.run_id: run.variant for run in study.runs}
    return [names[run_id] for run_id in begun(root)]


def test_runs_go_one_after_another_on_a_cpu_and_only_once(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE)
    view = Witness()
    outcome = launch(tmp_path, study, view)
    assert (outcome.failed, outcome.stopped) == ([], "")
    assert [status.state for status in outcome.statuses] == ["finished"] * 3
    notes = played(tmp_path)
    assert [note["what"] for note in notes] == ["began", "ended"] * 3, "one at a time"
    assert begun_variants(tmp_path, study) == ["window", "hybrid", "global"]
    assert {note["device"] for note in notes if note["what"] == "began"} == {"cpu"}
    assert [status.state for status in view.looks[0]] == ["waiting"] * 3
    log = (folder_of(tmp_path, study.runs[0]).path / LOG).read_text()
    assert "a study: window, seed 0, on cpu\nplaying\n" in log
    assert launch(tmp_path, study).failed == []
    assert len(begun(tmp_path)) == 3, "what is done is not done again"


@pytest.mark.parametrize("each", [1, 2])
def test_runs_are_packed_on_gpus_that_each_has_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: int
) -> None:
    study = a_study(tmp_path, [a_run("x", seed) for seed in range(5)])
    for run in study.runs:
        play(tmp_path, run, seconds=2.0)
    monkeypatch.setattr(local, "devices_of", lambda *_: ("0", "2", "GPU-a/1", "7"))
    outcome = launch(tmp_path, study, device="auto", gpus_per_run=each)
    assert [status.state for status in outcome.statuses] == ["finished"] * 5
    using: dict[object, set[str]] = {}
    together = 0
    for note in played(tmp_path):
        if note["what"] == "ended":
            del using[note["run"]]
            continue
        mine = set(str(note["gpus"]).split(","))
        assert len(mine) == each
        assert (note["device"], note["processes"]) == ("cuda", str(each))
        assert all(mine.isdisjoint(others) for others in using.values())
        using[note["run"]] = mine
        together = max(together, len(using))
    assert together == 4 // each, "all GPUs were busy at once"


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("diverged", "the loss is not finite"),
        ("killed", "was killed by SIGKILL without a message"),
        ("refused", "no such folder of images"),
        ("full", "ended with exit code 3 without a message"),
    ],
)
def test_a_failing_run_stops_no_other(tmp_path: Path, ends: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ablate")
    study = a_study(tmp_path, THREE)
    play(tmp_path, study.runs[0], ends)
    outcome = launch(tmp_path, study)
    (failed,) = outcome.failed
    assert failed.startswith("window, seed 0: ")
    assert said in failed
    assert said in "".join(caplog.messages)
    assert [status.state for status in outcome.statuses][1:] == ["finished"] * 2

    play(tmp_path, study.runs[0], "finished")
    again = launch(tmp_path, study)
    if ends in ("killed", "full"):  # the machine's fault: the same command continues
        assert again.failed == []
        return
    assert again.failed == [failed], "what failed runs again on request alone"
    assert launch(tmp_path, study, retry=True).failed == []
    assert begun(tmp_path)[-1] == study.runs[0].run_id
    assert states(tmp_path, study) == ["finished"] * 3


def test_out_of_memory_is_a_result_and_is_tried_again_on_request(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE)
    play(tmp_path, study.runs[0], "out_of_memory")
    assert launch(tmp_path, study).failed == []
    assert launch(tmp_path, study).failed == []
    assert len(begun(tmp_path)) == 3
    outcome = launch(tmp_path, study, retry=True)
    assert (len(begun(tmp_path)), outcome.failed) == (4, [])


def test_a_retry_that_fails_again_is_not_repeated(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE[:1])
    play(tmp_path, study.runs[0], "failed")
    launch(tmp_path, study)
    assert len(launch(tmp_path, study, retry=True).failed) == 1
    assert len(begun(tmp_path)) == 2


def test_fail_fast_stops_at_the_first_failure(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE)
    play(tmp_path, study.runs[0], "diverged")
    outcome = launch(tmp_path, study, fail_fast=True)
    assert (len(outcome.failed), outcome.stopped) == (1, "--fail-fast")
    assert begun_variants(tmp_path, study) == ["window"]


def test_needs_come_first_and_what_needs_a_failure_is_named(tmp_path: Path) -> None:
    first, second = a_run("pretrained"), a_run("broken")
    runs = [
        a_run("tuned", needs=(first.run_id,)),
        a_run("lost", needs=(second.run_id,)),
        a_run("lost too", needs=(a_run("lost").run_id,)),
        a_run("alone", needs=("0123456789ab",)),
        first,
        second,
    ]
    study = a_study(tmp_path, runs)
    play(tmp_path, second, "diverged")
    outcome = launch(tmp_path, study)
    assert begun_variants(tmp_path, study) == ["pretrained", "tuned", "broken"]
    assert sorted(outcome.failed) == [
        "alone, seed 0: needs run 0123456789ab, which is not part of this study and was never started",
        "broken, seed 0: the loss is not finite",
        f"lost too, seed 0: needs run {a_run('lost').run_id}, which has no result",
        f"lost, seed 0: needs run {second.run_id}, which has no result",
    ]


def test_runs_that_train_the_same_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [a_run(name, training=digest("same")) for name in ("full", "least")] + [a_run("other")]
    study = a_study(tmp_path, runs)
    for run in runs:
        play(tmp_path, run, seconds=0.2)
    monkeypatch.setattr(local, "devices_of", lambda *_: ("0", "1", "2"))
    launch(tmp_path, study, device="auto")
    assert sorted(begun_variants(tmp_path, study)[:2]) == ["full", "other"]
    notes = [note["what"] for note in played(tmp_path) if note["run"] != runs[2].run_id]
    assert notes == ["began", "ended"] * 2


def test_one_folder_is_run_once_and_a_blocked_run_never(tmp_path: Path) -> None:
    shared = digest("shared")
    runs = [
        a_run("mae", config=None, evaluation="", blocked="pass --weights mae=FILE"),
        *(a_run(name, evaluation=shared) for name in ("a", "the same")),
    ]
    outcome = launch(tmp_path, a_study(tmp_path, runs))
    assert [status.state for status in outcome.statuses] == ["blocked", "finished", "finished"]
    assert (len(begun(tmp_path)), outcome.failed) == (1, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_stop_is_clean_and_the_same_command_continues(tmp_path: Path, number: signal.Signals) -> None:
    study = a_study(tmp_path, THREE)
    play(tmp_path, study.runs[1], seconds=60)
    process = start_launcher(tmp_path, study)
    wait_until(lambda: len(begun(tmp_path)) == 2)
    process.send_signal(number)
    outcome = ended(process)
    assert outcome["stopped"] == ("Ctrl-C" if number == signal.SIGINT else number.name)
    assert outcome["failed"] == []
    assert states(tmp_path, study) == ["finished", "interrupted", "none"]
    play(tmp_path, study.runs[1])
    assert launch(tmp_path, study).failed == []
    assert begun_variants(tmp_path, study) == ["window", "hybrid", "hybrid", "global"]


def test_waiting_for_a_device_that_another_process_has_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ablate")
    study = a_study(tmp_path, THREE)
    view = Witness()
    looks = itertools.count()

    def update(statuses: list[RunStatus], stopping: str) -> None:
        if next(looks) == 2:
            other.close()

    monkeypatch.setattr(local, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(view, "update", update)
    with ExitStack() as other:
        other.enter_context(holding_devices(["cpu"]))
        assert launch(tmp_path, study, view).failed == []
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"waiting for device cpu, which process {os.getpid()} on ")


def test_a_second_request_to_stop_is_told_apart(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE)
    (tmp_path / "plays").mkdir()
    play(tmp_path, study.runs[0], seconds=60)
    view = Witness()

    def update(statuses: list[RunStatus], stopping: str) -> None:
        if begun(tmp_path):
            signal.raise_signal(signal.SIGINT)

    view.update = update  # type: ignore[method-assign]
    outcome = launch(tmp_path, study, view)
    assert (outcome.stopped, outcome.at_once) == ("Ctrl-C", True)


def test_a_cancelled_run_has_the_time_to_save_and_a_second_request_does_not_wait(tmp_path: Path) -> None:
    for requests, state, words in ((1, "interrupted", "stopped"), (2, "running", "")):
        root = tmp_path / str(requests)
        root.mkdir()
        study = a_study(root, THREE)
        play(root, study.runs[0], seconds=60, saves=4 * local.LOOK_SECONDS if requests == 1 else 60)
        process = start_launcher(root, study)
        wait_until(lambda root=root: begun(root))
        for number in range(requests):
            assert cancel(Workspace(root), study.name)
            wait_until(lambda root=root: len(played(root)) == 2)  # it has heard of it
            if number == 0:
                time.sleep(2 * local.LOOK_SECONDS)
        assert ended(process)["stopped"] == "ablate cancel"
        status = folder_of(root, study.runs[0]).read_status()
        assert status is not None
        assert (status.state, status.message) == (state, words)


def test_cancel_stops_a_launch_and_none_that_comes_later(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE)
    assert cancel(Workspace(tmp_path), study.name) == []
    play(tmp_path, study.runs[0], seconds=60)
    process = start_launcher(tmp_path, study)
    wait_until(lambda: begun(tmp_path))
    (asked,) = cancel(Workspace(tmp_path), study.name)
    assert asked.pid == process.pid
    assert ended(process)["stopped"] == "ablate cancel"
    assert states(tmp_path, study)[0] == "interrupted"
    play(tmp_path, study.runs[0])
    assert launch(tmp_path, study).stopped == ""
    assert states(tmp_path, study) == ["finished"] * 3


def test_workers_stop_when_the_launcher_is_killed(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE[:1])
    play(tmp_path, study.runs[0], seconds=60)
    process = start_launcher(tmp_path, study)
    wait_until(lambda: begun(tmp_path))
    process.kill()
    process.communicate()
    wait_until(lambda: state_of(tmp_path, study.runs[0]) == "interrupted")
    play(tmp_path, study.runs[0])
    assert launch(tmp_path, study).failed == []


def test_two_launches_at_once_share_the_work(tmp_path: Path) -> None:
    study = a_study(tmp_path, [a_run("x", seed) for seed in range(4)])
    for run in study.runs:
        play(tmp_path, run, seconds=0.05)
    outcomes = [ended(process) for process in [start_launcher(tmp_path, study) for _ in range(2)]]
    assert outcomes == [{"failed": [], "stopped": ""}] * 2
    assert sorted(begun(tmp_path)) == sorted(run.run_id for run in study.runs), "each exactly once"
    assert [note["what"] for note in played(tmp_path)] == ["began", "ended"] * 4, "and one at a time on one CPU"


def test_a_run_that_somebody_else_is_at_is_waited_for(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE[:2])
    folder = folder_of(tmp_path, study.runs[0])
    folder.path.mkdir(parents=True)
    folder.write_status(Status(state="running", iteration=3, iterations=9))
    with holding(folder.path, "it"):
        process = start_launcher(tmp_path, study)
        wait_until(lambda: state_of(tmp_path, study.runs[1]) == "finished")
        assert process.poll() is None, "it waits for the other process"
        end(folder, 9)
    assert ended(process)["failed"] == []
    assert begun_variants(tmp_path, study) == ["hybrid"]


def test_a_device_that_somebody_else_uses_is_waited_for(tmp_path: Path) -> None:
    from ablate.launch.base import holding_devices

    study = a_study(tmp_path, THREE[:1])
    with holding_devices(["cpu"]):
        process = start_launcher(tmp_path, study)
        wait_until(lambda: (study_folder(Workspace(tmp_path), study.name) / "launchers").exists())
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        assert begun(tmp_path) == []
    assert ended(process)["failed"] == []


def test_the_first_device_is_waited_for_and_given_back() -> None:
    import threading

    from ablate.launch.base import free_devices, holding_devices, waiting_for_first

    order: list[str] = []

    def measure() -> None:
        with waiting_for_first("cpu"):
            order.append("measured")
            assert free_devices(["cpu"], []) == []

    thread = threading.Thread(target=measure)
    with holding_devices(["cpu"]):
        thread.start()
        thread.join(0.2)
        order.append("given back")
    thread.join()
    assert order == ["given back", "measured"]
    assert free_devices(["cpu"], []) == ["cpu"]


@pytest.mark.parametrize("cut", [0, 20])
def test_a_status_cut_in_half_loses_nothing(tmp_path: Path, cut: int) -> None:
    study = a_study(tmp_path, THREE[:1])
    launch(tmp_path, study)
    status = folder_of(tmp_path, study.runs[0]).status
    status.write_bytes(status.read_bytes()[:cut])
    view = Witness()
    assert launch(tmp_path, study, view).failed == []
    assert view.looks[0][0].state == "interrupted"
    assert "status.json: is damaged" in view.looks[0][0].message
    assert states(tmp_path, study) == ["finished"]


@pytest.mark.parametrize("where", ["launchers", "runs"])
def test_a_root_that_cannot_be_written_is_refused(tmp_path: Path, where: str) -> None:
    study = a_study(tmp_path, THREE[:1])
    blocked = (
        tmp_path / "results" / "runs"
        if where == "runs"
        else study_folder(Workspace(tmp_path), study.name) / "launchers"
    )
    blocked.write_text("a file where a folder should be")
    if where == "launchers":
        with pytest.raises(BadInput, match=r"cannot be created .*choose another --root"):
            launch(tmp_path, study)
        return
    (failed,) = launch(tmp_path, study).failed
    assert "cannot be written" in failed


def test_a_second_stop_kills(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE[:1])
    deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(60)"
    log = folder_of(tmp_path, study.runs[0]).path / LOG

    class Impatient(Witness):
        def update(self, statuses: list[RunStatus], stopping: str) -> None:
            if log.exists() and len(log.read_text().splitlines()) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    outcome = local.launch_here(
        Workspace(tmp_path),
        study,
        LaunchOptions(device="cpu"),
        Impatient(),
        lambda job, processes: ["python3", "-uc", deaf],
    )
    assert outcome.stopped == "Ctrl-C"
    assert not Path(f"/proc/{log.read_text().split()[-1]}").exists()


def test_workers_find_the_package_and_nothing_of_the_folder_they_start_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    study = a_study(tmp_path, THREE[:1])
    # The real worker: the run has no config, so it refuses at once.
    (failed,) = local.launch_here(Workspace(Path()), study, LaunchOptions(device="cpu"), Witness()).failed
    assert "shadowed" not in (folder_of(tmp_path, study.runs[0]).path / LOG).read_text()
    assert failed == "window, seed 0: window: has no config"


def test_gpus_that_are_not_there_are_refused(tmp_path: Path) -> None:
    study = a_study(tmp_path, THREE[:1])
    with pytest.raises(BadInput, match="--gpus-per-run 2: 0 GPUs are visible here"):
        launch(tmp_path, study, gpus_per_run=2)


def test_runs_side_by_side_on_a_cpu_compute_in_one_thread_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    study = a_study(tmp_path, [a_run("x", seed) for seed in range(3)])
    for run in study.runs:
        play(tmp_path, run, seconds=3.0)
    assert launch(tmp_path, study, parallel=2).failed == []
    notes = played(tmp_path)
    began = [note for note in notes if note["what"] == "began"]
    assert {(note["device"], note["gpus"], note["threads"]) for note in began} == {("cpu", "", "1")}
    running = most = 0
    for note in notes:
        running += 1 if note["what"] == "began" else -1
        most = max(most, running)
    assert most == 2


def test_gpus_are_known_by_their_uuids_and_take_one_run_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two launchers that see other GPUs count the same one differently."""
    import torch

    from ablate.launch.base import devices_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"aa-{index}"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices_of("auto", 1) == ("GPU-aa-0", "GPU-aa-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b,3")
    assert devices_of("auto", 1) == ("MIG-b", "GPU-aa-1")
    assert devices_of("cpu", 1, 3) == ("cpu", "cpu-2", "cpu-3")
    with pytest.raises(BadInput, match="--parallel 2: is for runs at the same time on a CPU"):
        devices_of("auto", 1, 2)
