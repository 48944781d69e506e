"""Means over seeds and how sure they are: Student's t interval, and nothing at all for a single run."""

import math
from collections.abc import Sequence

import msgspec

CONFIDENCE = 0.95


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


def t_quantile(freedom: int) -> float:
    """The t with P(-t < T < t) = 0.95 for whole degrees of freedom.

    Bisection on the closed form of the probability (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    >>> [round(t_quantile(n), 3) for n in (1, 2, 4, 9, 1000)]
    [12.706, 4.303, 2.776, 2.262, 1.962]
    """
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, freedom) < CONFIDENCE else (low, middle)
    return (low + high) / 2


def _central_probability(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for step in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
