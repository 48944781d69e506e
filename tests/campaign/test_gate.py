"""The gate is right often enough: a few hundred pairs of simulated models (about five minutes on two cores)."""

import pytest

from benchmarks.gate import simulate


@pytest.mark.proof
def test_equal_models_pass_and_a_drop_of_two_half_widths_more_than_allowed_fails() -> None:
    rates = simulate(trials=300, images=300, resamples=1000)
    assert rates.drop > 2 * rates.half
    assert rates.equal_passed >= 0.95, rates
    assert rates.worse_failed >= 0.95, rates
