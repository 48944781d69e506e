"""Detector heads: with the paper's changes to Mask R-CNN, or plain."""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.schema import RunConfig

KEY = "model.detector.head"


def _variants(_base: RunConfig, _options: AxisOptions) -> tuple[Variant, ...]:
    return (
        Variant(name="paper", changes={KEY: "paper"}, note="BN after convolutions, 2 RPN and 4 box convolutions"),
        Variant(name="plain", changes={KEY: "plain"}, note="1 RPN convolution, 2-layer box head, no norm"),
    )


AXIS = Axis(
    name="head",
    title="Heads of Mask R-CNN",
    source="arXiv 2111.11429, section 2",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
)
