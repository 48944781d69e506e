"""The gradient of a relative bias table on a GPU, in Triton. The only file here that imports Triton.

A tile has the queries of one row of the grid against the keys of one row. Pairs of rows with the same distance add to
the same columns, so one program sums over them in its registers: nothing is added atomically.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PROGRAMS = 1024  # at least, where there are images enough: several for every multiprocessor


@triton.jit  # type: ignore[untyped-decorator]
def _normalisers(  # type: ignore[no-untyped-def]
    q_at, k_at, columns_at, out_at, scale, heads, height, width, size,
    tile: tl.constexpr, depth: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The logarithm of the sum of exp(logits) of every query: a program has a tile of them, from one row."""
    blocks = tl.cdiv(width, tile)
    row, x1 = tl.program_id(1) // blocks, tl.program_id(1) % blocks * tile
    first = tl.program_id(0) * height * width  # token of this image and head
    columns_at += tl.program_id(0) % heads * (2 * height - 1) * width * width
    x, d = tl.arange(0, tile), tl.arange(0, depth)
    left = x1 + x
    q_there = (left[:, None] < width) & (d[None, :] < size)
    q = tl.load(q_at + (first + row * width + left)[:, None] * size + d[None, :], q_there, 0.0)
    most = tl.full([tile], float("-inf"), dtype=tl.float32)
    total = tl.zeros([tile], dtype=tl.float32)
    for x2 in range(0, width, tile):
        right = x2 + x
        there = (left[:, None] < width) & (right[None, :] < width)
        k_there = (right[:, None] < width) & (d[None, :] < size)
        k_offsets = (first + right)[:, None] * size + d[None, :]
        added_at = columns_at + left[:, None] * width + right[None, :]
        for other in range(height):
            k = tl.load(k_at + k_offsets + other * width * size, k_there, 0.0)
            added = tl.load(added_at + (row - other + height - 1) * width * width, there, 0.0)
            logits = tl.dot(q, tl.trans(k), input_precision=precision) * scale + added.to(q.dtype).to(tl.float32)
            logits = tl.where(right[None, :] < width, logits, float("-inf"))
            higher = tl.maximum(most, tl.max(logits, axis=1))
            total = total * tl.exp(most - higher) + tl.sum(tl.exp(logits - higher[:, None]), axis=1)
            most = higher
    tl.store(out_at + first + row * width + left, most + tl.log(total), left < width)


@triton.jit  # type: ignore[untyped-decorator]
def _sums(  # type: ignore[no-untyped-def]
    q_at, k_at, v_at, gradient_at, normaliser_at, delta_at, columns_at, out_at,
    scale, batch, heads, height, width, size,
    tile: tl.constexpr, depth: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of the columns, of one head and one distance of rows, over every so many-th image."""
    blocks = tl.cdiv(width, tile)
    distance, place = tl.program_id(0) // (blocks * blocks), tl.program_id(0) % (blocks * blocks)
    head, part, parts = tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    rows_apart = distance - (height - 1)
    x, d = tl.arange(0, tile), tl.arange(0, depth)
    left, right = place // blocks * tile + x, place % blocks * tile + x
    there = (left[:, None] < width) & (right[None, :] < width)
    q_there = (left[:, None] < width) & (d[None, :] < size)
    k_there = (right[:, None] < width) & (d[None, :] < size)
    q_offsets = left[:, None] * size + d[None, :]
    k_offsets = (right - rows_apart * width)[:, None] * size + d[None, :]
    tile_offsets = ((head * (2 * height - 1) + distance) * width + left[:, None]) * width + right[None, :]
    added = tl.load(columns_at + tile_offsets, there, 0.0)
    added = added.to(q_at.dtype.element_ty).to(tl.float32)  # as the attention added it
    found = tl.zeros([tile, tile], dtype=tl.float32)
    for image in range(part, batch, parts):
        for row in range(tl.maximum(rows_apart, 0), tl.minimum(height + rows_apart, height)):
            token = ((image * heads + head) * height + row) * width
            q = tl.load(q_at + q_offsets + token * size, q_there, 0.0)
            gradient = tl.load(gradient_at + q_offsets + token * size, q_there, 0.0)
            k = tl.load(k_at + k_offsets + token * size, k_there, 0.0)
            v = tl.load(v_at + k_offsets + token * size, k_there, 0.0)
            normaliser = tl.load(normaliser_at + token + left, left < width, 0.0)
            delta = tl.load(delta_at + token + left, left < width, 0.0)
            logits = tl.dot(q, tl.trans(k), input_precision=precision) * scale + added
            of_weights = tl.dot(gradient, tl.trans(v), input_precision=precision)
            found += tl.exp(logits - normaliser[:, None]) * (of_weights - delta[:, None])
    tl.store(out_at + part * heads * (2 * height - 1) * width * width + tile_offsets, found, there)


def by_tiles(q: Tensor, k: Tensor, v: Tensor, out: Tensor, gradient: Tensor, columns: Tensor) -> Tensor:
    """`columns_gradient` of ``ablate.models.table_gradient``, in fp32 whatever the dtype of q."""
    (batch, heads, _, size), height, width = q.shape, (columns.shape[1] + 1) // 2, columns.shape[2]
    delta = (out.float() * gradient.float()).sum(dim=-1).contiguous()
    q, k, v, gradient, columns = (one.contiguous() for one in (q, k, v, gradient.to(q.dtype), columns))
    largest = 64 if q.element_size() == 2 else 32  # of those whose sums stay in registers
    tile = min(largest, max(16, triton.next_power_of_2(width)))
    options = {
        "tile": tile,
        "depth": max(16, triton.next_power_of_2(size)),
        "precision": "ieee",  # of fp32; the others have one alone
        "num_warps": 8 if tile == 64 else 4,
        "num_stages": 2,
        "enable_fp_fusion": True,  # whatever the version's default
    }
    blocks = triton.cdiv(width, tile)
    normaliser = torch.empty_like(delta)
    shape = (heads, height, width, size)
    _normalisers[batch * heads, height * blocks](q, k, columns, normaliser, size**-0.5, *shape, **options)
    tiles = (2 * height - 1) * blocks * blocks
    parts = min(batch, triton.cdiv(PROGRAMS, tiles * heads))
    sums = torch.empty((parts, *columns.shape), dtype=torch.float32, device=q.device)
    _sums[tiles, heads, parts](
        q, k, v, gradient, normaliser, delta, columns, sums, size**-0.5, batch, *shape, **options
    )
    return sums.sum(dim=0).to(columns.dtype)
