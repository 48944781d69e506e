"""What the workers of runs said, whole lines only, each after the run that said it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ablate.launch.base import LOG
from ablate.store import run_folder
from ablate.studies.study import Job


class Line(NamedTuple):
    """What a run said."""

    run: str  # its variant, with :SEED where there are several
    text: str


class Logs:
    """The logs of some runs, read on from where they were left.

    Args:
        root: above `results/`.
        runs: whose logs; those that share a folder are read once.
    """

    def __init__(self, root: Path, runs: Sequence[Job]) -> None:
        seeds = len({run.seed for run in runs}) > 1
        folders: dict[str, str] = {}
        for run in runs:
            folders.setdefault(run.identity, f"{run.variant}:{run.seed}" if seeds else run.variant)
        self._named = len(folders) > 1
        self._logs = {name: run_folder(root, identity).path / LOG for identity, name in folders.items()}
        self._read = dict.fromkeys(self._logs, 0)

    def shown(self, line: Line) -> str:
        """A line for a person, after its run where there are several."""
        return f"{line.run}: {line.text}" if self._named else line.text

    def last(self, count: int) -> Iterator[Line]:
        """The last lines of each."""
        for name in self._logs:
            lines = self._next(name)
            yield from lines[len(lines) - count :] if count < len(lines) else lines

    def new(self) -> Iterator[Line]:
        """The lines since the last look."""
        for name in self._logs:
            yield from self._next(name)

    def _next(self, name: str) -> list[Line]:
        try:
            with self._logs[name].open("rb") as file:
                file.seek(self._read[name])
                content = file.read()
        except OSError:
            return []  # not begun
        whole = content[: content.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        return [Line(name, text) for text in whole.decode("utf-8", "replace").splitlines()]
