"""The contract of an engine: the config and the data of a run go in, a detector to train and predict with comes out.

What uses an engine is the same for all of them: `DetectorTrainer` trains its detector, `BenchmarkTarget` has its cost
measured.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ablate.config.schema import RunConfig
from ablate.data.check import check_categories
from ablate.data.coco import TrainingSet
from ablate.data.sources import Files, locate
from ablate.detector.inference import Record
from ablate.models import ViT
from ablate.runs.folder import RunFolder, Status, Workspace
from ablate.train.distributed import MODEL, PATHS, SAMPLES, Processes, derived, generator, lay_out
from ablate.train.logging import Curves
from ablate.train.loop import TrainLoop, TrainStats
from ablate.train.optim import Precision, autocast
from ablate.train.outcome import Diverged, RuntimeOptions
from analysis import GroundTruth, read_ground_truth

Read = Callable[[Path], GroundTruth]
Validate = Callable[[], dict[str, float]]
BENCHMARK_IMAGES = 16  # of the validation set, that a `BenchmarkTarget` predicts on


class RunInputs(NamedTuple):
    """The training and validation sets of a run: files and annotations."""

    training: Files
    validation: Files
    training_truth: GroundTruth
    validation_truth: GroundTruth


def read_data(
    config: RunConfig, workspace: Workspace, processes: Processes, read: Read = read_ground_truth
) -> RunInputs:
    """The data of a run; the first process creates missing files.

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
    data = RunInputs(training, validation, read(training.annotations), read(validation.annotations))
    check_categories(data.training_truth, data.validation_truth)
    return data


