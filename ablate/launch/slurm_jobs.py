"""The jobs of a study in Slurm, from its own files first and then from Slurm.

``results/studies/<study>/slurm/`` holds

================= ===================================================================================================
``<token>.json``  `Batch`: a job, or an array of jobs, and what its tasks have to do; written before it is submitted,
                  and again with its number. The token is the comment of the job too, so one whose number could not be
                  written any more is still known
``<token>.sbatch``  the script as it was submitted
``runs/*.json``   `RunRecord`: what the job of a run has noted: where it runs, how often it was requeued and why
``logs/``         what Slurm and the tasks say, beside the logs of the runs
``code/``         the program as it was at submission (`ablate.launch.snapshot`)
``stores/``       in which the processes of a run on several nodes meet
================= ===================================================================================================
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from ablate import slurm
from ablate.launch.base import LaunchOptions
from ablate.runs.folder import SCHEMA, Workspace, read_json
from ablate.studies.study import study_folder
from analysis.exceptions import BadInput

COMMENT = "detablate"  # begins the comments of our jobs
LOOK_SECONDS = 5.0  # between two questions to a controller that others use too


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One call of ``sbatch``: what its tasks, one on each node of each job, have to do."""

    token: str
    kind: Literal["runs", "end"]  # the end of a study: costs, table and report
    root: str  # absolute
    study: str
    runs: tuple[str, ...]  # one; several are an array, task by task
    again: tuple[str, ...] = ()  # of them, those to be run although they failed before
    pythons: tuple[str, ...] = ()  # the interpreter of each run's worker; empty: that of the task
    options: LaunchOptions
    nodes: int = 1
    processes: int = 1  # on each node
    job: str = ""  # its number; empty: not known yet
    submitted: str
    schema: int = SCHEMA

    @property
    def folder(self) -> Path:
        """The folder of the study's records."""
        return slurm_folder(Workspace(Path(self.root)), self.study)

    def job_of(self, run_id: str) -> str:
        """The job of one of its runs, as people write it."""
        return f"{self.job}_{self.runs.index(run_id)}" if len(self.runs) > 1 else self.job


