"""Work on several processors: in threads, since the compiled core and most of NumPy compute without Python's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST_THREADS = 8
FEW_ROWS = 1 << 15  # of detections, up to which one thread is faster than several

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads(rows: int | None = None) -> int:
    """How many threads compute at a time: as many as this process has processors, at most 8; one for few rows."""
    if rows is not None and rows <= FEW_ROWS:
        return 1
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors, MOST_THREADS)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> list[Result]:
    """What a piece of work gives for each item, in order; ``jobs`` at a time.

    >>> side_by_side(abs, [-1, 2, -3], jobs=2)
    [1, 2, 3]
    """
    if jobs == 1:
        return list(map(work, items))
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, items))
