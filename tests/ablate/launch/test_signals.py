"""Who may stop a launcher: real processes under nohup, setsid and a terminal that is closed."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

from tests.ablate.launch.studies import DRIVER, PROJECT, a_run, a_study, begun, environment, play, wait_until

COMMAND = [sys.executable, str(DRIVER)]


def start(root: Path, *before: str, tty: int | None = None) -> "subprocess.Popen[str]":
    """A launcher of one played run of 0.6 seconds, which has begun when this returns."""
    study = a_study(root, [a_run("window")])
    play(root, study.runs[0], seconds=0.6)
    stream = subprocess.PIPE if tty is None else tty
    process = subprocess.Popen(
        [*before, *COMMAND, str(root), study.name, "{}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stream,
        text=True,
        cwd=PROJECT,
        env=os.environ | environment(root) | {"PYTHONPATH": str(PROJECT)},
    )
    wait_until(lambda: begun(root))
    return process


def ended(process: "subprocess.Popen[str]") -> dict[str, object]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer: dict[str, object] = json.loads(output.splitlines()[-1])
    return answer


def test_a_hang_up_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    process = start(tmp_path, "nohup")
    process.send_signal(signal.SIGHUP)
    assert ended(process) == {"failed": [], "stopped": ""}


def test_an_interrupt_that_a_shell_ignores_for_its_background_stays_ignored(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    process.send_signal(signal.SIGINT)
    assert ended(process) == {"failed": [], "stopped": ""}


def test_a_worker_is_stopped_also_where_its_launcher_ignores_the_signal_for_it(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", 'trap "" TERM; exec "$@"', "sh")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    assert ended(process)["stopped"] == "SIGHUP"


def test_without_a_terminal_it_runs_to_its_end(tmp_path: Path) -> None:
    process = start(tmp_path, "setsid", "--wait")
    assert ended(process) == {"failed": [], "stopped": ""}


def test_a_closed_terminal_stops_nothing_that_was_not_told(tmp_path: Path) -> None:
    """As after `disown`: no signal comes, and every write to the terminal fails."""
    ours, theirs = pty.openpty()
    process = start(tmp_path, tty=theirs)
    os.close(theirs)
    os.close(ours)
    assert ended(process) == {"failed": [], "stopped": ""}
