import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ablate.train.memory import GIB, MemoryMeter, OutOfMemoryError, SavedForBackward

KIB = 1024


class Wide(nn.Module):
    """Layers that each save one map of 64 KiB (their output, for the ReLU, and the input of the next)."""

    def __init__(self, depth: int, recompute: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(128, 128), nn.ReLU()) for _ in range(depth))
        self.recompute = recompute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.recompute else layer(x)
        return x


def peak(depth: int, recompute: bool = False) -> int:
    model = Wide(depth, recompute)
    count = SavedForBackward(model, None)
    with count.counting():
        model(torch.randn(128, 128)).sum().backward()
    assert count.bytes == 0, "all is let go after the backward pass"
    return count.peak


def test_each_storage_counts_once_and_weights_do_not() -> None:
    # The input and the output of every ReLU, 128 x 128 floats each.
    assert peak(1) == 2 * 64 * KIB
    assert peak(4) == 5 * 64 * KIB


def test_activation_checkpointing_shows() -> None:
    assert peak(8, recompute=True) <= peak(8)
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128)) for _ in range(8)])

    def run(recompute: bool) -> int:
        count = SavedForBackward(layers, None)
        with count.counting():
            x = torch.randn(128, 128)
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
            x.sum().backward()
        return count.peak

    assert run(recompute=True) < 0.5 * run(recompute=False)


def test_the_cap_answers_for_a_smaller_device() -> None:
    model = Wide(4, recompute=False)
    meter = MemoryMeter(model, torch.device("cpu"), cap_gib=3.5 * 64 * KIB / GIB)
    with pytest.raises(OutOfMemoryError), meter.watching():
        model(torch.randn(128, 128)).sum().backward()
    assert meter.peak_gib == 4 * 64 * KIB / GIB


def test_what_pytorch_says_about_memory_is_understood() -> None:
    meter = MemoryMeter(nn.Linear(1, 1), torch.device("cpu"), None)
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory"), meter.watching():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")
    for saying in (
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ):
        with pytest.raises(OutOfMemoryError, match=r"_FAILED|out of memory"), meter.watching():
            raise torch.AcceleratorError(saying) if "kernel" in saying else RuntimeError(saying)
    with pytest.raises(OutOfMemoryError), meter.watching():
        torch.empty(2**62, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="something else"), meter.watching():
        raise RuntimeError("something else")
