"""The layout channels_last: every convolution after a ViT has it, and nothing else changes but the last digits."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ablate.config.schema import Coco
from ablate.detector.mask_rcnn import Detector, build_detector, use_channels_last
from tests.ablate.tiny import SIDE, tiny_config

SINGLE = {"model__pyramid__type": "single_scale", "model__detector__anchors__sizes": [16.0, 32.0]}


def weighted_outputs(detector: Detector) -> Tensor:
    """A weighted sum of what backbone, pyramid and heads give for images and RoIs of noise."""
    torch.manual_seed(0)
    images, channels = torch.randn(2, 3, SIDE, SIDE), detector.pyramid.channels
    levels = list(detector.pyramid(detector.backbone(images)).values())
    logits, deltas = detector.rpn.head(levels)
    found = [*levels, *logits, *deltas, *detector.heads.box_head(torch.randn(4, channels, 7, 7))]
    assert detector.heads.mask_head is not None
    found.append(detector.heads.mask_head(torch.randn(4, channels, 14, 14)))
    return torch.stack([(one * torch.randn(one.shape)).sum() for one in found]).sum()


PAPER = {"model__detector__head": "paper"}
SIMPLE = {"model__pyramid__type": "simple", "model__detector__head": "vitdet"}


@pytest.mark.parametrize("changes", [PAPER, SIMPLE, SINGLE])
def test_convolutions_read_and_write_it_and_give_the_same(data: Coco, changes: dict[str, object]) -> None:
    plain = build_detector(tiny_config(data, **changes).model, 2)
    other = copy.deepcopy(plain)
    use_channels_last(other)
    assert list(other.state_dict()) == list(plain.state_dict())
    wrong, seen = [], 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seen
        seen += 1
        one_layout = output.shape[1] == 1 or output.shape[2:].numel() == 1  # is both
        if not one_layout and not output.is_contiguous(memory_format=torch.channels_last):
            wrong.append((module, output.shape, output.stride()))

    for name, module in other.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and not name.startswith("backbone"):
            module.register_forward_hook(look)
    results = []
    for detector in (plain, other):
        loss = weighted_outputs(detector)
        loss.backward()
        results.append({"loss": loss.detach(), **{name: one.grad for name, one in detector.named_parameters()}})
    assert seen > 5
    assert not wrong
    for name, expected in results[0].items():
        found = results[1][name]
        if expected is not None:
            assert found is not None
            assert (found - expected).norm() <= 1e-3 * (expected.norm() + 1), name  # some are 0 by BatchNorm
    for name, one in other.named_parameters():
        if one.grad is not None:  # fused optimizers want one layout of both
            assert one.grad.stride() == one.stride(), name


def test_maps_are_views_of_the_tokens_and_gradients_come_back_in_their_layout(data: Coco) -> None:
    """Nothing is copied between the ViT and its pyramid."""
    backbone = build_detector(tiny_config(data).model, 2).backbone
    backbone.channels_last = True  # type: ignore[assignment]
    seen: list[Tensor] = []
    backbone.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))  # type: ignore[index, union-attr]
    *_, last = backbone(torch.randn(2, 3, SIDE, SIDE))
    assert last.data_ptr() == seen[0].data_ptr()
    assert last.is_contiguous(memory_format=torch.channels_last)
    strides = []
    seen[0].register_hook(lambda gradient: strides.append(gradient.is_contiguous()))
    (last * torch.randn(last.shape)).sum().backward()  # whose gradient is a plain map
    assert strides == [True]
