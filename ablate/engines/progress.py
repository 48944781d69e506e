"""How far a loop is: a bar on a terminal, a line now and then where there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0

Say = Callable[[str], None]


@contextmanager
def progress(what: str, unit: str, total: int, say: Say | None) -> Iterator[Callable[[], None]]:
    """Shows the way through ``total`` steps; yields what is to be called after each of them.

    Args:
        what: is being done, such as ``predicting``.
        unit: of a step, such as ``image``.
        total: steps.
        say: takes the lines where standard error is no terminal; None shows nothing at all.
    """
    if say is None:
        yield lambda: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total)
            yield lambda: bar.advance(task)
    else:
        yield _Lines(what, unit, total, say).advance


class _Lines:
    """A line after the first steps that took a while, and then one every half minute."""

    def __init__(self, what: str, unit: str, total: int, say: Say) -> None:
        self.what, self.unit, self.total, self.say = what, unit, total, say
        self.done, self._said = 0, time.monotonic()

    def advance(self) -> None:
        """One step is done."""
        self.done += 1
        if time.monotonic() - self._said > SECONDS_BETWEEN_LINES and self.done < self.total:
            self._said = time.monotonic()
            self.say(f"{self.what}: {self.unit} {self.done} of {self.total}")
