"""The spline against SciPy's numbers and what any such spline must do; the offsets against BEiT's."""

import pytest
import torch

from ablate.models.position import fit_table, learned_offsets, rel_pos_interp, spline


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_spline_gives_scipys_numbers() -> None:
    """``scipy.interpolate.CubicSpline([0, 1, 3, 4, 8], [1, -2, 0, 5, 2])([.5, 2, 3.5, 6])``, SciPy 1.16."""
    found = spline(f64(0, 1, 3, 4, 8), f64(0.5, 2, 3.5, 6)) @ f64(1, -2, 0, 5, 2)
    expected = f64(-0.8078893442622951, -2.4147540983606555, 2.2837090163934426, 13.473770491803277)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("knots", range(1, 12))
def test_spline_meets_its_knots_and_is_exact_for_cubics(knots: int) -> None:
    torch.manual_seed(knots)
    x = torch.rand(knots, dtype=torch.float64).add(0.2).cumsum(0)
    torch.testing.assert_close(spline(x, x), torch.eye(knots, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    at = torch.linspace(x[0].item(), x[-1].item(), 33, dtype=torch.float64)
    powers = torch.arange(min(knots, 4))
    torch.testing.assert_close(spline(x, at) @ x[:, None] ** powers, at[:, None] ** powers, rtol=1e-8, atol=1e-8)


def test_offsets_are_beits() -> None:
    """From windows of 14 to a grid of 64: BEiT's bisection finds q = 1.23751, which ends at 63.0003."""
    offsets = learned_offsets(14, 64)
    assert offsets[13:15] == [0, 1]
    assert offsets[15] - 1 == pytest.approx(1.23751, abs=1e-5)
    assert offsets[-1] == pytest.approx(63, abs=1e-9)
    assert offsets == [-x for x in reversed(offsets)]


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 5), (3, 4), (14, 64), (14, 15)])
def test_growth_keeps_the_centre_and_the_ends(old: int, new: int) -> None:
    values = torch.randn(2 * old - 1, dtype=torch.float64)
    grown = rel_pos_interp(old, new) @ values
    ends = [values[0], values[old - 1], values[-1]]
    torch.testing.assert_close(grown[[0, new - 1, -1]], torch.stack(ends), rtol=1e-7, atol=1e-7)
    if old > 2:  # the nearest neighbours too
        torch.testing.assert_close(grown[[new - 2, new]], values[[old - 2, old]], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(rel_pos_interp(old, new).sum(1), torch.ones(2 * new - 1, dtype=torch.float64))


def test_a_grown_table_is_the_map_of_both_axes() -> None:
    table = torch.randn(7 * 5, 2, dtype=torch.float64)
    grown = fit_table(table, (4, 3), (6, 5)).view(11, 9, 2)
    expected = torch.einsum("yj,xi,jih->yxh", rel_pos_interp(4, 6), rel_pos_interp(3, 5), table.view(7, 5, 2))
    torch.testing.assert_close(grown, expected)
    mixed = fit_table(table, (4, 3), (2, 5)).view(3, 9, 2)  # smaller in one axis, larger in the other
    torch.testing.assert_close(mixed, torch.einsum("xi,jih->jxh", rel_pos_interp(3, 5), table.view(7, 5, 2)[2:5]))
    assert fit_table(table, (4, 3), (4, 3)) is table
