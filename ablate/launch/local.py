"""Runs a study with processes of this machine: a run on each free GPU, or on several; without a GPU one by one.

Which runs may start is a pure function of the status of all of them, `queue`; `launch_here` starts workers for them,
looks at the run folders again and again, and ends when no run is left or a stop was requested.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import IO

import msgspec

from ablate.engines.environment import package_environment, python_of
from ablate.execute.finished import find_fault
from ablate.launch.base import (
    BUSY,
    LOG,
    Drain,
    LaunchOptions,
    Outcome,
    View,
    WorkerJob,
    device_folder,
    devices_of,
    free_devices,
    is_cpu,
    worker_command,
    worker_environment,
)
from ablate.launch.status import DONE, FAILED, Cancelled, RunStatus, State, StatusReader, launchers_folder
from ablate.runs.folder import FAILURES, Status, Workspace, now, open_regular, state_words
from ablate.runs.lock import LockHeld, holding, joining, owners, sweep_locks, this_process
from ablate.runs.signals import WARNINGS, handle, ignore_scheduler, restore, scheduler_job, stop_signal
from ablate.studies.study import Job, PretrainingRun, Study, StudyRun, ranks_of
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)

CAN_START: tuple[State, ...] = ("waiting", "interrupted")
TICK_SECONDS = 0.05  # between two looks at the processes
LOOK_SECONDS = 0.5  # between two looks at the files
PATIENCE_SECONDS = 2.0  # before a run or a device that another process took is tried again

Command = Callable[[WorkerJob, int], list[str]]


@dataclass(frozen=True, slots=True)
class Queue:
    """The runs that are left.

    Attributes:
        ready: may start now, in the order of the study.
        later: wait for another run of the study, or for a process elsewhere that works on them.
        unsatisfiable: cannot run, because what they need will not be there: run id -> why.
    """

    ready: list[Job]
    later: list[Job]
    unsatisfiable: dict[str, str]


def queue(
    jobs: Sequence[Job],
    statuses: Sequence[RunStatus],
    *,
    already_started: Collection[str],
    again: Collection[str],
    elsewhere: Mapping[str, State | None],
) -> Queue:
    """Which runs may start, which wait, and which can never start.

    Args:
        jobs: runs of the study and what they need, in order.
        statuses: of each of them.
        already_started: ids of the runs that this launch has started before.
        again: those to be run although they failed.
        elsewhere: states of runs that are needed and are not of this study; none where they do not exist.
    """
    state = {status.run_id: status.state for status in statuses if status.run_id}
    unique = {job.run_id: job for job in jobs if job.run_id}
    unsatisfiable: dict[str, str] = {}

    def is_open(run_id: str) -> bool:
        return (
            run_id not in already_started
            and run_id not in unsatisfiable
            and (state[run_id] in CAN_START or (run_id in again and state[run_id] in FAILURES))
        )

    def is_there(need: str) -> bool:
        return state.get(need, elsewhere.get(need)) == "finished"

    def is_coming(need: str) -> bool:
        return need in state and (is_open(need) or state[need] == "running")

    known = -1
    while known < len(unsatisfiable):  # what needs something unsatisfiable is unsatisfiable too
        known = len(unsatisfiable)
        for run_id, job in unique.items():
            for need in job.needs:
                if is_open(run_id) and not is_there(need) and not is_coming(need):
                    needed = unique.get(need)
                    name = needed.variant if isinstance(needed, PretrainingRun) else f"run {need}"
                    unsatisfiable[run_id] = f"needs {name}, which {_what_became(need, state, elsewhere)}"
    ready: list[Job] = []
    later: list[Job] = []
    # One at a time of those that train the same: the others take over its weights.
    training = {job.training for run_id, job in unique.items() if state[run_id] == "running"}
    for run_id, job in unique.items():
        if state[run_id] == "running" and run_id not in already_started:
            later.append(job)
        elif is_open(run_id):
            (ready if job.training not in training and all(map(is_there, job.needs)) else later).append(job)
            training.add(job.training)
    return Queue(ready, later, unsatisfiable)


def _what_became(need: str, state: Mapping[str, State], elsewhere: Mapping[str, State | None]) -> str:
    what = state.get(need, elsewhere.get(need))
    if what is None:
        return "is not part of this study and was never started"
    if need not in state:
        return f"is not part of this study and is {state_words(what)}"
    return "has no result" if what not in DONE else "ran out of memory"


@dataclass(slots=True)
class _Child:
    job: Job
    devices: tuple[str, ...]
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    has_begun: bool = False  # it was seen at its run


@dataclass
class _Stop:
    """Who asked to stop, and how often."""

    reason: str = ""
    times: int = 0

    def ask(self, reason: str) -> None:
        """Ask to stop; the second time at once."""
        self.reason = self.reason or reason
        self.times += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals that end a process as requests to stop."""

        def note(number: int, _: FrameType | None) -> None:
            if self.reason and scheduler_job() and number != signal.SIGINT:
                return  # a scheduler warns, and asks again at its limit: what saves goes on saving
            self.ask("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

        warnings = WARNINGS if scheduler_job() else ()
        before = handle((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *warnings), note)
        try:
            yield
        finally:
            restore(before)


def launch_here(
    workspace: Workspace,
    study: Study,
    options: LaunchOptions,
    view: View,
    command: Command = worker_command,
    *,
    drain: Drain | None = None,
) -> Outcome:
    """Run the unfinished runs of a study; return when none is left or a stop was requested.

    Args:
        workspace: above `results/`.
        study: whose runs.
        options: of the launch.
        view: is shown every look at the runs.
        command: from a job and a number of processes to the command line of a worker.
        drain: work on the study beside other launches, and return when nothing is left that this one may start.

    Raises:
        BadInput: nothing can be run at all.
        MissingEngine: an engine that a run needs is not installed; nothing is written.
    """
    reader = StatusReader(workspace, study)
    for status, job in zip(reader.look(), study.jobs, strict=True):
        if status.state not in DONE:
            _python(job)  # a missing engine is reported before anything is written
    devices = devices_of(options.device, options.gpus_per_run, options.parallel)
    folder = launchers_folder(workspace, study.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be created ({error.strerror}); choose another --root") from None
    launch = _Launch(command, Workspace(workspace.root.absolute()), study, options, view, devices, reader, drain)
    sweep_locks(folder)
    with joining(folder), launch.stop.listening():
        return launch.run()


class _Launch:
    def __init__(
        self,
        command: Command,
        workspace: Workspace,
        study: Study,
        options: LaunchOptions,
        view: View,
        devices: tuple[str, ...],
        reader: StatusReader,
        drain: Drain | None,
    ) -> None:
        self._command, self._workspace, self._study, self._options = command, workspace, study, options
        self._view, self._devices, self._reader, self._drain = view, devices, reader, drain
        self.stop = _Stop()
        self._cancelled = Cancelled(workspace, study.name)
        self._children: dict[str, _Child] = {}
        self._started: set[str] = set()  # and ended
        self._not_before: dict[str, float] = {}
        self._told_busy = False
        self._elsewhere: dict[str, State | None] = {}  # of what is needed and is not of this study
        self._failures: dict[str, str] = {}  # of this launch: run id -> a sentence
        self._statuses: list[RunStatus] = []  # of the last look
        self._time_is_up = False

    def run(self) -> Outcome:
        """Run until nothing is left to do, or until everything has stopped."""
        statuses = self._look()
        self._again = {status.run_id for status in statuses if self._options.retry and status.state in FAILURES}
        asked = 0
        looked = began = time.monotonic()
        while True:
            if self._drain is not None and time.monotonic() - began > (self._drain.stop_after or float("inf")):
                self._end_in_time()
            if self.stop.times > asked:
                asked = self.stop.times
                self._signal(stop_signal() if asked == 1 else signal.SIGKILL)
            left = self._queue(statuses)
            if not self.stop.reason:
                self._start(left.ready)
            if not self._children and (self.stop.reason or not self._may_start_more(left)):
                return self._outcome(statuses, left)
            if self._reap() or time.monotonic() - looked > LOOK_SECONDS:
                if self._cancelled():
                    self.stop.ask("ablate cancel")
                statuses, looked = self._look(), time.monotonic()
            else:
                time.sleep(TICK_SECONDS)

    def _look(self) -> list[RunStatus]:
        """The status of every run; one whose worker has not taken it yet, or has given it back, is running too."""
        statuses = []
        for status in self._reader.look():
            child = self._children.get(status.run_id)
            if child is not None and status.state == "running":
                child.has_begun = True
            elif child is not None:
                status = msgspec.structs.replace(
                    status, state="running", phase="ending" if child.has_begun else "starting"
                )
            statuses.append(status)
        self._view.update(statuses, self.stop.reason)
        self._statuses = statuses
        jobs = self._study.jobs
        self._elsewhere = {
            need: None if self._workspace.job_folder(need).read_status() is None else self._reader.read(need).state
            for need in {need for job in jobs for need in job.needs} - {job.run_id for job in jobs}
        }
        return statuses

    def _queue(self, statuses: list[RunStatus]) -> Queue:
        return queue(
            self._study.jobs,
            statuses,
            already_started=self._started,
            again=self._again,
            elsewhere=self._elsewhere,
        )

    def _end_in_time(self) -> None:
        assert self._drain is not None
        if not self.stop.reason:
            self._time_is_up = True
            self.stop.ask(f"--stop-after {self._drain.limit}")

    def _has_started_all(self) -> bool:
        """Whether a drain has started as many runs as it may."""
        most = None if self._drain is None else self._drain.max_runs
        return most is not None and len(self._started) + len(self._children) >= most

    def _may_start_more(self, left: Queue) -> bool:
        """Whether it is worth to wait: a launch waits for every run, a drain for what it may start itself.

        That is what waits for a device, or for a run that another process works on; and a run whose process elsewhere
        was not seen to live yet, which may be dead.
        """
        if self._drain is None:
            return bool(left.ready or left.later)
        if self._has_started_all():
            return False
        elsewhere = {status.run_id for status in self._statuses if status.state == "running"}
        return bool(left.ready) or any(
            job.run_id not in elsewhere or not self._reader.is_surely_running(job.run_id) for job in left.later
        )

    def _start(self, ready: Sequence[Job]) -> None:
        taken = {device for child in self._children.values() for device in child.devices}
        each = self._options.gpus_per_run
        if len(self._devices) - len(taken) < each:
            return
        for job in ready:
            if self._not_before.get(job.run_id, 0.0) > time.monotonic() or job.run_id in self._children:
                continue
            if self._has_started_all():
                return
            free = free_devices(self._devices, taken)[:each]
            if len(free) < each:
                self._tell_busy()
                return
            self._start_worker(job, tuple(free))
            taken |= set(free)

    def _tell_busy(self) -> None:
        """Log once if other processes use so many devices that no run can start."""
        if self._children or self._told_busy:
            return
        for device in self._devices:
            for owner in owners(device_folder(device))[:1]:
                self._told_busy = True
                logger.info(f"waiting for device {device}, which {owner} uses")

    def _start_worker(self, run: Job, devices: tuple[str, ...]) -> None:
        job = WorkerJob(
            root=str(self._workspace.root),
            study=self._study.name,
            run=run.run_id,
            again=run.run_id in self._again,
            launcher=this_process(),
            devices=devices,
            options=replace(self._options, device="cpu" if is_cpu(devices[0]) else "cuda"),
            python=_python(run),
        )
        folder = self._workspace.job_folder(run.run_id).path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log = open_regular(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            # The worker writes behind this line.
            log.write(f"{now()} {self._study.name}: {run.label}, on {', '.join(devices)}\n".encode())
        except OSError as error:
            self._fail(run, f"{folder}: cannot be written ({error.strerror}); free some space, and launch again")
            return
        process = subprocess.Popen(
            self._command(job, ranks_of(run, len(devices))),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=package_environment() | worker_environment(devices, self._options),
            start_new_session=True,  # Ctrl-C reaches us alone, and we ask the worker politely
            preexec_fn=ignore_scheduler if scheduler_job() else None,
        )
        self._children[run.run_id] = _Child(run, devices, process, log)
        self._told_busy = False

    def _reap(self) -> bool:
        """Take note of the workers that have ended -> whether there were any."""
        ended = [child for child in self._children.values() if child.process.poll() is not None]
        for child in ended:
            run_id = child.job.run_id
            del self._children[run_id]
            child.log.close()
            if child.process.returncode == BUSY:
                self._not_before[run_id] = time.monotonic() + PATIENCE_SECONDS
            else:
                self._started.add(run_id)
                if not self.stop.reason:
                    self._check_result(child)
        return bool(ended)

    def _check_result(self, child: _Child) -> None:
        """Check whether a worker that ended by itself has a result; if it left no reason, write one."""
        folder, code = self._workspace.job_folder(child.job.run_id), child.process.returncode
        status = folder.read_status() or Status(state="prepared")
        fault = find_fault(folder) if status.state == "finished" else None
        if fault is not None:
            self._fail(child.job, fault.sentence)
        if status.state in DONE:
            return
        if status.state in (*FAILED, "interrupted"):
            self._fail(child.job, status.message)
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        message = f"its worker {how} without a message; see {folder.path / LOG}; launch again to continue"
        with suppress(OSError, LockHeld, BadInput), holding(folder.path, str(folder.path)):
            last = folder.read_status() or status
            folder.write_status(
                Status(
                    state="interrupted",
                    message=message,
                    iteration=last.iteration,
                    iterations=last.iterations,
                    files=last.files,
                )
            )
            folder.append_event("interrupted", message=message)
        self._fail(child.job, message)

    def _fail(self, job: Job, message: str) -> None:
        self._started.add(job.run_id)
        self._failures[job.run_id] = message
        logger.info(f"{job.label}: {message}")
        if self._options.fail_fast and not self.stop.reason:
            self.stop.ask("--fail-fast")

    def _signal(self, number: signal.Signals) -> None:
        reach = os.killpg if number == signal.SIGKILL else os.kill  # what it started too
        for child in self._children.values():
            with suppress(ProcessLookupError):
                reach(child.process.pid, number)

    def _outcome(self, statuses: list[RunStatus], left: Queue) -> Outcome:
        messages = {**left.unsatisfiable, **self._failures}
        failed = {}
        for status in statuses:
            default = (status.message or state_words(status.state)) if status.state in FAILED else ""
            message = messages.get(status.run_id) or default
            if message and status.state not in DONE:
                failed[status.run_id] = f"{status.label}: {message}"
        return Outcome(
            statuses,
            list(failed.values()),
            self.stop.reason,
            self.stop.times > 1,
            self._time_is_up,
            len(left.ready) + len(left.later),
        )


def _python(job: Job) -> str:
    """The interpreter of its worker; empty for ours."""
    config = job.config if isinstance(job, StudyRun) else None
    return "" if config is None else python_of(config.engine)
