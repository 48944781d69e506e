"""How much memory training needs on each GPU, and how many images share a BatchNorm statistic on them.

`train.images_per_norm: auto` is resolved before a run gets its identity: to the most images that the GPUs of a run hold
in one forward pass. All variants of a study get the same value, that of the variant which needs most memory among those
that fit at all. Where no GPU is known, it is the whole batch, as in the paper.

The forecast itself, which needs torch, is made by `ablate.detector.memory_forecast`.
"""

import math
from collections.abc import Sequence

import msgspec

from ablate.config.schema import RunConfig

RESERVE_GIB = 1.0  # of a GPU, for the CUDA context and workspaces
RESERVE_FRACTION = 0.05  # of a GPU, for gaps between the blocks of the allocator


class MemoryForecast(msgspec.Struct, frozen=True):
    """GiB on each GPU.

    Attributes:
        state_gib: weights, gradients and optimizer state.
        first_gib: the peak beyond that, in a pass of one image.
        further_gib: additional memory for every further image in the same pass.
    """

    state_gib: float
    first_gib: float
    further_gib: float

    def peak_gib(self, images: int) -> float:
        """Peak memory (GiB) of a training step with this many images in a forward pass."""
        return self.state_gib + self.first_gib + self.further_gib * (images - 1)

    def images_that_fit(self, device_gib: float) -> int:
        """The most images in one forward pass on a device of so many GiB, with the reserve left free; 0: not one."""
        usable = device_gib * (1 - RESERVE_FRACTION) - RESERVE_GIB
        if self.peak_gib(1) > usable:
            return 0
        return 1 + int((usable - self.peak_gib(1)) / self.further_gib)


def largest_fitting(forecasts: Sequence[tuple[MemoryForecast, float]], batch_size: int, gpus: int) -> int | None:
    """The most images that can share a BatchNorm statistic without running out of memory.

    Args:
        forecasts: of each detector, and the GiB it may take of each GPU; where not one image fits, it is ignored.
        batch_size: which the answer divides.
        gpus: that train one run together; each takes an equal share of the answer.

    Returns:
        The number of images; none where no detector fits.
    """
    fitting = [count for forecast, gib in forecasts if (count := forecast.images_that_fit(gib))]
    if not fitting:
        return None
    most = min(fitting) * gpus
    shares = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and n <= most and n % gpus == 0]
    return max(shares, default=math.gcd(batch_size, gpus))


def memory_limit(config: RunConfig, device_gib: float) -> float:
    """The memory (GiB) that a run may use on a device with this much memory (GiB)."""
    cap = config.train.memory_cap_gib
    return device_gib if cap == "none" else min(device_gib, cap)
