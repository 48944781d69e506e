"""What training tells while it goes on: curves in the run folder, a bar on a terminal, lines where there is none.

Every module logs to ``logging.getLogger(__name__)``: progress as information, what a person must not miss as a warning.
As in any library nothing of it is printed until somebody asks; commands and workers do, by `show_messages`.
"""

import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from ablate.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from torch.utils.tensorboard.writer import SummaryWriter

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: "}


def show_messages() -> None:
    """Print what the two packages log on standard error, a plain line each; a second call changes nothing."""
    for package in map(logging.getLogger, ("ablate", "analysis")):
        package.setLevel(logging.INFO)
        if not any(isinstance(handler, _StandardError) for handler in package.handlers):
            package.addHandler(_StandardError())


class _StandardError(logging.Handler):
    """The message alone, ``warning:`` or ``error:`` before it where it is one; above the bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        try:
            console().print(Text(PREFIXES.get(record.levelno, "") + self.format(record)), soft_wrap=True)
        except Exception:
            self.handleError(record)


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

        self._terminal = sys.stderr.isatty()
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
            detail: what stands beside the bar from now on.
        """
        self._bar.update(self._task, completed=done, description=detail)
        if line and not self._terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logger.info(line)


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

        yield advance


class Curves:
    """Takes what is measured during training; drops it in a process that writes nothing."""

    def advance(self, iteration: int) -> None:
        """Iterations done so far."""

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Measurements after a number of iterations."""


class _WrittenCurves(Curves):
    def __init__(self, folder: RunFolder, writer: "SummaryWriter", bar: ProgressBar, last: int) -> None:
        self.folder, self.writer, self.bar, self.last = folder, writer, bar, last

    def advance(self, iteration: int) -> None:
        self.bar.update(iteration)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        self.folder.append_metrics(iteration, values)
        for name, value in values.items():
            self.writer.add_scalar(name, value, iteration)
        if "loss" in values:
            loss = f"loss {values['loss']:.3f}"
            self.bar.update(iteration, f"iteration {iteration} of {self.last}: {loss}", loss)


@contextmanager
def curves(folder: RunFolder | None, first: int, last: int) -> Iterator[Curves]:
    """The curves of a training: in ``metrics.jsonl`` and TensorBoard's files, and its bar.

    Args:
        folder: of the run, or none in a process that writes nothing.
        first: iterations done before; what was measured after them is dropped.
        last: iterations of the whole run.
    """
    if folder is None:
        yield Curves()
        return
    from torch.utils.tensorboard.writer import SummaryWriter

    folder.rewind_metrics(first)
    writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=first + 1)
    with closing(writer), ProgressBar("training", last, first) as bar:
        yield _WrittenCurves(folder, writer, bar, last)
