"""Jobs on a real Slurm, stopped, preempted, killed and left behind: the numbers of an undisturbed run, bit by bit."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from ablate import slurm
from ablate.launch.cluster import Cluster
from ablate.launch.slurm_jobs import RunRecord, read_record, slurm_folder
from ablate.runs.folder import RunFolder, Workspace, write_json
from ablate.studies.study import Study, read_study, study_folder
from tests.ablate.commands import write_trainer
from tests.ablate.launch.slurm_studies import enter, one_thread, queue, said, states, status_of, submit, until
from tests.ablate.launch.studies import PROJECT, environment
from tests.ablate.launch.test_kills import a_real_study, assert_same, copy_of, undisturbed
from tests.command_line import run
from tests.slurm_cluster import SlurmCluster, running, why_not

pytestmark = pytest.mark.campaign
LONG = 1800.0  # seconds for a study that is disturbed, on a busy machine
KILLS = 40


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster that takes a node for lost after ten seconds."""
    if why_not():
        pytest.skip(why_not())
    with running(tmp_path_factory.mktemp("fragile"), slurmd_timeout=10) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _on_the_login_node(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    restore = one_thread()
    if "fragile" in request.fixturenames:
        enter(request.getfixturevalue("fragile"), monkeypatch)
    yield
    restore()
    if "fragile" in request.fixturenames:
        slurm.cancel([job.job for job in slurm.queued()])


def studied(tmp_path: Path, seconds: float = 0.0, **changes: object) -> tuple[Study, Path, Path]:
    """A study of one run, the root where it ran undisturbed, and the one where it is to be disturbed.

    Args:
        tmp_path: for both roots.
        seconds: for which the run trains at least, at the pace of this machine now.
        changes: of its config.
    """
    pace = one_run(tmp_path / "pace", 30, **changes)
    undisturbed(tmp_path / "pace", pace)
    each = first(tmp_path / "pace", pace).newest_losses()["seconds_per_iteration"]
    whole = tmp_path / "whole"
    study = one_run(whole, max(60, round(seconds / each)), **changes)
    undisturbed(whole, study)
    return study, whole, copy_of(tmp_path / "disturbed", study)


def one_run(root: Path, iterations: int, **changes: object) -> Study:
    study = a_real_study(root, iterations, (0,), **changes)
    alone = msgspec.structs.replace(study, runs=study.runs[:1])
    write_json(study_folder(Workspace(root), study.name) / "study.json", alone)
    return alone


def first(root: Path, study: Study) -> RunFolder:
    return Workspace(root).run(study.runs[0].run_id)


def record(root: Path, study: Study) -> RunRecord:
    found = read_record(slurm_folder(Workspace(root), study.name), study.runs[0].run_id)
    assert found is not None, said(root)
    return found


def trains(root: Path, study: Study, beyond: int = 3) -> bool:
    """Whether the first run is being trained and has come further."""
    status = status_of(root, study)
    assert status.state not in ("failed", "diverged"), said(root)
    return status.state == "running" and status.iteration > beyond


def until_finished(cluster: SlurmCluster, root: Path, study: Study) -> None:
    def finished() -> bool:
        found = states(root, study)
        assert "failed" not in found, said(root)
        return found == ["finished"] * len(found)

    try:
        until(finished, LONG)
    except AssertionError:
        raise AssertionError(f"{states(root, study)} {queue(cluster)} {said(root)}") from None


def events(folder: RunFolder) -> list[str]:
    return [str(event["event"]) for event in folder.read_events()]


def processes_of(node: str) -> list[int]:
    """What the jobs of this test have started on a node."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            content = path.read_bytes().split(b"\0")
            if (
                f"SLURMD_NODENAME={node}".encode() in content
                and f"SLURM_CONF={os.environ['SLURM_CONF']}".encode() in content
            ):
                found.append(int(path.parent.name))
    return found


def test_a_time_limit_requeues_and_the_run_goes_on(fragile: SlurmCluster, tmp_path: Path) -> None:
    study, whole, root = studied(tmp_path, seconds=150)
    # Slurm looks once in half a minute or so, and may send the signal a minute early.
    submit(root, study, Cluster(time="2", signal_seconds=50), checkpoint_minutes=1.0)
    until_finished(fragile, root, study)
    found = record(root, study)
    assert found.requeued, "the job was signalled before its limit"
    assert {one.why for one in found.requeued} == {"time limit or preemption"}
    assert found.restarts == len(found.requeued)
    assert "resumed" in events(first(root, study))
    assert_same(study, whole, root)
    until(lambda: queue(fragile) == {}, LONG)
    assert list((root / "results" / "studies").glob("*/tables/report.html")), "the end came after the last requeue"


def test_a_preempted_run_on_two_nodes_goes_on(fragile: SlurmCluster, tmp_path: Path) -> None:
    study, whole, root = studied(tmp_path)
    # Two processes add in another order than one: the undisturbed run is one of two nodes too.
    shutil.rmtree(whole / "results" / "runs")
    submit(whole, study, Cluster(nodes=2))
    until_finished(fragile, whole, study)
    until(lambda: queue(fragile) == {}, LONG)
    submit(root, study, Cluster(nodes=2))
    until(lambda: trains(root, study), LONG)
    urgent = fragile.ask(
        "sbatch", "--parsable", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 3"
    )
    until(lambda: urgent not in queue(fragile), LONG)
    until_finished(fragile, root, study)
    found = record(root, study)
    assert found.restarts >= 1
    assert "resumed" in events(first(root, study))
    assert_same(study, whole, root)


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_all_processes_of_a_node_are_killed(fragile: SlurmCluster, tmp_path: Path, node: str) -> None:
    study, whole, root = studied(tmp_path)
    shutil.rmtree(whole / "results" / "runs")
    submit(whole, study, Cluster(nodes=2))
    until_finished(fragile, whole, study)
    until(lambda: queue(fragile) == {}, LONG)
    submission = submit(root, study, Cluster(nodes=2))
    until(lambda: trains(root, study), LONG)
    for pid in processes_of(node):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    job = submission.batches[0].job_of(study.runs[0].run_id)
    # The batch script on the first node is killed too: then nobody is there to requeue the job.
    until(lambda: job not in queue(fragile) or record(root, study).restarts > 0, LONG)
    if job not in queue(fragile) and states(root, study)[0] != "finished":
        until(lambda: states(root, study)[0] in ("interrupted", "waiting"), LONG)
        submit(root, study, Cluster(nodes=2))
    until_finished(fragile, root, study)
    assert_same(study, whole, root)


def test_a_copy_that_runs_on_behind_a_dead_slurmd_is_alone_in_writing(fragile: SlurmCluster, tmp_path: Path) -> None:
    study, whole, root = studied(tmp_path, seconds=240)  # Slurm needs half a minute to take the node for lost
    submit(root, study, Cluster())
    until(lambda: trains(root, study), LONG)
    node = record(root, study).nodes
    fragile.kill(node)
    try:
        until(lambda: record(root, study).restarts > 0, LONG)
        assert record(root, study).nodes != node
        assert len([pid for pid in processes_of(node) if b"ablate.launch.worker" in command_of(pid)]) == 1, (
            "the old copy"
        )
        until(lambda: b"is working on this" in (first(root, study).path / "log.txt").read_bytes(), LONG)
        until_finished(fragile, root, study)
    finally:
        fragile.start_node(node)
    assert events(first(root, study)).count("started") == 1, "one of the two copies has trained"
    assert "resumed" not in events(first(root, study))
    assert_same(study, whole, root)


def command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_a_controller_that_is_killed_and_started_again_loses_nothing(fragile: SlurmCluster, tmp_path: Path) -> None:
    study, whole, root = studied(tmp_path, seconds=20)
    submit(root, study, Cluster())
    until(lambda: trains(root, study), LONG)
    fragile.kill("slurmctld")
    assert status_of(root, study).state == "running", "from the files alone"
    until(lambda: trains(root, study, status_of(root, study).iteration), LONG)
    fragile.start_controller()
    fragile.wait_for(lambda: fragile.ask("squeue", "-h") != "")
    until_finished(fragile, root, study)
    assert_same(study, whole, root)


def test_drains_in_an_array_of_jobs_work_a_study_off(fragile: SlurmCluster, tmp_path: Path) -> None:
    study, whole, root = studied(tmp_path)
    command = [sys.executable, "cli.py", "ablate", "launch", "--print-job", "sbatch-array", "--device", "cpu"]
    words = [*command, "--max-parallel", "2", "--root", str(root), "--", study.name]
    text = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    text = re.sub("--cpus-per-task=8", "--cpus-per-task=1", re.sub("--time=24:00:00", "--time=30", text))
    (tmp_path / "job").write_text(
        re.sub(r"^exec (.*) --root", r"exec \1 --checkpoint-minutes 0 --root", text, flags=re.M)
    )
    job = fragile.ask("sbatch", "--parsable", f"--chdir={tmp_path}", str(tmp_path / "job"))
    assert job.isdecimal()
    until(lambda: queue(fragile) == {}, LONG)
    output = "\n".join(path.read_text() for path in tmp_path.glob("detablate-*.out"))
    assert states(root, study) == ["finished"], output
    assert "Traceback" not in output
    assert_same(study, whole, root)


def test_forty_kills_over_three_drains_change_no_number(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    study = a_real_study(whole, 30, (0, 1))
    undisturbed(whole, study)
    root, rng = copy_of(tmp_path / "disturbed", study), random.Random(0)
    options = ("--device", "cpu", "--drain", "--checkpoint-minutes", "0", "--workers", "0", "--root", str(root))
    drains: list[subprocess.Popen[bytes] | None] = [None] * 3

    def drain(number: int) -> "subprocess.Popen[bytes]":
        folder = tmp_path / f"host-{number}"
        folder.mkdir(exist_ok=True)
        with (root / f"drain-{number}.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "cli.py", "ablate", "launch", *options, "--", study.name],
                cwd=PROJECT,
                env=os.environ | environment(folder) | {"PYTHONPATH": str(PROJECT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    kills = 0
    while kills < KILLS:
        for number, process in enumerate(drains):
            if process is None or process.poll() is not None:
                drains[number] = drain(number)
        time.sleep(rng.uniform(0.5, 12))
        victim = rng.choice([process for process in drains if process is not None])
        children = Path(f"/proc/{victim.pid}/task/{victim.pid}/children")
        with suppress(OSError, ProcessLookupError):
            pids = [int(pid) for pid in children.read_text().split()]
            for pid in rng.choice([[victim.pid], pids, [victim.pid, *pids]]):
                os.kill(pid, signal.SIGKILL)
                kills += 1
    for process in drains:
        if process is not None:
            process.wait(LONG)
    last = drain(0)
    assert last.wait(LONG) == 0
    logs = "".join(path.read_text(errors="replace") for path in root.glob("drain-*.txt"))
    assert "Traceback" not in logs
    assert states(root, study) == ["finished"] * 4, logs
    assert_same(study, whole, root)


def test_a_command_of_ones_own_is_requeued_and_resumes(
    fragile: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_trainer(
        tmp_path,
        command="python train.py --lr {lr} --seed {seed} --out {run} --epochs 40 --nap 0.5",
        resume="python train.py --resume {run}/last.pt",
        checkpoint="{run}/last.pt",
    )
    root = tmp_path / "root"
    options = ("--root", root, "--device", "cpu")
    plan = ("ablate", "vary", "--base", base, "--vary", "lr=0.01,0.05", "--name", "mine")
    assert run(monkeypatch, *plan, *options) == 0
    assert run(monkeypatch, "ablate", "launch", "mine", "--on", "slurm", "--nodes", "2", *options) == 4
    assert "a command of your own is started once, on one node" in capsys.readouterr().err
    assert run(monkeypatch, "ablate", "launch", "mine", "--on", "slurm", *options) == 0
    study = read_study(Workspace(root), "mine")
    checkpoint = Workspace(root).run(study.runs[0].run_id).output / "last.pt"
    until(checkpoint.exists)
    job = queue(fragile)
    fragile.ask("scontrol", "requeue", next(number for number in job if job[number] == "RUNNING"))
    until(lambda: not queue(fragile), LONG)
    assert states(root, study) == ["finished"] * 2, said(root)
    tables = next((root / "results" / "studies").glob("*/tables"))
    assert {"report.html", "table.md"} <= {path.name for path in tables.iterdir()}, said(root)
    logs = [(Workspace(root).run(one.run_id).path / "log.txt").read_text() for one in study.runs]
    assert sum("resumed after epoch" in log for log in logs) == 1
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "table", "mine", "--root", root, "--json") == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["finished"] * 2


def test_a_node_that_does_not_see_the_folder_is_one_sentence(fragile: SlurmCluster, tmp_path: Path) -> None:
    """A node whose own file system lies where the folder of the study should be: in a mount namespace of its own."""
    study, whole, root = studied(tmp_path)

    def is_idle() -> bool:
        # Of all nodes: asked for one, sinfo may go on saying "mix" after a restart of the controller.
        states = fragile.ask("sinfo", "-h", "-N", "-o", "%N %t").splitlines()
        return {one for one in states if one.startswith("n1 ")} == {"n1 idle"}

    fragile.wait_for(is_idle)  # killed while it ends a job of the test before, a node stays "completing"
    fragile.kill("n1")
    hidden = f'mount -t tmpfs none {shlex.quote(str(root))} && exec "$@"'
    fragile.start_node("n1", "unshare", "--mount", "sh", "-c", hidden, "sh")
    try:
        fragile.wait_for(is_idle)
        submit(root, study, Cluster(sbatch={"nodelist": "n1"}))
        until(lambda: queue(fragile) == {}, LONG)
        shown = status_of(root, study)
        assert shown.state == "waiting"
        assert shown.queue is not None
        assert shown.queue.words.endswith(
            "has ended (failed) before its run started: do its nodes see this folder and this Python? "
            "(check with doctor --slurm)"
        )
    finally:
        fragile.kill("n1")
        fragile.start_node("n1")
    submit(root, study)  # nothing is lost: submitted again, it runs where the folder is seen
    until_finished(fragile, root, study)
    assert_same(study, whole, root)
