"""How the runs of a study stand, from files alone, so that any terminal on any machine sees the same.

Asking the launchers of a study to stop, wherever they run: through a file that they look at.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ablate.runs.folder import RunFolder, Status, Workspace, replacing
from ablate.runs.lock import Owner, Watch, owners
from ablate.studies.study import Job, Study, StudyRun, study_folder
from analysis.exceptions import BadInput

State = Literal[
    "blocked",  # weights or the like are missing
    "waiting",  # nobody has begun
    "running",  # somebody is at it
    "interrupted",  # somebody was; it continues
    "finished",
    "out_of_memory",  # a result too
    "failed",
    "diverged",
]
DONE: tuple[State, ...] = ("finished", "out_of_memory")
FAILED: tuple[State, ...] = ("failed", "diverged")
TAIL = 4096  # bytes of the curves that hold their last line


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as it stands."""

    variant: str
    seed: int
    identity: str  # of its folder; empty where it is blocked
    state: State
    phase: str | None = None  # of a running one: training, predicting, analysing
    iteration: int = 0
    iterations: int = 0  # 0: not known yet
    loss: float | None = None
    seconds_per_iteration: float | None = None
    message: str = ""
    owner: Owner | None = None  # of a running one

    @property
    def remaining(self) -> float | None:
        """Seconds of training to come, at the pace of the last iterations."""
        if self.seconds_per_iteration is None or not self.iterations:
            return None
        return (self.iterations - self.iteration) * self.seconds_per_iteration

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        if self.state in DONE:
            return 1.0
        return min(1.0, self.iteration / self.iterations) if self.iterations else 0.0


class StatusReader:
    """Looks at the runs of a study again and again; what is done is read once.

    Args:
        workspace: above `results/`.
        study: whose runs.
    """

    def __init__(self, workspace: Workspace, study: Study) -> None:
        self._workspace, self._jobs = workspace, study.jobs
        self._watch = Watch()
        self._done: dict[str, RunStatus] = {}

    def look(self) -> list[RunStatus]:
        """Every run of the study, and the pre-trainings they need, in the order of `Study.jobs`."""
        found: dict[str, RunStatus] = {}
        standings = []
        for run in self._jobs:
            if isinstance(run, StudyRun) and not run.identity:
                standings.append(_blocked(run))
                continue
            if run.identity not in found:
                found[run.identity] = self._done.get(run.identity) or self._read(run)
            standing = found[run.identity]
            if standing.state == "finished":  # the others may be tried again
                self._done[run.identity] = standing
            standings.append(msgspec.structs.replace(standing, variant=run.variant, seed=run.seed))
        return standings

    def _read(self, run: Job) -> RunStatus:
        folder = self._workspace.run(run.identity)
        status = folder.read_status()
        if status is not None and status.state in DONE:
            return _from_status(run, status, status.state)
        living = self._watch.living(folder.path)
        owner = living[0].owner if living else None
        if living:
            if status is None or status.state == "damaged":
                status = Status(state="running")
            return _with_curves(_from_status(run, status, "running", owner), folder)
        # The owner may have finished between the two looks.
        status = folder.read_status()
        if status is None or status.state == "prepared":
            return RunStatus(variant=run.variant, seed=run.seed, identity=run.identity, state="waiting")
        if status.state in ("running", "damaged"):  # its process is gone
            return _with_curves(_from_status(run, status, "interrupted"), folder)
        return _from_status(run, status, status.state)


def standings(workspace: Workspace, study: Study) -> list[RunStatus]:
    """Every job of a study, at one look."""
    return StatusReader(workspace, study).look()


def runs_alone(found: Sequence[RunStatus]) -> list[RunStatus]:
    """Without the pre-trainings, which have no place in a table of results."""
    return [standing for standing in found if "/" not in standing.identity]


def counts(found: Sequence[RunStatus]) -> dict[str, int]:
    """How many runs are in which state, those that share a folder counted once; only states that occur."""
    states: dict[str, State] = {s.identity or f"{s.variant} {s.seed}": s.state for s in found}
    return {state: n for state in State.__args__ if (n := list(states.values()).count(state))}  # type: ignore[attr-defined]


def _blocked(run: StudyRun) -> RunStatus:
    message = run.blocked or "it has no identity"
    return RunStatus(variant=run.variant, seed=run.seed, identity="", state="blocked", message=message)


def _from_status(run: Job, status: Status, state: Any, owner: Owner | None = None) -> RunStatus:
    return RunStatus(
        variant=run.variant,
        seed=run.seed,
        identity=run.identity,
        state=state,
        phase=status.phase if state == "running" else None,
        iteration=status.iteration,
        iterations=status.iterations or _planned_iterations(run),
        message=status.message,
        owner=owner,
    )


def _planned_iterations(run: Job) -> int:
    """What the config says, until the run has said it; 0 where it counts in epochs."""
    if not isinstance(run, StudyRun):
        return 0
    planned = "none" if run.config is None else run.config.train.iterations
    return planned if isinstance(planned, int) else 0


def _with_curves(standing: RunStatus, folder: RunFolder) -> RunStatus:
    """Progress as of the last line of the curves, where that is further than the status."""
    line = _last_line(folder.metrics)
    loss, pace, iteration = (line.get(key) for key in ("loss", "seconds_per_iteration", "iteration"))
    return msgspec.structs.replace(
        standing,
        iteration=max(standing.iteration, iteration) if isinstance(iteration, int) else standing.iteration,
        loss=loss if isinstance(loss, float) else None,
        seconds_per_iteration=pace if isinstance(pace, float) else None,
    )


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole training line of the curves; empty without one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            value = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # cut short
        if isinstance(value, dict) and "loss" in value:
            return value
    return {}


def launchers_folder(workspace: Workspace, study: str) -> Path:
    """Where the launchers of a study are known by their claims."""
    return study_folder(workspace, study) / "launchers"


def _request(workspace: Workspace, study: str) -> Path:
    return study_folder(workspace, study) / "cancel"


class Cancelled:
    """Whether a study was cancelled since the last look; what is older than this object was for others."""

    def __init__(self, workspace: Workspace, study: str) -> None:
        self._path = _request(workspace, study)
        self._old = self._read()

    def __call__(self) -> bool:
        """Look; every request is told once, since a second one means: at once."""
        found = self._read()
        is_new = found not in (b"", self._old)
        if is_new:
            self._old = found
        return is_new

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
        try:
            with replacing(_request(workspace, study)) as file:
                file.write(secrets.token_hex(8).encode())
        except OSError as error:
            raise BadInput(f"{_request(workspace, study)}: cannot be written ({error.strerror})") from None
    return asked
