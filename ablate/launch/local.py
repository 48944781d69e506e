"""Runs a study with processes of this machine: a run on each free GPU, or on several; without a GPU one by one.

Which runs of a study may start, as a pure function of how all of them stand.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

import msgspec

from ablate.engines.environment import python_of
from ablate.launch.base import (
    BUSY,
    CPU,
    LOG,
    Job,
    Options,
    Outcome,
    View,
    free_slots,
    slot_folder,
    slots_of,
    worker_command,
    worker_environment,
)
from ablate.launch.status import DONE, FAILED, Cancelled, RunStatus, State, StatusReader, launchers_folder
from ablate.launch.view import state_words
from ablate.runs.folder import Status, Workspace, now
from ablate.runs.lock import LockHeld, holding, joining, owners, this_process
from ablate.studies.study import Job as StudyJob
from ablate.studies.study import Study, StudyRun
from analysis.exceptions import BadInput

CAN_START: tuple[State, ...] = ("waiting", "interrupted")
CAN_FAIL: tuple[State, ...] = ("failed", "diverged", "out_of_memory")


@dataclass(frozen=True, slots=True)
class Queue:
    """What is left to do.

    Attributes:
        ready: may start now, in the order of the study.
        later: wait for another run of the study, or for a process elsewhere that is at them.
        hopeless: cannot run, because what they need will not be there: name of the folder -> why.
    """

    ready: list[StudyJob]
    later: list[StudyJob]
    unsatisfiable: dict[str, str]


def queue(
    runs: Sequence[StudyJob],
    found: Sequence[RunStatus],
    *,
    already_started: Collection[str],
    again: Collection[str],
    elsewhere: Mapping[str, State | None],
) -> Queue:
    """What may start, what has to wait, and what waits in vain.

    Args:
        runs: of the study and what they need, in order.
        found: how each of them stands.
        already_started: names of the run folders that this launch has started before.
        again: those to be run although they failed.
        elsewhere: states of runs that are needed and are not of this study; none where they do not exist.
    """
    state: dict[str, State] = {
        run.identity: standing.state for run, standing in zip(runs, found, strict=True) if run.identity
    }
    unique = {run.identity: run for run in runs if run.identity}
    unsatisfiable: dict[str, str] = {}

    def is_open(identity: str) -> bool:
        return (
            identity not in already_started
            and identity not in unsatisfiable
            and (state[identity] in CAN_START or (identity in again and state[identity] in CAN_FAIL))
        )

    def is_there(need: str) -> bool:
        return state.get(need, elsewhere.get(need)) == "finished"

    def is_coming(need: str) -> bool:
        return need in state and (is_open(need) or state[need] == "running")

    changed = True
    while changed:  # what needs something hopeless is hopeless too
        changed = False
        for identity, run in unique.items():
            for need in run.needs:
                if is_open(identity) and not is_there(need) and not is_coming(need):
                    name = unique[need].variant if need in unique and "/" in need else f"run {need}"
                    unsatisfiable[identity] = f"needs {name}, which {_what_became(need, state, elsewhere)}"
                    changed = True
    ready: list[StudyJob] = []
    later: list[StudyJob] = []
    training: set[str] = set()  # one at a time of those that train the same: the others take over its weights
    for identity, run in unique.items():
        if state[identity] == "running":
            training.add(run.training)
    for identity, run in unique.items():
        if state[identity] == "running" and identity not in already_started:
            later.append(run)
        elif is_open(identity):
            needed = all(map(is_there, run.needs))
            (ready if needed and run.training not in training else later).append(run)
            training.add(run.training)
    return Queue(ready, later, unsatisfiable)


def _what_became(need: str, state: Mapping[str, State], elsewhere: Mapping[str, State | None]) -> str:
    what = state.get(need, elsewhere.get(need))
    if what is None:
        return "is not part of this study and was never run"
    if need not in state:
        return f"is not part of this study and is {what.replace('_', ' ')}"
    return "came to no result" if what not in DONE else "ran out of memory"


TICK_SECONDS = 0.05  # between two looks at the processes
LOOK_SECONDS = 0.5  # between two looks at the files
PATIENCE_SECONDS = 2.0  # before a run or a device that another process took is tried again

Command = Callable[[Job, int], list[str]]


@dataclass(frozen=True, slots=True)
class _Child:
    run: StudyJob
    slots: tuple[str, ...]
    process: subprocess.Popen[bytes]
    log: IO[bytes]


@dataclass
class _Stop:
    """Who asked to stop, and how often; a context around the launch."""

    reason: str = ""
    times: int = 0
    _before: dict[int, object] = field(default_factory=dict)

    def __enter__(self) -> "_Stop":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _: FrameType | None) -> None:
        self.ask("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    def ask(self, reason: str) -> None:
        """Ask to stop; the second time at once."""
        self.reason = self.reason or reason
        self.times += 1


class LocalLauncher:
    """See `ablate.launch.base.Launcher`.

    Args:
        command: from a job and a number of processes to the command line of a worker.
    """

    def __init__(self, command: Command = worker_command) -> None:
        self._command = command

    def launch(self, workspace: Workspace, study: Study, options: Options, view: View) -> Outcome:
        """See `Launcher.launch`."""
        for standing, run in zip(StatusReader(workspace, study).look(), study.jobs, strict=True):
            if standing.state not in DONE:
                _python(run)  # a missing engine is told before anything is written
        slots = slots_of(options.device, options.gpus_per_run)
        folder = launchers_folder(workspace, study.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{folder}: cannot be made ({error.strerror}); choose another --root") from None
        with joining(folder), _Stop() as stop:
            return _Launch(self._command, Workspace(workspace.root.absolute()), study, options, view, slots, stop).run()


class _Launch:
    """One launch of one study."""

    def __init__(
        self,
        command: Command,
        workspace: Workspace,
        study: Study,
        options: Options,
        view: View,
        slots: tuple[str, ...],
        stop: _Stop,
    ) -> None:
        self._command, self._workspace, self._study, self._options = command, workspace, study, options
        self._view, self._slots, self._stop = view, slots, stop
        self._observer = StatusReader(workspace, study)
        self._cancelled = Cancelled(workspace, study.name)
        self._children: dict[str, _Child] = {}
        self._at_work: set[str] = set()  # those of the children that have begun
        self._tried: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._again: set[str] = set()
        self._told_busy = False
        self._failures: dict[str, str] = {}  # of this launch: name of the folder -> a sentence

    def run(self) -> Outcome:
        """Until nothing is left to do, or everything has stopped."""
        found = self._look()
        if self._options.retry:
            self._again = {standing.identity for standing in found if standing.state in CAN_FAIL}
        asked = 0
        looked = time.monotonic()
        while True:
            if self._stop.times > asked:
                asked = self._stop.times
                self._signal(signal.SIGTERM if asked == 1 else signal.SIGKILL)
            todo = self._queue(found)
            if not self._stop.reason:
                self._start(todo)
            if not self._children and (self._stop.reason or not (todo.ready or todo.later)):
                return self._outcome(found, todo)
            ended = self._reap()
            if ended or time.monotonic() - looked > LOOK_SECONDS:
                if self._cancelled():
                    self._stop.ask("ablate cancel")
                found, looked = self._look(), time.monotonic()
            else:
                time.sleep(TICK_SECONDS)

    def _look(self) -> list[RunStatus]:
        found = self._observer.look()
        self._at_work |= {s.identity for s in found if s.state == "running"} & self._children.keys()
        shown = [self._with_worker(standing) for standing in found]
        self._view.update(shown, self._stop.reason)
        return shown

    def _with_worker(self, standing: RunStatus) -> RunStatus:
        """A run whose worker has not taken it yet, or has given it back, is running all the same."""
        if standing.identity not in self._children or standing.state == "running":
            return standing
        phase = "ending" if standing.identity in self._at_work else "starting"
        return msgspec.structs.replace(standing, state="running", phase=phase)

    def _queue(self, found: list[RunStatus]) -> Queue:
        jobs = self._study.jobs
        needed = {need for run in jobs for need in run.needs} - {run.identity for run in jobs}
        elsewhere = {need: self._state_elsewhere(need) for need in needed}
        return queue(jobs, found, already_started=self._tried, again=self._again, elsewhere=elsewhere)

    def _state_elsewhere(self, identity: str) -> State | None:
        status = self._workspace.run(identity).read_status()
        return None if status is None else msgspec.convert(_as_state(status), State)

    def _start(self, todo: Queue) -> None:
        taken = {slot for child in self._children.values() for slot in child.slots}
        each = self._options.gpus_per_run
        if len(self._slots) - len(taken) < each:
            return
        for run in todo.ready:
            if self._not_before.get(run.identity, 0.0) > time.monotonic() or run.identity in self._children:
                continue
            free = free_slots(self._slots, taken)[:each]
            if len(free) < each:
                self._tell_busy()
                return
            self._start_worker(run, tuple(free))
            taken |= set(free)

    def _tell_busy(self) -> None:
        """Where other processes have so many devices that nothing of ours runs, say so, once in a row."""
        if self._children or self._told_busy:
            return
        users = {slot: owners(slot_folder(slot)) for slot in self._slots}
        for slot, owner in ((slot, found[0]) for slot, found in users.items() if found):
            self._told_busy = True
            self._view.say(f"waiting for device {slot}, which {owner} uses")

    def _start_worker(self, run: StudyJob, slots: tuple[str, ...]) -> None:
        on_gpus = slots != (CPU,)
        job = Job(
            root=str(self._workspace.root),
            study=self._study.name,
            run=run.identity,
            again=run.identity in self._again,
            launcher=this_process(),
            slots=slots,
            device="cuda" if on_gpus else "cpu",
            loaders=self._options.loaders,
            checkpoint_minutes=self._options.checkpoint_minutes,
            python=_python(run),
        )
        environment = worker_environment() | ({"CUDA_VISIBLE_DEVICES": ",".join(slots)} if on_gpus else {})
        folder = self._workspace.run(run.identity)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            log = (folder.path / LOG).open("ab")
            log.write(f"{now()} {self._study.name}: {run.variant}, seed {run.seed}, on {', '.join(slots)}\n".encode())
            log.flush()
        except OSError as error:
            self._fail(run, f"{folder.path}: cannot be written ({error.strerror}); free space, and launch again")
            return
        process = subprocess.Popen(
            self._command(job, len(slots)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us alone, and we ask the worker politely
        )
        self._children[run.identity] = _Child(run, slots, process, log)
        self._told_busy = False

    def _reap(self) -> bool:
        """Take note of the workers that have ended -> whether there were any."""
        ended = [child for child in self._children.values() if child.process.poll() is not None]
        for child in ended:
            identity = child.run.identity
            del self._children[identity]
            self._at_work.discard(identity)
            child.log.close()
            if child.process.returncode == BUSY:
                self._not_before[identity] = time.monotonic() + PATIENCE_SECONDS
                continue
            self._tried.add(identity)
            if not self._stop.reason:
                self._judge(child)
        return bool(ended)

    def _judge(self, child: _Child) -> None:
        """Whether a worker that ended by itself came to a result; one that could not say why not is spoken for."""
        folder, code = self._workspace.run(child.run.identity), child.process.returncode
        status = folder.read_status()
        if status is not None and status.state in DONE:
            return
        if status is not None and status.state in (*FAILED, "interrupted"):
            self._fail(child.run, status.message)
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        message = f"its worker {how} without a word; see {folder.path / LOG}; launch again to go on"
        with suppress(OSError, LockHeld, BadInput), holding(folder.path, str(folder.path)):
            last = folder.read_status() or Status(state="prepared")
            folder.write_status(
                Status(state="interrupted", message=message, iteration=last.iteration, iterations=last.iterations)
            )
            folder.append_event("interrupted", message=message)
        self._fail(child.run, message)

    def _fail(self, run: StudyJob, message: str) -> None:
        self._tried.add(run.identity)
        self._failures[run.identity] = message
        self._view.say(f"{run.variant}, seed {run.seed}: {message}")
        if self._options.fail_fast and not self._stop.reason:
            self._stop.ask("--fail-fast")

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if number == signal.SIGTERM:
                child.process.send_signal(number)
            else:
                with suppress(ProcessLookupError):
                    os.killpg(child.process.pid, number)  # what it started too

    def _outcome(self, found: list[RunStatus], todo: Queue) -> Outcome:
        messages: Mapping[str, str] = todo.unsatisfiable | self._failures
        failed = {}
        for standing in found:
            message = messages.get(standing.identity)
            if standing.state in FAILED:
                message = message or standing.message or state_words(standing.state)
            if message and standing.state not in DONE:
                failed[standing.identity] = f"{standing.variant}, seed {standing.seed}: {message}"
        return Outcome(found, list(failed.values()), self._stop.reason, self._stop.times > 1)


def _python(run: StudyJob) -> str:
    """The interpreter of its worker; empty for ours."""
    config = run.config if isinstance(run, StudyRun) else None
    return "" if config is None else python_of(config.engine)


def _as_state(status: Status) -> str:
    return {"prepared": "waiting", "damaged": "interrupted"}.get(status.state, status.state)
