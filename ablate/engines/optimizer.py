"""AdamW with the paper's two groups of parameters."""

import torch
from torch import nn

from ablate.config import Train

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POSITIONS = ("pos_embed", ".table")


def decayed(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters with and without weight decay.

    Norms, the absolute embedding and the tables of relative positions have none (MIMDet, detectron2); the biases of
    linear layers and convolutions have it, as in detectron2.
    """
    without = {
        parameter for module in model.modules() if isinstance(module, NORMS) for parameter in module.parameters()
    }
    without |= {parameter for name, parameter in model.named_parameters() if name.endswith(POSITIONS)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [p for p in trained if p not in without], [p for p in trained if p in without]


def build_optimizer(model: nn.Module, settings: Train) -> torch.optim.AdamW:
    """AdamW of a config; the learning rate is set anew at each step."""
    with_decay, without_decay = decayed(model)
    groups = [
        {"params": with_decay, "weight_decay": settings.weight_decay},
        {"params": without_decay, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
