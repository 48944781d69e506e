"""Intervals, p-values, the correction, sources of variance: against numpy, printed tables and hand-made cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


# Continuous differences, and few values with many ties and zeros among them; some resamples that tell nothing.
POINTS = st.one_of(
    st.floats(-100, 100, allow_nan=False),
    st.sampled_from([0.0, -0.0, 1e-14, -1e-14, 1e-9, 0.1, -0.1, 1.0, -1.0]),
    st.integers(-2, 2).map(float),
)
SOME_UNKNOWN = st.one_of(POINTS, POINTS, POINTS, st.just(math.nan))


def told_alike(found: Difference) -> None:
    """Raw p <= 0.05 exactly where the 95 % interval leaves out 0; both are told, or none of them."""
    assert math.isnan(found.p) == math.isnan(found.low) == math.isnan(found.high)
    if not math.isnan(found.p):
        assert 0 < found.p <= 1
        assert (found.p <= 0.05) == (found.low > 0 or found.high < 0)


@given(POINTS, st.lists(SOME_UNKNOWN, min_size=1, max_size=60))
@settings(max_examples=300, deadline=None)
def test_p_and_the_interval_over_images_say_the_same(value: float, drawn: list[float]) -> None:
    told_alike(difference(value, np.array(drawn)))


@given(POINTS, st.integers(1, 2000), st.integers(0, 2000), POINTS, POINTS)
@settings(max_examples=200, deadline=None)
def test_they_do_where_a_limit_touches_zero(value: float, count: int, above: int, low: float, high: float) -> None:
    told_alike(difference(value, np.repeat([low, high], [count, min(above, count)])))


@given(st.lists(st.tuples(POINTS, st.floats(-3, 3)), min_size=2, max_size=5), st.lists(POINTS, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_p_and_the_interval_over_seeds_say_the_same(pairs: list[tuple[float, float]], images: list[float]) -> None:
    values, own = np.array(pairs).T
    told_alike(difference_over_seeds(values, values[:, None] + np.outer(own, images)))


@pytest.mark.parametrize("shift", [0.3, 1.0, 1.8, 2.5, -1.4, 9.0])
def test_p_over_images_is_the_level_at_which_the_interval_begins_to_hold_zero(shift: float) -> None:
    drawn = np.random.default_rng(7).gamma(2.0, 0.7, 1000) - 1.4 + shift  # no symmetric ones
    p = difference(shift, drawn).p

    def holds_zero(level: float) -> bool:
        low, high = np.percentile(drawn, [50 * level, 100 - 50 * level])
        return bool(low <= 0 <= high)

    if p == pytest.approx(2 / 1001):  # its resolution
        assert not holds_zero(p)
    else:
        assert holds_zero(p - 1e-6)
        assert not holds_zero(p + 1e-6)


def test_p_of_equal_models_and_of_what_cannot_be_told() -> None:
    assert difference(0.0, np.zeros(99)).p == 1
    assert difference(1e-14, np.full(99, -1e-14)).p == 1
    assert difference(5.0, np.full(99, 5.0)).p == 0.02
    assert math.isnan(difference(math.nan, np.full(9, math.nan)).p)


# scipy 1.17's ttest_1samp against 0.
T_TESTS = {
    (1.0, 2.0, 3.0): 0.07417990022744854,
    (0.4, -0.2, 0.1, 0.9): 0.2907949580481285,
    (2.0, 2.1): 0.015524233636626422,
}


@pytest.mark.parametrize(("values", "p"), T_TESTS.items())
def test_without_noise_of_images_p_is_that_of_the_t_test(values: tuple[float, ...], p: float) -> None:
    each = np.array(values)
    found = difference_over_seeds(each, np.repeat(each[:, None], 50, axis=1))
    assert found.p == pytest.approx(p, abs=1e-9)


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
