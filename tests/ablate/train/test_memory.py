import errno

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ablate.train.loading import loading_errors_named
from ablate.train.memory import (
    GIB,
    MemoryMeter,
    OutOfMemoryError,
    SavedForBackward,
    is_out_of_memory,
    others_on,
)
from ablate.train.outcome import Interrupted

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


GPU, HOST = torch.device("cuda", 0), torch.device("cpu")
CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried 4 bytes"


@pytest.mark.parametrize(
    ("saying", "on_gpu", "on_cpu"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be", True, True),
        ("CUDA driver error: out of memory", True, True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True, True),
        ("cuDNN Frontend error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True, True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, True),
        ("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'", True, True),
        ("ncclUnhandledCudaError: Call to CUDA function failed.\nFailed to CUDA calloc 6291456 bytes", True, True),
        (CPU_ALLOCATOR, False, True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", False, False),
        ("NCCL error: unhandled system error", False, False),
    ],
)
def test_memory_of_the_host_is_not_that_of_a_gpu(saying: str, on_gpu: bool, on_cpu: bool) -> None:
    error = RuntimeError(saying)
    assert (is_out_of_memory(error, GPU), is_out_of_memory(error, HOST)) == (on_gpu, on_cpu)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. "),
        RuntimeError(
            "DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that dataloader's workers"
        ),
        RuntimeError("unable to write to file </torch_17_0>: No space left on device (28)"),
        RuntimeError(f"Caught RuntimeError in DataLoader worker process 0.\n{CPU_ALLOCATOR}"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_a_loader_without_memory_interrupts(error: Exception) -> None:
    with pytest.raises(Interrupted, match="lower --workers"), loading_errors_named():
        raise error


def test_other_errors_of_a_loader_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), loading_errors_named():
        raise RuntimeError("shapes differ")


def test_other_users_of_a_gpu_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 20 * GIB)
    for free, told in ((10, "; other processes use about 50.0 of its 80.0 GiB"), (59.5, "")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free * GIB), 80 * GIB))  # noqa: B023
        assert others_on(GPU) == told
    assert others_on(HOST) == ""
