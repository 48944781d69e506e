"""What is submitted to Slurm, without one: groups, dependencies, scripts, and what is refused before anything is."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from ablate import slurm as commands
from ablate.launch.base import LaunchOptions
from ablate.launch.cluster import Cluster, clusters_folder, read_cluster, sbatch_options
from ablate.launch.slurm import Group, dependency, plan_groups, submit_study
from ablate.launch.slurm_jobs import Batch, QueueReader, Requeue, RunRecord, record_path, slurm_folder
from ablate.launch.status import RunStatus, State, read_statuses
from ablate.runs.folder import Workspace, write_json
from ablate.runs.lock import LockHeld, holding
from ablate.studies.study import Job, Study
from analysis.exceptions import BadInput
from tests.ablate.finished import end
from tests.ablate.launch.studies import a_run, a_study, digest, folder_of

CPU = LaunchOptions(device="cpu", checkpoint_minutes=5)


def grouped(
    jobs: list[Job], states: Mapping[str, State] | None = None, *, again: bool = False, queued: tuple[str, ...] = ()
) -> tuple[list[tuple[list[str], tuple[str, ...], tuple[str, ...]]], dict[str, str]]:
    """Variants, needs and predecessors of each group, by variant."""
    states = states or {}
    names = {job.run_id: job.variant for job in jobs}
    statuses = [
        RunStatus(variant=job.variant, seed=0, run_id=job.run_id, state=states.get(job.variant, "waiting"))
        for job in jobs
    ]
    ids = [job.run_id for job in jobs if job.variant in queued]
    groups, unsatisfiable = plan_groups(jobs, statuses, again=again, queued=ids, most=3)

    def named(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names[one] for one in ids)

    return (
        [([job.variant for job in group.jobs], named(group.needs), named(group.after)) for group in groups],
        {names[run_id]: why for run_id, why in unsatisfiable.items()},
    )


def test_runs_that_wait_for_the_same_are_one_array_and_needs_come_first() -> None:
    first, other = a_run("first"), a_run("other")
    jobs: list[Job] = [
        first,
        other,
        a_run("a", needs=(first.run_id,)),
        a_run("b", needs=(first.run_id,)),
        a_run("c", needs=(first.run_id, other.run_id)),
        a_run("d"),
        a_run("e"),
    ]
    groups, _ = grouped(jobs)
    assert groups == [
        (["first", "other", "d"], (), ()),
        (["a", "b"], ("first",), ()),
        (["c"], ("first", "other"), ()),
        (["e"], (), ()),
    ], "at most three tasks an array"
    groups, _ = grouped(jobs, {"first": "finished", "d": "finished", "e": "failed"}, queued=("other",))
    assert groups == [(["a", "b"], (), ()), (["c"], ("other",), ())]


def test_what_waits_in_vain_is_not_submitted_and_told() -> None:
    first = a_run("first")
    second = a_run("second", needs=(first.run_id,))
    jobs: list[Job] = [first, second, a_run("third", needs=(second.run_id,)), a_run("fourth")]
    groups, unsatisfiable = grouped(jobs, {"first": "out_of_memory"})
    assert groups == [(["fourth"], (), ())]
    assert unsatisfiable == {
        "second": "needs first, seed 0, which is out of memory",
        "third": "needs second, seed 0, which cannot run either",
    }
    groups, unsatisfiable = grouped(jobs, {"first": "out_of_memory"}, again=True)
    assert ([names for names, *_ in groups], unsatisfiable) == ([["first", "fourth"], ["second"], ["third"]], {})


def test_runs_that_train_the_same_go_one_after_another_and_what_runs_elsewhere_is_waited_for_where_it_is_needed() -> (
    None
):
    same = digest("same")
    jobs: list[Job] = [a_run("a", training=same), a_run("b", training=same), a_run("c", training=same), a_run("d")]
    groups, _ = grouped(jobs)
    assert groups == [(["a", "d"], (), ()), (["b"], (), ("a",)), (["c"], (), ("b",))]
    first = a_run("first")
    groups, _ = grouped([first, a_run("x"), a_run("y", needs=(first.run_id,))], {"first": "running", "x": "running"})
    assert groups == [(["first"], (), ()), (["y"], ("first",), ())]


def test_dependencies_as_sbatch_takes_them() -> None:
    numbers = {"a": "7_0", "b": "8"}
    assert dependency([], [], numbers) == ""
    assert dependency(["12", "b"], ["a", "b", "a"], numbers) == "afterok:7_0:8,afterany:12:8"


def printed(root: Path, study: Study, cluster: Cluster, options: LaunchOptions) -> list[str]:
    """The scripts, with the places of this machine left out."""
    pytest.importorskip("submitit")
    _, texts = submit_study(Workspace(root), study, options, cluster, dry_run=True)
    return [re.sub(r"/\S*/bin/python[\d.]*", "PYTHON", text.replace(str(root), "/lab")) for text in texts]


def test_the_scripts_are_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # they are written where there is no Slurm
    first = a_run("first")
    study = a_study(tmp_path, [first, a_run("a", needs=(first.run_id,)), a_run("b", needs=(first.run_id,))])
    cluster = Cluster(
        partition="gpu", account="lab", qos="high", constraint="a100", time="1-00:00:00", gpus_per_run=16, nodes=2,
        cpus_per_node=64, max_parallel=1, signal_seconds=300, setup=("module load cuda",), sbatch={"mem": "400G"},
    )  # fmt: skip
    texts = printed(tmp_path, study, cluster, LaunchOptions())
    golden = Path(__file__).parents[2] / "golden" / "slurm.sbatch"
    assert "\n".join(texts) == golden.read_text(encoding="utf-8")
    assert not slurm_folder(Workspace(tmp_path), study.name).exists(), "nothing is written"


def test_without_gpus_and_a_limit_the_script_asks_for_none(tmp_path: Path) -> None:
    study = a_study(tmp_path, [a_run("x")])
    text, end_text = printed(tmp_path, study, Cluster(), CPU)
    for one in (text, end_text):
        assert "gpu" not in one
        assert "#SBATCH --time" not in one
        assert "--array" not in one
    assert "--gpus-per-node=1" in printed(tmp_path, study, Cluster(), LaunchOptions())[1], "costs are measured on one"


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (Cluster(time="5"), "--time 5: is not longer than --checkpoint-minutes 5"),
        (Cluster(time="6", signal_seconds=600), "--time 6: is not longer than the 600 s before the limit"),
        (Cluster(time="soon"), "--time soon: must be a time limit in Slurm's format"),
        (Cluster(gpus_per_run=3, nodes=2), "--gpus-per-run 3 --nodes 2: each node must have the same number of GPUs"),
        (Cluster(nodes=0), "nodes 0: must be at least 1"),
        (Cluster(sbatch={"array": "1-3"}), "--sbatch array: is set by --max-parallel"),
        (Cluster(sbatch={"mem per cpu": "1"}), "--sbatch mem per cpu: is not an option of sbatch"),
        (Cluster(sbatch={"mem": "1G\n#SBATCH --wrap=x"}), "--sbatch mem: has a line break"),
        (Cluster(partition="a\nb"), "--partition: has a line break"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, cluster: Cluster, said: str) -> None:
    study = a_study(tmp_path, [a_run("x")])
    device = "cuda" if cluster.gpus_per_run else "cpu"
    options = LaunchOptions(device=device, checkpoint_minutes=5)
    for dry_run in (True, False):
        with pytest.raises(BadInput, match=re.escape(said)):
            submit_study(Workspace(tmp_path), study, options, cluster, dry_run=dry_run)
    assert not slurm_folder(Workspace(tmp_path), study.name).exists()


def test_a_login_node_outside_of_a_job_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = a_study(tmp_path, [a_run("x")])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match="there is no sbatch on the PATH; submit from a login node"):
        submit_study(Workspace(tmp_path), study, CPU, Cluster())
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(BadInput, match=r"this shell is already in a job \(SLURM_JOB_ID=17\)"):
        submit_study(Workspace(tmp_path), study, CPU, Cluster())
    assert not slurm_folder(Workspace(tmp_path), study.name).exists()


class Player:
    """Slurm's commands, played: what was submitted, and what was cancelled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: int = 0) -> None:
        self.submitted: list[Path] = []
        self.live: list[commands.QueuedJob] = []
        self.cancelled: list[str] = []
        self.refuses = refuses  # the job of this number
        monkeypatch.setattr(commands, "is_here", lambda: True)
        monkeypatch.setattr(commands, "settings", lambda: {"MaxArraySize": "1001"})
        monkeypatch.setattr(commands, "queued", lambda: list(self.live))
        monkeypatch.setattr(commands, "submit", self.submit)
        monkeypatch.setattr(commands, "cancel", self.cancelled.extend)
        monkeypatch.setattr(commands, "ended", lambda jobs: dict.fromkeys(jobs, commands.EndedJob("TIMEOUT", "")))

    def submit(self, script: Path) -> str:
        self.submitted.append(script)
        job, text = str(len(self.submitted)), script.read_text()
        tasks = re.search(r"--array=0-(\d+)", text)
        comment = f"detablate {script.stem}"
        assert f"--comment='{comment}'" in text
        names = [f"{job}_{task}" for task in range(int(tasks[1]) + 1)] if tasks else [job]
        self.live += [commands.QueuedJob(name, name, "PENDING", "Priority", "", comment) for name in names]
        if len(self.submitted) == self.refuses:
            raise BadInput("sbatch: Batch job submission failed: Job violates accounting/QOS policy")
        return job


