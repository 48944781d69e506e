"""Starts a command and ends everything that it has started: `python -I -S command_guard.py MARK SECONDS COMMAND...`.

The guard stands between a worker and its command, in a session of its own, because a worker may be killed and then
can end nothing. Linux tells the guard of its parent's death, and hands it the processes whose parents have ended
(PR_SET_CHILD_SUBREAPER), those among them that left the session. A process that escapes all of this, since the guard
itself was killed, is found by `MARK` in its environment, which the next worker of the run looks for.

The first SIGTERM asks the whole process group of the command to stop, as Slurm does; what still runs after so many
seconds, or after a second SIGTERM, is killed. What a command leaves behind when it has ended is killed too. The exit
code is that of the command, 128 + N where signal N killed it. Nothing but the standard library is imported.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

MARK = "DETABLATE_RUN_FOLDER"  # names the run to its command, and marks all that the command starts
TICK_SECONDS = 0.05
KILL_ROUNDS = 40  # of killing what is found, and looking again
CLEAN_LOOKS = 2
SUBREAPER, PARENT_DEATH = 36, 1  # numbers of prctl
NOT_STARTED = 127


def marked(mark: str) -> list[int]:
    """The processes that carry a mark in their environment, but this one; none where there is no /proc."""
    wanted = f"{MARK}={mark}".encode(errors="surrogateescape")
    found = []
    for pid in _pids():
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if pid != os.getpid() and wanted in file.read().split(b"\0"):
                found.append(pid)
    return found


def kill_marked(mark: str) -> int:
    """Kill the processes that carry a mark, until there is none -> how many there were."""
    known: set[int] = set()
    for _ in range(KILL_ROUNDS):
        found = marked(mark)
        if not found:
            break
        known |= set(found)
        _kill(found)
        time.sleep(TICK_SECONDS)
    return len(known)


def _pids() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _descendants() -> list[int]:
    """The processes below this one that have not ended."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        with suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, parent, *_ = file.read().rpartition(")")[2].split()
            if state != "Z":
                children.setdefault(int(parent), []).append(pid)
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _before_command() -> None:
    """In the command's process: end with the guard, however that ends."""
    _control(PARENT_DEATH, signal.SIGKILL)


class _Guard:
    def __init__(self, mark: str, grace: float, command: list[str]) -> None:
        self.mark, self.grace, self.command = mark, grace, command
        self.asked = 0
        self.code: int | None = None  # of the command, when it has ended
        self.parent = os.getppid()

    def run(self) -> int:
        """Wait until the command and all that it has started have ended -> the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        _control(SUBREAPER, 1)
        _control(PARENT_DEATH, signal.SIGTERM)
        try:
            process = subprocess.Popen(self.command, start_new_session=True, preexec_fn=_before_command)
        except OSError as error:
            print(f"{self.command[0]}: cannot be started ({error.strerror})", file=sys.stderr)
            return NOT_STARTED
        told, deadline = 0, float("inf")
        while self._is_left(process.pid, told):
            if os.getppid() != self.parent:
                self.asked = max(self.asked, 1)
            if self.asked > told:
                told = self.asked
                deadline = time.monotonic() + (self.grace if told == 1 else 0)
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGTERM)
            if time.monotonic() >= deadline:
                break
            time.sleep(TICK_SECONDS)
        left = self._end(process.pid)
        if left and not told:
            print(f"the command left {left} processes running; they were ended", file=sys.stderr)
        return 128 + signal.SIGKILL if self.code is None else self.code

    def _ask(self, *_: object) -> None:
        self.asked += 1

    def _is_left(self, pid: int, told: int) -> bool:
        """Whether there is anything to wait for: the command, and once it was asked to stop what it has started too."""
        self._reap(pid)
        return self.code is None or bool(told and _descendants())

    def _reap(self, pid: int) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == pid:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self.code = 128 - code if code < 0 else code

    def _end(self, pid: int) -> int:
        """Kill all that is left -> how many processes it was."""
        known: set[int] = set()
        free = 0  # looks in a row that found nothing: one alone may miss a process whose parent ended meanwhile
        for _ in range(KILL_ROUNDS):
            left = {*_descendants(), *marked(self.mark)}
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            self._reap(pid)
            free = 0 if left else free + 1
            if free == CLEAN_LOOKS:
                break
            known |= left
            _kill(list(left))
            time.sleep(TICK_SECONDS if left else 0)
        return len(known - {pid})


if __name__ == "__main__":
    sys.exit(_Guard(sys.argv[1], float(sys.argv[2]), sys.argv[3:]).run())
