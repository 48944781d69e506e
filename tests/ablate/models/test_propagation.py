"""The convolution blocks, written out step by step."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.models.vit import ConvPropagation

KINDS = {"conv_naive": [3], "conv_basic": [3, 3], "conv_bottleneck": [1, 3, 1]}


def literal(block: ConvPropagation, x: Tensor) -> Tensor:
    """Convolution and norm, with GELU between them but not at the end, on x [B, C, H, W]."""
    out = x
    for step, (conv, norm) in enumerate(zip(block.convs, block.norms, strict=True)):
        out = F.conv2d(F.gelu(out) if step else out, conv.weight, padding=conv.weight.shape[-1] // 2)
        mean, variance = out.mean(1, keepdim=True), out.var(1, keepdim=True, correction=0)
        out = (out - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    return x + out


@pytest.mark.parametrize(("kind", "kernels"), KINDS.items())
def test_each_kind_is_its_convolutions_written_out(kind: str, kernels: list[int]) -> None:
    torch.manual_seed(0)
    block = ConvPropagation(8, kind).double()
    assert [conv.kernel_size[0] for conv in block.convs] == kernels
    for norm in block.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(
        block(x), literal(block, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), rtol=1e-9, atol=1e-9
    )


def test_four_bottlenecks_are_vitdets_four_percent_of_vit_l() -> None:
    """ViTDet, Table 4: 331 M parameters x 1.04."""
    with torch.device("meta"):
        added = 4 * sum(p.numel() for p in ConvPropagation(1024, "conv_bottleneck").parameters())
    assert round(1 + added / 331e6, 2) == 1.04
