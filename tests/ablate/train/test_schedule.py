import math

import pytest

from ablate.train.optim import lr_factor


def test_cosine_falls_from_one_to_nothing() -> None:
    factors = [lr_factor(i, iterations=100, warmup=0, schedule="cosine") for i in range(100)]
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.5)
    assert factors == sorted(factors, reverse=True)
    assert factors[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))


def test_warmup_is_linear() -> None:
    factors = [lr_factor(i, iterations=10**9, warmup=4, schedule="cosine") for i in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_steps_divide_by_ten() -> None:
    factors = [
        lr_factor(i, iterations=27, warmup=0, schedule="step", milestones=(8 / 9, 26 / 27)) for i in (0, 23, 24, 25, 26)
    ]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])
