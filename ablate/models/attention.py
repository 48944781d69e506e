"""Multi-head attention over a grid of tokens: global or in windows, with kernels that give the same numbers."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import handle_torch_function, has_torch_function

from ablate.models.position import Grid, TableBias
from ablate.models.table_gradient import with_gradient

Kernel = Literal["naive", "fused", "fused_table"]
KERNELS: tuple[Kernel, ...] = ("naive", "fused", "fused_table")

# Added to the logits of forbidden pairs: exp() of it is exactly 0 in every precision, and no kernel makes NaN of it,
# as some do of -inf.
FORBIDDEN = -1e4

CUDNN_RIGHT = 92600  # the version that mended pytorch/pytorch issue 196678


def padded(side: int, window: int) -> int:
    """The smallest multiple of ``window`` that is at least ``side`` (64 tokens in windows of 14 -> 70)."""
    return -(-side // window) * window


def shift_of(grid: Grid, window: int) -> tuple[int, int]:
    """How far shifted windows move down and right: half a window, 0 along an axis that one window covers (Swin)."""
    return tuple(0 if side <= window else window // 2 for side in grid)  # type: ignore[return-value]


def partition(x: Tensor, window: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Tokens [B, H, W, C] -> windows [B*nW, window*window, C], zero-padded below and on the right, then rolled."""
    batch, height, width, channels = x.shape
    rows, columns = padded(height, window), padded(width, window)
    if (rows, columns) != (height, width):
        x = F.pad(x, (0, 0, 0, columns - width, 0, rows - height))
    if any(shift):
        x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
    x = x.reshape(batch, rows // window, window, columns // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def merge(windows: Tensor, window: int, grid: Grid, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Undoes ``partition``: windows [B*nW, window*window, C] -> tokens [B, H, W, C], the padding cut off."""
    rows, columns = padded(grid[0], window), padded(grid[1], window)
    x = windows.reshape(-1, rows // window, columns // window, window, window, windows.shape[-1])
    x = x.transpose(2, 3).reshape(-1, rows, columns, windows.shape[-1])
    if any(shift):
        x = x.roll(shift, dims=(1, 2))
    return x[:, : grid[0], : grid[1]]


def shift_mask(grid: Grid, window: int, shift: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The mask to add to the logits of shifted windows -> [nW, window*window, window*window], 0 or ``FORBIDDEN``.

    Rolling brings the first rows and columns next to the last ones; tokens may attend only to those that were
    their neighbours before it. Padding counts as part of the map, as it does without a shift.
    """

    def bands(side: int, moved: int) -> Tensor:
        place = torch.arange(padded(side, window), device=device)
        return (place >= len(place) - moved).long() if moved else torch.zeros_like(place)

    region = bands(grid[0], shift[0])[:, None] * 2 + bands(grid[1], shift[1])[None]  # [rows, columns]
    tokens = partition(region[None, :, :, None], window)[..., 0]  # [nW, window*window]
    apart = tokens[:, :, None] != tokens[:, None, :]
    return torch.zeros(apart.shape, device=device, dtype=dtype).masked_fill_(apart, FORBIDDEN)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | TableBias | None, kernel: Kernel) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v.

    Args:
        q: [B, heads, n, d]; k and v alike.
        k: keys.
        v: values.
        bias: [1, heads, n, n] in the dtype of q, or None; of ``fused_table`` a `TableBias`.
        kernel: ``naive`` holds the logits and the weights in memory, as the published code does; ``fused`` does not
            where the device has a kernel for it; ``fused_table`` gives that kernel a constant bias, and the table its
            gradient by another (``ablate.models.table_gradient``).

    Returns:
        [B, heads, n, d].
    """
    if isinstance(bias, TableBias):
        out = attend(q, k, v, bias.dense, "fused")
        return with_gradient(out, q, k, v, bias.columns) if bias.columns.requires_grad else out
    if kernel != "naive" and is_fused(q, bias):
        with _backends(q, bias):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    logits: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ v


def is_fused(q: Tensor, bias: Tensor | None) -> bool:
    """Whether the device of q has a fused kernel for training with this bias.

    On the CPU no fused kernel differentiates a bias: torch would fall back on slower steps than those of ``attend``.
    A `torch.overrides.TorchFunctionMode` may answer for another device.
    """
    if has_torch_function((q,)):
        return bool(handle_torch_function(is_fused, (q,), q, bias))
    return not (q.device.type == "cpu" and bias is not None and bias.requires_grad)


def _backends(q: Tensor, bias: Tensor | None) -> AbstractContextManager[object]:
    """All of torch's kernels, but not cuDNN's where its gradient of q can be NaN (with a mask, n = 64 modulo 128)."""
    endangered = bias is not None and q.is_cuda and q.shape[-2] % 128 == 64
    if not endangered:
        return nullcontext()
    # torch.compile cannot ask for the version: in its graphs cuDNN's is always left out.
    if not torch.compiler.is_compiling() and (torch.backends.cudnn.version() or 0) >= CUDNN_RIGHT:  # type: ignore[no-untyped-call]
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


class Attention(nn.Module):
    """Self-attention of a grid of tokens.

    Args:
        width: channels C.
        heads: number of heads; must divide ``width``.
        window: side of the attention windows in tokens; 0 attends globally.
        shifted: moves the windows by half their side, masking what that brings together.
        qkv_bias: whether queries, keys and values have a bias vector.
        kernel: see ``attend``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        window: int = 0,
        shifted: bool = False,
        qkv_bias: bool = True,
        kernel: Kernel = "fused",
    ) -> None:
        super().__init__()
        self.heads, self.window, self.shifted, self.kernel = heads, window, shifted, kernel
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | TableBias | None) -> Tensor:
        """Tokens [B, H, W, C] -> [B, H, W, C]; ``bias`` as for ``attend``, for shifted windows [1, nW*heads, n, n].

        Windows are zero-padded before qkv, without a mask, as in the paper; padded tokens never reach ``proj``.
        """
        batch, height, width, channels = x.shape
        grid, window = (height, width), self.window
        shift = shift_of(grid, window) if self.shifted else (0, 0)
        tokens = partition(x, window, shift) if window else x.reshape(batch, height * width, channels)
        n = tokens.shape[1]
        if any(shift):  # every window has its own mask, so the windows stand beside the heads
            split = self.qkv(tokens).reshape(batch, -1, n, 3, self.heads, channels // self.heads)
            q, k, v = split.permute(3, 0, 1, 4, 2, 5).flatten(2, 3).unbind(0)  # [B, nW*heads, n, d]
        else:
            split = self.qkv(tokens).reshape(-1, n, 3, self.heads, channels // self.heads)
            q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # [B or B*nW, heads, n, d]
        out = attend(q, k, v, bias, self.kernel)
        out = out.reshape(-1, self.heads, n, channels // self.heads).transpose(1, 2).reshape(-1, n, channels)
        return self.proj(merge(out, window, grid, shift) if window else out.reshape(x.shape))  # type: ignore[no-any-return]
