"""The contract of an engine: a run folder goes in with a config, and comes out with checkpoints and predictions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ablate.runs.folder import RunFolder, Workspace

if TYPE_CHECKING:
    import torch

    from ablate.config.schema import RunConfig
    from ablate.train.distributed import Processes
    from ablate.train.loop import TrainLoop
    from analysis import GroundTruth


from ablate.train.outcome import RuntimeOptions

Read = Callable[[Path], "GroundTruth"]
BENCHMARK_IMAGES = 16  # of the validation set, that a `BenchmarkTarget` predicts on


class BenchmarkTarget(Protocol):
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

    def run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
        """Read `config.yaml`, train on from the newest checkpoint, and write the predictions of the last one.

        Raises:
            RunFailed: `Diverged`, `Interrupted` or `RanOutOfMemory`.
            BadInput: data, checkpoints or settings that cannot be used.
        """

    def trainer(
        self,
        config: "RunConfig",
        workspace: Workspace,
        folder: RunFolder,
        processes: "Processes",
        runtime: RuntimeOptions,
    ) -> "TrainLoop":
        """The training of a config by itself, for the forecast of what it takes; the data lies under root."""

    def benchmark_target(
        self, config: "RunConfig", workspace: Workspace, device: "torch.device", read: Read
    ) -> BenchmarkTarget:
        """What the probe measures; its weights are drawn from torch's generator, its data lies under root."""
