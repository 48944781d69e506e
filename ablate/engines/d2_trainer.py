"""The training loop around detectron2's model, optimizer and schedule."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablate.config import RunConfig
from ablate.engines.base import Diverged, Habits
from ablate.engines.d2_data import TrainingImages, as_list
from ablate.engines.processes import Processes
from ablate.engines.trainer import Trainer, Validate
from ablate.store import RunFolder, Status

# detectron2's names of the losses and ours, so that curves of both engines lie in one plot.
LOSSES = {
    "loss_rpn_cls": "rpn_objectness",
    "loss_rpn_loc": "rpn_box",
    "loss_cls": "box_class",
    "loss_box_reg": "box_delta",
    "loss_mask": "mask",
}


class Detectron2Trainer(Trainer):
    """See `Trainer`.

    Args:
        config: of the run; precision is resolved.
        cfg: its loaded LazyConfig.
        model: with its initial weights; is moved to the device.
        data: the training images.
        folder: of the run.
        processes: that train together.
        habits: what changes no result.
        validate: measures the validation set for the curves.
    """

    collate: Callable[[Sequence[Any]], Any] = staticmethod(as_list)

    def __init__(
        self,
        config: RunConfig,
        cfg: Any,
        model: nn.Module,
        data: TrainingImages,
        folder: RunFolder,
        processes: Processes,
        habits: Habits,
        validate: Validate,
    ) -> None:
        from detectron2.config import instantiate

        self.cfg = cfg
        self.multiplier = instantiate(cfg.lr_multiplier)
        super().__init__(config, model, data, folder, processes, habits, validate)
        self.iterations = int(cfg.train.max_iter)

    def _join_group(self) -> None:
        """detectron2's norms share with all processes by themselves."""

    def _build_optimizer(self) -> torch.optim.Optimizer:
        return build_optimizer(self.cfg, self.detector)

    def _clip(self) -> None:
        """The optimizer of the LazyConfig does it in its step."""

    def _lr(self, iteration: int) -> float:
        return float(self.cfg.optimizer.lr * self.multiplier(iteration / self.iterations))

    def _losses(self, batch: Any, number: int) -> dict[str, Tensor]:
        try:
            return losses(self.model, batch)
        except FloatingPointError as error:
            message = (
                f"{self.folder.path}: {error} Iteration {self.iteration + 1} of {self.iterations}; lower train.lr, "
                "lengthen train.warmup_epochs or set train.clip_norm"
            )
            if not self.processes.first:  # the first process may not see it, and is ended by torchrun
                self.folder.write_status(
                    Status(state="diverged", message=message, iteration=self.iteration, iterations=self.iterations)
                )
            raise Diverged(message) from None


def losses(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """The forward pass, under our names of the losses."""
    from detectron2.utils.events import EventStorage

    with EventStorage():  # the heads insist on one to write their accuracies to
        found: dict[str, Tensor] = model(batch)
    return {LOSSES.get(name, name): value for name, value in found.items()}


def build_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a LazyConfig."""
    from detectron2.config import instantiate

    cfg.optimizer.params.model = model
    optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
    cfg.optimizer.params.model = None
    return optimizer
