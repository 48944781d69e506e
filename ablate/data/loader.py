"""From samples to batches: a seeded order that any number of processes can enter at any iteration."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ablate.data.coco import ORDER, Key, Sample, Target
from analysis.exceptions import BadInput


@dataclass
class Batch:
    """The images and targets of one forward pass of one process.

    Masks travel with eight pixels in a byte, and are dense on the device: they are most of what is loaded.
    """

    images: Tensor  # u8[B, 3, side, side]
    sizes: Tensor  # i64[B, 2] height, width of the content
    targets: list[Target]  # without masks where they are in `bits`
    bits: list[Tensor] | None = None  # u8[n, side, side / 8] of each image, as `packed` makes them

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, its masks dense; from pinned memory without waiting."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        if moved.bits is not None:
            width = moved.images.shape[-1]
            for target, bits in zip(moved.targets, moved.bits, strict=True):
                target.masks = unpacked(bits, width)
            moved.bits = None
        return moved

    def pin_memory(self) -> "Batch":
        """For torch's loader."""
        return self._map(Tensor.pin_memory)

    def _map(self, act: Callable[[Tensor], Tensor]) -> "Batch":
        targets = [
            Target(act(t.boxes), act(t.labels), None if t.masks is None else act(t.masks), t.image_id)
            for t in self.targets
        ]
        bits = None if self.bits is None else [act(bits) for bits in self.bits]
        return Batch(act(self.images), act(self.sizes), targets, bits)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples."""
    masks = [sample.target.masks for sample in samples if sample.target.masks is not None]
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.tensor([sample.size for sample in samples], dtype=torch.int64),
        [replace(sample.target, masks=None) for sample in samples],
        [packed(mask) for mask in masks] if len(masks) == len(samples) else None,
    )


def packed(masks: Tensor) -> Tensor:
    """Masks u8[n, height, width] of zeros and ones on a CPU -> u8[n, height, width / 8 rounded up]."""
    return torch.from_numpy(np.packbits(masks.numpy(), axis=-1))


def unpacked(bits: Tensor, width: int) -> Tensor:
    """Undoes `packed`, on any device -> u8[n, height, width]."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return (bits[..., None] >> shifts & 1).flatten(-2)[..., :width]


def normalise(images: Tensor, sizes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """u8[B, 3, H, W] -> f32[B, 3, H, W]: (pixel / 255 - mean) / std inside ``sizes`` i64[B, 2], exactly 0 outside."""
    factor, offset = _pixel_constants(tuple(mean), tuple(std), images.device)
    rows, columns = (
        torch.arange(images.shape[2 + axis], device=images.device) < sizes[:, axis, None].to(images.device)
        for axis in (0, 1)
    )
    inside = (rows[:, None, :, None] & columns[:, None, None, :]).float()
    return (images * (factor / 255) - offset) * inside


@lru_cache(maxsize=16)
def _pixel_constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """1 / std and mean / std, f32[1, 3, 1, 1], copied to the device once."""
    factor = torch.tensor(std, device=device).reciprocal().reshape(1, 3, 1, 1)
    return factor, torch.tensor(mean, device=device).reshape(1, 3, 1, 1) * factor


@dataclass(frozen=True)
class TrainingOrder:
    """The keys of one process, a list for each forward pass: a batch sampler for torch's loader.

    All processes walk one stream: permutation after permutation of the training set, cut into batches of
    ``batch_size``. A batch is ``batch_size / (world * per_pass)`` accumulation steps, each of them ``per_pass`` images
    of process 0, then of process 1, and so on. So the images of an iteration depend on the seed alone, and a resumed
    run, or one on another number of processes, sees the same ones.
    """

    images: int  # in the training set
    batch_size: int
    per_pass: int  # images of one process in one forward pass
    seed: int
    first: int  # iteration to begin with, from 0
    last: int  # iteration to end before
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.per_pass * self.world):
            raise ValueError(
                f"{self.world} x {self.per_pass} images per forward pass do not divide batch_size {self.batch_size}"
            )

    @property
    def grad_accum_steps(self) -> int:
        """Forward passes of a process in an iteration."""
        return self.batch_size // (self.per_pass * self.world)

    def __len__(self) -> int:
        return max(0, self.last - self.first) * self.grad_accum_steps

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.zeros(0, dtype=np.int64)
        for step in range(self.first * self.grad_accum_steps, self.last * self.grad_accum_steps):
            begin = (step * self.world + self.rank) * self.per_pass
            keys = []
            for position in range(begin, begin + self.per_pass):
                if position // self.images != epoch:
                    epoch = position // self.images
                    order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(self.images)
                keys.append((epoch, int(order[position % self.images])))
            yield keys


def worker_error(error: BadInput) -> BadInput:
    """The original error of a process that loads images, in one sentence, behind the one that torch's loader raises."""
    return BadInput(str(error).strip().splitlines()[-1].partition("BadInput: ")[2] or str(error))
