"""Mixed precision: which one a device gets, and the context and scaler that go with it."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from analysis.refusal import BadInput

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
