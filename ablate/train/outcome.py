"""How a training can end, and how it is carried out; nothing of it is part of a run's identity."""

from dataclasses import dataclass

from analysis.exceptions import DetablateError


class RunFailed(DetablateError):
    """Training that cannot go on; the status of the run folder says why too."""

    exit_code = 3


class Diverged(RunFailed):
    """A loss is not finite."""


class Interrupted(RunFailed):
    """Somebody asked the process to stop; the same command continues."""


class LostPeer(Interrupted):
    """Another process of the run has ended, and says itself why, if it can."""


class RanOutOfMemory(RunFailed):
    """The device ran out of memory. It is a result of the run: the caller records it, with the peak reached."""

    exit_code = 0


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How a run is carried out; nothing here changes its result, so nothing here is part of its identity.

    Attributes:
        device: auto, cpu or cuda.
        workers: processes that load images, for each process that trains; none leaves the choice to the engine.
        checkpoint_seconds: a checkpoint is taken after this time, and at the end of each epoch of a minute or more.
        checkpoint_iterations: besides, every so many iterations; 0 for never.
        curve_iterations: measure the validation set every so many iterations, for the curves alone; 0 for never.
    """

    device: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = 600.0
    checkpoint_iterations: int = 0
    curve_iterations: int = 0
