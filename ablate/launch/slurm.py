"""Hands a study to Slurm: a job a run, arrays where runs are alike, and a last job that measures and shows.

`plan_batches` says what is submitted, as a pure function of the status of the runs; `script` writes each as a batch
script by submitit's executor; `submit_study` hands all of it over, or, where one is refused, nothing. Its jobs run
`ablate.launch.slurm_task` from a copy of this program, so that what waits is not changed by what is edited meanwhile.

A run may be in the queue, at another launcher and in a drain at once: the lock of its folder decides who has it.
"""

import logging
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ablate import slurm
from ablate.engines.environment import python_of
from ablate.launch.base import LaunchOptions
from ablate.launch.cluster import Cluster
from ablate.launch.local import CAN_START
from ablate.launch.slurm_jobs import Batch, comment_of, live_jobs, read_batches, slurm_folder, with_numbers
from ablate.launch.snapshot import take_snapshot
from ablate.launch.status import DONE, RunStatus, StatusReader
from ablate.runs.folder import FAILURES, Workspace, kind_of, now
from ablate.runs.lock import holding
from ablate.runs.signals import scheduler_job
from ablate.studies.study import Job, Study, StudyRun, legible
from analysis.exceptions import BadInput
from analysis.shell import install_command

logger = logging.getLogger(__name__)

