"""Attention whose relative bias is a constant of the fused kernel, and whose tables get their gradient beside it.

Most fused kernels refuse a bias that is learned, and the one that takes it writes a gradient as large as the logits of
all heads. Here they see a constant. The gradient of the table needs no such tensor: it is the sum, over all pairs of
tokens with the same offset, of what `columns_gradient` recomputes tile by tile.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor


def with_gradient(out: Tensor, q: Tensor, k: Tensor, v: Tensor, columns: Tensor) -> Tensor:
    """The output of attention with a constant bias, whose backward pass reaches the columns of that bias too.

    Args:
        out: [B, heads, h*w, d], of q, k, v and the dense form of the bias.
        q: [B, heads, h*w, d]; k and v alike.
        k: keys.
        v: values.
        columns: [heads, 2h-1, w, w], of the same `position.TableBias`.
    """
    return _WithGradient.apply(out, columns, q.detach(), k.detach(), v.detach())  # type: ignore[no-any-return]


class _WithGradient(torch.autograd.Function):
    """Hands the output on as it is; q, k and v have their gradients from the kernel that made it."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, columns: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(out, columns, q, k, v)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        out, columns, q, k, v = ctx.saved_tensors
        of_columns = columns_gradient(q, k, v, out, gradient, columns) if ctx.needs_input_grad[1] else None
        return gradient, of_columns, None, None, None


@torch.library.custom_op("detablate::columns_gradient", mutates_args=())  # one node of a compiled graph
def columns_gradient(q: Tensor, k: Tensor, v: Tensor, out: Tensor, gradient: Tensor, columns: Tensor) -> Tensor:
    """The gradient of the columns of a `position.TableBias`: on a GPU by Triton, where it is installed.

    With weights p of the attention and delta, the sum of out * gradient over d, the gradient of a logit is
    p * (gradient v^T - delta); here it is summed over images and pairs of rows.

    Args:
        q: [B, heads, h*w, d]; k, v, the output of the attention and its gradient alike.
        k: keys.
        v: values.
        out: of the attention.
        gradient: of the output.
        columns: [heads, 2h-1, w, w].

    Returns:
        [heads, 2h-1, w, w] in the dtype of ``columns``; equal inputs give equal bits.
    """
    if q.is_cuda and q.dtype != torch.float64 and q.numel() < 2**31 and _has_triton():  # it counts in 32 bits
        from ablate.models.table_gradient_triton import by_tiles

        return by_tiles(q, k, v, out, gradient, columns)
    return by_rows(q, k, v, out, gradient, columns)


@columns_gradient.register_fake
def _(_q: Tensor, _k: Tensor, _v: Tensor, _out: Tensor, _gradient: Tensor, columns: Tensor) -> Tensor:
    return torch.empty_like(columns, memory_format=torch.contiguous_format)


def by_rows(q: Tensor, k: Tensor, v: Tensor, out: Tensor, gradient: Tensor, columns: Tensor) -> Tensor:
    """`columns_gradient` in PyTorch, a row of queries at a time: no more than [B, heads, w, h*w] logits are kept."""
    height, width = (columns.shape[1] + 1) // 2, columns.shape[2]
    heads, wide = columns.shape[0], torch.promote_types(q.dtype, torch.float32)
    bias = columns.to(q.dtype).to(wide)  # as the attention added it
    found = bias.new_zeros(bias.shape)
    with torch.autocast(q.device.type, enabled=False):
        q, k, v, out, gradient = (one.to(wide) for one in (q, k, v, out, gradient))
        q, delta = q * q.shape[-1] ** -0.5, (out * gradient).sum(dim=-1, keepdim=True)
        for row in range(height):
            queries = slice(row * width, (row + 1) * width)
            offsets = slice(row, row + height)  # of the last row of keys to the first
            added = bias[:, offsets].flip(1).transpose(1, 2).reshape(heads, width, height * width)
            weights = (q[:, :, queries] @ k.transpose(-1, -2) + added).softmax(dim=-1)
            of_logits = weights * (gradient[:, :, queries] @ v.transpose(-1, -2) - delta[:, :, queries])
            summed = of_logits.sum(dim=0).reshape(heads, width, height, width)
            found[:, offsets] += summed.transpose(1, 2).flip(1)
    return found.to(columns.dtype)


@cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True
