"""Shared memory and disk, each in the state that bites."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.doctor import machine
from ablate.doctor.machine import check_cores, check_disk, check_shared_memory

GIB = 2**30


def usage(monkeypatch: pytest.MonkeyPatch, total: float, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=total, used=total - free, free=free))


def test_dockers_default_of_shared_memory_is_too_little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage(monkeypatch, 64 * 2**20, 60 * 2**20)
    check = check_shared_memory(tmp_path)
    assert check.state == "warning"
    assert check.found == f"64 MiB in {tmp_path}, 60 MiB free"
    assert "--shm-size" in check.remedy
    assert "--workers 0" in check.remedy
    usage(monkeypatch, 8 * GIB, 8 * GIB)
    assert check_shared_memory(tmp_path).state == "ok"
    assert check_shared_memory(tmp_path / "gone").state == "ok"


def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    usage(monkeypatch, 500 * GIB, 3.5 * GIB)
    check = check_disk(root)
    assert check.state == "warning"
    assert check.found == f"3.5 GiB free for {root / 'results'}"
    usage(monkeypatch, 500 * GIB, 300 * GIB)
    assert check_disk(root).state == "ok"
    assert not root.exists()
    monkeypatch.setattr(os, "access", lambda *_: False)
    check = check_disk(root)
    assert check.state == "broken"
    assert check.found == f"{tmp_path} cannot be written"
    assert "--root" in check.remedy


def test_cores() -> None:
    assert check_cores().found.startswith(f"{len(os.sched_getaffinity(0))} usable, ")
    assert machine.GIB == GIB
