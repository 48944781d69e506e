"""Costs against the paper's table, torch's own counter and arithmetic by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ablate.config import schema as cfg
from ablate.detector.flops import Cost, counting, detector_costs, total
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.models import LastMap, MultiScale, SimplePyramid, SingleScale, ViT


def detector(
    backbone: cfg.ViT | cfg.ResNet, pyramid: str = "multi_scale", classes: int = 80, **heads: object
) -> Detector:
    model = cfg.Model(backbone=backbone, pyramid=cfg.Pyramid(type=pyramid), detector=cfg.Detector(**heads))
    with torch.device("meta"):
        return build_detector(model, classes)


def vit(size: str, **position: object) -> cfg.ViT:
    width, depth, heads = {"B": (768, 12, 12), "L": (1024, 24, 16)}[size]
    return cfg.ViT(width=width, depth=depth, heads=heads, image_size=1024, position=cfg.Position(**position))


@pytest.mark.parametrize(
    ("size", "parameters", "gmacs", "activations"),
    [("B", 115.53, 849.6, 1529.8), ("L", 338.81, 1904.4, 2726.3)],
)
def test_the_papers_models(size: str, parameters: float, gmacs: float, activations: float) -> None:
    """The analytic count beside the paper's table 5 (116 / 853 / 1532 and 339 / 1907 / 2727), without pos_embed."""
    cost = total(detector_costs(detector(vit(size, absolute="none")), 1024).values())
    assert round(cost.parameters / 1e6, 2) == parameters
    assert round(cost.macs / 1e9, 1) == gmacs
    assert round(cost.activations / 1e6, 1) == activations


@pytest.mark.parametrize(("grid", "millions"), [(14, 115.68), (64, 118.67)])
def test_the_absolute_embedding_explains_the_published_parameters(grid: int, millions: float) -> None:
    """118.67 M is MIMDet's figure for ViT-B."""
    costs = detector_costs(detector(vit("B", absolute_grid=grid)), 1024)
    assert costs["absolute embedding"] == Cost(parameters=grid**2 * 768)
    assert round(total(costs.values()).parameters / 1e6, 2) == millions


def test_parameters_of_vit_b_term_by_term() -> None:
    parts = {part: cost.parameters for part, cost in detector_costs(detector(vit("B", absolute_grid=14)), 1024).items()}
    conv, norm = 9 * 256**2, 2 * 256  # a 3x3 convolution without bias, a BatchNorm
    assert parts == {
        "patch embedding": 768 * (3 * 16**2 + 1),
        "absolute embedding": 14**2 * 768,
        "relative bias": (27**2 + 127**2) * 12,
        "blocks": 12 * (12 * 768**2 + 13 * 768),
        "pyramid": 3 * (4 * 768**2 + 768) + 2 * 768 + 4 * (768 * 256 + conv + 2 * norm),
        "region proposals": 2 * (conv + 256) + 3 * 257 + 12 * 257,
        "box head": 4 * (conv + norm) + (49 * 256 + 1) * 1024 + 1025 * (81 + 320),
        "mask head": 4 * (conv + norm) + 4 * 256**2 + 256 + 257 * 80,
    }


def test_resnet_101() -> None:
    model = detector(cfg.ResNet(depth=101, image_size=1024), "fpn")
    cost = total(detector_costs(model, 1024).values())
    assert round(cost.parameters / 1e6, 1) == 65.3
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_what_each_setting_adds() -> None:
    base = detector_costs(detector(vit("B")), 1024)
    no_tables = detector_costs(detector(vit("B", relative="none")), 1024)
    assert "relative bias" not in no_tables
    assert total(no_tables.values()).macs == total(base.values()).macs
    no_masks = detector_costs(detector(vit("B"), masks=False), 1024)
    assert set(base) - set(no_masks) == {"mask head"}
    twice = detector_costs(detector(vit("B")), 1024, proposals=2000, detections=40)
    for head in ("box head", "mask head"):
        assert twice[head].macs == 2 * base[head].macs
        assert twice[head].parameters == base[head].parameters


