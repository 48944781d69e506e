"""Output of training while it runs: curves in the run folder, a bar on a terminal, lines where there is none.

Every module logs to ``logging.getLogger(__name__)``: progress as information, what a person must not miss as a warning.
As in any library nothing is printed by default; commands and workers call `show_messages`.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ablate.progress import ProgressBar, console

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

    from ablate.runs.folder import RunFolder

logger = logging.getLogger(__name__)

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


class Curves:
    """Receives measurements during training; discards them in a process that writes nothing."""

    def advance(self, iteration: int, loss: float | None = None) -> None:
        """Iterations done so far, and the loss of the last step that is known."""

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Measurements after a number of iterations."""


class _WrittenCurves(Curves):
    def __init__(self, folder: "RunFolder", writer: "SummaryWriter", bar: ProgressBar, last: int) -> None:
        self.folder, self.writer, self.bar, self.last = folder, writer, bar, last
        self._has_mean = False  # before it, the bar shows the loss of a step

    def advance(self, iteration: int, loss: float | None = None) -> None:
        shown = None if loss is None or self._has_mean else f"loss {loss:.3f}"
        self.bar.update(iteration, detail=shown)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        self.folder.append_metrics(iteration, values)
        for name, value in values.items():
            self.writer.add_scalar(name, value, iteration)
        if "loss" in values:
            self._has_mean = True
            loss = f"loss {values['loss']:.3f}"
            self.bar.update(iteration, f"iteration {iteration} of {self.last}: {loss}", loss)


@contextmanager
def curves(folder: "RunFolder | None", first: int, last: int) -> Iterator[Curves]:
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
