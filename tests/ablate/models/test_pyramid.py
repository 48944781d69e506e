"""Pyramids: their shapes, torchvision's FPN with the same weights, and the arithmetic of their sizes."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ablate.models import FPN, LastMap, MultiScale, Pyramid, SimplePyramid, SingleScale, ViT
from ablate.models.pyramid import ChannelNorm

ALL = [MultiScale, LastMap, SimplePyramid, SingleScale]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("patch", [16, 8])
@pytest.mark.parametrize("side", [64, 96])
def test_levels_have_the_strides_and_channels_that_the_pyramid_says(kind: type[Pyramid], patch: int, side: int) -> None:
    vit = ViT(width=48, depth=4, heads=3, image_size=side, patch_size=patch, window_size=4, taps=kind.taps)
    pyramid = kind(48, patch, 24)
    levels = pyramid(vit(torch.randn(2, 3, side, side)))
    assert list(levels) == list(pyramid.strides) == (["p4"] if kind is SingleScale else ["p2", "p3", "p4", "p5", "p6"])
    factors = [1] if kind is SingleScale else [0.25, 0.5, 1, 2, 4]
    assert list(pyramid.strides.values()) == [patch * factor for factor in factors]
    for name, x in levels.items():
        expected = -(-side // pyramid.strides[name])
        assert x.shape == (2, pyramid.channels, expected, expected)
    assert pyramid.channels == 24


@pytest.mark.parametrize("kind", ALL)
def test_every_parameter_takes_part(kind: type[Pyramid]) -> None:
    pyramid = kind(32, 16, 8)
    maps = [torch.randn(2, 32, 6, 6) for _ in range(4 if kind is MultiScale else 1)]
    sum(x.square().mean() * (i + 1) for i, x in enumerate(pyramid(maps).values())).backward()
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_fpn_equals_torchvisions_on_the_maps_of_a_resnet(norm: str) -> None:
    inputs = [8, 16, 32, 64]
    theirs = FeaturePyramidNetwork(
        inputs, 12, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d if norm == "batch" else None
    )
    ours = FPN(inputs, [4, 8, 16, 32], 12, norm=norm)
    assert ours.strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    for mine, other in ((ours.lateral, theirs.inner_blocks), (ours.output, theirs.layer_blocks)):
        for one, another in zip(mine, other, strict=True):
            one.load_state_dict(another.state_dict())
    maps = [torch.randn(2, c, side, side + 2) for c, side in zip(inputs, (30, 15, 8, 4), strict=True)]
    maps[0], maps[1], maps[2] = maps[0][..., :32], maps[1][..., :16], maps[2][..., :9]  # odd sizes too
    expected = theirs(OrderedDict((str(i), x) for i, x in enumerate(maps)))
    torch.testing.assert_close(list(ours(maps).values()), list(expected.values()))


def test_multi_scale_is_the_papers_four_modules_and_an_fpn() -> None:
    torch.manual_seed(0)
    pyramid, maps = MultiScale(64, 16, 16).eval(), [torch.randn(1, 64, 4, 4) for _ in range(4)]
    first = pyramid.scale[0]
    assert [type(m) for m in first] == [nn.ConvTranspose2d, nn.GroupNorm, nn.GELU, nn.ConvTranspose2d]
    assert first[1].num_groups == 32
    scaled = [first(maps[0]), pyramid.scale[1](maps[1]), maps[2], nn.functional.max_pool2d(maps[3], 2)]
    assert [x.shape[-1] for x in scaled] == [16, 8, 4, 2]
    assert all(x.shape[1] == 64 for x in scaled)
    torch.testing.assert_close(pyramid(maps), pyramid.fpn(scaled))


def test_last_map_scales_one_map_with_the_same_modules() -> None:
    last, multi = LastMap(32, 16, 8).eval(), MultiScale(32, 16, 8).eval()
    multi.load_state_dict(last.state_dict())
    x = torch.randn(1, 32, 4, 4)
    torch.testing.assert_close(last([x]), multi([x] * 4))


def test_levels_of_the_simple_pyramid_stand_alone() -> None:
    pyramid, x = SimplePyramid(32, 16, 8), torch.randn(1, 32, 4, 4)
    before = pyramid([x])
    with torch.no_grad():
        for parameter in pyramid.stages[3].parameters():
            parameter.add_(1)
    after = pyramid([x])
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"p5", "p6"}


def test_the_simple_pyramid_is_vitdets_stages_with_layer_norms() -> None:
    pyramid = SimplePyramid(32, 16, 8)
    up, tail = nn.ConvTranspose2d, [nn.Conv2d, ChannelNorm, nn.Conv2d, ChannelNorm]
    expected = [[up, ChannelNorm, nn.GELU, up, *tail], [up, *tail], tail, [nn.MaxPool2d, *tail]]
    assert [[type(layer) for layer in stage] for stage in pyramid.stages] == expected
    assert [stage[-4].in_channels for stage in pyramid.stages] == [8, 16, 32, 32]


def test_channel_norm_is_detectron2s_formula() -> None:
    norm, x = ChannelNorm(6, eps=1e-6), torch.randn(2, 6, 3, 5) * 4 + 1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    expected = norm.weight[:, None, None] * (x - mean) / torch.sqrt(variance + 1e-6) + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)


def test_the_extra_level_is_every_second_position_of_the_coarsest() -> None:
    levels = FPN([4, 4], [8, 16], 4)([torch.randn(1, 4, 6, 6), torch.randn(1, 4, 3, 3)])
    assert torch.equal(levels["p4"], levels["p3"][..., ::2, ::2])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("width", [768, 1024])
def test_parameters_term_by_term(width: int) -> None:
    with torch.device("meta"):
        pyramids = [kind(width) for kind in ALL]
    fpn = 4 * width * 256 + 4 * 9 * 256**2 + 8 * 2 * 256  # lateral, output, BN
    four = 3 * (4 * width**2 + width) + 2 * width  # three transposed convolutions, GroupNorm
    half, quarter = width // 2, width // 4
    finest = 4 * width * half + half + 2 * half + 4 * half * quarter + quarter
    simple = finest + 4 * width * half + half + (quarter + half + 2 * width) * 256 + 4 * (9 * 256**2 + 4 * 256)
    single = width * 256 + 9 * 256**2 + 4 * 256
    assert [count(pyramid) for pyramid in pyramids] == [four + fpn, four + fpn, simple, single]


def test_a_patch_that_cannot_be_quartered_is_refused() -> None:
    for kind in (MultiScale, LastMap, SimplePyramid):
        with pytest.raises(ValueError, match="patch_size 14 must be divisible by 4"):
            kind(64, 14)
    assert SingleScale(64, 14).strides == {"p4": 14}
    with pytest.raises(ValueError, match="width divisible by 4, but the width is 42"):
        SimplePyramid(42, 16)


def test_fpn_adds_coarse_to_fine() -> None:
    pyramid = FPN([4, 4], [8, 16], 4, norm="none")

    def changed(which: int) -> set[str]:
        maps: list[Tensor] = [torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 2, 2)]
        before = pyramid(maps)
        maps[which] = maps[which] + 1
        after = pyramid(maps)
        return {name for name in before if not torch.equal(before[name], after[name])}

    assert changed(0) == {"p2"}
    assert changed(1) == {"p2", "p3", "p4"}