def test_counting_leaves_the_detector_as_it_was() -> None:
    model = detector(cfg.ViT(width=32, depth=4, heads=2, image_size=64, attention=cfg.Attention(window_size=4)))
    for training in (True, False):
        model.train(training)
        costs = detector_costs(model, 64)
        assert model.training is training
        assert detector_costs(model, 64) == costs
        assert not any(module._forward_hooks for module in model.modules())


def flops(module: nn.Module, inputs: object) -> int:
    """Torch's own count of one forward pass, in multiply-adds."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(inputs)
    return counter.get_total_flops() // 2


def ours(module: nn.Module, inputs: object) -> Cost:
    with counting(module) as counts, torch.no_grad():
        module(inputs)
    return total(counts.values())


@pytest.mark.parametrize("kernel", ["naive", "fused"])
@pytest.mark.parametrize(
    ("pattern", "propagation"),
    [
        ("hybrid", "none"),
        ("global", "none"),
        ("window", "shift"),
        ("window", "conv_naive"),
        ("window", "conv_bottleneck"),
    ],
)
def test_backbones_agree_with_torchs_counter(kernel: str, pattern: str, propagation: str) -> None:
    with torch.device("meta"):
        model = ViT(
            width=32,
            depth=8,
            heads=4,
            image_size=128,
            window_size=4,
            pattern=pattern,
            propagation=propagation,
            kernel=kernel,
        )
        images = torch.zeros(2, 3, 128, 128)
    assert ours(model, images).macs == flops(model, images)


def test_padded_windows_count_their_padding_in_the_projection_too() -> None:
    """Torch counts what is computed; the paper's convention projects 12 x 12 tokens where 10 x 10 are needed."""
    with torch.device("meta"):
        model = ViT(width=32, depth=4, heads=4, image_size=160, window_size=4, pattern="window", kernel="naive")
        images = torch.zeros(1, 3, 160, 160)
    assert ours(model, images).macs - flops(model, images) == 4 * (12**2 - 10**2) * 32**2


@pytest.mark.parametrize("kind", [MultiScale, LastMap, SimplePyramid, SingleScale])
def test_pyramids_agree_with_torchs_counter(kind: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        pyramid = kind(64, 16, 32)
        maps = [torch.zeros(1, 64, 8, 8)] * (4 if kind is MultiScale else 1)
    assert ours(pyramid, maps).macs == flops(pyramid, maps)


def test_heads_agree_with_torchs_counter() -> None:
    model = detector(cfg.ResNet(depth=50, image_size=64), "fpn", classes=5).eval()
    with torch.device("meta"):
        pooled, levels, images = torch.zeros(7, 256, 7, 7), [torch.zeros(1, 256, 8, 8)], torch.zeros(1, 3, 64, 64)
        inputs = [(model.heads.box_head, pooled), (model.rpn.head, levels), (model.backbone, images)]
        inputs.append((model.heads.mask_head, torch.zeros(7, 256, 14, 14)))
    for module, given in inputs:
        assert ours(module, given).macs == flops(module, given)


def test_activations_by_hand() -> None:
    """One block of 6 x 6 tokens in windows of 4, padded to 8 x 8; 2 heads, 8 channels."""
    with torch.device("meta"):
        model = ViT(
            width=8, depth=1, heads=2, image_size=24, patch_size=4, window_size=4, pattern="window", taps="last"
        )
    cost = ours(model, torch.zeros(1, 3, 24, 24, device="meta"))
    patches, padded = 36, 64
    logits = 4 * 2 * 16**2  # windows x heads x pairs
    attention = padded * 3 * 8 + logits + padded * 8 + padded * 8
    assert cost.activations == patches * 8 + attention + patches * (32 + 8)
    linear = padded * 8 * 24 + padded * 8 * 8 + 2 * patches * 8 * 32
    assert cost.macs == patches * 8 * 48 + linear + 2 * 4 * 16**2 * 8


def test_convolutions_by_hand() -> None:
    with torch.device("meta"):
        grouped = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4)
        transposed = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        x = torch.zeros(1, 8, 10, 10)
    assert ours(grouped, x) == Cost(macs=25 * 16 * 2 * 9, activations=25 * 16)
    assert ours(transposed, x) == Cost(macs=100 * 8 * 3 * 4, activations=400 * 6)
    assert ours(transposed, x).macs == flops(transposed, x)
