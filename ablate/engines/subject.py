"""What the probe measures of the engine `vision`."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ablate.config import RunConfig
from ablate.data.coco import EvaluationSet, TrainingSet
from ablate.data.loading import collate
from ablate.engines.base import SUBJECT_IMAGES
from ablate.engines.detector import Detector
from ablate.engines.optimizer import build_optimizer
from ablate.engines.precision import autocast
from ablate.engines.randomness import generator


class VisionSubject:
    """See `ablate.engines.base.Subject`.

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
        views = (self._views[number] for number in range(min(SUBJECT_IMAGES, len(self._views))))
        return [
            (view.image[None].to(self.device), torch.tensor([view.placement.kept], device=self.device))
            for view in views
        ]

    @property
    def images(self) -> int:
        """See `Subject.images`."""
        return len(self._inputs)

    def load(self, weights: Mapping[str, Any]) -> None:
        """See `Subject.load`."""
        self.module.load_state_dict(weights)

    def optimizer(self) -> torch.optim.Optimizer:
        """See `Subject.optimizer`."""
        return build_optimizer(self.module, self.config.train)

    def losses(self) -> dict[str, Tensor]:
        """See `Subject.losses`."""
        batch = self._batch
        with autocast(self.config.train.precision, self.device):  # type: ignore[arg-type]
            losses: dict[str, Tensor] = self.module(
                batch.images, batch.sizes, batch.targets, [generator(self.device, 0)]
            )
        return losses

    def predict(self, number: int) -> None:
        """See `Subject.predict`."""
        image, size = self._inputs[number]
        with autocast(self.config.train.precision, self.device):  # type: ignore[arg-type]
            self.module.predict(image, size, self.config.evaluate)
