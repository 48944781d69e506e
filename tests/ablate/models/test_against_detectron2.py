"""The backbone and the simple pyramid against detectron2's own, with equal settings and copied weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate.models import ViT
from ablate.models.pyramid import SimplePyramid
from tests.ablate.models.detectron2_peer import detectron2_pyramid, detectron2_vit, quietly, their_name

with quietly():
    pytest.importorskip("detectron2", reason="needs detectron2 in this environment", exc_type=ImportError)

pytestmark = pytest.mark.detectron2

# Sums in another order: 2e-6 was measured on values up to 11 with the fused kernel, no bit with the naive one.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SIDE = 160  # 10 x 10 tokens: windows of 4 are padded to 12
PATTERNS: dict[str, dict[str, Any]] = {
    "window": {"pattern": "window"},
    "hybrid": {"pattern": "hybrid", "global_count": 2},
    "global": {"pattern": "global"},
    "conv_bottleneck": {"pattern": "window", "propagation": "conv_bottleneck", "global_count": 2},
}


def ours(**settings: Any) -> ViT:
    """Every parameter is drawn, so that no branch is silent and no bias is 0."""
    torch.manual_seed(0)
    model = ViT(
        **{
            "width": 48,
            "depth": 4,
            "heads": 3,
            "image_size": SIDE,
            "window_size": 4,
            "relative": "none",
            "absolute_grid": 7,
            "taps": "last",
            **settings,
        }
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def differentiated(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The map of images and the gradients by name."""
    found = model(images)
    x = found[0] if isinstance(found, list) else found["last_feat"]
    (x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum().backward()
    return x.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kernel", ["naive", "fused"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_maps_equal_detectron2s_vit(pattern: str, kernel: str) -> None:
    model = ours(kernel=kernel, **PATTERNS[pattern])
    images = torch.randn(2, 3, SIDE, SIDE)
    expected = detectron2_vit(model, image_size=SIDE)
    with torch.no_grad():  # here the fused kernel of the CPU runs
        torch.testing.assert_close(model(images)[0], expected(images)["last_feat"], **CLOSE)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_equal_detectron2s_vit(pattern: str) -> None:
    model = ours(**PATTERNS[pattern]).double()
    theirs = detectron2_vit(model, image_size=SIDE).double()
    images = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    (x, found), (y, expected) = differentiated(model, images), differentiated(theirs, images)
    torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
    assert len(found) == len(expected) == len(list(model.parameters()))
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient, expected[their_name(name)], rtol=1e-8, atol=1e-8 * float(gradient.abs().max())
        )


@pytest.mark.parametrize("settings", [{"qkv_bias": False}, {"absolute": "none"}, {"absolute_grid": 10}])
def test_other_settings_equal_detectron2s_vit(settings: dict[str, Any]) -> None:
    model = ours(pattern="hybrid", global_count=2, **settings)
    images = torch.randn(1, 3, SIDE, 96)  # another shape than in training
    with torch.no_grad():
        expected = detectron2_vit(model, image_size=SIDE)(images)["last_feat"]
        torch.testing.assert_close(model(images)[0], expected, **CLOSE)


def test_parameters_are_as_many_as_detectron2s() -> None:
    model = ours(pattern="window", propagation="conv_bottleneck", global_count=2)
    theirs = detectron2_vit(model, image_size=SIDE)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_the_simple_pyramid_equals_detectron2s() -> None:
    backbone, pyramid = ours(pattern="hybrid", global_count=2), SimplePyramid(48, channels=32)
    for parameter in pyramid.parameters():
        nn.init.normal_(parameter, std=0.1)
    theirs = detectron2_pyramid(pyramid, detectron2_vit(backbone, image_size=SIDE))
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        found, expected = pyramid(backbone(images)), theirs(images)
    assert list(found) == list(expected) == ["p2", "p3", "p4", "p5", "p6"]
    for level, x in found.items():
        torch.testing.assert_close(x, expected[level], **CLOSE)
