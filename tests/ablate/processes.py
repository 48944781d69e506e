"""Training in processes of their own: two that train together, and one that is killed."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command_of(script: str, *folders: Path) -> list[str]:
    """A Python that carries out a script; it finds the root of the sources and the folders in its arguments."""
    return [sys.executable, "-c", textwrap.dedent(script), str(ROOT), *map(str, folders)]


def run_and_kill(script: str, folder: Path, step: int | None, seconds: float) -> None:
    """Carry out a script and SIGKILL it some time after it printed that it began this step, a later one, or any."""
    with subprocess.Popen(command_of(script, folder), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if step is None or int(line.split()[1]) >= step:  # the step itself may lie before a kill that came late
                time.sleep(seconds)
                child.kill()
                break
    assert child.returncode == -signal.SIGKILL


def run_in_two_processes(script: str, *folders: Path) -> None:
    """Carry out a script in two processes that torch's `init_process_group` brings together, as torchrun does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen(
            command_of(script, *folders),
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for child in children:
        _, errors = child.communicate(timeout=300)
        assert child.returncode == 0, errors
