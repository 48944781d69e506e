"""The status of the runs of a study, from files alone, so that any terminal on any machine sees the same.

Stopping a study works through a file too: `cancel` asks every launcher of it, wherever it runs, and `Cancelled` is how
a launcher finds out.
"""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ablate.execute.finished import find_fault
from ablate.launch.slurm_jobs import QueueReader, QueueState
from ablate.runs.folder import FINAL, PretrainingFolder, RunFolder, Status, Workspace, kind_of, replacing
from ablate.runs.lock import LockWatcher, Owner, owners
from ablate.runs.manifest import older_rule
from ablate.studies.study import Job, Study, StudyRun, study_folder
from analysis.exceptions import BadInput

State = Literal[
    "blocked",  # weights or the like are missing
    "waiting",  # not started
    "running",  # a process works on it
    "interrupted",  # a process worked on it; it continues
    "finished",
    "out_of_memory",  # a result too
    "failed",
    "diverged",
    "damaged",  # it had finished; a file is missing or was changed, and launch cannot make it again
]
DONE: tuple[State, ...] = ("finished", "out_of_memory")
FAILED: tuple[State, ...] = ("failed", "diverged", "damaged")
# The state of a run at which no process is, by what its folder says.
WITHOUT_OWNER: dict[str, State] = {
    "prepared": "waiting",
    **dict.fromkeys(("running", "interrupted", "damaged"), "interrupted"),
    "finished": "finished",
    "out_of_memory": "out_of_memory",
    "failed": "failed",
    "diverged": "diverged",
}


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run, or of a pre-training, of a study."""

    variant: str
    seed: int
    run_id: str = msgspec.field(name="identity")  # or pretraining/<id>; empty where it is blocked
    state: State
    phase: str | None = None  # of a running one: training, predicting, analysing
    iteration: int = 0
    iterations: int = 0  # 0: not known yet
    loss: float | None = None
    phase_done: int = 0  # images that a predicting one has predicted
    phase_total: int = 0  # of so many; 0: not known
    seconds_per_iteration: float | None = None  # of the whole run, of late; a probe's training step is of one image
    ap: float | None = None  # of a finished one: box AP in points, as in its evaluation
    seconds: float | None = None  # of a finished one: all its sessions, as far as they have ended in order
    seconds_after_training: float | None = None  # of it: to predict and to evaluate
    message: str = ""
    older: str = ""  # by which older rule it was made; see `ablate.runs.manifest.older_rule`
    owner: Owner | None = None  # of a running one
    queue: QueueState | None = None  # its job in Slurm, where it has one and is not finished

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def remaining(self) -> float | None:
        """Seconds of training to come, at the pace of the last iterations."""
        return (
            None
            if self.seconds_per_iteration is None or not self.iterations
            else (self.iterations - self.iteration) * self.seconds_per_iteration
        )


class StatusReader:
    """Looks at the runs of a study again and again; what is done is read once.

    Args:
        workspace: above `results/`.
        study: whose runs.
    """

    def __init__(self, workspace: Workspace, study: Study) -> None:
        self._workspace, self._jobs = workspace, study.jobs
        self._watcher = LockWatcher()
        self._finished: dict[str, RunStatus] = {}
        self._queue = QueueReader(workspace, study.name)

    def look(self) -> list[RunStatus]:
        """Every run of the study, and the pre-trainings they need, in the order of `Study.jobs`."""
        found: dict[str, RunStatus] = {}
        statuses = []
        for job in self._jobs:
            if isinstance(job, StudyRun) and not job.run_id:
                why = job.blocked or "it has no identity"
                statuses.append(RunStatus(variant=job.variant, seed=job.seed, run_id="", state="blocked", message=why))
                continue
            status = found.get(job.run_id) or self._finished.get(job.run_id) or self.read(job.run_id)
            found[job.run_id] = status
            if status.state == "finished":  # the others may be tried again
                self._finished[job.run_id] = status
            iterations = status.iterations or (0 if status.state == "waiting" else _planned_iterations(job))
            statuses.append(msgspec.structs.replace(status, variant=job.variant, seed=job.seed, iterations=iterations))
        queue = self._queue.look([status.run_id for status in statuses if status.state != "finished"])
        return [msgspec.structs.replace(status, queue=queue.get(status.run_id)) for status in statuses]

    def is_surely_running(self, run_id: str) -> bool:
        """Whether the process of a run is known to live; for one on another host, that takes a few looks."""
        locks = self._watcher.living(self._workspace.job_folder(run_id).path)
        return any(map(self._watcher.is_surely_alive, locks))

    def read(self, run_id: str) -> RunStatus:
        """One run or pre-training of any study, without its variant and seed.

        Args:
            run_id: or `pretraining/<id>`.
        """
        folder = self._workspace.job_folder(run_id)
        status = folder.read_status() or Status(state="prepared")
        locks = self._watcher.living(folder.path)  # also removes the locks of dead processes
        if status.state in DONE:
            locks = []
        elif not locks:  # the owner may have finished between the two looks
            status = folder.read_status() or status
        elif status.state in ("prepared", "damaged"):
            status = Status(state="running")
        state: State = "running" if locks else WITHOUT_OWNER[status.state]
        fault = find_fault(folder) if state == "finished" else None
        if fault is not None:
            state = "interrupted" if fault.repairable else "damaged"
            status = msgspec.structs.replace(status, message=fault.sentence)
        found = RunStatus(
            variant="",
            seed=0,
            run_id=run_id,
            state=state,
            phase=status.phase if locks else None,
            iteration=status.iteration,
            iterations=status.iterations,
            message=status.message,
            older=older_rule(folder),
            owner=locks[0].owner if locks else None,
        )
        if state == "finished":
            return _with_result(found, folder)
        if not (locks or status.state in ("running", "damaged")):
            return found
        told = msgspec.structs.replace(
            found, loss=status.loss, phase_done=status.phase_done, phase_total=status.phase_total
        )
        return _with_curves(told, folder)


def read_statuses(workspace: Workspace, study: Study) -> list[RunStatus]:
    """Every job of a study, at one look."""
    return StatusReader(workspace, study).look()


def without_pretrainings(statuses: Sequence[RunStatus]) -> list[RunStatus]:
    """The runs alone: pre-trainings have no place in a table of results."""
    return [status for status in statuses if kind_of(status.run_id) == "run"]


def counts(statuses: Sequence[RunStatus]) -> dict[str, int]:
    """How many runs are in which state, those that share a folder counted once; only states that occur."""
    states = list({status.run_id or status.label: status.state for status in statuses}.values())
    return {state: states.count(state) for state in get_args(State) if state in states}


def _planned_iterations(job: Job) -> int:
    """The iterations of the config, until the run reports its own; 0 if the config counts in epochs."""
    planned = job.config.train.iterations if isinstance(job, StudyRun) and job.config is not None else "none"
    return planned if isinstance(planned, int) else 0


def _with_curves(status: RunStatus, folder: RunFolder) -> RunStatus:
    """Progress as of the last line of the curves, where that is further than the status."""
    line = folder.newest_losses()
    loss, seconds, iteration = (line.get(key) for key in ("loss", "seconds_per_iteration", "iteration"))
    return msgspec.structs.replace(
        status,
        iteration=max(status.iteration, iteration) if isinstance(iteration, int) else status.iteration,
        loss=loss if isinstance(loss, float) else status.loss,
        seconds_per_iteration=seconds if isinstance(seconds, float) else None,
    )


def _with_result(status: RunStatus, folder: RunFolder) -> RunStatus:
    """The AP of a finished run and how long it took, where its files tell; what cannot be read is said."""
    trained, ended, seconds = None, None, 0.0
    try:
        events, message = folder.read_events(), status.message
    except BadInput as error:
        events, message = [], str(error)
    for line in events:
        if line["event"] == "trained":
            trained, ended = line["time"], None
        elif line["event"] in (*FINAL, "interrupted"):
            ended = line["time"] if line["event"] == "finished" else None
            lasted = line.get("seconds")
            seconds += lasted if isinstance(lasted, int | float) else 0.0
    ap = None
    if not isinstance(folder, PretrainingFolder):
        with suppress(BadInput):
            from ablate.execute.evaluation import read_evaluation  # which needs NumPy; completion reads statuses too

            ap = read_evaluation(folder.evaluation).box.metrics.get("AP")
    return msgspec.structs.replace(
        status,
        ap=ap if ap is not None and ap >= 0 else None,
        seconds=seconds or None,
        seconds_after_training=_between(trained, ended),
        message=message,
    )


def _between(first: str | None, second: str | None) -> float | None:
    """Seconds from one time to another, as `ablate.runs.folder.now` writes them."""
    if first is None or second is None:
        return None
    with suppress(ValueError, TypeError):
        return max(0.0, (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds())
    return None


def launchers_folder(workspace: Workspace, study: str) -> Path:
    """The folder of the lock files of a study's launchers."""
    return study_folder(workspace, study) / "launchers"


def _request(workspace: Workspace, study: str) -> Path:
    return study_folder(workspace, study) / "cancel"


class Cancelled:
    """Whether a study was cancelled since the last look; what is older than this object was for others."""

    def __init__(self, workspace: Workspace, study: str) -> None:
        self._path = _request(workspace, study)
        self._old = self._read()

    def __call__(self) -> bool:
        """Look for a request; each is reported once, because a second one means: stop at once."""
        found, old = self._read(), self._old
        self._old = found or old
        return found not in (b"", old)

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


def cancel(workspace: Workspace, study: str) -> list[Owner]:
    """Ask every launcher of a study to stop -> those that were asked.

    Raises:
        BadInput: the request cannot be written.
    """
    asked = owners(launchers_folder(workspace, study))
    if asked:
        request_cancel(workspace, study)
    return asked


def request_cancel(workspace: Workspace, study: str) -> None:
    """Write the request that every launcher and every job of a study looks for.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        with replacing(_request(workspace, study)) as file:
            file.write(secrets.token_hex(8).encode())
    except OSError as error:
        raise BadInput(f"{_request(workspace, study)}: cannot be written ({error.strerror})") from None