def test_a_study_is_in_the_queue_once_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player(monkeypatch)
    first = a_run("first")
    study = a_study(tmp_path, [first, a_run("a", needs=(first.run_id,)), a_run("b", needs=(first.run_id,))])
    workspace = Workspace(tmp_path)
    submission, _ = submit_study(workspace, study, CPU, Cluster())
    assert [(batch.job, len(batch.runs)) for batch in submission.batches] == [("1", 1), ("2", 2), ("3", 0)]
    again, _ = submit_study(workspace, study, CPU, Cluster())
    assert (again.batches, len(again.queued)) == ([], 3)
    (array,) = (path for path in slurm_folder(workspace, study.name).glob("*.json") if '"2"' in path.read_text())
    write_json(array, msgspec.structs.replace(submission.batches[1], job=""))  # killed before its number was written
    again, _ = submit_study(workspace, study, CPU, Cluster())
    assert (again.batches, len(again.queued)) == ([], 3), "it is known by its comment"
    words = [status.queue and status.queue.words for status in read_statuses(workspace, study)]
    assert words == ["job 1 pending (Priority)", "job 2_0 pending (Priority)", "job 2_1 pending (Priority)"]

    end(folder_of(tmp_path, first))
    player.live = [job for job in player.live if job.job in ("2_0", "3")]
    third, _ = submit_study(workspace, study, CPU, Cluster())
    assert [batch.runs for batch in third.batches] == [(study.runs[2].run_id,), ()], "the task that ended alone"
    assert "--dependency=afterany:2:4" in player.submitted[-1].read_text()
    assert player.cancelled == ["3"], "there is one end of a study"


