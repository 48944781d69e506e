"""The training of a detector: its images, its batches and curves in every engine, its steps in the engine `vision`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ablate.config.schema import RunConfig
from ablate.data.coco import TrainingSet
from ablate.data.loader import Batch, collate
from ablate.data.sources import Files
from ablate.detector.mask_rcnn import Detector, join_group
from ablate.runs.folder import RunFolder
from ablate.train.distributed import MODEL, SAMPLES, Processes, derived, generator, lay_out
from ablate.train.logging import Curves
from ablate.train.loop import TrainLoop
from ablate.train.optim import build_optimizer, lr_factor
from ablate.train.outcome import RuntimeOptions
from analysis import GroundTruth

Validate = Callable[[], dict[str, float]]


class DetectorTrainer(TrainLoop):
    """What the training of a detector is in every engine.

    Args:
        config: of the run; precision is resolved.
        module: the detector with its initial weights, on the device.
        optimizer: of its parameters.
        data: the training images.
        collate: several of them to a batch.
        folder: of the run.
        processes: that train together.
        runtime: what changes no result.
        validate: measures the validation set for the curves.
        iterations: optimizer steps of the whole run.
        clip_norm: largest gradient norm, unless the optimizer clips.
    """

    def __init__(
        self,
        config: RunConfig,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        validate: Validate,
        *,
        iterations: int,
        clip_norm: float | None = None,
    ) -> None:
        settings = config.train
        self.config, self.validate = config, validate
        self.layout = lay_out(settings.batch_size, settings.images_per_norm, processes.count)
        assert settings.precision != "auto"
        super().__init__(
            module,
            optimizer,
            settings.precision,
            data,
            collate,
            folder,
            processes,
            runtime,
            batch_size=settings.batch_size,
            images_per_pass=self.layout.images,
            seed=config.seed,
            iterations=iterations,
            memory_cap_gib=None if settings.memory_cap_gib == "none" else settings.memory_cap_gib,
            clip_norm=clip_norm,
        )

    def after_step(self, iteration: int, curves: Curves) -> None:
        """Measure the validation set where its curve is asked for."""
        every = self.runtime.curve_iterations
        if every and iteration % every == 0 and iteration < self.iterations:
            curves.add(iteration, self.validate())


class Trainer(DetectorTrainer):
    """The steps of the engine `vision`.

    Args:
        config: of the run; precision is resolved.
        detector: with its initial weights; is moved to the device.
        data: the training images.
        folder, processes, runtime, validate: see `DetectorTrainer`.
    """

    def __init__(
        self,
        config: RunConfig,
        detector: Detector,
        data: TrainingSet,
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        validate: Validate,
    ) -> None:
        settings = config.train
        self.detector = detector.to(processes.device)
        super().__init__(
            config,
            self.detector,
            build_optimizer(self.detector, settings),
            data,
            collate,
            folder,
            processes,
            runtime,
            validate,
            iterations=settings.total_iterations(len(data)),
            clip_norm=None if settings.clip_norm == "none" else settings.clip_norm,
        )
        join_group(self.detector, processes.norm_group(self.layout))
        self.warmup = settings.warmup_iterations(len(data))

    def _forward(self, batch: Batch, number: int) -> dict[str, Tensor]:
        rank, images = self.processes.rank, len(batch.targets)
        # What the model draws (drop path) depends on the place in the run alone, so a resumed run draws the same.
        torch.manual_seed(derived(self.seed, MODEL, self.iteration, number, rank))
        start = (number * self.processes.count + rank) * images
        generators = [generator(self.device, self.seed, SAMPLES, self.iteration, start + row) for row in range(images)]
        losses: dict[str, Tensor] = self.model(batch.images, batch.sizes, batch.targets, generators)
        return losses

    def _lr(self, iteration: int) -> float:
        settings = self.config.train
        return settings.lr * lr_factor(
            iteration,
            iterations=self.iterations,
            warmup=self.warmup,
            schedule=settings.schedule,
            milestones=settings.step_milestones,
        )


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
