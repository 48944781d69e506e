"""The kernel ``fused_table``: outputs and gradients, those of the tables too, against autograd of the plain formula."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ablate.models import ViT
from ablate.models.attention import attend
from ablate.models.position import Grid, relative_bias, table_bias
from ablate.models.table_gradient import by_rows, columns_gradient

EXACT = {"rtol": 1e-10, "atol": 1e-12}
ROOT = Path(__file__).parents[3]


def drawn(grid: Grid, batch: int, heads: int, size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v as attention splits them, the table, and a gradient of the output."""
    torch.manual_seed(0)
    (h, w), n = grid, grid[0] * grid[1]
    q, k, v, wanted = torch.randn(4, batch, n, heads, size, dtype=dtype).transpose(2, 3).unbind(0)
    table = torch.randn((2 * h - 1) * (2 * w - 1), heads, dtype=dtype)
    return [q, k, v, table, wanted]


def with_gradients(found: list[Tensor], grid: Grid, kernel: str) -> list[Tensor]:
    """The output, and the gradients of q, k, v and the table."""
    *learned, wanted = found
    q, k, v, table = (one.detach().requires_grad_() for one in learned)
    bias = table_bias(table, grid, q.dtype) if kernel == "fused_table" else relative_bias(table, grid, q.dtype)
    out = attend(q, k, v, bias, kernel)  # type: ignore[arg-type]
    return [out.detach(), *torch.autograd.grad(out, [q, k, v, table], wanted)]


@pytest.mark.parametrize(("grid", "batch"), [((14, 14), 1), ((4, 9), 3), ((5, 3), 1), ((1, 6), 2), ((1, 1), 2)])
def test_outputs_and_gradients_are_those_of_the_plain_formula(grid: Grid, batch: int) -> None:
    found = drawn(grid, batch, heads=2, size=8)
    expected = with_gradients(found, grid, "naive")
    for ours, theirs in zip(with_gradients(found, grid, "fused_table"), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)
    single = [one.float() for one in found]
    for ours, theirs in zip(with_gradients(single, grid, "fused_table"), expected, strict=True):
        assert (ours.double() - theirs).norm() < 2e-6 * max(theirs.norm(), 1)


