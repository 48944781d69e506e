"""From the verb to the table: exit codes, the question before, the words after."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch
import typer

from ablate.cli.launch import confirm_cost
from ablate.config.schema import RunConfig
from ablate.engines.environment import package_environment
from ablate.launch import estimate as estimating
from ablate.launch import finish as finishing
from ablate.launch import local
from ablate.launch.base import (
    LaunchOptions,
    Outcome,
    SomeFailed,
    Stopped,
    WorkerJob,
    module_command,
    worker_command,
)
from ablate.launch.estimate import Throughput, TimingJob, time_passes
from ablate.launch.finish import finish, measure_and_show
from ablate.launch.status import RunStatus, State, read_statuses
from ablate.runs.folder import Workspace
from ablate.studies.study import DetectorSize, Study, StudyRun
from ablate.train.logging import show_messages
from analysis.exceptions import BadInput
from tests.ablate.finished import end
from tests.ablate.launch.studies import PROJECT, a_run, a_study, folder_of, play, player_command, state_of
from tests.ablate.tiny import tiny_config, write_data
from tests.command_line import run

TWO = [a_run("window"), a_run("global")]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Players in place of training, and a note in place of cost and table, which have tests of their own."""
    notes: list[str] = []
    monkeypatch.setattr(local.launch_here, "__defaults__", (player_command,))
    monkeypatch.setattr(finishing, "measure_and_show", lambda root, study, options: notes.append(study.name))
    return notes


def test_all_done_ends_with_the_table_and_0(
    tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path, TWO)
    assert run(monkeypatch, "ablate", "launch", "--root", tmp_path, "--device", "cpu") == 0
    assert shown == [study.name]
    said = capsys.readouterr().err
    assert said.startswith("2 not started\n")
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["logs:", "curves:", "files:"]
    assert said.endswith("global, seed 0: finished, box AP 30.0\n")


def test_some_failed_shows_the_table_and_ends_with_3(
    tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path, TWO)
    play(tmp_path, study.runs[0], "diverged")
    assert run(monkeypatch, "ablate", "launch", study.name, "--root", tmp_path, "--device", "cpu") == 3
    assert shown == [study.name]
    assert "error: 1 of 2 runs have no result; " in capsys.readouterr().err
    assert run(monkeypatch, "ablate", "launch", "--root", tmp_path, "--device", "cpu", "--fail-fast") == 3
    play(tmp_path, study.runs[0])
    assert run(monkeypatch, "ablate", "launch", "--root", tmp_path, "--device", "cpu", "--retry") == 0


