"""Compiled blocks: the same numbers as uncompiled ones, from a few graphs, whatever else training does with them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ablate.models import ViT
from ablate.models.compiled import MOST_GRAPHS, check_compiler
from ablate.models.finetuning import freeze

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),  # torch looks at it itself
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # a recommendation, on a GPU
]
OPTIONS: dict[str, Any] = {"width": 16, "heads": 2, "image_size": 32, "patch_size": 4, "window_size": 3}
OPTIONS |= {"relative": "rand", "depth": 12, "global_count": 4}


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Without the graphs of other tests."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pair(backend: str, **options: Any) -> tuple[ViT, ViT, CompileCounterWithBackend]:
    """The same ViT uncompiled and compiled, and what counts the graphs of the latter.

    Backend ``eager`` runs the graphs as they were found, ``aot_eager`` also with a backward pass found in advance.
    """
    torch.manual_seed(0)
    plain, compiled = (ViT(**{**OPTIONS, **options}) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    graphs = CompileCounterWithBackend(backend)
    compiled.compile_blocks(graphs)  # type: ignore[arg-type]
    return plain, compiled, graphs


def learned(model: ViT, images: Tensor) -> dict[str, Tensor | None]:
    """Maps and gradients of one training step, with the same draws every time."""
    model.train().zero_grad()
    model.generators = [torch.Generator().manual_seed(row) for row in range(len(images))]
    maps = torch.cat(model(images))
    maps.square().sum().backward()
    return {"maps": maps.detach(), **{name: one.grad for name, one in model.named_parameters()}}


def same(one: object, other: object) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def check_blocks_share(backend: str, expected: int, **options: Any) -> None:
    plain, compiled, graphs = pair(backend, **options)
    images = torch.randn(2, 3, 32, 32)
    for _ in range(2):
        same(learned(compiled, images), learned(plain, images))
    assert graphs.frame_count == expected
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_twelve_blocks_with_drop_path_share_a_graph_for_windows_and_one_for_global_attention() -> None:
    """With each rate as a number of its own there would be eight, and the other blocks uncompiled."""
    check_blocks_share("eager", 2, drop_path=0.3)


def test_a_table_has_its_gradient_through_a_compiled_backward_pass() -> None:
    check_blocks_share("aot_eager", 1, pattern="global", kernel="fused_table", depth=2, taps="last", checkpoint=[0])


@pytest.mark.campaign
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"drop_path": 0.3, "checkpoint": "all"}, 2),
        ({"pattern": "window", "propagation": "shift", "depth": 4, "layer_scale": 0.1}, 2),
        ({"depth": 4, "global_count": 2, "tables": "per_block", "kernel": "fused_table"}, 2),
    ],
)
def test_every_kind_of_block_is_compiled(backend: str, options: dict[str, Any], expected: int) -> None:
    check_blocks_share(backend, expected, **options)


@pytest.mark.campaign
def test_frozen_blocks_and_inference_have_graphs_of_their_own() -> None:
    plain, compiled, graphs = pair("eager", depth=2, taps="last", pattern="window", drop_path=0.2)
    for model in (plain, compiled):
        freeze(model, patch_embedding=True, blocks=1, norms=False)
    images = torch.randn(2, 3, 32, 32)
    same(learned(compiled, images), learned(plain, images))
    trained = graphs.frame_count
    assert trained == 2
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = (torch.cat(model.eval()(images[:1])) for model in (compiled, plain))
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)
    assert trained < graphs.frame_count < MOST_GRAPHS


def test_images_of_another_size_run_uncompiled() -> None:
    """Every size would have a graph of its own, and a set of validation images has many."""
    plain, compiled, graphs = pair("eager", depth=4)
    with torch.no_grad():
        for width in (16, 36, 40, 64):
            images = torch.randn(1, 3, 32, width)
            assert torch.equal(torch.cat(compiled(images)), torch.cat(plain(images)))
    assert graphs.frame_count == 0


def test_what_cannot_be_compiled_is_no_silent_way_out() -> None:
    """torch's own rule past its limit of graphs is to go on uncompiled."""
    _, compiled, _ = pair("eager", depth=2, taps="last", global_count=1)
    with torch._dynamo.config.patch(recompile_limit=1), pytest.raises(Exception, match="fullgraph=True"):
        learned(compiled, torch.randn(2, 3, 32, 32))


def test_a_machine_without_a_compiler_is_told() -> None:
    def broken(*_: object) -> None:
        raise OSError("no C++ compiler\nmore")

    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
        check_compiler(torch.device("cpu"), broken)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", ["fused", "fused_table"])
def test_on_a_gpu(kernel: str) -> None:
    """In mixed precision, with windows of 64 tokens, for which one of torch's kernels is left out."""
    plain, compiled, graphs = pair("inductor", kernel=kernel, width=64, depth=4, global_count=2, window_size=8)
    images = torch.randn(2, 3, 32, 32, device="cuda")
    found = []
    for model in (plain, compiled):
        model.cuda().train()
        with torch.autocast("cuda"):
            maps = torch.cat(model(images))
        maps.float().square().sum().backward()
        found.append({"maps": maps.detach(), **{name: one.grad for name, one in model.named_parameters()}})
    for name, expected in found[0].items():
        ours = found[1][name]
        assert (ours - expected).norm() <= 0.03 * expected.norm(), name
    assert graphs.frame_count == 2
