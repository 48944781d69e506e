"""The training of a detector: its batches and curves in every engine, its steps in the engine `vision`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ablate.config import RunConfig
from ablate.data.coco import TrainingSet
from ablate.data.loading import Batch, collate
from ablate.engines.base import Habits
from ablate.engines.curves import Curves
from ablate.engines.detector import Detector, join_group
from ablate.engines.loop import Loop
from ablate.engines.optimizer import build_optimizer
from ablate.engines.precision import autocast
from ablate.engines.processes import Processes, lay_out
from ablate.engines.randomness import MODEL, SAMPLES, derived, generator
from ablate.engines.schedule import lr_factor
from ablate.store import RunFolder

Validate = Callable[[], dict[str, float]]


class DetectorTrainer(Loop):
    """What the training of a detector is in every engine.

    Args:
        config: of the run; precision is resolved.
        module: the detector with its initial weights, on the device.
        optimizer: of its parameters.
        data: the training images.
        collate: several of them to a batch.
        folder: of the run.
        processes: that train together.
        habits: what changes no result.
        validate: measures the validation set for the curves.
        iterations: optimizer steps of the whole run.
        clip: largest gradient norm, unless the optimizer clips.
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
        habits: Habits,
        validate: Validate,
        *,
        iterations: int,
        clip: float | None = None,
    ) -> None:
        settings = config.train
        self.config, self.data, self.collate, self.validate = config, data, collate, validate
        self.layout = lay_out(settings.batch_size, settings.images_per_norm, processes.count)
        assert settings.precision != "auto"
        super().__init__(
            module,
            optimizer,
            settings.precision,
            folder,
            processes,
            habits,
            passes=self.layout.passes,
            iterations=iterations,
            epoch=max(1, len(data) // settings.batch_size),  # type: ignore[arg-type]
            cap=None if settings.memory_cap_gib == "none" else settings.memory_cap_gib,
            clip=clip,
        )

    def _loader(self) -> DataLoader[Any]:
        return self._batches(
            self.data,
            self.collate,
            batch_size=self.config.train.batch_size,
            per_pass=self.layout.images,
            seed=self.config.seed,
        )

    def _passed(self, iteration: int, curves: Curves) -> None:
        every = self.habits.curve_iterations
        if every and iteration % every == 0 and iteration < self.iterations:
            curves.add(iteration, self.validate())


class Trainer(DetectorTrainer):
    """The steps of the engine `vision`.

    Args:
        config: of the run; precision is resolved.
        detector: with its initial weights; is moved to the device.
        data: the training images.
        folder, processes, habits, validate: see `DetectorTrainer`.
    """

    def __init__(
        self,
        config: RunConfig,
        detector: Detector,
        data: TrainingSet,
        folder: RunFolder,
        processes: Processes,
        habits: Habits,
        validate: Validate,
    ) -> None:
        settings = config.train
        self.settings, self.detector = settings, detector.to(processes.device)
        super().__init__(
            config,
            self.detector,
            build_optimizer(self.detector, settings),
            data,
            collate,
            folder,
            processes,
            habits,
            validate,
            iterations=settings.total_iterations(len(data)),
            clip=None if settings.clip_norm == "none" else settings.clip_norm,
        )
        join_group(self.detector, processes.norm_group(self.layout))
        self.warmup = settings.warmup_iterations(len(data))

    def _forward_backward(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Add the gradient of one forward pass -> its losses."""
        seed, rank, images = self.config.seed, self.processes.rank, len(batch.targets)
        # What the model draws (drop path) depends on the place in the run alone, so a resumed run draws the same.
        torch.manual_seed(derived(seed, MODEL, self.iteration, number, rank))
        start = (number * self.processes.count + rank) * images
        generators = [generator(self.device, seed, SAMPLES, self.iteration, start + row) for row in range(images)]
        with self.meter.watching():
            with autocast(self.precision, self.device):
                losses: dict[str, Tensor] = self.model(batch.images, batch.sizes, batch.targets, generators)
            total = torch.stack(list(losses.values())).sum() / self.passes
            self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _lr(self, iteration: int) -> float:
        settings = self.settings
        return settings.lr * lr_factor(
            iteration,
            iterations=self.iterations,
            warmup=self.warmup,
            schedule=settings.schedule,
            milestones=settings.step_milestones,
        )
