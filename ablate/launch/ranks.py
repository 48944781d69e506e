"""Starts the processes that train one run together here: `python -m ablate.launch.ranks COUNT MODULE ARGUMENT`.

torchrun would do it too, but its rendezvous, and the store behind it, listen on every interface of the machine, so that
anybody on the network could join. Here the processes meet in a file that only this user can read. On one machine they
talk over the loopback interface alone; with those of other machines (`Machines`) over the one that torch chooses.

They get torchrun's environment variables (RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE), and their meeting point by
`STORE`. A stop is passed on to all of them; when one fails, the others are ended, for they would wait for it.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from ablate.launch.base import scratch_folder
from ablate.runs.signals import obey_launcher, stop_signal
from ablate.train.rendezvous import STORE, Machines

TICK_SECONDS = 0.05
GRACE_SECONDS = 30.0  # that the others have to save what they have, when one has failed
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
PR_SET_PDEATHSIG = 1


def start_ranks(count: int, command: Sequence[str]) -> int:
    """Run a command in so many processes that train together, with those of other machines too, until all have ended.

    Returns the exit code of the first that failed (128 + the signal that killed it), else 0.
    """
    machines = Machines.of_environment()
    with scratch_folder("ranks") as folder:
        together = {"WORLD_SIZE": str(count * machines.count), "LOCAL_WORLD_SIZE": str(count)}
        if machines.count == 1:  # they need no other interface
            together |= {
                STORE: str(folder / "store"),
                "GLOO_SOCKET_IFNAME": LOOPBACK,
                "NCCL_SOCKET_IFNAME": LOOPBACK,
            }
        ranks: list[subprocess.Popen[bytes]] = []

        def pass_on(number: int, _: object) -> None:
            for rank in ranks:
                with suppress(ProcessLookupError):
                    rank.send_signal(number)

        signal.signal(stop_signal(), pass_on)
        for number in range(count):
            rank = machines.this * count + number
            environment = os.environ | together | {"RANK": str(rank), "LOCAL_RANK": str(number)}
            before = _stop_with_parent if sys.platform == "linux" else None
            ranks.append(subprocess.Popen(command, env=environment, preexec_fn=before))
        return _wait(ranks)


def _wait(ranks: Sequence["subprocess.Popen[bytes]"]) -> int:
    failed, deadline = 0, float("inf")
    while None in (codes := [rank.poll() for rank in ranks]):
        if not failed and any(codes):
            failed, deadline = next(filter(None, codes)), time.monotonic() + GRACE_SECONDS
            for rank in ranks:
                rank.send_signal(stop_signal())
        if time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
        time.sleep(TICK_SECONDS)
    failed = failed or next(filter(None, codes), 0)
    return failed if failed >= 0 else 128 - failed


def _stop_with_parent() -> None:
    """In the child: have the kernel ask it to stop when the process that started it is gone, however it ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal())


if __name__ == "__main__":
    obey_launcher()
    sys.exit(start_ranks(int(sys.argv[1]), [sys.executable, "-m", *sys.argv[2:]]))
