"""The contract of an engine: the config and the data of a run go in, a detector to train and predict with comes out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sized
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ablate.config.schema import RunConfig
from ablate.data.sources import Files, locate
from ablate.detector.inference import Record
from ablate.detector.training import DetectorTrainer, Validate
from ablate.runs.folder import RunFolder, Workspace
from ablate.train.distributed import Processes
from ablate.train.optim import Precision
from ablate.train.outcome import RuntimeOptions
from analysis import GroundTruth, read_ground_truth
from analysis.exceptions import BadInput

Read = Callable[[Path], GroundTruth]
BENCHMARK_IMAGES = 16  # of the validation set, that a `BenchmarkTarget` predicts on


class RunData(NamedTuple):
    """What a run learns from and is measured on: the files, and their annotations."""

    training: Files
    validation: Files
    training_truth: GroundTruth
    validation_truth: GroundTruth


def read_data(config: RunConfig, workspace: Workspace, processes: Processes, read: Read = read_ground_truth) -> RunData:
    """The data of a run; the first process makes what has to be made.

    Args:
        config: of the run.
        workspace: above `results/`, where the embedded data lies.
        processes: all of which must call this.
        read: reads a file of annotations.

    Raises:
        BadInput: data that is not there or damaged, or two sets that differ in their categories.
    """
    with processes.first_before_others():
        training, validation = locate(config.data.train, workspace), locate(config.data.validation, workspace)
    data = RunData(training, validation, read(training.annotations), read(validation.annotations))
    if data.validation_truth.category_id != data.training_truth.category_id:
        raise BadInput(
            f"{validation.annotations}: its category ids differ from those of {training.annotations}, "
            "so what is learned on one cannot be measured on the other"
        )
    return data


class Engine(ABC):
    """A detector as one framework builds, trains and measures it.

    Args:
        config: of the run; precision is resolved.
        data: of the run.
        folder: of the run, for a file of the engine's own.
        processes: that share the work.

    Attributes:
        module: the detector, its weights drawn from torch's global generator.
        backbone: the part of it that pre-trained weights are loaded into.
        version: of the framework, where the manifest does not have it.

    Raises:
        BadInput: data or settings that cannot be used.
    """

    module: nn.Module
    backbone: nn.Module
    version: Mapping[str, object] | None = None

    def __init__(self, config: RunConfig, data: RunData, folder: Path, processes: Processes) -> None:
        assert config.train.precision != "auto"
        self.precision: Precision = config.train.precision
        self.config, self.data, self.folder, self.processes = config, data, folder, processes

    @abstractmethod
    def trainer(self, folder: RunFolder, runtime: RuntimeOptions, validate: Validate) -> DetectorTrainer:
        """The training loop of the detector.

        Args:
            folder: where checkpoints, curves and status go.
            runtime: what changes no result.
            validate: measures the validation set for the curves.
        """

    @abstractmethod
    def predict(self, workers: int, *, show_progress: bool = True) -> list[Record]:
        """COCO results of all validation images, in their order; the first process gets all, the others none.

        Args:
            workers: processes that load images, for each process.
            show_progress: by a bar or lines.
        """

    @abstractmethod
    def benchmark_target(self) -> "BenchmarkTarget":
        """The detector as something whose cost is measured."""


class BenchmarkTarget(ABC):
    """A model whose cost is measured: on one training image, the same each time, and on the first validation images.

    Args:
        engine: whose detector is moved to its device.
        images: the validation images.
    """

    def __init__(self, engine: Engine, images: Dataset[Any]) -> None:
        self.config, self.precision, self.device = engine.config, engine.precision, engine.processes.device
        self.module = engine.module.to(self.device)
        self._images = images

    @cached_property
    def _inputs(self) -> list[Any]:
        count = min(BENCHMARK_IMAGES, len(self._images))  # type: ignore[arg-type]
        return [self.as_input(self._images[number]) for number in range(count)]

    @property
    def images(self) -> int:
        """How many validation images are ready to be predicted on; the first call reads them."""
        return len(self._inputs)

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take the `model` of a checkpoint."""
        self.module.load_state_dict(weights)

    def predict(self, number: int) -> None:
        """Everything between one validation image and its detections; loading of files left out."""
        self.detect(self._inputs[number])

    def as_input(self, sample: Any) -> Any:
        """What `detect` takes of a validation image."""
        return sample

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A fresh one, as training has it."""

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """The forward pass of training, on the training image."""

    @abstractmethod
    def detect(self, sample: Any) -> None:
        """The detections in one validation image."""


def first_with_objects(images: Dataset[Any], objects: Callable[[Any], Sized]) -> Any:
    """The first training image with an object to learn, as its seed shows it in the first epoch; else the first one.

    Args:
        images: indexed by (epoch, index).
        objects: of a sample.
    """
    for index in range(len(images)):  # type: ignore[arg-type]
        sample = images[0, index]
        if len(objects(sample)):
            return sample
    return images[0, 0]
