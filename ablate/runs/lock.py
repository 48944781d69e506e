"""A crash-safe lock on a folder: a heartbeat file, valid while its owner lives, on one host or on several.

A process that wants the lock writes a lock file, ``lease-<token>.json``, and then looks for others: of two that
come at once at least one sees the other and withdraws. No name is used twice, so any process may delete a lock file
of a dead owner. An owner is dead when its process is gone, where that process could be seen from here (the
same boot of the same machine, the same container); elsewhere when the file has not been touched for `SILENCE_SECONDS`
of watching. No two clocks are compared and no clock has to be right: the watcher counts on its own monotonic one.
"""

import os
import random
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import msgspec

from ablate.runs.folder import now, open_regular
from ablate.runs.signals import ask_to_stop
from analysis.exceptions import BadInput

HEARTBEAT_SECONDS = 5.0  # between two touches of a lock file
SILENCE_SECONDS = 60.0  # after which an owner that cannot be seen counts as dead; also bridges caches of network disks
PREFIX, SUFFIX = "lease-", ".json"
ENDED = "ZX"  # states of a process that has ended (zombie, dead)
COLLISIONS = 20  # withdrawals before others in the same moment; each halves the chance of another


class LockHeld(BadInput):
    """Another process has the lock."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A process, identified uniquely across machines; the content of a lock file."""

    host: str  # for people
    machine: str  # within which process ids are unique
    pid: int
    start_time: str = msgspec.field(name="born")  # in the machine's own measure: process ids are used again
    since: str = msgspec.field(default_factory=now)  # for people

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class LockFile(msgspec.Struct, frozen=True):
    """A lock file as it was read; without an owner where the file was cut short."""

    path: Path
    owner: Owner | None
    heartbeat: int  # changes as long as the owner lives

    @property
    def is_of_this_machine(self) -> bool:
        """Whether the owner's process could be seen from here."""
        return self.owner is not None and self.owner.machine == machine()


class LockWatcher:
    """Tells living owners of lock files from dead ones, the better the longer it is used.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[int, float]] = {}  # the last heartbeat, and when it was first seen
        self._moved: set[Path] = set()  # lock files whose heartbeat has changed since it was first seen

    def living(self, folder: Path) -> list[LockFile]:
        """The lock files of a folder whose owners live, as far as is known; those of the dead are deleted."""
        living = []
        for lock in _read_locks(folder):
            if self._is_dead(lock):
                with suppress(OSError):  # read-only for us, or another was faster
                    lock.path.unlink()
            else:
                living.append(lock)
        return living

    def is_surely_alive(self, lock: LockFile) -> bool:
        """Whether the owner can be seen, or has touched its file between two looks of this watcher."""
        return lock.is_of_this_machine or lock.path in self._moved

    def _is_dead(self, lock: LockFile) -> bool:
        if lock.is_of_this_machine and lock.owner is not None:
            return start_time(lock.owner.pid) != lock.owner.start_time
        heartbeat, since = self._seen.get(lock.path, (None, 0.0))
        if heartbeat == lock.heartbeat:
            return self._clock() - since > SILENCE_SECONDS
        if heartbeat is not None:
            self._moved.add(lock.path)
        self._seen[lock.path] = (lock.heartbeat, self._clock())
        return False


def owners(folder: Path) -> list[Owner]:
    """The owners of the locks of a folder, by a single look: a dead owner on another machine still counts."""
    return [lock.owner for lock in LockWatcher().living(folder) if lock.owner is not None]


def sweep_locks(folder: Path) -> None:
    """Remove the locks that killed processes of this machine left in a folder."""
    LockWatcher().living(folder)


@contextmanager
def holding(folder: Path, what: str, lost: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of a folder, which must exist.

    Args:
        folder: of the work.
        what: is held, for the refusal.
        lost: is called from another thread when the lock file is gone: this machine slept, and others took us for
            dead. None: this process is asked to stop (`ask_to_stop`).

    Raises:
        LockHeld: another process has it. If that is not known at once (an owner on another machine), it takes until the
            other gives a sign, or up to `SILENCE_SECONDS`, after which the work is ours.
        BadInput: the folder cannot be written.
    """
    with _heartbeat(_lock_alone(folder, what), lost or partial(ask_to_stop, os.getpid())):
        yield


@contextmanager
def joining(folder: Path) -> Iterator[None]:
    """Register this process as one of several that work on a folder."""
    with _heartbeat(_write_lock(folder), lambda: None):
        yield


def this_process() -> Owner:
    """The owner record of this process."""
    started = start_time(os.getpid())
    assert started is not None
    return Owner(host=socket.gethostname(), machine=machine(), pid=os.getpid(), start_time=started)


def start_time(pid: int) -> str | None:
    """When a process of this machine started, in some unit that no change of the clock touches; None: it has ended.

    A process that started at another time than it was seen to is another one with its number.
    """
    return _start_time_from_proc(pid) if Path("/proc/self/stat").exists() else _start_time_from_ps(pid)


def _start_time_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in ENDED else numbers[18]


def _start_time_from_ps(pid: int) -> str | None:
    asked = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    words = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return None if not words or words[0][0] in ENDED else " ".join(words[1:])


@cache
def machine() -> str:
    """Names the space in which a process id means one process: a boot of a machine, and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _lock_alone(folder: Path, what: str) -> Path:
    """Write a lock file beside which there is no other."""
    watcher = LockWatcher()
    others: list[LockFile] = []
    for _ in range(COLLISIONS):
        while others := watcher.living(folder):
            if any(map(watcher.is_surely_alive, others)):
                raise _held(what, others)
            time.sleep(min(1.0, SILENCE_SECONDS / 10))
        own = _write_lock(folder)
        others = [other for other in watcher.living(folder) if other.path != own]
        if not others:
            return own
        own.unlink(missing_ok=True)
        time.sleep(random.uniform(0, 0.05))
    raise _held(what, others)


def _held(what: str, others: list[LockFile]) -> LockHeld:
    who = next((str(other.owner) for other in others if other.owner is not None), "another process")
    return LockHeld(f"{what}: {who} is working on this; wait for it, or stop it first")


def _write_lock(folder: Path) -> Path:
    path = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        with path.open("xb") as file:
            file.write(msgspec.json.encode(this_process()) + b"\n")
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise BadInput(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another --root, "
            "and run the same command to continue"
        ) from None
    return path


def _read_locks(folder: Path) -> Iterator[LockFile]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX))
    except OSError:
        return
    for name in names:
        content, heartbeat, owner = b"", 0, None
        try:
            with open_regular(folder / name) as file:  # opening makes a network disk look afresh
                content, heartbeat = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            continue  # given back
        except OSError:
            pass  # it has an owner all the same
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            owner = msgspec.json.decode(content, type=Owner)
        yield LockFile(folder / name, owner, heartbeat)


@contextmanager
def _heartbeat(lock: Path, lost: Callable[[], object]) -> Iterator[None]:
    """Touch a lock file for as long as the block runs, then give it back."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(lock)  # needs no space on a full disk
            except FileNotFoundError:
                if not ended.is_set():
                    lost()
                return
            except OSError:
                continue  # a network disk may come back

    thread = threading.Thread(target=touch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            lock.unlink(missing_ok=True)
