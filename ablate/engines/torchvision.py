"""The engine `vision`: torchvision's parts and our backbones in pure PyTorch, and what of it is measured."""

from pathlib import Path

import torch
from torch import Tensor

from ablate.config.schema import RunConfig
from ablate.data.coco import EvalSample, EvaluationSet
from ablate.data.loader import collate
from ablate.detector.inference import Record, predict
from ablate.detector.mask_rcnn import build_detector
from ablate.detector.training import Trainer, Validate, training_set
from ablate.engines.base import BenchmarkTarget, Engine, RunData, first_with_objects
from ablate.runs.folder import RunFolder
from ablate.train.distributed import Processes, generator
from ablate.train.optim import autocast, build_optimizer
from ablate.train.outcome import RuntimeOptions


class VisionEngine(Engine):
    """Mask R-CNN in pure PyTorch, on a CPU or GPUs, in one process or as many as torchrun starts."""

    def __init__(self, config: RunConfig, data: RunData, folder: Path, processes: Processes) -> None:
        super().__init__(config, data, folder, processes)
        self.training_images = training_set(config, data.training_truth, data.training)
        self.module = self.detector = build_detector(config.model, len(data.training_truth.category_id))
        self.backbone = self.detector.backbone
        full = config.evaluate.padding == "full"
        self.validation_images = EvaluationSet(
            truth=data.validation_truth,
            folder=data.validation.images,
            side=config.model.backbone.image_size,
            multiple=None if full else self.detector.heads.box_pooler.strides[-1],
        )

    def trainer(self, folder: RunFolder, runtime: RuntimeOptions, validate: Validate) -> Trainer:
        """See `Engine.trainer`."""
        return Trainer(self.config, self.detector, self.training_images, folder, self.processes, runtime, validate)

    def predict(self, workers: int, *, show_progress: bool = True) -> list[Record]:
        """See `Engine.predict`."""
        return predict(
            self.detector,
            self.validation_images,
            settings=self.config.evaluate,
            precision=self.precision,
            processes=self.processes,
            workers=workers,
            show_progress=show_progress,
        )

    def benchmark_target(self) -> "VisionBenchmarkTarget":
        """See `Engine.benchmark_target`."""
        return VisionBenchmarkTarget(self)


class VisionBenchmarkTarget(BenchmarkTarget):
    """See `ablate.engines.base.BenchmarkTarget`.

    Args:
        engine: whose detector and images are taken.
    """

    def __init__(self, engine: VisionEngine) -> None:
        super().__init__(engine, engine.validation_images)
        sample = first_with_objects(engine.training_images, lambda sample: sample.target.boxes)
        self.batch = collate([sample]).to(self.device)

    def as_input(self, sample: EvalSample) -> tuple[Tensor, Tensor]:
        """See `BenchmarkTarget.as_input`; on the device."""
        return sample.image[None].to(self.device), torch.tensor([sample.crop.kept], device=self.device)

    def optimizer(self) -> torch.optim.Optimizer:
        """See `BenchmarkTarget.optimizer`."""
        return build_optimizer(self.module, self.config.train)

    def losses(self) -> dict[str, Tensor]:
        """See `BenchmarkTarget.losses`."""
        batch = self.batch
        with autocast(self.precision, self.device):
            losses: dict[str, Tensor] = self.module(
                batch.images, batch.sizes, batch.targets, [generator(self.device, 0)]
            )
        return losses

    def detect(self, sample: tuple[Tensor, Tensor]) -> None:
        """See `BenchmarkTarget.detect`."""
        with autocast(self.precision, self.device):
            self.module.predict(*sample, self.config.evaluate)  # type: ignore[operator]
