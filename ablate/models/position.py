"""Positional information of tokens: the absolute embedding and the relative bias tables, and their resizing.

An embedding is resized bicubically. A bias table is cut for a smaller grid and for a larger one stretched as BEiT does
(arXiv 2106.08254): offsets by a geometric series, biases between them by a cubic spline.
"""

from itertools import accumulate
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def learned_offsets(old: int, new: int) -> list[float]:
    """The positions of the offsets -(old-1) ... old-1 of a grid of ``old`` tokens on a grid of ``new`` tokens.

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


def rel_pos_interp(old: int, new: int) -> Tensor:
    """The linear map f64[2*new-1, 2*old-1] from the biases of a small grid's offsets to those of a larger grid's.

    Values at ``learned_offsets`` are joined by a cubic spline, which is read at the whole offsets of the new grid.
    """
    knots, at = learned_offsets(old, new), range(1 - new, new)
    return spline(*(torch.tensor(places, dtype=torch.float64, device="cpu") for places in (knots, at)))


def spline(knots: Tensor, at: Tensor) -> Tensor:
    """The matrix [m, n] that takes values at n rising knots to those of their cubic spline at m places.

    The spline is the one called not-a-knot, SciPy's default; through fewer than 4 knots it is the one polynomial.
    """
    n = len(knots)
    if n < 4:
        powers = torch.arange(n, device=knots.device)
        return at[:, None] ** powers @ torch.linalg.inv(knots[:, None] ** powers)  # type: ignore[no-any-return]
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
    return down[:, None] * value[piece] + up[:, None] * value[piece + 1] + bend * (width**2 / 6)[:, None]  # type: ignore[no-any-return]


Treatment = Literal["pt", "rand", "zero", "none"]
TREATMENTS: tuple[Treatment, ...] = ("pt", "rand", "zero", "none")
Grid = tuple[int, int]


def position_parameter(shape: tuple[int, ...], treatment: Treatment) -> nn.Parameter:
    """A learned tensor that starts as its treatment says: zeros, or normal with std 0.02.

    ``pt`` is to be overwritten by pre-trained values; until then it is as ``rand``.
    """
    parameter = nn.Parameter(torch.zeros(shape))
    if treatment in ("pt", "rand") and not parameter.is_meta:
        # The published trunc_normal_(std=0.02) cuts at -2 and 2, a hundred deviations out: a plain normal distribution.
        nn.init.normal_(parameter, std=0.02)
    return parameter


def resize_embedding(embedding: Tensor, grid: Grid) -> Tensor:
    """Absolute embedding [1, g*g, C] of a square grid, resized bicubically -> [1, h, w, C] (paper, Appendix)."""
    side = round(embedding.shape[1] ** 0.5)
    square = embedding.reshape(1, side, side, -1)
    if grid == (side, side):
        return square
    square = square.permute(0, 3, 1, 2)
    return F.interpolate(square, size=grid, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def aligned(bias: Tensor) -> Tensor:
    """The same bias [..., n], its rows a multiple of 8 elements apart: fused kernels read it without a copy."""
    n = bias.shape[-1]
    return F.pad(bias, (0, -n % 8))[..., :n] if n % 8 else bias


def _toeplitz(x: Tensor, n: int) -> Tensor:
    """[..., 2n-1] -> [..., n, n] with ``out[q, k] = x[q - k + n - 1]``.

    Made of flip, pad, expand and slices alone, so that the backward pass is sums in a fixed order without an
    index tensor.
    """
    lead = x.shape[:-1]
    repeated = F.pad(x.flip(-1), (0, 1)).unsqueeze(-2).expand(*lead, n, 2 * n).reshape(*lead, 2 * n * n)
    return repeated[..., : n * (2 * n - 1)].reshape(*lead, n, 2 * n - 1)[..., n - 1 :]


def relative_bias(table: Tensor, grid: Grid, dtype: torch.dtype | None = None) -> Tensor:
    """BEiT's relative position bias as attention adds it to its logits.

    Args:
        table: [(2h-1)(2w-1), heads]; row (dy + h - 1)(2w - 1) + dx + w - 1 holds the bias of a query that lies
            (dy, dx) = query - key tokens away from its key.
        grid: h, w in tokens.
        dtype: of the result; the table itself stays as precise as it is, which keeps its gradient precise.

    Returns:
        [1, heads, h*w, h*w], ``aligned``.
    """
    return _dense(_columns(table, grid), grid, dtype)


def _columns(table: Tensor, grid: Grid) -> Tensor:
    """A table -> the bias [heads, 2h-1, w, w] by rows apart, column of the query and column of the key."""
    return _toeplitz(table.t().reshape(-1, 2 * grid[0] - 1, 2 * grid[1] - 1), grid[1])


def _dense(columns: Tensor, grid: Grid, dtype: torch.dtype | None) -> Tensor:
    """[heads, 2h-1, w, w] -> [1, heads, h*w, h*w], ``aligned``."""
    height, width = grid
    both = _toeplitz(columns.to(dtype or columns.dtype).permute(0, 2, 3, 1), height)  # [heads, w, w, h, h]
    return aligned(both.permute(0, 3, 1, 4, 2).reshape(1, -1, height * width, height * width))


class TableBias(NamedTuple):
    """A relative bias that attention takes as a constant, and what the gradient of its table goes through.

    Attributes:
        dense: [1, heads, h*w, h*w], ``aligned``, in the dtype of the attention, without history.
        columns: [heads, 2h-1, w, w] in the dtype of the table, with its history: the bias of a query y - (h-1) rows
            below its key at [:, y], by the column of the query and that of the key.
    """

    dense: Tensor
    columns: Tensor


def table_bias(table: Tensor, grid: Grid, dtype: torch.dtype | None = None) -> TableBias:
    """`relative_bias` as a constant, with the columns that it is made of."""
    columns = _columns(table, grid)
    return TableBias(_dense(columns.detach(), grid, dtype), columns)


def _fit_axis(offsets: Tensor, side: int) -> Tensor:
    """[heads, n, 2g-1] -> [heads, n, 2*side-1]: a smaller grid's offsets are cut out, a larger grid's interpolated."""
    have = (offsets.shape[-1] + 1) // 2
    if side <= have:
        return offsets[..., have - side : have + side - 1]
    return offsets @ rel_pos_interp(have, side).T.to(offsets)


def fit_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """The bias table of one grid, used on another.

    On a smaller grid offsets keep the bias that was learned for them (the table is cropped). On a larger one, where
    offsets occur that were never learned, it is stretched as BEiT does, near offsets little and far ones much.
    """
    if old == new:
        return table
    offsets = table.t().reshape(-1, 2 * old[0] - 1, 2 * old[1] - 1)
    offsets = _fit_axis(offsets, new[1])
    offsets = _fit_axis(offsets.transpose(1, 2), new[0]).transpose(1, 2)
    return offsets.reshape(offsets.shape[0], -1).t()


class RelativeBias(nn.Module):
    """One table of relative position biases, shared by every block that is handed its bias.

    Args:
        heads: attention heads.
        grid: h, w in tokens on which it is learned.
        treatment: how it starts.
    """

    def __init__(self, heads: int, grid: Grid, treatment: Treatment) -> None:
        super().__init__()
        self.grid = grid
        self.table = position_parameter(((2 * grid[0] - 1) * (2 * grid[1] - 1), heads), treatment)

    def forward(self, grid: Grid, dtype: torch.dtype) -> Tensor:
        """The bias [1, heads, h*w, h*w] for a grid, built once and shared by all blocks of a forward pass."""
        return relative_bias(fit_table(self.table, self.grid, grid), grid, dtype)

    def as_constant(self, grid: Grid, dtype: torch.dtype) -> TableBias:
        """The same bias for the kernel ``fused_table``, likewise shared."""
        return table_bias(fit_table(self.table, self.grid, grid), grid, dtype)