def test_where_a_job_is_refused_nothing_stays_in_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player(monkeypatch, refuses=2)
    first = a_run("first")
    study = a_study(tmp_path, [first, a_run("a", needs=(first.run_id,))])
    with pytest.raises(BadInput, match="QOS policy"):
        submit_study(Workspace(tmp_path), study, CPU, Cluster())
    assert sorted(set(player.cancelled)) == ["1", "2"], "one that was taken without an answer too"
    assert not list(slurm_folder(Workspace(tmp_path), study.name).glob("*.json"))
    folder = slurm_folder(Workspace(tmp_path), study.name)
    with holding(folder, "the submission"), pytest.raises(LockHeld, match="the submission of study a study"):
        submit_study(Workspace(tmp_path), study, CPU, Cluster())


def test_the_states_come_from_our_files_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player(monkeypatch)
    study = a_study(tmp_path, [a_run("x"), a_run("y")])
    workspace, folder = Workspace(tmp_path), slurm_folder(Workspace(tmp_path), study.name)
    submit_study(workspace, study, CPU, Cluster())
    requeue = Requeue(time="", why="time limit or preemption", node="n2", iteration=40)
    record = RunRecord(job="1_0", nodes="n2", restarts=2, started="", requeued=(requeue,))
    write_json(record_path(folder, study.runs[0].run_id), record)
    runs = [run.run_id for run in study.runs]

    def words() -> list[str]:
        return [state.words for state in QueueReader(workspace, study.name).look(runs).values()]

    again = ", requeued 2 times (time limit or preemption)"
    assert words() == [f"job 1_0 pending (Priority){again}", "job 1_1 pending (Priority)"]
    player.live = [msgspec.structs.replace(job, state="RUNNING", nodes="n1") for job in player.live]
    assert words() == [f"job 1_0, on n1{again}", "job 1_1, on n1"]
    player.live = []
    assert words() == [
        f"job 1_0 has ended (timeout){again}",
        "job 1_1 has ended (timeout) before its run started: do its nodes see this folder and this Python? (check "
        "with doctor --slurm)",
    ]
    monkeypatch.setattr(commands, "is_here", lambda: False)
    assert words() == [f"job 1_0, on n2{again}", "job 1_1"], "on a machine without Slurm"


def test_the_examples_are_read_and_default_yaml_is_taken(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    names = sorted(path.stem for path in clusters_folder().glob("*.yaml"))
    assert names == ["cpu-nodes", "gpu-nodes", "preemptible"]
    for name in names:
        read_cluster(workspace, name).check("cpu" if name == "cpu-nodes" else "cuda", 10)
    assert read_cluster(workspace, "gpu-nodes").sbatch == {"mem": "400G"}
    assert read_cluster(workspace, "") == Cluster()
    folder = tmp_path / "configs" / "clusters"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text("partition: mine\ntime: 90\n")
    assert read_cluster(workspace, "") == Cluster(partition="mine", time=90)
    (folder / "default.yaml").write_text("partion: mine\n")
    with pytest.raises(BadInput, match=r"default\.yaml: .*partion"):
        read_cluster(workspace, "")
    with pytest.raises(
        BadInput, match="--cluster none: there is no such file and no such name; the names are cpu-nodes, de"
    ):
        read_cluster(workspace, "none")
    assert sbatch_options(["--mem=64G", "exclusive", "licenses=a@b=2"]) == {
        "mem": "64G",
        "exclusive": True,
        "licenses": "a@b=2",
    }


def test_a_batch_names_the_job_of_each_run(tmp_path: Path) -> None:
    batch = Batch(token="t", kind="runs", root="/r", study="s", runs=("a", "b"), options=CPU, job="7", submitted="")
    assert [batch.job_of("a"), batch.job_of("b")] == ["7_0", "7_1"]
    assert msgspec.structs.replace(batch, runs=("a",)).job_of("a") == "7"
    assert Group([]).needs == ()
