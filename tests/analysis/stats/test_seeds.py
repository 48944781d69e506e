"""Intervals against a printed table of Student's t."""

import math

import pytest

from analysis.stats.intervals import estimate, t_quantile

# Two-sided 95 %, NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2 (upper 0.025).
PRINTED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228}
PRINTED |= {15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, 100: 1.984}


@pytest.mark.parametrize(("freedom", "printed"), PRINTED.items())
def test_quantiles_are_the_printed_ones(freedom: int, printed: float) -> None:
    assert t_quantile(freedom) == pytest.approx(printed, abs=5.1e-4)


def test_the_closed_forms_of_one_and_two_degrees_of_freedom() -> None:
    assert t_quantile(1) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)
    assert t_quantile(2) == pytest.approx(0.95 / math.sqrt(2 * 0.975 * 0.025), rel=1e-12)


def test_no_values_one_value_equal_values() -> None:
    assert estimate([]) is None
    one = estimate([3.0])
    assert one is not None
    assert (one.mean, one.half, one.n) == (3.0, None, 1)
    same = estimate([2.0] * 4)
    assert same is not None
    assert (same.mean, same.half, same.each) == (2.0, 0.0, (2.0,) * 4)
