"""Resamples of the images: how often each image counts in them, rows counted so, and the threads that measure them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import native
from analysis.arrays import Ints, group_starts, order_by_index
from analysis.parallel import side_by_side, threads

Weights = NDArray[np.signedinteger[Any]]  # how often each image counts
AT_ONCE = 64  # resamples drawn at a time, which bounds the memory
LANES = 4  # of these, measured side by side by the compiled core


@dataclass(frozen=True, eq=False)
class Grouped:
    """Rows in groups: how many each holds when images count several times, or not at all."""

    image: NDArray[np.int32]  # of the rows, group by group
    start: Ints  # [G + 1] where each group begins

    @classmethod
    def of(cls, group: Ints, image: Ints, groups: int) -> "Grouped":
        """Rows of groups i64[N], numbered from 0, on images i64[N]."""
        return cls(image[order_by_index(group, max(groups, 1))].astype(np.int32), group_starts(group, groups))

    def sums(self, weights: Weights) -> Ints:
        """[G] for weights of images [images]; without the compiled core of the integer type of the weights."""
        if native.core is not None:
            narrow = weights.astype(np.int32, copy=False)
            return np.frombuffer(native.core.group_weights(narrow, self.image, self.start), dtype=np.int64)
        total = np.zeros(len(self.image) + 1, dtype=weights.dtype)
        np.cumsum(weights[self.image], out=total[1:])
        return np.diff(total[self.start])


def draw_weights(images: int, resamples: int, seed: int) -> Iterator[Ints]:
    """How often each image counts, i64[images], in one resample after another: as many draws as there are images."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, images, images), minlength=images)


def measure_resamples(
    measure: Callable[[range, Ints], None],
    images: int,
    resamples: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draw resamples of the images and measure them, on several threads.

    Args:
        measure: called with the numbers of up to ``LANES`` resamples and the weights i64[resamples, images] that these
            give the images.
        images: how many.
        resamples: how many.
        seed: of the draws.
        progress: called with the number of resamples that are done.
    """
    weights = draw_weights(images, resamples, seed)
    for start in range(0, resamples, AT_ONCE):
        part = range(start, min(start + AT_ONCE, resamples))
        several = [part[low : low + LANES] for low in range(0, len(part), LANES)]
        drawn = [(numbers, np.stack([next(weights) for _ in numbers])) for numbers in several]
        side_by_side(lambda one: measure(*one), drawn, threads())
        if progress:
            progress(part.stop)
