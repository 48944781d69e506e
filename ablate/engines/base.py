"""The contract of an engine: a run folder goes in with a config, and comes out with checkpoints and predictions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ablate.store import RunFolder
from analysis.refusal import Refusal

if TYPE_CHECKING:
    import torch

    from ablate.config import RunConfig
    from ablate.engines.loop import Loop
    from ablate.engines.processes import Processes
    from analysis import GroundTruth


class RunFailed(Refusal):
    """Training that cannot go on; the status of the run folder says why too."""

    exit_code = 3


class Diverged(RunFailed):
    """A loss is not finite."""


class Interrupted(RunFailed):
    """Somebody asked the process to stop; the same command continues."""


class RanOutOfMemory(RunFailed):
    """The device holds no more. It is a result of the run: the caller records it, with the peak reached."""

    exit_code = 0


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a run is carried out; nothing here changes its result, so nothing here is part of its identity.

    Attributes:
        device: auto, cpu or cuda.
        workers: processes that load images, for each process that trains; none leaves the choice to the engine.
        checkpoint_seconds: a checkpoint is taken after this time, and at the end of each epoch of a minute or more.
        checkpoint_iterations: besides, every so many iterations; 0 for never.
        curve_iterations: measure the validation set every so many iterations, for the curves alone; 0 for never.
        say: takes one line for the person who waits.
    """

    device: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = 600.0
    checkpoint_iterations: int = 0
    curve_iterations: int = 0
    say: Callable[[str], None] = field(default=_silent)


Read = Callable[[Path], "GroundTruth"]
SUBJECT_IMAGES = 16  # of the validation set, that a `Subject` predicts on


class Subject(Protocol):
    """A model whose cost is measured: on one training image, the same each time, and on the first validation images."""

    @property
    def module(self) -> "torch.nn.Module":
        """The model on its device."""

    @property
    def images(self) -> int:
        """How many validation images are ready to be predicted on; the first call reads them."""

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take the `model` of a checkpoint."""

    def optimizer(self) -> "torch.optim.Optimizer":
        """A fresh one, as training has it."""

    def losses(self) -> "dict[str, torch.Tensor]":
        """The forward pass of training."""

    def predict(self, number: int) -> None:
        """Everything between one validation image and its detections; loading of files left out."""


class Engine(Protocol):
    """What carries out a run. It keeps the status of the folder up to date, and adds events and metrics."""

    def run(self, folder: RunFolder, habits: Habits) -> None:
        """Read `config.yaml`, train on from the newest checkpoint, and write the predictions of the last one.

        Raises:
            RunFailed: `Diverged`, `Interrupted` or `RanOutOfMemory`.
            BadInput: data, checkpoints or settings that cannot be used.
        """

    def trainer(
        self, config: "RunConfig", root: Path, folder: RunFolder, processes: "Processes", habits: Habits
    ) -> "Loop":
        """The training of a config by itself, for the forecast of what it takes; the data lies under root."""

    def subject(self, config: "RunConfig", root: Path, device: "torch.device", read: Read) -> Subject:
        """What the probe measures; its weights are drawn from torch's generator, its data lies under root."""
