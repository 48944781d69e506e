"""How far a long loop is: a bar on a terminal, lines where there is none, on standard error."""

import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


@cache
def console() -> "Console":
    """The console on standard error: only where bars and lines share it do lines leave the bar whole."""
    from rich.console import Console

    return Console(stderr=True)


class ProgressBar:
    """How far a loop is: a bar on a terminal, a line every half minute where there is none.

    Args:
        what: is being done, such as ``predicting``.
        total: steps.
        done: steps that were done before.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._terminal = sys.stderr.isatty() and logger.isEnabledFor(logging.WARNING)  # not with --quiet
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console(),
            disable=not self._terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, line: str = "", detail: str | None = None) -> None:
        """Show how many steps are done.

        Args:
            done: steps.
            line: what is logged where there is no terminal, if the last line is half a minute old.
            detail: text next to the bar from now on.
        """
        self._bar.update(self._task, completed=done, description=detail)
        if line and not self._terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logger.info(line)


_listeners: list[Callable[[int, int], None]] = []  # of the loops of this process


@contextmanager
def listening(listener: Callable[[int, int], None]) -> Iterator[None]:
    """Have something called with the steps done and their number, after every step of a loop inside of the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def progress(what: str, unit: str, total: int, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Show the way through ``total`` steps; yields what is to be called after each of them.

    Args:
        what: is being done, such as ``predicting``.
        unit: of a step, such as ``image``.
        total: steps.
        shown: without it nothing is shown, as in all processes but the first.
    """
    if not shown:
        yield lambda: None
        return
    steps = itertools.count(1)
    with ProgressBar(what, total) as bar:

        def advance() -> None:
            done = next(steps)
            bar.update(done, f"{what}: {unit} {done} of {total}" if done < total else "")
            for listener in _listeners:
                listener(done, total)

        yield advance
