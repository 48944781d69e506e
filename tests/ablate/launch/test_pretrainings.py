"""Pre-trainings in a launch: first, shared, shown, and what becomes of the runs that need one that fails."""

import json
from pathlib import Path

import msgspec
import pytest

from ablate.config.schema import Encoder, Folder, Pretrain, Pretraining
from ablate.launch import local
from ablate.launch.base import LaunchOptions, Outcome
from ablate.launch.estimate import Throughput, TimingJob, time_passes
from ablate.launch.status import read_statuses, without_pretrainings
from ablate.launch.view import status_document
from ablate.runs.folder import Status, Workspace, write_json
from ablate.studies.study import PretrainingRun, Study, study_folder
from tests.ablate.launch.studies import a_run, a_study, begun, digest, player_command
from tests.ablate.launch.test_local import Witness
from tests.ablate.tiny import write_data
from tests.command_line import run


def a_pretraining(name: str, **changes: object) -> PretrainingRun:
    recipe = Pretrain(images=Folder(path="images"), **changes)  # type: ignore[arg-type]
    encoder = Encoder(width=16, depth=2, heads=2, patch_size=8, mlp_ratio=2.0)
    half = (0.5, 0.5, 0.5)
    return PretrainingRun(
        variant=f"pre-training of {name}",
        pretraining=Pretraining(encoder=encoder, pixel_mean=half, pixel_std=half, pretrain=recipe),
        training=digest(name),
        epochs=(800,),
    )


FIRST, SECOND = a_pretraining("MAE"), a_pretraining("another MAE")


def needing(root: Path, name: str = "a study") -> Study:
    runs = (
        a_run("random"),
        a_run("MAE", needs=(FIRST.run_id,)),
        a_run("another MAE", needs=(SECOND.run_id,)),
    )
    study = msgspec.structs.replace(a_study(root, runs, name), pretrainings=(FIRST, SECOND))
    write_json(study_folder(Workspace(root), name) / "study.json", study)
    return study


def launch(root: Path, study: Study, **options: object) -> Outcome:
    given = LaunchOptions(device="cpu", **options)  # type: ignore[arg-type]
    return local.launch_here(Workspace(root), study, given, Witness(), player_command)


def fails(root: Path, job: PretrainingRun, ends: str) -> None:
    path = root / "plays" / job.run_id
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"ends": ends, "seconds": 0.0}))


def test_they_come_first_and_a_second_study_finds_them_done(tmp_path: Path) -> None:
    study = needing(tmp_path)
    outcome = launch(tmp_path, study)
    assert outcome.failed == []
    names = {job.run_id: job.variant for job in study.jobs}
    assert [names[one] for one in begun(tmp_path)] == [
        "pre-training of MAE", "pre-training of another MAE", "random", "MAE", "another MAE",
    ]  # fmt: skip
    assert (tmp_path / "results" / "pretraining" / FIRST.training[:12] / "status.json").exists()
    launch(tmp_path, needing(tmp_path, "another study"))
    assert len(begun(tmp_path)) == 5


@pytest.mark.parametrize(("ends", "became"), [("diverged", "has no result"), ("out_of_memory", "ran out of memory")])
def test_what_needs_a_failed_one_waits_and_says_why(tmp_path: Path, ends: str, became: str) -> None:
    study = needing(tmp_path)
    fails(tmp_path, FIRST, ends)
    outcome = launch(tmp_path, study)
    assert f"MAE, seed 0: needs pre-training of MAE, which {became}" in outcome.failed
    states = {status.variant: status.state for status in outcome.statuses}
    assert states == {
        "pre-training of MAE": ends,
        "pre-training of another MAE": "finished",
        "random": "finished",
        "MAE": "waiting",
        "another MAE": "finished",
    }
    assert [status.variant for status in without_pretrainings(outcome.statuses)] == ["random", "MAE", "another MAE"]
    (tmp_path / "plays" / FIRST.run_id).unlink()
    assert launch(tmp_path, study, retry=True).failed == []
    assert {status.state for status in read_statuses(Workspace(tmp_path), study)} == {"finished"}


def test_other_terminals_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = needing(tmp_path)
    folder = Workspace(tmp_path).pretraining(FIRST.training)
    folder.path.mkdir(parents=True)
    folder.write_status(Status(state="interrupted", iteration=30, iterations=100, message="stopped"))
    (folder.path / "log.txt").write_text("iteration 30 of 100: loss 0.700\n")
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "0 of 5 runs done, 4 not started, 1 interrupted" in shown
    assert "30/100" in next(line for line in shown.splitlines() if line.startswith("pre-training of MAE"))
    assert run(monkeypatch, "ablate", "logs", "--run", "pre-training of MAE", "--root", tmp_path) == 0
    assert capsys.readouterr().out == "iteration 30 of 100: loss 0.700\n"
    document = status_document(Workspace(tmp_path), study, read_statuses(Workspace(tmp_path), study))
    assert document["runs"][0]["folder"] == str(folder.path)


def test_a_few_iterations_are_timed(tmp_path: Path) -> None:
    images = write_data(tmp_path / "data").images
    job = a_pretraining("x", image_size=16, decoder_width=8, decoder_depth=1, decoder_heads=2, batch_size=4)
    recipe = msgspec.structs.replace(job.pretraining.pretrain, images=Folder(path=images))
    config = msgspec.structs.replace(job.pretraining, pretrain=recipe)
    job_of_timing = TimingJob(pretraining=config, root=str(tmp_path), folder=str(tmp_path), device="cpu")
    time_passes(msgspec.json.decode(msgspec.json.encode(job_of_timing), type=TimingJob))
    throughput = msgspec.json.decode((tmp_path / "pace.json").read_bytes(), type=Throughput)
    assert throughput.images == 6
    assert throughput.seconds > 0
    assert throughput.peak_gib > 0
