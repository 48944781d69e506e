"""The peak memory of a campaign, which runs in a process of its own."""

import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import analysis.files


def peak_memory() -> int:
    """The largest memory of this process until now, or since :func:`forget_peak`, in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> int:
    """Let :func:`peak_memory` measure anew, in a process that other tests have used: the bytes that it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, int]:
    analysis.files.SETTLED = 0
    return function(*arguments), peak_memory()


def with_peak(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """What a function of a module returns, called in a new process, and the largest memory of that, in bytes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))
