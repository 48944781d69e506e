"""Means over seeds and how sure they are: Student's t interval, and nothing at all for a single run."""

import math
from collections.abc import Sequence

import msgspec

from analysis.comparison.student import t_quantile


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over seeds; the interval is mean +- half, at 95 %."""

    mean: float
    half: float | None  # none: n = 1, no interval
    n: int
    each: tuple[float, ...]  # one a seed


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean and its interval; none where there are no values.

    >>> found = estimate([1.0, 2.0, 3.0])
    >>> round(found.mean, 3), round(found.half, 3), found.n
    (2.0, 2.484, 3)
    >>> estimate([4.0]).half is None
    True
    """
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    half = None
    if n > 1:
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
        half = t_quantile(n - 1) * math.sqrt(variance / n)
    return Estimate(mean=mean, half=half, n=n, each=tuple(values))
