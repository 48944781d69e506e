"""Processes that train together on one machine: nothing of them listens to the network, and they end together."""

import ipaddress
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from ablate.launch.base import CPU, device_folder
from analysis.exceptions import BadInput
from tests.ablate.launch.studies import PROJECT, wait_until


def start(folder: Path, script: str) -> "subprocess.Popen[str]":
    """Two ranks of a module that is made of a script; their output comes back."""
    (folder / "ranked.py").write_text(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, "-m", "ablate.launch.ranks", "2", "ranked", str(folder)],
        env=os.environ | {"PYTHONPATH": f"{PROJECT}:{folder}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


JOINED = """
    import sys, time
    from pathlib import Path
    import torch
    from ablate.train.distributed import joined
    with joined("cpu") as processes:
        total = processes.mean(torch.tensor([float(processes.rank)]))
        assert total.item() == 0.5
        Path(sys.argv[1], f"joined-{processes.rank}").touch()
        while not Path(sys.argv[1], "go").exists():
            time.sleep(0.01)
        processes.wait()
"""


def test_no_socket_is_open_to_the_network(tmp_path: Path) -> None:
    with start(tmp_path, JOINED) as process:
        wait_until(lambda: process.poll() is not None or len(list(tmp_path.glob("joined-*"))) == 2)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        sockets = [one for member in family for one in member.net_connections("inet")]
        (tmp_path / "go").touch()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert len(family) == 3
    assert sockets, "they talk to each other"
    assert all(ipaddress.ip_address(one.laddr.ip).is_loopback for one in sockets), sockets


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(75)", 75), ("os.kill(os.getpid(), 9)", 137)])
def test_when_one_fails_the_others_are_ended(tmp_path: Path, ending: str, code: int) -> None:
    script = f"""
        import os, sys, time
        if os.environ["RANK"] == "1":
            {ending}
        time.sleep(60)
    """
    with start(tmp_path, script) as process:
        process.communicate(timeout=20)
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_reaches_all(tmp_path: Path, number: signal.Signals) -> None:
    script = """
        import os, signal, sys, time
        from pathlib import Path
        place = Path(sys.argv[1])
        def stop(*_):
            (place / f"stopped-{os.environ['RANK']}").touch()
            os._exit(0)
        signal.signal(signal.SIGTERM, stop)
        (place / f"ready-{os.environ['RANK']}").touch()
        time.sleep(60)
    """
    with start(tmp_path, script) as process:
        wait_until(lambda: len(list(tmp_path.glob("ready-*"))) == 2)
        process.send_signal(number)
        process.wait(20)
    wait_until(lambda: len(list(tmp_path.glob("stopped-*"))) == 2)
    assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)


def test_the_folder_of_the_devices_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "run"
    private.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(private))
    assert device_folder(CPU) == private / "detablate" / "cpu"
    assert (private / "detablate").stat().st_mode & 0o777 == 0o700
    (private / "detablate").chmod(0o755)
    device_folder("0")
    assert (private / "detablate").stat().st_mode & 0o777 == 0o700, "as older versions made it"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    other = tmp_path / "tmp" / f"detablate-{os.getuid()}"
    assert device_folder(CPU) == other / "cpu"
    (other / "cpu").rmdir()
    other.rmdir()
    other.symlink_to(private)
    with pytest.raises(BadInput, match="is not a folder of this user's, so it is not used; set TMPDIR"):
        device_folder(CPU)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    theirs = tmp_path / "tmp" / "detablate-12345"
    theirs.mkdir()
    with pytest.raises(BadInput, match="is not a folder of this user's"):
        device_folder(CPU)
