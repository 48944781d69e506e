"""The signals that end a process: who handles them, and by which one a worker is asked to stop.

In the job of a scheduler a SIGTERM, or the warning before a time limit, goes to every process of the job. Workers would
get it twice, from the scheduler and from their launcher, and a second one means: at once. There the launcher alone
takes what the scheduler sends, its workers ignore that, and it asks them by SIGINT.
"""

import atexit
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from weakref import WeakKeyDictionary, WeakSet

Handler = Callable[[int, FrameType | None], object]

# Set for what a scheduler starts: Slurm, PBS, LSF, Grid Engine (`undefined` outside of its arrays).
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
# Files of frames within which an exception may not arrive: Python's own import, and callbacks of weak references.
UNSAFE_FILES = {
    "<frozen importlib._bootstrap>",
    WeakKeyDictionary.__init__.__code__.co_filename,
    WeakSet.__init__.__code__.co_filename,
}
PAUSE = 0.02  # seconds between looks at whether they have ended
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # before a time limit or a preemption


def handle(numbers: Iterable[signal.Signals], handler: Handler) -> dict[signal.Signals, object]:
    """Install a handler -> the handlers before, for `restore`.

    A signal that is ignored stays ignored: ``nohup`` ignores SIGHUP for its command, and a shell SIGINT for what it
    starts in the background. Only the main thread may call this.
    """
    wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in wanted}


def restore(before: Mapping[signal.Signals, object]) -> None:
    """Put back the handlers that `handle` returned."""
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler: raise KeyboardInterrupt; during an import or a finalizer, after it.

    Within an import the exception may not arrive: Python makes a RuntimeError of it in the body of a class, a compiled
    module says that its initialisation failed, and one in C++ can end the process. Within a finalizer (``__del__``, the
    callback of a weak reference) Python prints it and goes on.

    Raises:
        KeyboardInterrupt: with the name of the signal.
    """
    name = signal.Signals(number).name
    if _is_safe(frame):
        raise KeyboardInterrupt(name)

    def look_again(_: int, later: FrameType | None) -> None:
        if _is_safe(later):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt(name)

    signal.signal(signal.SIGALRM, look_again)
    signal.setitimer(signal.ITIMER_REAL, PAUSE, PAUSE)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


def _is_safe(frame: FrameType | None) -> bool:
    """Whether an exception that is raised in this frame arrives in those that called it."""
    while frame is not None:
        if frame.f_code.co_filename in UNSAFE_FILES or frame.f_code.co_name == "__del__":
            return False
        frame = frame.f_back
    return True


def scheduler_job() -> str:
    """The job of a scheduler that this process is a part of, such as ``SLURM_JOB_ID=17``; empty outside of one."""
    return next((f"{name}={os.environ[name]}" for name in JOB_IDS if os.environ.get(name)), "")


def stop_signal() -> signal.Signals:
    """By which a launcher asks its workers to stop and save what they have."""
    return signal.SIGINT if scheduler_job() else signal.SIGTERM


def ask_to_stop(pid: int) -> None:
    """Ask a worker to stop and save what it has.

    Raises:
        ProcessLookupError: it has ended.
    """
    os.kill(pid, stop_signal())


def ignore_scheduler() -> None:
    """In a worker, or before one is started: what a scheduler sends to all processes of a job is its launcher's."""
    if scheduler_job():
        for number in (signal.SIGTERM, *WARNINGS):
            signal.signal(number, signal.SIG_IGN)


def obey_launcher() -> None:
    """In a worker that begins: handle `stop_signal`, even if it is ignored there, and nothing else from a scheduler."""
    ignore_scheduler()
    number = stop_signal()
    signal.signal(number, interrupt if number == signal.SIGINT else signal.SIG_DFL)