def training_set(config: RunConfig, truth: GroundTruth, files: Files) -> TrainingSet:
    """The training images of a config.

    Args:
        config: of the run.
        truth: their annotations.
        files: where they lie.

    Raises:
        BadInput: damaged data, files that are missing, or no object to learn.
    """
    return TrainingSet(
        truth=truth,
        folder=files.images,
        side=config.model.backbone.image_size,
        scale=config.train.jitter_scale,
        flip=config.train.flip,
        masks=config.model.detector.masks,
        seed=config.seed,
        keep_without_boxes=config.data.images_without_boxes == "keep",
    )


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
        training_images: a data set indexed by (epoch, index).
        validation_images: a data set in the order of the annotations.
        collate: several training images to a batch, which has a method ``to(device)``.
        iterations: optimizer steps of the whole run.
        clip_norm: largest gradient norm, unless the optimizer clips.
        layout: how a batch is cut up among the processes.
        version: of the framework, where the manifest does not have it.

    Raises:
        BadInput: data or settings that cannot be used.
    """

    module: nn.Module
    backbone: nn.Module
    training_images: Any
    validation_images: Any
    collate: Callable[[list[Any]], Any]
    iterations: int
    clip_norm: float | None = None
    version: Mapping[str, object] | None = None

    def __init__(self, config: RunConfig, data: RunInputs, processes: Processes) -> None:
        assert config.train.precision != "auto"
        self.precision: Precision = config.train.precision
        self.config, self.data, self.processes = config, data, processes
        self.layout = lay_out(config.train.batch_size, config.train.norm_images, processes.count)

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A fresh one of the parameters of the module."""

    @abstractmethod
    def lr(self, iteration: int) -> float:
        """The learning rate of an iteration, from 0."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """The forward pass of training.

        Args:
            model: the module, or what wraps it.
            batch: on the device.
            generators: one an image, for engines that draw their samples image by image.

        Raises:
            FloatingPointError: the engine itself finds that training has diverged.
        """

    @abstractmethod
    def has_objects(self, sample: Any) -> bool:
        """Whether there is anything to learn in a training image."""

    @abstractmethod
    def detect(self, image: Any) -> None:
        """The detections in one validation image, as `as_input` gives it."""

    @abstractmethod
    def predict(self, workers: int, *, show_progress: bool = True) -> list[Record]:
        """COCO results of all validation images, in their order; the first process gets all, the others none.

        Args:
            workers: processes that load images, for each process.
            show_progress: by a bar or lines.
        """

    def as_input(self, sample: Any) -> Any:
        """The input of `detect` for a validation image."""
        return sample

    def quiet(self) -> AbstractContextManager[None]:
        """A context for training that hides harmless warnings."""
        return nullcontext()


class DetectorTrainer(TrainLoop):
    """The training of an engine's detector, which is moved to its device.

    Args:
        engine: whose detector, images, optimizer and schedule are taken.
        folder: of the run: where checkpoints, curves and status go.
        runtime: options that do not change the result.
        validate: measures the validation set for the curves.
    """

    def __init__(self, engine: Engine, folder: RunFolder, runtime: RuntimeOptions, validate: Validate) -> None:
        settings = engine.config.train
        self.engine, self.validate = engine, validate
        super().__init__(
            engine.module.to(engine.processes.device),
            engine.optimizer(),
            engine.precision,
            engine.training_images,
            engine.collate,
            folder,
            engine.processes,
            runtime,
            batch_size=settings.batch_size,
            images_per_pass=engine.layout.images,
            seed=engine.config.seed,
            iterations=engine.iterations,
            memory_cap_gib=None if settings.memory_cap_gib == "none" else settings.memory_cap_gib,
            clip_norm=engine.clip_norm,
            ema=None if settings.ema == "none" else settings.ema,
        )

    def train(self) -> TrainStats:
        """See `TrainLoop.train`."""
        with self.engine.quiet():
            return super().train()

    def after_step(self, iteration: int, curves: Curves) -> None:
        """Evaluate the validation set at the iterations of its curve."""
        every = self.runtime.curve_iterations
        if every and iteration % every == 0 and iteration < self.iterations:
            with nullcontext() if self.average is None else self.average.in_place(self.module):
                curves.add(iteration, self.validate())

    def _lr(self, iteration: int) -> float:
        return self.engine.lr(iteration)

    def _forward(self, batch: Any, number: int) -> dict[str, Tensor]:
        rank, images = self.processes.rank, self.images_per_pass
        # What is drawn depends on the place in the run alone, so a resumed run draws the same: samples and drop path
        # on that of the image in the batch, whatever the number of processes; detectron2's samples on the process too.
        torch.manual_seed(derived(self.seed, MODEL, self.iteration, number, rank))
        start = (number * self.processes.count + rank) * images
        generators, paths = (
            [generator(self.device, self.seed, what, self.iteration, start + row) for row in range(images)]
            for what in (SAMPLES, PATHS)
        )
        if isinstance(self.engine.backbone, ViT):
            self.engine.backbone.generators = paths
        try:
            return self.engine.losses(self.model, batch, generators)
        except FloatingPointError as error:
            place = f"iteration {self.iteration + 1} of {self.iterations}"
            message = f"{self.folder.path}: {str(error).rstrip('.')} in {place}; {self.remedy}"
            if not self.processes.first:  # the first process may not see it, and is ended by torchrun
                self.folder.write_status(
                    Status(state="diverged", message=message, iteration=self.iteration, iterations=self.iterations)
                )
            raise Diverged(message) from None


class BenchmarkTarget:
    """A model whose cost is measured: on one training image, the same each time, and on the first validation images.

    The training image is the first one with an object to learn, as its seed shows it in the first epoch.

    Args:
        engine: whose detector is moved to its device.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.device, images = engine, engine.processes.device, engine.training_images
        self.module = engine.module.to(self.device)
        samples = (images[0, index] for index in range(len(images)))
        self.batch = engine.collate([next(filter(engine.has_objects, samples), images[0, 0])]).to(self.device)

    @cached_property
    def _inputs(self) -> list[Any]:
        images = self.engine.validation_images
        return [self.engine.as_input(images[number]) for number in range(min(BENCHMARK_IMAGES, len(images)))]

    @property
    def images(self) -> int:
        """How many validation images are ready to be predicted on; the first call reads them."""
        return len(self._inputs)

    def losses(self) -> dict[str, Tensor]:
        """The forward pass of training, on the training image, with the same draws each time."""
        torch.manual_seed(0)
        with autocast(self.engine.precision, self.device):
            return self.engine.losses(self.module, self.batch, [generator(self.device, 0)])

    def predict(self, number: int) -> None:
        """Everything between one validation image and its detections; loading of files left out."""
        self.engine.detect(self._inputs[number])
