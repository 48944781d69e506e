"""The training loop around detectron2's model, optimizer and schedule."""

from typing import Any

import torch
from torch import Tensor, nn

from ablate.config import RunConfig
from ablate.engines.base import Diverged, Habits
from ablate.engines.d2_data import Inputs, TrainingImages
from ablate.engines.precision import autocast
from ablate.engines.processes import Processes
from ablate.engines.randomness import MODEL, derived
from ablate.engines.trainer import DetectorTrainer, Validate
from ablate.store import RunFolder, Status

# detectron2's names of the losses and ours, so that curves of both engines lie in one plot.
LOSSES = {
    "loss_rpn_cls": "rpn_objectness",
    "loss_rpn_loc": "rpn_box",
    "loss_cls": "box_class",
    "loss_box_reg": "box_delta",
    "loss_mask": "mask",
}


class Detectron2Trainer(DetectorTrainer):
    """The steps of the engine `detectron2`.

    Args:
        config: of the run; precision is resolved.
        cfg: its loaded LazyConfig.
        model: with its initial weights; is moved to the device.
        data: the training images.
        folder, processes, habits, validate: see `DetectorTrainer`.
    """

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

        self.cfg, self.multiplier = cfg, instantiate(cfg.lr_multiplier)
        model = model.to(processes.device)
        super().__init__(
            config,
            model,
            build_optimizer(cfg, model),  # which clips, where gradients are to be clipped
            data,
            Inputs,
            folder,
            processes,
            habits,
            validate,
            iterations=int(cfg.train.max_iter),
        )

    def _lr(self, iteration: int) -> float:
        return float(self.cfg.optimizer.lr * self.multiplier(iteration / self.iterations))

    def _forward_backward(self, batch: Any, number: int) -> dict[str, Tensor]:
        """Add the gradient of one forward pass -> its losses; as `SimpleTrainer` and `AMPTrainer` do."""
        # Of torch's generator detectron2 draws its samples, and the model its drop path.
        torch.manual_seed(derived(self.config.seed, MODEL, self.iteration, number, self.processes.rank))
        try:
            with self.meter.watching():
                with autocast(self.precision, self.device):
                    found = losses(self.model, batch)
                total = torch.stack(list(found.values())).sum() / self.passes
                self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        except FloatingPointError as error:
            raise self._diverged(str(error)) from None
        return {name: value.detach() for name, value in found.items()}

    def _diverged(self, reason: str) -> Diverged:
        place = f"iteration {self.iteration + 1} of {self.iterations}"
        message = f"{self.folder.path}: {reason.rstrip('.')} in {place}; {self.remedy}"
        if not self.processes.first:  # the first process may not see it, and is ended by torchrun
            self.folder.write_status(
                Status(state="diverged", message=message, iteration=self.iteration, iterations=self.iterations)
            )
        return Diverged(message)


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
