"""Who is at a piece of work: a claim is a file that its owner's death makes worthless, on one host or on several.

Whoever wants a folder's work alone writes a claim, ``lease-<token>.json``, and then looks for others: of two that come
at once at least one sees the other and withdraws. No name is used twice, so anybody may delete a claim that he knows to
be dead. Dead is a claim whose process is gone, where that process could be seen from here (the same boot of the same
machine, the same container); elsewhere one whose file has not been touched for `SILENCE_SECONDS` of watching. No two
clocks are compared and no clock has to be right: the watcher counts on his own monotonic one.
"""

import os
import random
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import msgspec

from ablate.runs.folder import now
from analysis.exceptions import BadInput

BEAT_SECONDS = 5.0  # between two touches of a claim
SILENCE_SECONDS = 60.0  # after which an owner that cannot be seen counts as dead; also bridges caches of network disks
PREFIX, SUFFIX = "lease-", ".json"
ENDED = "ZX"  # states of a process: a zombie has ended, only nobody has asked it how
COLLISIONS = 20  # withdrawals before others in the same moment; each halves the chance of another


class LockHeld(BadInput):
    """Somebody else is at this work."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A process that can be told from every other."""

    host: str  # for people
    machine: str  # within which process ids are unique
    pid: int
    born: str  # when the process started, in the machine's own measure: process ids are used again
    since: str = msgspec.field(default_factory=now)  # for people

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class LockFile(msgspec.Struct, frozen=True):
    """A claim as it was read; without an owner where the file was cut short."""

    path: Path
    owner: Owner | None
    beat: int  # changes as long as the owner lives

    @property
    def is_of_this_machine(self) -> bool:
        """Whether the owner's process could be seen from here."""
        return self.owner is not None and self.owner.machine == machine()


class Watch:
    """Tells living claims from dead ones, the better the longer it is used.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[int, float]] = {}  # the last beat, and when it was first seen
        self._beaten: set[Path] = set()

    def living(self, folder: Path) -> list[LockFile]:
        """The claims on a folder whose owners live, as far as is known; the dead ones are deleted."""
        living = []
        for claim in _read_claims(folder):
            if self._is_dead(claim):
                with suppress(OSError):  # read-only for us, or another was faster
                    claim.path.unlink()
            else:
                living.append(claim)
        return living

    def has_beaten(self, claim: LockFile) -> bool:
        """Whether a claim surely has a living owner: he can be seen, or touched it between two looks of this watch."""
        return claim.is_of_this_machine or claim.path in self._beaten

    def _is_dead(self, claim: LockFile) -> bool:
        if claim.is_of_this_machine and claim.owner is not None:
            return not is_alive(claim.owner.pid, claim.owner.born)
        beat, since = self._seen.get(claim.path, (None, 0.0))
        if beat != claim.beat:
            if beat is not None:
                self._beaten.add(claim.path)
            self._seen[claim.path] = (claim.beat, self._clock())
            return False
        return self._clock() - since > SILENCE_SECONDS


def owners(folder: Path) -> list[Owner]:
    """Who is at a folder's work, at one glance: a dead owner on another machine still counts."""
    return [claim.owner for claim in Watch().living(folder) if claim.owner is not None]


@contextmanager
def holding(folder: Path, what: str, lost: "Callable[[], None] | None" = None) -> Iterator[None]:
    """Be the only one at a folder's work; the folder must exist.

    Args:
        folder: of the work.
        what: is held, for the refusal.
        lost: is called from another thread when the claim is gone: this machine slept, and others took us for dead.
            None: this process is asked to stop, as by SIGTERM.

    Raises:
        LockHeld: somebody else is. Where that cannot be seen at once (a claim of another machine), it takes until the
            other gives a sign, or up to `SILENCE_SECONDS`, after which the work is ours.
        BadInput: the folder cannot be written.
    """
    claim = _alone(folder, what)
    with _beating(claim, lost or _stop_this_process):
        yield


@contextmanager
def joining(folder: Path) -> Iterator[None]:
    """Be one of those who are at a folder's work."""
    with _beating(_claim(folder), _nothing):
        yield


def this_process() -> Owner:
    """The process that asks."""
    born = birth(os.getpid())
    assert born is not None
    return Owner(host=socket.gethostname(), machine=machine(), pid=os.getpid(), born=born)


def is_alive(pid: int, born: str) -> bool:
    """Whether a process of this machine still runs, and is no other one with its number."""
    return birth(pid) == born


def birth(pid: int) -> str | None:
    """When a process of this machine started, in some unit that no change of the clock touches; None: it has ended."""
    return _birth_from_proc(pid) if Path("/proc/self/stat").exists() else _birth_from_ps(pid)


def _birth_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in ENDED else numbers[18]


def _birth_from_ps(pid: int) -> str | None:
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


def _alone(folder: Path, what: str) -> Path:
    watch = Watch()
    for _ in range(COLLISIONS):
        while others := watch.living(folder):
            if any(watch.has_beaten(other) for other in others):
                raise LockHeld(_refusal(what, others))
            time.sleep(min(1.0, SILENCE_SECONDS / 10))
        own = _claim(folder)
        others = [other for other in watch.living(folder) if other.path != own]
        if not others:
            return own
        own.unlink(missing_ok=True)
        time.sleep(random.uniform(0, 0.05))
    raise LockHeld(_refusal(what, others))


def _refusal(what: str, others: list[LockFile]) -> str:
    named = [str(other.owner) for other in others if other.owner is not None]
    return f"{what}: {named[0] if named else 'another process'} is at this; wait for it, or stop it first"


def _claim(folder: Path) -> Path:
    path = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        with path.open("xb") as file:
            file.write(msgspec.json.encode(this_process()) + b"\n")
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise BadInput(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another --root, "
            "and the same command continues"
        ) from None
    return path


def _read_claims(folder: Path) -> list[LockFile]:
    found = []
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX))
    except OSError:
        return []
    for name in names:
        try:
            with (folder / name).open("rb") as file:  # opening makes a network disk look afresh
                content, beat = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            continue  # given back
        except OSError:
            content, beat = b"", 0
        try:
            owner = msgspec.json.decode(content, type=Owner)
        except (msgspec.DecodeError, UnicodeDecodeError):
            owner = None
        found.append(LockFile(folder / name, owner, beat))
    return found


@contextmanager
def _beating(claim: Path, lost: Callable[[], None]) -> Iterator[None]:
    """Touch a claim for as long as the block runs, then give it back."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                os.utime(claim)  # needs no space on a full disk
            except FileNotFoundError:
                if not ended.is_set():
                    lost()
                return
            except OSError:
                continue  # a network disk may come back

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            claim.unlink(missing_ok=True)


def _stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _nothing() -> None:
    """Do nothing."""
