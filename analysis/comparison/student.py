"""Student's t distribution for whole degrees of freedom, in closed form."""

import math

CONFIDENCE = 0.95


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
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for step in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
