"""Attention against literal loops, torchvision's shifted windows, and itself in other forms."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.swin_transformer import shifted_window_attention

from ablate.models.attention import FORBIDDEN, Attention, attend, merge, partition, shift_mask, shift_of
from ablate.models.position import aligned, relative_bias

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
grids = st.tuples(st.integers(1, 9), st.integers(1, 9))


def literal(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of one query at a time; q, k, v [n, d], bias [n, n]."""
    rows = []
    for i in range(len(q)):
        logits = torch.stack([(q[i] * k[j]).sum() / q.shape[1] ** 0.5 for j in range(len(k))])
        if bias is not None:
            logits = logits + bias[i]
        weights = torch.exp(logits - logits.max())
        rows.append((weights[:, None] * v).sum(0) / weights.sum())
    return torch.stack(rows)


def literal_windows(layer: Attention, x: Tensor, bias: Tensor | None) -> Tensor:
    """Window by window, its zero padding written out, for x [B, H, W, C] and bias [heads, n, n]."""
    batch, height, width, channels = x.shape
    side, size = layer.window, channels // layer.heads
    out = torch.empty_like(x)
    for image in range(batch):
        for top in range(0, height, side):
            for left in range(0, width, side):
                window = x.new_zeros(side, side, channels)
                part = x[image, top : top + side, left : left + side]
                window[: part.shape[0], : part.shape[1]] = part
                q, k, v = layer.qkv(window.reshape(side * side, channels)).split(channels, dim=1)
                heads = [
                    literal(*(t[:, h * size : (h + 1) * size] for t in (q, k, v)), None if bias is None else bias[h])
                    for h in range(layer.heads)
                ]
                done = layer.proj(torch.cat(heads, dim=1)).view(side, side, channels)
                out[image, top : top + side, left : left + side] = done[: part.shape[0], : part.shape[1]]
    return out


@settings(max_examples=40, deadline=None)
@given(grid=grids, window=st.integers(1, 5), shifted=st.booleans())
def test_partition_is_undone_by_merge(grid: tuple[int, int], window: int, shifted: bool) -> None:
    x = torch.randn(2, *grid, 3)
    shift = shift_of(grid, window) if shifted else (0, 0)
    windows = partition(x, window, shift)
    assert windows.shape[1:] == (window**2, 3)
    assert torch.equal(merge(windows, window, grid, shift), x)
    torch.testing.assert_close(windows.sum(), x.sum())  # the rest is zeros


