"""The cost of a command, measured from outside: wall-clock seconds, and memory in use on its GPUs.

It is of the whole command, its start, its loading of data and its predictions among it, and so is never compared with
what `ablate probe` measures inside of a training step.
"""

import msgspec

from ablate.runs.folder import SCHEMA, RunFolder, read_json, write_json
from analysis.exceptions import BadInput

FILE = "outside.json"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the command."""

    seconds: float
    resumed: bool
    peak_gpu_gib: float | None = None  # the most in use on one GPU, by all processes; None: no GPU, or not known
    place: str = ""  # the GPUs, or the processor


class OutsideCost(msgspec.Struct, frozen=True, kw_only=True):
    """``outside.json``: the attempts of a run, in order."""

    attempts: tuple[Attempt, ...] = ()
    schema: int = SCHEMA

    @property
    def counted(self) -> tuple[Attempt, ...]:
        """The attempts that led to the result: from the last one that began anew."""
        first = max((place for place, one in enumerate(self.attempts) if not one.resumed), default=0)
        return self.attempts[first:]

    @property
    def seconds(self) -> float:
        """Wall-clock time of the command, over all attempts that led to the result."""
        return sum(one.seconds for one in self.counted)

    @property
    def peak_gpu_gib(self) -> float | None:
        """The most memory in use on a GPU; none where that is not known."""
        return max((one.peak_gpu_gib for one in self.counted if one.peak_gpu_gib is not None), default=None)

    @property
    def places(self) -> tuple[str, ...]:
        """The devices on which it ran."""
        return tuple(dict.fromkeys(one.place for one in self.counted))


def read_outside(folder: RunFolder) -> OutsideCost | None:
    """The cost of a command; None if it is not known."""
    try:
        return read_json(folder.path / FILE, OutsideCost)
    except BadInput:
        return None


def add_attempt(folder: RunFolder, attempt: Attempt) -> None:
    """Note one more attempt."""
    known = read_outside(folder) or OutsideCost()
    write_json(folder.path / FILE, OutsideCost(attempts=(*known.attempts, attempt)))