REQUEUE = 85  # exit code of a task whose run is to go on in the same job, later
MOST_TASKS = 1000  # of an array, where the cluster says no number


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that wait for the same, and so are one array.

    Attributes:
        jobs: of the study.
        needs: names of runs and pre-trainings in the queue that must have been finished.
        after: names of runs in the queue that must have ended, however.
    """

    jobs: list[Job]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submission:
    """The result of a submission.

    Attributes:
        batches: that were handed over, with their numbers, in order; the last is the end of the study.
        queued: names of runs that were in the queue already.
        unsatisfiable: name -> why a run is not submitted.
    """

    batches: list[Batch] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    unsatisfiable: dict[str, str] = field(default_factory=dict)


def plan_groups(
    jobs: Sequence[Job], statuses: Sequence[RunStatus], *, again: bool, queued: Collection[str], most: int = MOST_TASKS
) -> tuple[list[Group], dict[str, str]]:
    """The groups of runs to submit, in an order in which needed runs come first.

    Args:
        jobs: runs of the study and what they need, in order.
        statuses: of each of them.
        again: also those that failed, diverged or ran out of memory.
        queued: names of those that are in the queue already.
        most: tasks of an array.

    Returns:
        The groups, and why others wait in vain: name -> a sentence.
    """
    unique = {job.run_id: job for job in jobs if job.run_id}
    state = {status.run_id: status.state for status in statuses if status.run_id}
    needed = {need for job in unique.values() for need in job.needs}
    open_ids: list[str] = []
    unsatisfiable: dict[str, str] = {}
    for run_id, job in unique.items():
        may = state[run_id] in CAN_START or (again and state[run_id] in FAILURES)
        # What another launcher is at is waited for in a job, where something else in the queue needs it.
        if run_id in queued or not (may or (state[run_id] == "running" and run_id in needed)):
            continue
        missing = [
            need
            for need in job.needs
            if state.get(need) != "finished" and need not in queued and (need not in open_ids or need in unsatisfiable)
        ]
        if missing:
            needed_first = unique.get(missing[0])
            what = f"is {state.get(missing[0], 'not part of this study and not finished').replace('_', ' ')}"
            what = "cannot run either" if missing[0] in unsatisfiable else what
            unsatisfiable[run_id] = f"needs {needed_first.label if needed_first else missing[0]}, which {what}"
        else:
            open_ids.append(run_id)
    groups: dict[tuple[object, ...], list[Group]] = {}
    first_of_training: dict[str, str] = {unique[run_id].training: run_id for run_id in queued if run_id in unique}
    for run_id in open_ids:
        job = unique[run_id]
        needs = tuple(need for need in job.needs if state.get(need) != "finished")
        # One at a time of those that train the same: the others take over its weights.
        before = first_of_training.get(job.training)
        first_of_training[job.training] = run_id
        after = () if before is None else (before,)
        same = groups.setdefault((kind_of(run_id), needs, after), [])
        if not same or len(same[-1].jobs) == most:
            same.append(Group([], needs, after))
        same[-1].jobs.append(job)
    order = {run_id: place for place, run_id in enumerate(unique)}
    found = [group for same in groups.values() for group in same]
    return sorted(found, key=lambda group: order[group.jobs[0].run_id]), unsatisfiable


def dependency(batch_after: Sequence[str], needs: Sequence[str], numbers: Mapping[str, str]) -> str:
    """The value of ``sbatch --dependency``.

    Args:
        batch_after: jobs, or names of runs, that must have ended.
        needs: names of runs that must have been finished.
        numbers: the job of each run.
    """
    parts = []
    if needs:
        parts.append("afterok:" + ":".join(dict.fromkeys(numbers[need] for need in needs)))
    ended = dict.fromkeys(numbers.get(one, one) for one in batch_after)
    if ended:
        parts.append("afterany:" + ":".join(ended))
    return ",".join(parts)


def script(batch: Batch, cluster: Cluster, code: Path, depends: str = "") -> str:
    """The batch script of a job or an array.

    Args:
        batch: what its tasks do; it lies in its folder when the job begins.
        cluster: what the job asks for.
        code: the copy of this program that it runs.
        depends: see `dependency`.

    Raises:
        BadInput: submitit is not installed.
    """
    try:
        from submitit import SlurmExecutor
    except ImportError:
        raise BadInput(
            f"--on slurm: the package submitit is not installed: {install_command('cluster')}, or pip install submitit"
        ) from None

    class Writer(SlurmExecutor):
        """Writes the scripts; what is submitted is our own command, which needs no pickles."""

        @classmethod
        def affinity(cls) -> int:
            return 1  # a script can be written where there is no srun

        def text(self, command: str) -> str:
            return str(self._make_submission_file_text(command, ""))

    ends, device = batch.kind == "end", batch.options.device
    gpus = min(1, cluster.gpus(device)) if ends else cluster.gpus(device) // cluster.nodes
    cores = cluster.cpus_per_node
    folder, task = batch.folder, batch.folder / f"{batch.token}.json"
    writer = Writer(folder=folder / "logs", python="")
    writer.update_parameters(
        job_name=f"{legible(batch.study)[:24]}{'-end' * ends}",
        comment=comment_of(batch),
        nodes=1 if ends else cluster.nodes,
        ntasks_per_node=1,
        gpus_per_node=gpus or None,
        cpus_per_task=cores,
        partition=cluster.partition or None,
        account=cluster.account or None,
        qos=cluster.qos or None,
        constraint=cluster.constraint or None,
        signal_delay_s=cluster.signal_seconds,
        stderr_to_stdout=True,
        wckey=None,
        array_parallelism=cluster.max_parallel or len(batch.runs),
        setup=[*cluster.setup, *_checks(batch, task, code)],
        teardown=_requeue_lines(),
        # An srun of Slurm 22.05 or newer does not take the cores from its job.
        srun_args=["--kill-on-bad-exit=0", *([f"--cpus-per-task={cores}"] if cores else [])],
        additional_parameters={
            "requeue": True,
            **({"time": str(cluster.time)} if cluster.time != "" else {}),
            **({"dependency": depends, "kill-on-invalid-dep": "yes"} if depends else {}),
            **cluster.sbatch,
        },
    )
    if len(batch.runs) > 1 and not ends:
        writer.parameters["map_count"] = len(batch.runs)
    text = writer.text(f"{shlex.quote(sys.executable)} -u -m ablate.launch.slurm_task {shlex.quote(str(task))}")
    if cluster.time == "":  # submitit would ask for five minutes
        text = re.sub(r"^#SBATCH --time=.*\n", "", text, flags=re.M)
    return text


def _checks(batch: Batch, task: Path, code: Path) -> list[str]:
    """Lines that end a job, with a sentence, on a node that sees another disk or has no such Python."""
    python, root = shlex.quote(sys.executable), shlex.quote(batch.root)
    seen = "on $(hostname)"
    return [
        f"export PYTHONPATH={shlex.quote(str(code))} PYTHONSAFEPATH=1",
        f"[ -e {shlex.quote(str(task))} ] || "
        f"{{ echo detablate: {root} is not the same folder {seen} as on the machine that submitted the study"
        ": choose a --root on a disk that all nodes share >&2; exit 4; }",
        f"[ -x {python} ] || {{ echo detablate: there is no Python {python} {seen}: install this program on a disk "
        "that all nodes share >&2; exit 4; }",
        "trap : TERM  # the tasks save their runs, and this script waits for them",
    ]


def _requeue_lines() -> list[str]:
    """Lines behind the tasks: a job whose run is to go on, or whose tasks were killed, goes back into the queue."""
    return [
        "code=$?",
        'state=$(squeue --noheader --states=all --format=%T --jobs="$SLURM_JOB_ID")',
        f'if [ "$state" = RUNNING ] && {{ [ $code -eq {REQUEUE} ] || [ $code -ge 128 ]; }}; then',
        '  scontrol requeue "$SLURM_JOB_ID" && sleep 60  # until Slurm has ended this script',
        "fi",
        "exit $code",
    ]


def submit_study(
    workspace: Workspace, study: Study, options: LaunchOptions, cluster: Cluster, *, dry_run: bool = False
) -> tuple[Submission, list[str]]:
    """Submit the runs that are neither done nor in the queue: all of them or none.

    Args:
        workspace: above `results/`.
        study: whose runs.
        options: of the launch.
        cluster: what the jobs ask for.
        dry_run: write nothing and do not call Slurm; the numbers of jobs in the scripts are then names of runs.

    Returns:
        What was submitted, and the text of each script.

    Raises:
        BadInput: something cannot be, Slurm cannot be asked or refuses a job; nothing is in the queue then that was
            not there before.
    """
    workspace = Workspace(workspace.root.absolute())
    cluster.check(options.device, options.checkpoint_minutes)
    if cluster.nodes > 1 and any(isinstance(job, StudyRun) and job.command for job in study.jobs):
        raise BadInput(
            f"--nodes {cluster.nodes}: a command of your own is started once, on one node; leave --nodes out, or let "
            "the command start its processes on other nodes"
        )
    options = replace(options, gpus_per_run=max(1, cluster.gpus(options.device)))
    if dry_run:
        groups, unsatisfiable = plan_groups(study.jobs, _statuses(workspace, study), again=options.retry, queued=())
        submission = Submission(unsatisfiable=unsatisfiable)
        code = slurm_folder(workspace, study.name) / "code" / "SNAPSHOT"
        return submission, list(_handed_over(workspace, study, options, cluster, groups, code, submission, {}, None))
    if job := scheduler_job():
        raise BadInput(
            f"--on slurm: this shell is already in a job ({job}); submit from a login node, or use --drain in this job"
        )
    if not slurm.is_here():
        raise BadInput(
            "--on slurm: there is no sbatch on the PATH; submit from a login node of the cluster, or start drains in "
            "jobs of your own: --print-job prints a job file"
        )
    folder = slurm_folder(workspace, study.name)
    try:
        for name in ("logs", "runs", "stores"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "stores").chmod(0o700)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be created ({error.strerror}); choose another --root") from None
    with holding(folder, f"the submission of study {study.name}"):
        batches = read_batches(workspace, study.name)
        live = live_jobs(batches)
        numbers = _numbers(with_numbers(batches, live), live)
        submission = Submission(queued=[run for run in numbers if run])
        groups, unsatisfiable = plan_groups(
            study.jobs, _statuses(workspace, study), again=options.retry, queued=numbers, most=_most_tasks()
        )
        submission.unsatisfiable.update(unsatisfiable)
        if not groups:
            return submission, []
        code = take_snapshot(folder / "code")
        ends = [batch for batch in batches if batch.kind == "end" and batch.job in live]
        with _all_or_nothing(submission):
            texts = list(
                _handed_over(workspace, study, options, cluster, groups, code, submission, numbers, slurm.submit)
            )
        with suppress(BadInput):  # of an earlier submission; the new one comes after its runs too
            slurm.cancel([batch.job for batch in ends])
    return submission, texts


def _statuses(workspace: Workspace, study: Study) -> list[RunStatus]:
    statuses = StatusReader(workspace, study).look()
    for status, job in zip(statuses, study.jobs, strict=True):
        if status.state not in DONE and isinstance(job, StudyRun) and job.config is not None:
            python_of(job.config.engine)  # a missing engine is reported before anything is written
    return statuses


def _numbers(batches: Sequence[Batch], live: Mapping[str, object]) -> dict[str, str]:
    """The live job of each run that has one."""
    found = {}
    for batch in batches:
        for run_id in batch.runs if batch.kind == "runs" and batch.job else ():
            if batch.job_of(run_id) in live:
                found[run_id] = batch.job_of(run_id)
    return found


def _most_tasks() -> int:
    """Tasks of an array that the cluster takes."""
    given = slurm.settings().get("MaxArraySize", "")
    return max(1, int(given) - 1) if given.isdecimal() else MOST_TASKS


def _handed_over(
    workspace: Workspace,
    study: Study,
    options: LaunchOptions,
    cluster: Cluster,
    groups: Sequence[Group],
    code: Path,
    submission: Submission,
    numbers: dict[str, str],
    submit: Callable[[Path], str] | None,
) -> Iterator[str]:
    """Submit groups and the end of the study one by one -> the text of each; without ``submit`` nothing is written."""
    numbers = dict(numbers)
    everything = list(dict.fromkeys(job.partition("_")[0] for job in numbers.values()))
    before: list[str] = everything if cluster.max_parallel else []
    for group in [*groups, None]:
        jobs = [] if group is None else group.jobs
        batch = Batch(
            token=secrets.token_hex(6) if submit else f"batch{len(submission.batches) + 1}",
            kind="end" if group is None else "runs",
            root=str(workspace.root),
            study=study.name,
            runs=tuple(job.run_id for job in jobs),
            again=tuple(job.run_id for job in jobs if options.retry),
            pythons=tuple(_python(job) for job in jobs),
            options=options,
            nodes=1 if group is None else cluster.nodes,
            processes=1 if group is None else cluster.processes(options.device),
            submitted=now(),
        )
        after = everything if group is None else [*group.after, *before]
        depends = dependency(after, () if group is None else group.needs, numbers)
        text = script(batch, cluster, code, depends)
        job = f"JOB{len(submission.batches) + 1}"
        if submit is not None:
            submission.batches.append(batch)  # it may be in the queue from here on, whatever happens
            path = batch.folder / f"{batch.token}.sbatch"
            _write_batch(batch)
            path.write_text(text, encoding="utf-8")
            job = submit(path)
            batch = msgspec.structs.replace(batch, job=job)
            _write_batch(batch)
            submission.batches[-1] = batch
        else:
            batch = msgspec.structs.replace(batch, job=job)
            submission.batches.append(batch)
        numbers |= {run_id: batch.job_of(run_id) for run_id in batch.runs}
        everything.append(job)
        before = [job] if cluster.max_parallel else []
        yield text


def _write_batch(batch: Batch) -> None:
    """Whole or not at all, without waiting for the disk: a hundred of them would wait longer than sbatch takes."""
    path = batch.folder / f"{batch.token}.json"
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(batch) + b"\n")
    part.replace(path)


@contextmanager
def _all_or_nothing(submission: Submission) -> Iterator[None]:
    """Take what was submitted out of the queue again where something goes wrong, Ctrl-C too."""
    try:
        yield
    except BaseException as error:
        known = [batch.job for batch in submission.batches if batch.job]
        comments = {comment_of(batch) for batch in submission.batches}
        with suppress(BadInput):  # the last one may have been taken although we had no answer
            known += [job.raw for job in slurm.queued() if job.comment in comments]
        with suppress(BadInput):
            slurm.cancel(known)
        for batch in submission.batches:
            for suffix in ("json", "part", "sbatch"):
                with suppress(OSError):
                    (batch.folder / f"{batch.token}.{suffix}").unlink(missing_ok=True)
        if isinstance(error, BadInput):
            raise BadInput(f"{error}; nothing is submitted") from None
        if isinstance(error, OSError):
            raise BadInput(
                f"{error.filename or 'the folder of the study'}: cannot be written ({error.strerror}); nothing is "
                "submitted; free some space, and submit again"
            ) from None
        raise


def _python(job: Job) -> str:
    """The interpreter of its worker; empty for that of the task."""
    config = job.config if isinstance(job, StudyRun) else None
    found = "" if config is None else python_of(config.engine)
    return "" if found == sys.executable else found