def test_equal_inputs_give_equal_bits() -> None:
    found = [one.float() for one in drawn((5, 7), 3, heads=2, size=8)]
    first, second = (with_gradients(found, (5, 7), "fused_table") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


class Largest(TorchDispatchMode):
    """The most elements of any tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, lambda one: setattr(self, "elements", max(self.elements, one.numel())), result)
        return result


def test_no_tensor_has_the_logits_of_all_queries() -> None:
    grid, batch, heads = (12, 5), 2, 3
    q, k, v, table, wanted = drawn(grid, batch, heads, size=4)
    columns = table_bias(table, grid).columns
    with Largest() as largest:
        by_rows(q, k, v, torch.zeros_like(q), wanted, columns)
    logits_of_a_row = batch * heads * 5 * 60
    assert logits_of_a_row <= largest.elements < 60 * 60 * heads


def test_the_operator_is_what_it_says_to_compilers_and_fake_tensors() -> None:
    q, k, v, table, wanted = drawn((3, 4), 2, heads=2, size=4, dtype=torch.float32)
    inputs = (q, k, v, torch.zeros_like(q), wanted, table_bias(table, (3, 4)).columns)
    torch.library.opcheck(columns_gradient, inputs, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    "settings",
    [
        {"pattern": "hybrid", "tables": "shared"},
        {"pattern": "global", "tables": "per_block", "checkpoint": "all"},
        {"pattern": "hybrid", "relative": "none", "checkpoint": [0]},
    ],
)
def test_a_vit_learns_the_same(settings: dict[str, object]) -> None:
    """Of images that are not square, so that tables are fitted to their grid."""
    torch.manual_seed(0)
    options = {"width": 16, "depth": 4, "heads": 2, "image_size": 32, "patch_size": 4, "window_size": 3}
    options |= {"relative": "rand", "global_count": 2, **settings}
    plain, apart = (ViT(**options, kernel=kernel).double() for kernel in ("naive", "fused_table"))  # type: ignore[arg-type]
    apart.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 40, dtype=torch.float64)
    results = []
    for model in (plain, apart):
        maps = model(images)
        torch.stack([one.square().sum() for one in maps]).sum().backward()
        results.append({"maps": torch.cat(maps), **{name: one.grad for name, one in model.named_parameters()}})
    torch.testing.assert_close(*results, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(apart(images)), results[0]["maps"], **EXACT)


def test_mixed_precision_rounds_the_bias_once() -> None:
    """The recomputed weights are those of the rounded bias that attention added."""
    found = drawn((6, 6), 2, heads=2, size=16, dtype=torch.float32)
    expected = with_gradients(found, (6, 6), "naive")
    lower = [*(one.bfloat16() for one in found[:3]), found[3], found[4].bfloat16()]
    with torch.autocast("cpu", torch.bfloat16):
        ours = with_gradients(lower, (6, 6), "fused_table")
    assert ours[4].dtype == torch.float32
    assert (ours[4] - expected[4]).norm() < 0.01 * expected[4].norm()


SHIFTED = {"propagation": "shift", "kernel": "fused_table"}


def test_shifted_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="fused_table takes no mask, which shifted windows need"):
        ViT(width=16, depth=4, heads=2, image_size=64, pattern="window", window_size=2, **SHIFTED)  # type: ignore[arg-type]


# In a process of its own: Triton decides once, when it is imported, whether it interprets.
INTERPRETED = """
import sys
import torch
from ablate.models.attention import attend
from ablate.models.position import table_bias
from ablate.models.table_gradient import by_rows
from ablate.models.table_gradient_triton import by_tiles
from tests.ablate.models.test_table_gradient import drawn, with_gradients

def relative(one, other):
    return ((one.double() - other.double()).norm() / other.double().norm()).item()

for grid, batch, heads, size in (((14, 14), 1, 1, 16), ((2, 20), 2, 1, 24)):
    found = drawn(grid, batch, heads, size)
    out, *_, expected = with_gradients(found, grid, "naive")
    q, k, v, table, wanted = found
    table.requires_grad_()
    columns = table_bias(table, grid).columns
    single = [one.float() for one in (q, k, v, out, wanted, columns.detach())]
    (of_table,) = torch.autograd.grad(columns, table, by_tiles(*single).double())
    assert relative(of_table, expected) < 1e-6, relative(of_table, expected)
q, k, v, table, wanted = drawn((2, 3), 2, 2, 5)
half = [one.half() for one in (q, k, v, attend(q, k, v, None, "naive"), wanted)]
columns = table_bias(table, (2, 3)).columns.float()
assert relative(by_tiles(*half, columns), by_rows(*half, columns)) < 1e-5
print("equal")
"""


def test_the_kernels_of_a_gpu_give_the_same_gradient_where_they_are_interpreted() -> None:
    pytest.importorskip("triton", minversion="3.9")  # that of 3.6 fails with NumPy 2.4
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "equal", ended.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("half", "tile"), [("bf16", 64), ("bf16", 16), ("fp32", 32)])
def test_they_are_compiled_for_gpus_that_are_not_here(capability: int, half: str, tile: int) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ablate.models import table_gradient_triton as kernels

    constants = {"tile": tile, "depth": 64, "precision": "ieee"}
    kinds = {**dict.fromkeys(constants, "constexpr"), "scale": "fp32"}
    kinds |= dict.fromkeys(("q_at", "k_at", "v_at", "gradient_at"), f"*{half}")
    for kernel in (kernels._normalisers, kernels._sums):
        signature = {name: kinds.get(name, "*fp32" if name.endswith("_at") else "i32") for name in kernel.arg_names}
        options = {"num_warps": 8 if tile == 64 else 4, "num_stages": 2, "enable_fp_fusion": True}
        source = ASTSource(kernel, signature, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert made.metadata.shared < 99 * 1024, "the least of what GPUs of these kinds have"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("grid", "batch"), [((14, 14), 50), ((64, 64), 1), ((9, 37), 2)])
def test_on_a_gpu(dtype: torch.dtype, grid: Grid, batch: int) -> None:
    if dtype is torch.bfloat16 and not torch.cuda.is_bf16_supported():
        pytest.skip("needs bf16")
    found = drawn(grid, batch, heads=2, size=64)
    expected = with_gradients([one.cuda() for one in found], grid, "naive")
    lower = [one.cuda().to(dtype) for one in found]
    lower[3] = found[3].cuda().float()
    ours, again = (with_gradients(lower, grid, "fused_table") for _ in range(2))
    for one, true in zip(ours, expected, strict=True):
        assert (one.double() - true).norm() < (1e-5 if dtype is torch.float32 else 2e-2) * true.norm()
    assert torch.equal(ours[4], again[4])
