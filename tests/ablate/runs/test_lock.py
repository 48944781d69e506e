import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from ablate.runs import lock
from ablate.runs.lock import LockHeld, LockWatcher, Owner, holding, joining, owners, this_process
from analysis.exceptions import BadInput

PROJECT = Path(__file__).parents[2]


def lock_file(folder: Path, owner: Owner, name: str = "lease-other.json") -> Path:
    path = folder / name
    path.write_bytes(msgspec.json.encode(owner))
    return path


def elsewhere() -> Owner:
    return Owner(host="node7", machine="another", pid=os.getpid(), start_time="1")


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )


HOLD = """
import sys, time
from pathlib import Path
from ablate.runs.lock import holding
with holding(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time_and_then_the_next(tmp_path: Path) -> None:
    with holding(tmp_path, "run x"):
        (owner,) = owners(tmp_path)
        assert owner.pid == os.getpid()
        with pytest.raises(LockHeld, match=f"run x: process {os.getpid()} on .*; wait for it, or stop it first"):
            holding(tmp_path, "run x").__enter__()
        assert len(owners(tmp_path)) == 1
    assert owners(tmp_path) == []
    with holding(tmp_path, "run x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_many_may_join(tmp_path: Path) -> None:
    with joining(tmp_path), joining(tmp_path):
        assert len(owners(tmp_path)) == 2
    assert owners(tmp_path) == []


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_death_of_the_owner_frees_at_once(tmp_path: Path, reaped: bool) -> None:
    process = start(HOLD, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockHeld, match=f"process {process.pid}"):
        holding(tmp_path, "it").__enter__()
    process.kill()
    if reaped:
        process.wait()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with holding(tmp_path, "it"):
        assert len(list(tmp_path.iterdir())) == 1, "the lock file of the dead is gone"
    process.wait()
    process.stdout.close()


def test_a_reused_process_id_is_no_owner(tmp_path: Path) -> None:
    lock_file(tmp_path, msgspec.structs.replace(this_process(), start_time="1"))
    with holding(tmp_path, "it"):
        pass


def test_an_owner_elsewhere_lives_as_long_as_its_heartbeat(tmp_path: Path) -> None:
    now = 1000.0
    watcher = LockWatcher(clock=lambda: now)
    path = lock_file(tmp_path, elsewhere())
    for second in range(0, 300, 10):
        now = 1000.0 + second
        os.utime(path, (5000 - second, 5000 - second))  # its clock runs backwards
        assert watcher.living(tmp_path)
    now += lock.SILENCE_SECONDS
    assert watcher.living(tmp_path)
    now += 1
    assert watcher.living(tmp_path) == []
    assert not path.exists()


def test_one_glance_never_buries_an_owner_elsewhere(tmp_path: Path) -> None:
    owner = elsewhere()
    os.utime(lock_file(tmp_path, owner), (0, 0))
    assert owners(tmp_path) == [owner]


@pytest.mark.parametrize("content", [b"", b'{"host": "no'])
def test_a_lock_file_cut_short_counts_until_it_is_silent(tmp_path: Path, content: bytes) -> None:
    now = 0.0
    watcher = LockWatcher(clock=lambda: now)
    (tmp_path / "lease-cut.json").write_bytes(content)
    assert len(watcher.living(tmp_path)) == 1
    now = lock.SILENCE_SECONDS + 1
    assert watcher.living(tmp_path) == []


def test_silence_elsewhere_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SILENCE_SECONDS", 0.2)
    lock_file(tmp_path, elsewhere())
    began = time.monotonic()
    with holding(tmp_path, "it"):
        assert time.monotonic() - began > 0.2
        assert [owner.pid for owner in owners(tmp_path)] == [os.getpid()]


def test_a_sign_from_elsewhere_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SILENCE_SECONDS", 2.0)
    path = lock_file(tmp_path, elsewhere())
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockHeld, match="on node7 is working on this"):
            holding(tmp_path, "it").__enter__()
    finally:
        over.set()
        thread.join()


def test_the_holder_has_a_heartbeat_and_learns_of_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    lost = threading.Event()
    with holding(tmp_path, "it", lost.set):
        (path,) = tmp_path.iterdir()
        before = path.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not lost.is_set()
        path.unlink()
        assert lost.wait(10)


def test_who_lost_the_lock_is_asked_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        with holding(tmp_path, "it"):
            next(tmp_path.iterdir()).unlink()
            deadline = time.monotonic() + 10
            while not asked.is_set() and time.monotonic() < deadline:
                time.sleep(0.01)
        assert asked.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"none: cannot be written .*free space or choose another --root"):
        holding(tmp_path / "none", "it").__enter__()

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock.msgspec.json, "encode", full)
    with pytest.raises(BadInput, match="No space left on device"):
        holding(tmp_path, "it").__enter__()
    assert list(tmp_path.iterdir()) == [], "nothing half is left"


def test_start_time_by_ps_tells_the_same_processes(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    assert lock._start_time_from_ps(sleeper.pid) == lock._start_time_from_ps(sleeper.pid) is not None
    assert lock._start_time_from_proc(sleeper.pid) is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert lock._start_time_from_ps(sleeper.pid) is None, "a zombie"
    assert lock._start_time_from_proc(sleeper.pid) is None
    sleeper.wait()
    assert lock._start_time_from_ps(sleeper.pid) is None
    assert lock._start_time_from_proc(sleeper.pid) is None


RACE = """
import os, random, sys, time
from pathlib import Path
from ablate.runs.lock import LockHeld, holding
folder, rounds, won = Path(sys.argv[1]), int(sys.argv[2]), 0
inside = folder / "inside"
while won < rounds:
    try:
        with holding(folder, "it"):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
            time.sleep(random.uniform(0, 0.002))
            inside.unlink()
            won += 1
    except LockHeld:
        time.sleep(random.uniform(0, 0.002))
print(won)
"""


@pytest.mark.parametrize(
    ("processes", "rounds"), [(3, 30), pytest.param(8, 500, marks=pytest.mark.campaign)], ids=["sample", "storm"]
)
def test_never_two_at_once(tmp_path: Path, processes: int, rounds: int) -> None:
    racers = [start(RACE, tmp_path, rounds) for _ in range(processes)]
    assert [racer.communicate(timeout=300)[0] for racer in racers] == [f"{rounds}\n"] * processes
    assert [racer.returncode for racer in racers] == [0] * processes
    assert list(tmp_path.iterdir()) == []
