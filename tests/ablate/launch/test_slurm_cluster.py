"""Studies on a real Slurm of two nodes: submitted once, run from a copy of the program, cancelled, on two nodes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate import slurm
from ablate.execute.run import execute
from ablate.launch import snapshot
from ablate.launch.cluster import Cluster
from ablate.launch.follow import cancel_jobs
from ablate.runs.folder import Workspace
from ablate.train.checkpoint import load_checkpoint
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.launch.slurm_studies import enter, one_thread, queue, said, states, status_of, submit, until
from tests.ablate.launch.studies import PROJECT
from tests.ablate.launch.test_kills import a_real_study
from tests.slurm_cluster import SlurmCluster


@pytest.fixture(autouse=True)
def _on_the_login_node(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    enter(slurm_cluster, monkeypatch)
    restore = one_thread()
    yield
    restore()
    slurm.cancel([job.job for job in slurm.queued()])


def test_a_study_is_submitted_whole_and_once_and_runs_as_it_was_submitted(
    slurm_cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "röot with space"
    root.mkdir()
    study = a_real_study(root, iterations=2, seeds=(0,))
    with pytest.raises(BadInput, match=r"^sbatch: invalid partition specified: nope; .*Invalid partition name"):
        submit(root, study, Cluster(partition="nope"))
    assert queue(slurm_cluster) == {}
    assert not list((root / "results" / "studies").glob("*/slurm/*.json")), "nothing is left of a refused one"

    checkout = tmp_path / "checkout"
    shutil.copytree(PROJECT, checkout, ignore=shutil.ignore_patterns(".git", "tests", "docs", "__pycache__", ".*"))
    monkeypatch.setattr(snapshot, "SOURCE", checkout)
    submission = submit(root, study, Cluster(sbatch={"hold": True}))
    array, end = submission.batches
    assert len(array.runs) == 2
    assert queue(slurm_cluster) == {f"{array.job}_0": "PENDING", f"{array.job}_1": "PENDING", end.job: "PENDING"}
    assert status_of(root, study).queue.words == f"job {array.job}_0 pending (JobHeldUser)"  # type: ignore[union-attr]
    again = submit(root, study)
    assert (again.batches, sorted(again.queued)) == ([], sorted(array.runs)), "live jobs are not submitted again"

    (checkout / "ablate" / "__init__.py").write_text("raise SystemExit('edited after submission')")
    slurm_cluster.ask("scontrol", "release", array.job)
    until(lambda: queue(slurm_cluster).keys() <= {end.job})
    assert queue(slurm_cluster) == {end.job: "PENDING"}
    slurm.cancel([end.job])  # what it makes is looked at in the campaign
    assert states(root, study) == ["finished"] * 2, said(root)
    assert submit(root, study).batches == [], "what is done is not submitted again"


def test_a_cancelled_study_saves_what_it_has_and_is_not_requeued(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    study = a_real_study(tmp_path, iterations=100_000, seeds=(0,))
    submission = submit(tmp_path, study, Cluster(max_parallel=1, sbatch={"nodelist": "n2"}))
    (array, _) = submission.batches
    until(lambda: status_of(tmp_path, study).iteration > 2)
    assert status_of(tmp_path, study).queue.words == f"job {array.job}_0, on n2"  # type: ignore[union-attr]
    assert queue(slurm_cluster)[f"{array.job}_1"] == "PENDING", "one at a time"

    pending, running = cancel_jobs(Workspace(tmp_path), study.name)
    assert (len(pending), running) == (2, [f"{array.job}_0"])
    until(lambda: not queue(slurm_cluster))
    first = Workspace(tmp_path).run(study.runs[0].run_id)
    status = first.read_status()
    assert status is not None
    assert status.state == "interrupted", said(tmp_path)
    assert first.checkpoints_newest_first()[0] == first.checkpoint(status.iteration)
    assert states(tmp_path, study) == ["interrupted", "waiting"]


def test_two_nodes_with_two_processes_each_train_as_one_process(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    study = a_real_study(tmp_path / "one", iterations=1, seeds=(0,), train__batch_size=4, train__images_per_norm=4)
    run = study.runs[0]
    assert run.config is not None
    execute(run.config, Workspace(tmp_path / "one"), RuntimeOptions(device="cpu", workers=0))

    root = tmp_path / "four"
    shutil.copytree(tmp_path / "one", root, ignore=shutil.ignore_patterns("runs"))
    submission = submit(root, study, Cluster(nodes=2, processes_per_node=2))
    slurm.cancel([submission.batches[-1].job, *[f"{submission.batches[0].job}_1"]])
    folder = Workspace(root).run(run.run_id)
    until(lambda: (folder.read_status() is not None) and not queue(slurm_cluster))
    assert folder.read_status().state == "finished", said(root)  # type: ignore[union-attr]
    alone = Workspace(tmp_path / "one").run(run.run_id)
    expected, found = (load_checkpoint(one.checkpoint(1)) for one in (alone, folder))
    # AdamW divides a gradient by its size, also one that is rounding alone: its moments tell, not the weights.
    moments = [[state["exp_avg"] for state in one["optimizer"]["state"].values()] for one in (expected, found)]
    torch.testing.assert_close(*moments, rtol=1e-3, atol=1e-6)
    assert folder.newest_losses()["loss"] == pytest.approx(alone.newest_losses()["loss"], rel=1e-4)
    stores = next((root / "results" / "studies").glob("*/slurm/stores"))
    assert list(stores.iterdir()) == []
