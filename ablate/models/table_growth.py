"""How a relative bias table learned on a small grid is stretched to a larger one (BEiT, arXiv 2106.08254)."""

from itertools import accumulate

import torch
from torch import Tensor


def learned_offsets(old: int, new: int) -> list[float]:
    """Where the offsets -(old-1) ... old-1 of a grid of ``old`` tokens come to lie on one of ``new`` tokens.

    At 0, +-1, +-(1 + q), +-(1 + q + q^2), ... with the q that brings the last to new - 1: the nearest offsets, which
    matter most, stay where they were learned.
    """
    if old < 3:  # no step between a nearest and a farthest offset
        return [1.0 - new, 0.0, new - 1.0] if old == 2 else [0.0]
    low, high = 1.0, float(new)  # with q = new the last offset lies far beyond the grid
    while high - low > 1e-12 * high:
        ratio = (low + high) / 2
        low, high = (ratio, high) if sum(ratio**i for i in range(old - 1)) < new - 1 else (low, ratio)
    reach = list(accumulate(low**i for i in range(old - 1)))
    return [*(-x for x in reversed(reach)), 0.0, *reach]


def growth(old: int, new: int) -> Tensor:
    """The linear map f64[2*new-1, 2*old-1] from the biases of a small grid's offsets to those of a larger grid's.

    Values at ``learned_offsets`` are joined by a cubic spline, which is read at the whole offsets of the new grid.
    """
    at = torch.arange(1 - new, new, dtype=torch.float64, device="cpu")
    return spline(torch.tensor(learned_offsets(old, new), dtype=torch.float64, device="cpu"), at)


def spline(knots: Tensor, at: Tensor) -> Tensor:
    """The matrix [m, n] that takes values at n rising knots to those of their cubic spline at m places.

    The spline is the one called not-a-knot, SciPy's default; through fewer than 4 knots it is the one polynomial.
    """
    n = len(knots)
    if n < 4:
        powers = torch.arange(n, device=knots.device)
        polynomial: Tensor = at[:, None] ** powers @ torch.linalg.inv(knots[:, None] ** powers)
        return polynomial
    # Unknowns are the second derivatives at the knots. A row each for continuous slopes at the inner knots; the first
    # and the last row make the third derivative continuous at the second and the last but one ("not a knot").
    gap = knots.diff()
    curves, slopes = knots.new_zeros(n, n), knots.new_zeros(n, n)
    i = torch.arange(1, n - 1, device=knots.device)
    before, after = gap[:-1], gap[1:]
    curves[i, i - 1], curves[i, i], curves[i, i + 1] = before / 6, (before + after) / 3, after / 6
    slopes[i, i - 1], slopes[i, i], slopes[i, i + 1] = 1 / before, -1 / before - 1 / after, 1 / after
    curves[0, :3] = torch.stack([gap[1], -gap[0] - gap[1], gap[0]])
    curves[-1, -3:] = torch.stack([gap[-1], -gap[-2] - gap[-1], gap[-2]])
    second = torch.linalg.solve(curves, slopes)  # second derivatives as a map of the values
    piece = torch.searchsorted(knots, at, right=True).clamp(1, n - 1) - 1
    width = gap[piece]
    up, down = (at - knots[piece]) / width, (knots[piece + 1] - at) / width
    value = torch.eye(n, dtype=knots.dtype, device=knots.device)
    bend = (down**3 - down)[:, None] * second[piece] + (up**3 - up)[:, None] * second[piece + 1]
    cubic: Tensor = down[:, None] * value[piece] + up[:, None] * value[piece + 1] + bend * (width**2 / 6)[:, None]
    return cubic
