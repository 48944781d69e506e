"""The cost of a detector, counted before it runs: parameters, multiply-adds and activations of one image, by part.

The convention is the paper's (its Table 5), which is fvcore's: one FLOP is one multiply-add; convolutions, linear
layers and the two matrix products of attention count, their outputs are the activations; norms, activation functions,
sums, biases, pooling and resizing do not count. Windows count with their padding in qkv and in the projection, although
``ablate.models`` projects only what is no padding.

Modules are counted as they are, by hooks on one forward pass, which costs nothing on the ``meta`` device::

    with torch.device("meta"):
        detector = build_detector(config.model, classes)
    costs = detector_costs(detector, image_size=1024)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ablate.detector.mask_rcnn import Detector

# Which modules and parameters of a detector make up which part; the first prefix that fits decides.
PARTS = (
    ("patch embedding", ("backbone.patch_embed",)),
    ("absolute embedding", ("backbone.pos_embed",)),
    ("relative bias", ("backbone.window_bias", "backbone.global_bias", "backbone.block_bias")),
    ("propagation", ("backbone.propagation",)),
    ("blocks", ("backbone",)),
    ("pyramid", ("pyramid",)),
    ("region proposals", ("rpn",)),
    ("box head", ("heads.box_head",)),
    ("mask head", ("heads.mask_head",)),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters, multiply-adds and activations (elements, not bytes)."""

    parameters: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.macs + other.macs, self.activations + other.activations)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    return sum(costs, start=Cost())


def decimals(values: Iterable[float], fewest: int) -> int:
    """Digits after the point that show at least three of the smallest number, so that near variants differ in print.

    >>> decimals([0.3461, 0.3473], 2), decimals([849.57, 853.1], 2)
    (3, 2)
    """
    return max(fewest, 2 - math.floor(math.log10(min((value for value in values if value > 0), default=1.0))))


def _attention_cost(attention: Any, tokens: Tensor) -> Cost:
    """Self-attention of tokens [B, H, W, C]; a window attends within itself, its padding included."""
    from ablate.models.attention import padded

    batch, height, width, channels = tokens.shape
    window = attention.window
    count = batch * (padded(height, window) * padded(width, window) if window else height * width)
    seen = window**2 if window else height * width  # tokens that one token attends to
    linear = count * channels * (3 * channels) + count * channels * channels  # qkv, proj
    products = 2 * count * seen * channels  # q k^T, weights v
    logits = attention.heads * count * seen
    return Cost(macs=linear + products, activations=3 * count * channels + logits + 2 * count * channels)


def _layer_cost(layer: nn.Module, inputs: Tensor, output: Tensor) -> Cost | None:
    """Multiply-adds and activations of one call of one layer; None where it is not one that counts."""
    from torch import nn

    from ablate.models.attention import Attention

    match layer:
        case Attention():
            return _attention_cost(layer, inputs)
        case nn.Linear():
            return Cost(macs=output.numel() * layer.in_features, activations=output.numel())
        case nn.ConvTranspose2d():  # every input value meets one kernel of the outputs
            meetings = inputs.numel() * layer.out_channels
        case nn.Conv2d():
            meetings = output.numel() * layer.in_channels
        case _:
            return None
    return Cost(macs=meetings // layer.groups * math.prod(layer.kernel_size), activations=output.numel())


@contextmanager
def counting(module: nn.Module) -> Iterator[dict[str, Cost]]:
    """While open, adds up what every layer inside ``module`` computes, by its qualified name; parameters stay 0."""
    from ablate.models.attention import Attention

    counts: dict[str, Cost] = {}

    def add(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        cost = _layer_cost(layer, inputs[0], output)
        if cost is not None:
            counts[name] = counts.get(name, Cost()) + cost

    inside = {part for layer in module.modules() if isinstance(layer, Attention) for part in layer.children()}
    handles = [
        layer.register_forward_hook(partial(add, name))
        for name, layer in module.named_modules()
        if layer not in inside  # attention is counted as a whole
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def detector_costs(
    detector: Detector, image_size: int, *, proposals: int = 1000, detections: int = 20
) -> dict[str, Cost]:
    """The cost of each part of a detector at inference on one square image.

    Args:
        detector: best built on the ``meta`` device, where nothing is computed.
        image_size: side of the padded image in pixels.
        proposals: RoIs that the box head sees.
        detections: RoIs that the mask head sees; the paper's tables fit about 20, COCO's mean.

    Returns:
        Costs by part, in the order of ``PARTS``; parts that the detector does not have are left out.
    """
    import torch

    device = next(detector.parameters()).device
    channels, heads, training = detector.pyramid.channels, detector.heads, detector.training

    def rois(count: int, grid: int) -> Tensor:
        return torch.zeros(count, channels, grid, grid, device=device)

    detector.eval()
    with counting(detector) as layers, torch.no_grad():
        levels = detector.pyramid(detector.backbone(torch.zeros(1, 3, image_size, image_size, device=device)))
        detector.rpn.head(list(levels.values()))
        heads.box_head(rois(proposals, heads.box_pooler.grid))
        if heads.mask_head is not None:
            heads.mask_head(rois(detections, heads.mask_pooler.grid))
    detector.train(training)

    costs: dict[str, Cost] = {}
    parameters = {name: Cost(parameters=parameter.numel()) for name, parameter in detector.named_parameters()}
    for name, cost in [*layers.items(), *parameters.items()]:
        part = _part_of(name)
        costs[part] = costs.get(part, Cost()) + cost
    return {part: costs[part] for part, _ in PARTS if part in costs}


def _part_of(name: str) -> str:
    for part, prefixes in PARTS:
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            return part
    raise ValueError(f"{name} belongs to no part of a detector; add its prefix to PARTS")
