"""Memory of training: the peak reached, and a cap that simulates a smaller device."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

GIB = 2**30
# What CUDA, its libraries and NCCL say of exhausted device memory in errors that have no class of their own.
DEVICE_FULL = re.compile(
    r"(CUDA|HIP|CUDA driver) (error: )?out of memory|(cuda|hip)ErrorMemoryAllocation"
    r"|Cuda failure (\d+ )?'out of memory'|Failed to CUDA calloc"
    r"|CU(BLAS|SPARSE|SOLVER|DNN)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED"
    r"|CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"
)
HOST_FULL = re.compile(r"can't allocate memory|not enough memory|cannot allocate memory|std::bad_alloc", re.IGNORECASE)
# A process that loads images was killed, most often by the system for its memory, or found no shared memory.
LOADER_LOST = re.compile(
    r"DataLoader worker|unable to (open|mmap|write|allocate|resize).*(shared memory|/torch_)", re.DOTALL
)
OTHERS_WORTH_TELLING = 1.0  # GiB; a process needs up to that much beside what torch allocates


class OutOfMemoryError(Exception):
    """The memory of the device, or the cap on it, is exhausted."""


def is_out_of_memory(error: BaseException, device: torch.device | None = None) -> bool:
    """Whether an error is one of the many ways in which PyTorch reports that the memory of its device ran out.

    Args:
        error: that was raised.
        device: on which it was computed: memory of the host is that of a CPU alone; none: any memory counts.
    """
    if isinstance(error, OutOfMemoryError | torch.OutOfMemoryError):
        return True
    sayings = [DEVICE_FULL] if device is not None and device.type != "cpu" else [DEVICE_FULL, HOST_FULL]
    return isinstance(error, RuntimeError) and any(saying.search(str(error)) for saying in sayings)


def is_loader_lost(error: BaseException) -> bool:
    """Whether loading images failed for want of memory of the host, in this process or in one that loads for it."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and bool(HOST_FULL.search(text) or LOADER_LOST.search(text)))
    )


def others_on(device: torch.device) -> str:
    """A remark on other processes that use a large part of a GPU's memory; empty where there are none."""
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    others = (total - free - torch.cuda.memory_reserved(device)) / GIB
    if others <= OTHERS_WORTH_TELLING:
        return ""
    return f"; other processes use about {others:.1f} of its {total / GIB:.1f} GiB"


class SavedForBackward:
    """Bytes that autograd keeps for the backward pass: the measure of training memory on a CPU.

    Resident memory would not show activation checkpointing. Each storage counts once, and until its last user lets go
    of it. Weights do not count.

    Args:
        model: whose parameters and buffers are not counted.
        cap: bytes at which `OutOfMemoryError` is raised.
    """

    def __init__(self, model: nn.Module, cap: float | None) -> None:
        self.cap = cap
        self.bytes = 0
        self.peak = 0
        self._users: dict[int, int] = {}
        self._weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def counting(self) -> Any:
        """The context in which tensors are counted; the backward pass belongs inside too."""
        return torch.autograd.graph.saved_tensors_hooks(
            self._pack, lambda packed: packed.tensor if isinstance(packed, _Kept) else packed
        )

    def _pack(self, tensor: Tensor) -> "Tensor | _Kept":
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self._weights or size == 0:
            return tensor
        users = self._users.get(key, 0)
        self._users[key] = users + 1
        if users == 0:
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
        kept = _Kept(tensor, self, key, size)
        if self.cap is not None and self.bytes > self.cap:
            raise OutOfMemoryError
        return kept

    def release(self, key: int, size: int) -> None:
        """One user of a storage is gone."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.bytes -= size


class _Kept:
    """A saved tensor that says when autograd drops it."""

    __slots__ = ("count", "key", "size", "tensor")

    def __init__(self, tensor: Tensor, count: SavedForBackward, key: int, size: int) -> None:
        self.tensor, self.count, self.key, self.size = tensor, count, key, size

    def __del__(self) -> None:
        self.count.release(self.key, self.size)


class MemoryMeter:
    """Peak memory of training, GiB, and the cap: allocated bytes on CUDA, bytes saved for backward on a CPU.

    Args:
        model: that is trained, on its device.
        device: where.
        cap_gib: largest memory, or none.
    """

    def __init__(self, model: nn.Module, device: torch.device, cap_gib: float | None) -> None:
        self.device, cap = device, None if cap_gib is None else cap_gib * GIB
        self.saved = None if device.type == "cuda" else SavedForBackward(model, cap)
        if self.saved is None:
            torch.cuda.reset_peak_memory_stats(device)
            total = torch.cuda.get_device_properties(device).total_memory
            # 1 undoes the cap of a run before.
            torch.cuda.set_per_process_memory_fraction(1.0 if cap is None else min(1.0, cap / total), device)

    @property
    def peak_gib(self) -> float:
        """The peak so far."""
        return (torch.cuda.max_memory_allocated(self.device) if self.saved is None else self.saved.peak) / GIB

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure what runs inside.

        Raises:
            OutOfMemoryError: for every way in which PyTorch reports that memory ran out.
        """
        try:
            with nullcontext() if self.saved is None else self.saved.counting():
                yield
        except RuntimeError as error:
            if not is_out_of_memory(error, self.device):
                raise
            raise OutOfMemoryError(str(error).splitlines()[0]) from None
