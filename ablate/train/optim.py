"""Weight updates: AdamW with the paper's two groups of parameters, mixed precision, learning rate schedules.

- `build_optimizer`: biases decay, norms and positions do not; layer-wise decay of the learning rate.
- `resolve`: the precision that a device gets; `autocast` and `build_scaler` go with it.
- `lr_factor`: linear warm-up, then half a cosine period, steps or a straight line; `lr_factor_after_warmup`: the first
  as MAE has it.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import nn

from ablate.config.schema import Train
from ablate.models.finetuning import layer_lr_factor
from analysis.exceptions import BadInput

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POSITIONS = ("pos_embed", ".table")
SCALE = "lr_scale"  # of a group of parameters: the factor of its learning rate


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


def build_optimizer(model: nn.Module, settings: Train, depth: int = 0) -> torch.optim.AdamW:
    """AdamW of a config; the learning rate is set anew at each step.

    Args:
        model: a detector; frozen parameters are left out.
        settings: of the config.
        depth: blocks of its ViT, over which ``layer_decay`` counts.
    """
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": weight_decay}
        for parameters, weight_decay in zip(decayed(model), (settings.weight_decay, 0.0), strict=True)
    ]
    if settings.layer_decay != "none":
        factors = {
            parameter: layer_lr_factor(name, decay=settings.layer_decay, depth=depth)
            for name, parameter in model.named_parameters()
        }
        groups = [
            {
                **group,
                "params": [parameter for parameter in group["params"] if factors[parameter] == factor],
                SCALE: factor,
            }
            for group in groups
            for factor in dict.fromkeys(factors[parameter] for parameter in group["params"])
        ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the same learning rate, times its own factor where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(SCALE, 1.0)


Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(wanted: Literal["fp32", "bf16", "fp16", "auto"], device: torch.device) -> Precision:
    """The precision that a run is trained in; `auto` is bf16 where the GPU has it, else fp16, and fp32 on a CPU.

    Raises:
        BadInput: fp16 on a CPU, or bf16 on a GPU without it.
    """
    gpu = device.type == "cuda"
    if wanted == "auto":
        if not gpu:
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if wanted == "fp16" and not gpu:
        raise BadInput("train.precision=fp16 needs a CUDA device and there is none; choose fp32, bf16 or auto")
    if wanted == "bf16" and gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise BadInput(f"train.precision=bf16 is not supported by {torch.cuda.get_device_name()}; choose fp16 or auto")
    return wanted


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """The context in which the forward pass runs."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def build_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling for fp16; does nothing in the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def lr_factor(
    iteration: int,
    *,
    iterations: int,
    warmup: int,
    schedule: Literal["cosine", "step", "linear"],
    milestones: Sequence[float] = (),
) -> float:
    """The factor of the peak learning rate in one optimizer step.

    Args:
        iteration: the step, from 0.
        iterations: steps of the whole run.
        warmup: steps of the linear rise, in which step i has the factor (i + 1) / (warmup + 1) of the schedule's.
        schedule: cosine and linear fall from 1 to 0 over the whole run; step divides by 10 at each milestone.
        milestones: of the step schedule, as fractions of the run.
    """
    rise = min(1.0, (iteration + 1) / (warmup + 1))
    done = iteration / iterations
    if schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return rise * (1 - done)
    return float(rise * 0.1 ** sum(done >= milestone for milestone in milestones))


def lr_factor_after_warmup(iteration: int, *, iterations: int, warmup: int) -> float:
    """MAE's schedule: rises linearly from 0 in ``warmup`` steps, and only then falls along half a cosine to 0."""
    if iteration < warmup:
        return iteration / warmup
    return 0.5 * (1 + math.cos(math.pi * (iteration - warmup) / (iterations - warmup)))
