"""What the probe measures of the engine `detectron2`."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ablate.config import RunConfig
from ablate.engines.base import SUBJECT_IMAGES
from ablate.engines.d2_data import TestImages, TrainingImages
from ablate.engines.d2_trainer import build_optimizer, losses
from ablate.engines.precision import autocast


class Detectron2Subject:
    """See `ablate.engines.base.Subject`.

    Args:
        config: of the run.
        cfg: its loaded LazyConfig.
        model: on its device.
    """

    def __init__(self, config: RunConfig, cfg: Any, model: nn.Module) -> None:
        self.config, self.cfg, self.module = config, cfg, model
        self.device = next(model.parameters()).device
        # The first image with an object to learn, as seed 0 shows it in the first epoch.
        data = TrainingImages(cfg, seed=0)
        samples = (data[0, index] for index in range(len(data)))
        self._batch = [next((one for one in samples if len(one["instances"])), data[0, 0])]

    @cached_property
    def _inputs(self) -> list[dict[str, Any]]:
        views = TestImages(self.cfg)
        return [views[number] for number in range(min(SUBJECT_IMAGES, len(views)))]

    @property
    def images(self) -> int:
        """See `Subject.images`."""
        return len(self._inputs)

    def load(self, weights: Mapping[str, Any]) -> None:
        """See `Subject.load`."""
        self.module.load_state_dict(weights)

    def optimizer(self) -> torch.optim.Optimizer:
        """See `Subject.optimizer`."""
        return build_optimizer(self.cfg, self.module)

    def losses(self) -> dict[str, Tensor]:
        """See `Subject.losses`."""
        torch.manual_seed(0)  # of which detectron2 draws its samples
        with autocast(self.config.train.precision, self.device):  # type: ignore[arg-type]
            return losses(self.module, self._batch)

    def predict(self, number: int) -> None:
        """See `Subject.predict`; in 32-bit precision, as detectron2 does."""
        with torch.no_grad():
            self.module.inference([self._inputs[number]], do_postprocess=False)  # type: ignore[operator]
