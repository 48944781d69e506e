"""Intervals, p-values, the correction, sources of variance: against numpy, printed tables and hand-made cases."""

import math
from fractions import Fraction

import numpy as np
import pytest

from analysis.stats.intervals import Difference, difference, difference_over_seeds, holm, interval, limits, over_seeds


def test_limits_are_numpys_percentiles_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4, 3, 101))
    drawn[rng.random(drawn.shape) < 0.3] = np.nan
    drawn[0, 0] = np.nan
    drawn[0, 1, 0], drawn[0, 1, 1:] = 1.0, np.nan
    low, high = limits(drawn)
    assert np.isnan([low[0, 0], high[0, 0]]).all()
    for place in np.ndindex(4, 3):
        if place != (0, 0):
            known = drawn[place][~np.isnan(drawn[place])]
            assert (low[place], high[place]) == pytest.approx(tuple(np.percentile(known, [2.5, 97.5])), abs=1e-12)


def test_p_counts_resamples_as_far_from_the_difference_as_zero_is() -> None:
    drawn = np.array([1.0, 2.0, 3.0, 2.5, 1.5, 4.0, 0.0, 2.0, 2.0])
    found = difference(2.0, drawn)
    assert found.p == float(Fraction(1 + 2, 10))  # 4 and 0 lie 2 away; the difference itself counts as one
    assert difference(0.0, np.zeros(99)).p == 1
    assert difference(5.0, np.full(99, 5.0)).p == 0.01
    assert math.isnan(difference(math.nan, np.full(9, math.nan)).p)


def test_one_run_has_no_source_but_the_images() -> None:
    drawn = np.random.default_rng(1).normal(10, 2, 500)
    found = interval(10.0, drawn)
    assert (found.n, found.seeds) == (1, None)
    assert found.images == pytest.approx(drawn.std(ddof=1))


def test_without_noise_of_images_the_interval_over_seeds_is_students() -> None:
    values = np.array([1.0, 2.0, 3.0])
    found = over_seeds(values, np.repeat(values[:, None], 50, axis=1))
    assert found.images == pytest.approx(0, abs=1e-12)
    assert found.high - found.value == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # a printed table
    assert found.n == 3


def test_without_noise_of_seeds_the_interval_is_normal() -> None:
    drawn = np.random.default_rng(2).normal(5, 1, 2000)
    found = difference_over_seeds(np.array([5.0, 5.0]), np.stack([drawn, drawn]))
    assert found.seeds == 0
    assert found.high - found.value == pytest.approx(1.96 * drawn.std(ddof=1), rel=2e-3)
    assert found.p < 1e-5


def test_both_sources_add_up() -> None:
    rng = np.random.default_rng(3)
    images = rng.normal(0, 1, 4000)
    values = np.array([4.0, 5.0, 6.0, 5.0])
    found = difference_over_seeds(values, values[:, None] + images)
    seeds = values.std(ddof=1) / 2
    assert (found.images, found.seeds) == pytest.approx((images.std(ddof=1), seeds))
    half = math.hypot(1.959964 * images.std(ddof=1), 3.182446 * seeds)  # printed tables
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), rel=1e-5)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_p_over_seeds_is_where_the_interval_begins_to_hold_zero(n: int) -> None:
    rng = np.random.default_rng(n)
    values, images = rng.normal(0, 1, n), rng.normal(0, 1, 300)
    at = values - values.mean()  # about 0, so that the value below is the distance alone
    drawn = at[:, None] + images
    half = difference_over_seeds(at, drawn).high
    for distance, expected in ((half * 0.999, "above"), (half * 1.001, "below")):
        p = difference_over_seeds(at + distance, drawn + distance).p
        assert (p > 0.05) == (expected == "above")
        assert p == pytest.approx(0.05, abs=1e-3)
    assert difference_over_seeds(np.zeros(n), np.zeros((n, 9))).p == 1
    assert difference_over_seeds(np.full(n, 3.0), np.full((n, 9), 3.0)).p < 1e-8


def test_the_correction_steps_down_and_leaves_out_what_cannot_be_told() -> None:
    p = [0.04, math.nan, 0.001, 0.02, 0.03]
    corrected = holm([Difference(1, 0, 2, 1, p=one) for one in p])
    assert [one.p_adjusted for one in corrected] == pytest.approx([0.06, math.nan, 0.004, 0.06, 0.06], nan_ok=True)
    assert [one.significant for one in corrected] == [False, False, True, False, False]