@pytest.mark.parametrize("kernel", ["naive", "fused"])
@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (2, 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_windows_equal_a_literal_loop_over_padded_windows(kernel, grid, with_bias) -> None:
    layer = Attention(8, 2, window=3, kernel=kernel).double()
    bias = torch.randn(1, 2, 9, 9, dtype=torch.float64) if with_bias else None
    x = torch.randn(2, *grid, 8, dtype=torch.float64)
    expected = literal_windows(layer, x, None if bias is None else bias[0])
    torch.testing.assert_close(layer(x, bias), expected, **CLOSE)


@pytest.mark.parametrize("kernel", ["naive", "fused"])
def test_a_window_sees_nothing_outside_itself(kernel: str) -> None:
    layer = Attention(8, 2, window=3, kernel=kernel)
    x = torch.randn(1, 5, 7, 8)
    before = layer(x, None)
    x[:, :3, :3] += 1
    changed = (layer(x, None) != before).any(-1)[0]
    assert changed[:3, :3].all()
    assert changed.sum() == 9


@pytest.mark.parametrize("kernel", ["naive", "fused"])
def test_one_window_over_the_whole_grid_is_global_attention(kernel: str) -> None:
    everywhere = Attention(12, 3, kernel=kernel)
    windowed = Attention(12, 3, window=5, shifted=True, kernel=kernel)
    windowed.load_state_dict(everywhere.state_dict())
    x, bias = torch.randn(2, 5, 5, 12), torch.randn(1, 3, 25, 25)
    torch.testing.assert_close(windowed(x, bias), everywhere(x, bias))


@pytest.mark.parametrize(("grid", "window"), [((8, 8), 4), ((7, 9), 4), ((6, 4), 4), ((3, 9), 3), ((5, 5), 2)])
@pytest.mark.parametrize("kernel", ["naive", "fused"])
def test_shifted_windows_equal_torchvisions(grid: tuple[int, int], window: int, kernel: str) -> None:
    layer = Attention(8, 2, window=window, shifted=True, kernel=kernel)
    x = torch.randn(2, *grid, 8)
    bias = torch.randn(1, 2, window**2, window**2)
    expected = shifted_window_attention(
        x,
        layer.qkv.weight,
        layer.proj.weight,
        bias,
        [window, window],
        2,
        [window // 2, window // 2],
        qkv_bias=layer.qkv.bias,
        proj_bias=layer.proj.bias,
        training=False,
    )
    torch.testing.assert_close(layer(x, with_shift_mask(bias, grid, window, 2)), expected, rtol=1e-4, atol=1e-5)


def with_shift_mask(bias: Tensor, grid: tuple[int, int], window: int, heads: int) -> Tensor:
    shift = shift_of(grid, window)
    if not any(shift):
        return bias
    mask = shift_mask(grid, window, shift, torch.device("cpu"), bias.dtype)
    return (mask[:, None] + bias.expand(-1, heads, -1, -1)).flatten(0, 1)[None]


@settings(max_examples=25, deadline=None)
@given(grid=st.tuples(st.integers(1, 7), st.integers(1, 7)), window=st.integers(2, 4))
def test_shifted_windows_equal_masked_global_attention(grid: tuple[int, int], window: int) -> None:
    """One big attention over the padded map, in which each token may see those of its own shifted window alone."""
    layer = Attention(4, 1, window=window, shifted=True, kernel="naive").double()
    x = torch.randn(1, *grid, 4, dtype=torch.float64)
    shift = shift_of(grid, window)
    rows, columns = (-(-side // window) * window for side in grid)
    whole = F.pad(x, (0, 0, 0, columns - grid[1], 0, rows - grid[0]))
    # A border lies before every place that is `shift` past a multiple of the window; the first bands are cut short.
    row_band = (torch.arange(rows) + window - shift[0]) // window
    column_band = (torch.arange(columns) + window - shift[1]) // window
    band = (row_band[:, None] * 1000 + column_band[None]).flatten()
    mask = torch.where(band[:, None] == band[None], 0.0, -torch.inf).double()
    q, k, v = layer.qkv(whole.view(rows * columns, 4)).split(4, dim=1)
    expected = layer.proj(literal(q, k, v, mask)).view(1, rows, columns, 4)[:, : grid[0], : grid[1]]
    zero = torch.zeros(1, 1, window**2, window**2, dtype=torch.float64)
    torch.testing.assert_close(layer(x, with_shift_mask(zero, grid, window, 1)), expected, **CLOSE)


@pytest.mark.parametrize("n", [16, 49, 50])
@pytest.mark.parametrize("learnable", [True, False])
def test_fused_equals_naive_with_a_bias(n: int, learnable: bool) -> None:
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(1, 3, n, n, dtype=torch.float64, requires_grad=learnable)
    inputs = (q, k, v, bias) if learnable else (q, k, v)
    weight = torch.randn(2, 3, n, 8, dtype=torch.float64)
    kernels = {
        "naive": lambda: attend(q, k, v, bias, "naive"),
        "fused": lambda: attend(q, k, v, bias, "fused"),
        "torch": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias),
    }
    results = {}
    for name, run in kernels.items():
        out = run()
        results[name] = (out, *torch.autograd.grad((out * weight).sum(), inputs))
    for name in ("fused", "torch"):
        torch.testing.assert_close(results[name], results["naive"], **CLOSE)


def test_forbidden_pairs_get_no_weight_and_no_gradient_in_any_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        bias = torch.zeros(1, 1, 4, 4, dtype=dtype)
        bias[..., 2:] = FORBIDDEN
        q, k, v = (torch.randn(1, 1, 4, 8).mul(10).to(dtype).requires_grad_() for _ in range(3))
        for kernel in ("naive", "fused"):
            out = attend(q, k, v, bias, kernel)
            grads = torch.autograd.grad(out.float().sum(), (k, v))
            assert out.isfinite().all()
            assert not any(grad[:, :, 2:].any() for grad in grads)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("side", [8, 14, 56, 64])
def test_the_gpu_has_a_fused_kernel_for_a_learnable_bias(side: int) -> None:
    """Without the math backend, which would be a silent and slow way out; 8 and 56 are 64 modulo 128 tokens."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (
        torch.randn(2, 4, side**2, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    table = torch.randn((2 * side - 1) ** 2, 4, device="cuda", requires_grad=True)
    results = []
    for kernel in ("naive", "fused"):
        bias = relative_bias(table, (side, side), torch.bfloat16)
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]):
            out = attend(q, k, v, bias, kernel)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), (q, k, v, table))))
    for naive, fused in zip(*results, strict=True):
        assert (naive.float() - fused.float()).norm() < 0.03 * naive.float().norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("grid", "window"), [((64, 64), 0), ((64, 64), 14), ((20, 33), 7)])
def test_the_gpu_attends_as_the_cpu_does(grid: tuple[int, int], window: int) -> None:
    """In fp32, forward and backward, without a bias and with one that is learned."""
    layer = Attention(128, 2, window=window)
    n = window**2 if window else grid[0] * grid[1]
    x, weight = torch.randn(1, *grid, 128), torch.randn(1, *grid, 128)
    for bias in (None, torch.randn(1, 2, n, n)):
        results = []
        for device in ("cpu", "cuda"):
            layer.to(device).zero_grad()
            tokens = x.to(device).requires_grad_()
            added = None if bias is None else aligned(bias.to(device)).detach().requires_grad_()
            out = layer(tokens, added)
            (out * weight.to(device)).sum().backward()
            found = [out, tokens.grad, layer.qkv.weight.grad, *(() if added is None else (added.grad,))]
            results.append([t.detach().cpu().clone() for t in found])
        for cpu, gpu in zip(*results, strict=True):
            assert (cpu - gpu).norm() < 1e-3 * cpu.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fused_global_attention_needs_a_fraction_of_the_memory() -> None:
    peaks = {}
    for kernel in ("naive", "fused"):
        layer = Attention(128, 2, kernel=kernel).cuda()
        x = torch.randn(1, 64, 64, 128, device="cuda", requires_grad=True)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.autocast("cuda", torch.bfloat16):
            layer(x, None).float().sum().backward()
        peaks[kernel] = torch.cuda.max_memory_allocated() - before
    assert peaks["naive"] > 2 * 4096**2 * 2  # logits of two heads
    assert peaks["fused"] < peaks["naive"] / 3
