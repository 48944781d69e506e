"""From resamples and seeds to intervals and p-values; ``docs/uncertainty.md`` says how, and how well they cover.

The choice of images is one source of variance, measured by resamples; the choice of seeds another, by Student's t. A
single run has no interval over seeds. p-values of several tests are corrected after Holm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Floats

CONFIDENCE = 0.95
FEWEST_OF_CATEGORY = 10  # images with an object of a category, below which it has no interval


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t with P(-t < T < t) = ``confidence`` for whole degrees of freedom.

    Bisection on the closed form of the probability (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    >>> [round(t_quantile(n), 3) for n in (1, 2, 4, 9, 1000)]
    [12.706, 4.303, 2.776, 2.262, 1.962]
    """
    low, high = 0.0, 20.0
    while central_probability(high, freedom) < confidence and high < 1e12:
        low, high = high, high * 10
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if central_probability(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def central_probability(t: float, freedom: int) -> float:
    """P(-t < T < t), for t of 0 and more.

    >>> round(central_probability(2.0, 10), 6), central_probability(0.0, 3)
    (0.926612, 0.0)
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = cosine if odd else 1.0
    for step in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0)) if odd else sine * total


SIGNIFICANCE = 0.05
ROUNDING = 1e-9  # points; a difference below is none


@dataclass(frozen=True)
class Interval:
    """A number in points and its 95 % interval; NaN if there is none (a single image, no resamples).

    With one seed the limits come from resamples of the images: percentiles for a difference, the basic
    (reverse-percentile) interval for a run. With n >= 2 seeds they lie about the mean and hold both sources of
    variance, images and seeds.
    """

    value: float
    low: float
    high: float
    images: float  # standard error from the choice of images
    seeds: float | None = None  # standard error from the choice of seeds; none: n = 1, which cannot tell
    n: int = 1  # seeds


@dataclass(frozen=True)
class Difference(Interval):
    """One run, or design, minus the baseline, image by image and seed by seed.

    p and the interval are one construction: p <= 0.05 exactly where the 95 % interval leaves out 0.
    """

    p: float = math.nan  # two-sided, of no difference; NaN: not tested
    p_adjusted: float = math.nan  # after Holm's correction over the family

    @property
    def significant(self) -> bool:
        """Whether a difference remains after the correction at the 5 % level; false if it was not tested."""
        return self.p_adjusted <= SIGNIFICANCE


def limits(drawn: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """The 2.5 and 97.5 % percentiles over the last axis but NaN, linearly interpolated; NaN where nothing is drawn."""
    ordered = np.sort(np.asarray(drawn, dtype=np.float64), axis=-1)  # NaN comes last
    count = (~np.isnan(ordered)).sum(axis=-1)
    last = np.maximum(count - 1, 0)
    place = np.multiply.outer([SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2], last)
    below = np.floor(place).astype(np.int64)
    around = (below, np.minimum(below + 1, last))
    low, high = (np.take_along_axis(ordered[None], at[..., None], axis=-1)[..., 0] for at in around)
    lower, upper = low + (high - low) * (place - below)
    return lower, upper


def interval(value: float, drawn: Floats) -> Interval:
    """The interval of one run, from its resamples f64[R].

    It is the basic (reverse-percentile) interval, 2 value - percentile: images that are drawn twice raise AP (and with
    few images AP is too high already), so that the percentiles themselves would lie on the wrong side.
    """
    low, high = limits(drawn)
    return Interval(value, 2 * value - float(high), 2 * value - float(low), _deviation(drawn))


def percentile_interval(value: float, drawn: Floats) -> Interval:
    """Interval of a rate, from its resamples f64[R]: unlike AP, a rate does not rise when images are drawn twice."""
    low, high = limits(drawn)
    return Interval(value, float(low), float(high), _deviation(drawn))


def difference(value: float, drawn: Floats) -> Difference:
    """The difference of one run to another, from the differences f64[R] on the same resamples.

    p is the level at which the percentile interval begins to hold 0: 1 minus the confidence of the widest interval of
    this construction that leaves 0 out. So p <= 0.05 exactly where the 95 % interval leaves out 0. Its resolution is
    2 / (R + 1).
    """
    value, drawn = float(_without_rounding(value)), _without_rounding(drawn)
    low, high = map(float, limits(drawn))
    known = np.sort(drawn[~np.isnan(drawn)])
    p = _level_at_zero(known) if len(known) else math.nan
    return Difference(value, low, high, _deviation(drawn), p=_as_the_interval(max(p, 2 / (1 + len(known))), low, high))


def _level_at_zero(ordered: Floats) -> float:
    """The level of the percentile interval one of whose limits is 0, for f64[R] that ascend; 0 and 1 where none is."""
    last = max(len(ordered) - 1, 1)
    tails = (_place_of_zero(ordered), _place_of_zero(-ordered[::-1]))
    return min(1.0, *(2 * max(place, 0.0) / last for place in tails))


def _place_of_zero(ordered: Floats) -> float:
    """The last place at which ascending numbers, joined by straight lines, are 0 or less; below 0: nowhere."""
    below = int(np.searchsorted(ordered, 0.0, side="right")) - 1
    if below < 0 or below == len(ordered) - 1:
        return float(below)
    return below - float(ordered[below]) / float(ordered[below + 1] - ordered[below])


def _as_the_interval(p: float, low: float, high: float) -> float:
    """A p-value that is at most 0.05 exactly where the interval leaves out 0, whatever rounding did to it."""
    if math.isnan(p) or math.isnan(low):
        return math.nan
    return min(p, SIGNIFICANCE) if low > 0 or high < 0 else max(p, math.nextafter(SIGNIFICANCE, 1))


def _without_rounding(values: Floats | float) -> Floats:
    """The same numbers, those that are 0 but for rounding as 0: else a difference of 1e-14 would be significant."""
    return np.where(np.abs(values) < ROUNDING, 0.0, values)


def over_seeds(values: Floats, drawn: Floats) -> Interval:
    """The interval of the mean over n >= 2 seeds f64[n], with each seed's value on the same resamples f64[n, R].

    The interval lies about the mean less what resampling raises it by (see :func:`interval`). Its half width has two
    parts, which add up as squares: Student's t with n - 1 degrees of freedom times the standard error between seeds,
    and the normal quantile times that of the mean over resamples of the images.
    """
    value, images, seeds, half = _two_sources(values, drawn)
    middle = 2 * value - float(np.nanmean(drawn)) if not np.isnan(drawn).all() else math.nan
    return Interval(value, middle - half, middle + half, images, seeds, len(values))


def difference_over_seeds(values: Floats, drawn: Floats) -> Difference:
    """The mean difference, seed by seed, with its interval; p is the level at which the interval begins to hold 0."""
    value, images, seeds, half = _two_sources(values, drawn)
    value, low, high = map(float, _without_rounding(np.array([value, value - half, value + half])))
    p = math.nan if math.isnan(half) else _p_over_seeds(abs(value), images, seeds, len(values))
    return Difference(value, low, high, images, seeds, len(values), p=_as_the_interval(p, low, high))


def paired_over_seeds(values: Floats) -> Difference:
    """The mean of differences f64[n >= 2] seed by seed, tested over seeds alone: Student's t, n - 1 degrees of freedom.

    >>> round(paired_over_seeds(np.array([1.0, 2.0, 3.0])).p, 4)  # t = 3.46
    0.0742
    """
    return difference_over_seeds(values, np.zeros((len(values), 2)))


def _two_sources(values: Floats, drawn: Floats) -> tuple[float, float, float, float]:
    """The mean, its standard errors from the choice of images and of seeds, and half of its 95 % interval."""
    images, seeds = _deviation(drawn.mean(axis=0)), float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), images, seeds, _half(images, seeds, len(values), CONFIDENCE)


def _half(images: float, seeds: float, n: int, confidence: float) -> float:
    return math.hypot(NormalDist().inv_cdf((1 + confidence) / 2) * images, t_quantile(n - 1, confidence) * seeds)


def _p_over_seeds(distance: float, images: float, seeds: float, n: int) -> float:
    if distance == 0:
        return 1.0
    low, high = 0.0, 1.0 - 1e-9  # confidences of the widest interval without 0 and of one with it
    if _half(images, seeds, n, high) < distance:
        return 1.0 - high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _half(images, seeds, n, middle) < distance else (low, middle)
    return 1 - low


def _deviation(drawn: Floats) -> float:
    known = drawn[~np.isnan(drawn)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with p-values corrected over all of them as one family (Holm, 1979).

    A difference without a p-value takes no part.

    >>> corrected = holm([Difference(1, 0, 2, 1, p=p) for p in (0.01, 0.04, 0.03)])
    >>> [round(one.p_adjusted, 3) for one in corrected]
    [0.03, 0.06, 0.06]
    """
    known = [place for place, one in enumerate(differences) if not math.isnan(one.p)]
    corrected = list(differences)
    highest = 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: differences[place].p)):
        highest = max(highest, min((len(known) - rank) * differences[place].p, 1.0))
        corrected[place] = replace(differences[place], p_adjusted=highest)
    return corrected


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
    if not n:
        return None
    mean = math.fsum(values) / n
    half = None
    if n > 1:
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
        half = t_quantile(n - 1) * math.sqrt(variance / n)
    return Estimate(mean=mean, half=half, n=n, each=tuple(values))