def test_a_stop_shows_no_table_and_ends_with_130(
    tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_study(tmp_path, TWO)
    answers = iter([True])
    monkeypatch.setattr(local.Cancelled, "__call__", lambda self: next(answers, False))
    assert run(monkeypatch, "ablate", "launch", "--root", tmp_path, "--device", "cpu") == 130
    assert shown == []
    assert "\nstopped; run the same command to continue (" in capsys.readouterr().err


def test_a_study_of_which_nothing_can_run_says_what_is_missing(
    tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_study(tmp_path, [a_run("mae", evaluation="", blocked="pass --weights mae=FILE")])
    assert run(monkeypatch, "ablate", "launch", "--root", tmp_path, "--device", "cpu") == 4
    assert "none of its runs can start: pass --weights mae=FILE" in capsys.readouterr().err
    assert shown == []


def dear(root: Path, **changes: object) -> Study:
    """A study whose base is not the tiny preset: 100 iterations of 4 images, 2 a pass, from 6 images."""
    config = tiny_config(write_data(root / "data"), train__iterations=100, train__batch_size=4, **changes)
    wide = tiny_config(config.data.train, train__iterations=50, train__batch_size=4)  # type: ignore[arg-type]
    runs: list[StudyRun] = [
        a_run("a", config=config),
        a_run("a", 1, config=msgspec.structs.replace(config, seed=1)),
        a_run("b", config=wide),
    ]
    study = a_study(root, runs)
    return msgspec.structs.replace(study, base="vit-b-coco")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Paces without timing."""
    asked: list[RunConfig] = []

    def time(root: Path, config: RunConfig, devices: Sequence[str], environment: object) -> Throughput:
        asked.append(config)
        return Throughput(images=6, seconds=36.0, peak_gib=1.5)

    monkeypatch.setattr(estimating, "_time", time)
    return asked


def test_hours_and_memory_are_said_and_the_answer_counts(
    tmp_path: Path, timed: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = dear(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: True)
    show_messages()
    confirm_cost(Workspace(tmp_path), study, LaunchOptions(device="cpu"))
    assert len(timed) == 1, "what costs the same is timed once"
    assert capsys.readouterr().err.splitlines() == [
        "timing a few iterations of a ...",
        "a, seed 0: 100 iterations of 72.00 s, 2 h 00 min on this CPU, 1.50 GiB",
        "a, seed 1: 100 iterations of 72.00 s, 2 h 00 min on this CPU, 1.50 GiB",
        "b, seed 0: 50 iterations of 72.00 s, 1 h 00 min on this CPU, 1.50 GiB",
        "in total about 5 h 00 min of training for 3 runs, and the time for predictions",
    ]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(BadInput, match=r"3 unfinished runs .*--yes"):
        confirm_cost(Workspace(tmp_path), study, LaunchOptions(device="cpu"))


def test_processes_that_outnumber_the_images_of_a_statistic_share_the_passes(
    tmp_path: Path, timed: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 4 images an iteration, 2 GPUs take 2 passes, of one image each."""
    study = dear(tmp_path, train__images_per_norm=1)
    monkeypatch.setattr(estimating, "devices_of", lambda *_: ("GPU-1", "GPU-2"))
    show_messages()
    estimating.estimate(Workspace(tmp_path), [study.runs[0]], LaunchOptions(gpus_per_run=2))
    assert "a, seed 0: 100 iterations of 72.00 s, 2 h 00 min on 2 GPUs, 1.50 GiB each" in capsys.readouterr().err


def test_what_is_done_and_the_tiny_preset_need_no_question(tmp_path: Path, timed: list[RunConfig]) -> None:
    study = dear(tmp_path)
    for one in study.runs:
        end(folder_of(tmp_path, one))
    confirm_cost(Workspace(tmp_path), study, LaunchOptions(device="cpu"))
    confirm_cost(Workspace(tmp_path), a_study(tmp_path, TWO, "tiny"), LaunchOptions(device="cpu"))
    assert timed == []


@pytest.mark.parametrize(
    ("synthetic", "iterations", "asks"), [(True, 1000, False), (True, 1_000_000, True), (False, 1000, True)]
)
def test_the_tiny_preset_made_dear_is_asked_about(
    tmp_path: Path, timed: list[RunConfig], synthetic: bool, iterations: int, asks: bool
) -> None:
    config = tiny_config(write_data(tmp_path / "data"), train__iterations=iterations, train__batch_size=4)
    size = DetectorSize(880_000, 350_000_000, 1_500_000)
    runs = [a_run("a", config=config, size=size), a_run("mae", blocked="no weights")]
    study = msgspec.structs.replace(a_study(tmp_path, runs), synthetic=synthetic)
    if not asks:
        confirm_cost(Workspace(tmp_path), study, LaunchOptions(device="cpu"))
        return
    with pytest.raises(BadInput, match=r"take longer than those of the tiny preset; .*--yes"):
        confirm_cost(Workspace(tmp_path), study, LaunchOptions(device="cpu"))


def test_a_few_real_iterations_are_timed(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = tiny_config(write_data(tmp_path / "data"), train__iterations="none", train__epochs=2.0)
    (tmp_path / "trial").mkdir()
    job = TimingJob(config=config, root=str(tmp_path), folder=str(tmp_path / "trial"), device="cpu")
    time_passes(job)
    throughput = msgspec.json.decode((tmp_path / "trial" / "pace.json").read_bytes(), type=Throughput)
    assert throughput.images == 6
    assert 0 < throughput.seconds < 60
    assert throughput.peak_gib > 0
    assert throughput.message == ""


def test_a_trial_that_runs_out_of_memory_says_so(tmp_path: Path) -> None:
    config = tiny_config(write_data(tmp_path / "data"), train__memory_cap_gib=1e-4)
    (tmp_path / "trial").mkdir()
    time_passes(TimingJob(config=config, root=str(tmp_path), folder=str(tmp_path / "trial"), device="cpu"))
    throughput = msgspec.json.decode((tmp_path / "trial" / "pace.json").read_bytes(), type=Throughput)
    assert "out of memory, which also counts as a result" in throughput.message


def test_a_trial_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = dear(tmp_path)
    config = study.runs[0].config
    assert config is not None
    refusing = [sys.executable, "-c", "import sys; sys.exit('instances.json: no such file of annotations')"]
    monkeypatch.setattr(estimating, "module_command", lambda *_: refusing)
    with pytest.raises(
        BadInput, match=r"the timing of a few iterations failed: instances.json: no such file of annotations"
    ):
        estimating._time(Workspace(tmp_path), config, ["cpu"], {})


@pytest.mark.campaign
def test_a_trial_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    config = dear(tmp_path).runs[0].config
    assert config is not None
    assert estimating._time(Workspace(tmp_path), config, ["cpu"], {}).seconds > 0
    (tmp_path / "data" / "instances.json").unlink()
    with pytest.raises(BadInput, match=r"the timing of a few .* failed: .*instances.json: annotation file not found"):
        estimating._time(Workspace(tmp_path), config, ["cpu"], {})


def test_several_processes_are_started_together() -> None:
    job = WorkerJob(root="/r", study="s", run="x")
    alone = worker_command(job, 1)
    together = worker_command(job, 4)
    assert alone == [sys.executable, "-m", "ablate.launch.worker", msgspec.json.encode(job).decode()]
    assert together == [sys.executable, "-m", "ablate.launch.ranks", "4", *alone[2:]]


@pytest.mark.campaign
def test_a_run_of_two_processes_ends_well(tmp_path: Path) -> None:
    from tests.ablate.launch.test_kills import a_real_study

    study = a_real_study(tmp_path, iterations=4, seeds=(0,))
    options = LaunchOptions(device="cpu", loaders=0)
    job = WorkerJob(root=str(tmp_path), study=study.name, run=study.runs[0].run_id, devices=("cpu",), options=options)
    command = module_command("ablate.launch.worker", job, 2)
    done = subprocess.run(
        command, cwd=PROJECT, env=package_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert state_of(tmp_path, study.runs[0]) == "finished"


def test_the_last_words_after_a_stop_say_what_is_kept(tmp_path: Path, shown: list[str]) -> None:
    study = a_study(tmp_path, TWO)
    for at_once, words in (
        (False, r"^stopped; run the same command to continue \(0 of 2 runs done, by Ctrl-C, everything is saved\)"),
        (
            True,
            r"to continue \(0 of 2 runs done, by Ctrl-C, without saving, every run continues from",
        ),
    ):
        with pytest.raises(Stopped, match=words):
            finish(
                Workspace(tmp_path),
                study,
                LaunchOptions(),
                Outcome(read_statuses(Workspace(tmp_path), study), [], "Ctrl-C", at_once),
            )


def test_a_stop_while_measuring_says_that_the_runs_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablate.studies.benchmark.probe_study", interrupted)
    with pytest.raises(Stopped, match="by Ctrl-C, while measuring the cost of the variants; the runs are done"):
        measure_and_show(Workspace(tmp_path), a_study(tmp_path, TWO), LaunchOptions(device="cpu"))


@pytest.mark.parametrize(("state", "retry"), [("damaged", False), ("failed", True), ("waiting", False)])
def test_another_try_is_advised_with_the_option_that_it_needs(
    tmp_path: Path, shown: list[str], state: State, retry: bool
) -> None:
    study = a_study(tmp_path, TWO)
    full = RunStatus(variant="a", seed=0, run_id="0", state="out_of_memory")  # is done, and would be done again
    trouble = RunStatus(variant="b", seed=0, run_id="1", state=state)
    with pytest.raises(SomeFailed, match="1 of 2 runs") as refusal:
        finish(Workspace(tmp_path), study, LaunchOptions(), Outcome([full, trouble], ["b, seed 0: broken"], ""))
    assert ("--retry" in str(refusal.value)) == retry


def test_the_table_is_not_shown_of_nothing(tmp_path: Path, shown: list[str]) -> None:
    study = a_study(tmp_path, TWO)
    with pytest.raises(SomeFailed, match="1 of 2 runs"):
        finish(
            Workspace(tmp_path),
            study,
            LaunchOptions(),
            Outcome(read_statuses(Workspace(tmp_path), study), ["window: broken"], ""),
        )
    assert shown == []