class Requeue(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job gave its nodes back, to go on later."""

    time: str
    why: str
    node: str
    iteration: int


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``runs/<run>.json``: what the job of a run has noted."""

    job: str
    nodes: str  # as Slurm writes them
    restarts: int  # as Slurm counts them
    started: str
    iteration: int = 0  # of its run when the job began last
    saved_at: float = 0  # when the command of its run had last written the file by which it resumes
    in_vain: int = 0  # times in a row that it began without having come further
    requeued: tuple[Requeue, ...] = ()
    clock: str = ""  # what is wrong with the clock of a node
    schema: int = SCHEMA


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """How the job of a run stands.

    Attributes:
        job: as people write it: 12, or 12_3 for a task of an array.
        state: in Slurm's words; empty where Slurm cannot be asked, or has forgotten the job.
        reason: why it is pending.
        nodes: where it runs, or ran last.
        requeued: how often it began again.
        why: it did so the last time.
        is_live: whether it is in the queue.
        has_begun: whether one of its tasks has left a trace.
    """

    job: str
    state: str = ""
    reason: str = ""
    nodes: str = ""
    requeued: int = 0
    why: str = ""
    is_live: bool = False
    has_begun: bool = False

    @property
    def words(self) -> str:
        """For a person."""
        again = f"requeued {self.requeued} time{'s' * (self.requeued != 1)}" if self.requeued else ""
        why = f" ({self.why})" if again and self.why else ""
        where = f"on {self.nodes}" if self.nodes and self.state != "PENDING" else ""
        state = self.state.lower() + (f" ({self.reason})" if self.state == "PENDING" and self.reason else "")
        if not self.is_live:
            where, state = "", f"has ended ({state})" if state else "has ended"
            if not self.has_begun:
                state += (
                    " before its run started: do its nodes see this folder and this Python? (check with doctor --slurm)"
                )
        elif self.state == "RUNNING":
            state = ""
        return ", ".join(filter(None, (" ".join(filter(None, (f"job {self.job}", state))), where, again + why)))


def slurm_folder(workspace: Workspace, study: str) -> Path:
    """The folder of the records of a study's jobs."""
    return study_folder(workspace, study) / "slurm"


def record_path(folder: Path, run_id: str) -> Path:
    """The file in which the job of a run records its state."""
    return folder / "runs" / f"{run_id.replace('/', '-')}.json"


def read_batches(workspace: Workspace, study: str) -> list[Batch]:
    """The submitted batches, the newest last; damaged records are left out."""
    found = []
    for path in slurm_folder(workspace, study).glob("*.json"):
        with suppress(BadInput):
            found.append(read_json(path, Batch))
    return sorted(found, key=lambda batch: batch.submitted)


def read_record(folder: Path, run_id: str) -> RunRecord | None:
    """The record of the job of a run; None if no job has begun."""
    try:
        return read_json(record_path(folder, run_id), RunRecord)
    except BadInput:
        return None


def slurm_logs(workspace: Workspace, study: str, run_id: str) -> list[Path]:
    """The logs of Slurm and of the tasks for the newest job of a run."""
    jobs = [batch.job_of(run_id) for batch in read_batches(workspace, study) if run_id in batch.runs and batch.job]
    return sorted((slurm_folder(workspace, study) / "logs").glob(f"{jobs[-1]}_*_log.out")) if jobs else []


def comment_of(batch: Batch) -> str:
    """By which its jobs are known in the queue."""
    return f"{COMMENT} {batch.token}"


def live_jobs(batches: Sequence[Batch]) -> dict[str, slurm.QueuedJob]:
    """The jobs of some batches that have not ended, by the names that people use for them.

    Raises:
        BadInput: Slurm cannot be asked.
    """
    comments = {comment_of(batch) for batch in batches}
    if not comments:
        return {}
    return {job.job: job for job in slurm.queued() if job.comment in comments}


def with_numbers(batches: Sequence[Batch], live: dict[str, slurm.QueuedJob]) -> list[Batch]:
    """The batches whose number could not be written down, with the number that the queue has for them."""
    numbers = {job.comment: job.job.partition("_")[0] for job in live.values()}
    return [
        batch if batch.job else msgspec.structs.replace(batch, job=numbers.get(comment_of(batch), ""))
        for batch in batches
    ]


class QueueReader:
    """Looks again and again at what a study has in the queue; Slurm is asked every few seconds at most.

    Args:
        workspace: above `results/`.
        study: whose jobs.
    """

    def __init__(self, workspace: Workspace, study: str) -> None:
        self._workspace, self._study = workspace, study
        self._asked_at = -LOOK_SECONDS
        self._live: dict[str, slurm.QueuedJob] | None = None  # none: Slurm cannot be asked
        self._ended: dict[str, slurm.EndedJob] = {}
        self._batches: list[Batch] = []

    def look(self, unfinished: Sequence[str]) -> dict[str, QueueState]:
        """The newest job of each of some runs, where it has one; a run that is finished needs none."""
        if unfinished and time.monotonic() - self._asked_at >= LOOK_SECONDS:
            self._ask()
        jobs: dict[str, str] = {}
        for batch in self._batches:
            if batch.job:
                jobs |= {run_id: batch.job_of(run_id) for run_id in batch.runs if run_id in unfinished}
        live, folder = self._live, slurm_folder(self._workspace, self._study)
        if live is not None:
            gone = [job for job in jobs.values() if job not in live and job not in self._ended]
            self._ended |= {job: slurm.EndedJob("", "") for job in gone} | slurm.ended(gone)
        return {run_id: self._state(job, read_record(folder, run_id)) for run_id, job in jobs.items()}

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        self._batches, self._live = read_batches(self._workspace, self._study), None
        if self._batches and slurm.is_here():
            with suppress(BadInput):
                self._live = live_jobs(self._batches)
                self._batches = with_numbers(self._batches, self._live)

    def _state(self, job: str, record: RunRecord | None) -> QueueState:
        own = record is not None and record.job == job
        known = record if own and record is not None else None
        found = QueueState(
            job=job,
            nodes=known.nodes if known else "",
            requeued=known.restarts if known else 0,
            why=known.requeued[-1].why if known and known.requeued else "",
            is_live=self._live is None or job in self._live,
            has_begun=own,
        )
        if self._live is not None and job in self._live:
            queued = self._live[job]
            nodes = queued.nodes or found.nodes
            return msgspec.structs.replace(found, state=queued.state, reason=queued.reason, nodes=nodes)
        if job in self._ended:
            return msgspec.structs.replace(found, state=self._ended[job].state)
        return found
