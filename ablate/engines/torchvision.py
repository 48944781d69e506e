"""The project's own engine: torchvision's parts, our backbones, one loop.

What the probe measures of the engine `vision`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec
import torch
from torch import Tensor

from ablate.config.schema import Init, RunConfig
from ablate.data.coco import EvaluationSet, TrainingSet
from ablate.data.loader import collate
from ablate.data.sources import Files, locate
from ablate.detector.inference import Record, predict
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.detector.training import (
    Trainer,
    Validate,
    initialise,
    locate_all,
    read_truths,
    train_and_predict,
    training_set,
)
from ablate.engines.base import BENCHMARK_IMAGES, Read
from ablate.runs.folder import RunFolder, Workspace
from ablate.train.distributed import WEIGHTS, Processes, derived, generator, joined
from ablate.train.logging import Say
from ablate.train.memory import is_out_of_memory
from ablate.train.optim import autocast, build_optimizer
from ablate.train.outcome import RanOutOfMemory, RuntimeOptions
from analysis import GroundTruth, read_ground_truth


class VisionSubject:
    """See `ablate.engines.base.BenchmarkTarget`.

    Args:
        config: of the run.
        detector: on its device.
        data: the training images under seed 0.
        views: the validation images.
    """

    def __init__(self, config: RunConfig, detector: Detector, data: TrainingSet, views: EvaluationSet) -> None:
        self.config, self.module, self._views = config, detector, views
        self.device = next(detector.parameters()).device
        # The first image with an object to learn, as seed 0 shows it in the first epoch.
        samples = (data[0, index] for index in range(len(data)))
        sample = next((one for one in samples if len(one.target.boxes)), data[0, 0])
        self._batch = collate([sample]).to(self.device)

    @cached_property
    def _inputs(self) -> list[tuple[Tensor, Tensor]]:
        views = (self._views[number] for number in range(min(BENCHMARK_IMAGES, len(self._views))))
        return [
            (view.image[None].to(self.device), torch.tensor([view.crop.kept], device=self.device)) for view in views
        ]

    @property
    def images(self) -> int:
        """See `BenchmarkTarget.images`."""
        return len(self._inputs)

    def load(self, weights: Mapping[str, Any]) -> None:
        """See `BenchmarkTarget.load`."""
        self.module.load_state_dict(weights)

    def optimizer(self) -> torch.optim.Optimizer:
        """See `BenchmarkTarget.optimizer`."""
        return build_optimizer(self.module, self.config.train)

    def losses(self) -> dict[str, Tensor]:
        """See `BenchmarkTarget.losses`."""
        batch = self._batch
        with autocast(self.config.train.precision, self.device):  # type: ignore[arg-type]
            losses: dict[str, Tensor] = self.module(
                batch.images, batch.sizes, batch.targets, [generator(self.device, 0)]
            )
        return losses

    def predict(self, number: int) -> None:
        """See `BenchmarkTarget.predict`."""
        image, size = self._inputs[number]
        with autocast(self.config.train.precision, self.device):  # type: ignore[arg-type]
            self.module.predict(image, size, self.config.evaluate)


class VisionEngine:
    """Mask R-CNN in pure PyTorch, on a CPU or GPUs, in one process or as many as torchrun starts."""

    def run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
        """See `Engine.run`."""
        try:
            self._run(folder, runtime)
        except RuntimeError as error:  # before or after training, which tells its own
            if not is_out_of_memory(error):
                raise
            raise RanOutOfMemory(f"{folder.path}: {str(error).splitlines()[0]}") from None

    def _run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
        with joined(runtime.device) as processes:
            config = folder.read_config()
            training, validation = locate_all(config, folder.workspace, processes)
            learned, measured = read_truths(training, validation)
            data = training_set(config, learned, training)
            torch.manual_seed(derived(config.seed, WEIGHTS))
            detector = build_detector(config.model, len(learned.category_id))
            if config.init != Init() and not folder.checkpoints_newest_first():
                initialise(detector.backbone, config, folder, processes, runtime)
            views = _views(config, measured, validation, detector)

            def trainer(validate: Validate) -> Trainer:
                return Trainer(config, detector, data, folder, processes, runtime, validate)

            def predictions(say: Say | None) -> list[Record]:
                return _predict(config, detector, views, processes, runtime, say)

            train_and_predict(trainer, predictions, measured, folder, processes, runtime)

    def trainer(
        self, config: RunConfig, workspace: Workspace, folder: RunFolder, processes: Processes, runtime: RuntimeOptions
    ) -> Trainer:
        """See `Engine.trainer`."""
        files = locate(config.data.train, workspace)
        data = training_set(config, read_ground_truth(files.annotations), files)
        detector = build_detector(config.model, len(data.truth.category_id))
        return Trainer(config, detector, data, folder, processes, runtime, dict)

    def benchmark_target(
        self, config: RunConfig, workspace: Workspace, device: torch.device, read: Read
    ) -> VisionSubject:
        """See `Engine.benchmark_target`."""
        training, validation = locate(config.data.train, workspace), locate(config.data.validation, workspace)
        truth = read(training.annotations)
        detector = build_detector(config.model, len(truth.category_id)).to(device)
        data = training_set(msgspec.structs.replace(config, seed=0), truth, training)
        return VisionSubject(config, detector, data, _views(config, read(validation.annotations), validation, detector))


def _views(config: RunConfig, truth: GroundTruth, files: Files, detector: Detector) -> EvaluationSet:
    full = config.evaluate.padding == "full"
    multiple = None if full else detector.heads.box_pooler.strides[-1]
    return EvaluationSet(truth=truth, folder=files.images, side=config.model.backbone.image_size, multiple=multiple)


def _predict(
    config: RunConfig,
    detector: Detector,
    views: EvaluationSet,
    processes: Processes,
    runtime: RuntimeOptions,
    say: Say | None,
) -> list[Record]:
    assert config.train.precision != "auto"
    return predict(
        detector,
        views,
        settings=config.evaluate,
        precision=config.train.precision,
        processes=processes,
        workers=processes.workers(runtime.workers),
        say=say,
    )
