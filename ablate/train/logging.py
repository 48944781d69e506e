"""What a run tells while it trains: a line in `metrics.jsonl`, TensorBoard, a bar on a terminal.

How far a loop is: a bar on a terminal, a line now and then where there is none.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from ablate.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


SECONDS_BETWEEN_LINES = 30.0


class Curves:
    """Writes the curves of the process that has a folder; silent elsewhere.

    Args:
        folder: of the run, or none in a process that writes nothing.
        first: iterations done before; what was measured after them is dropped.
        last: iterations of the whole run.
        say: takes progress lines where there is no terminal for a bar.
    """

    def __init__(self, folder: RunFolder | None, first: int, last: int, say: Callable[[str], None]) -> None:
        self.folder, self.first, self.last, self.say = folder, first, last, say
        self._said = time.monotonic()
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> "Curves":
        if self.folder is None:
            return self
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from torch.utils.tensorboard.writer import SummaryWriter

        self.folder.rewind_metrics(self.first)
        self._writer = SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=self.first + 1)
        terminal = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=not terminal,
        )
        self._terminal = terminal
        self._task = self._bar.add_task("", total=self.last, completed=self.first)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._bar.stop()
            self._writer.close()

    def advance(self, iteration: int) -> None:
        """Iterations done so far."""
        if self.folder is not None:
            self._bar.update(self._task, completed=iteration)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Measurements after a number of iterations."""
        if self.folder is None or self._writer is None:
            return
        self.folder.append_metrics(iteration, values)
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)
        if "loss" in values:
            line = f"loss {values['loss']:.3f}"
            self._bar.update(self._task, description=line)
            if not self._terminal and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
                self._said = time.monotonic()
                self.say(f"iteration {iteration} of {self.last}: {line}")


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
