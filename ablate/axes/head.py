"""Detector heads: with the paper's changes to Mask R-CNN, or plain; and ViTDet's, where the base has them."""

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.schema import RunConfig

ROWS = (
    ("paper", {"head": "paper"}, "BN after convolutions, 2 RPN and 4 box convolutions"),
    ("plain", {"head": "plain"}, "1 RPN convolution, 2-layer box head, no norm"),
)
VITDET = ("vitdet", {"head": "vitdet"}, "as paper, with LayerNorm in the place of BN")


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    return variants_from("model.detector", [*ROWS, *([VITDET] if base.model.detector.head == "vitdet" else [])])


AXIS = Axis(
    name="head",
    title="Heads of Mask R-CNN",
    source="arXiv 2111.11429, section 2",
    allowed_keys=frozenset({"model.detector.head"}),
    variants=_variants,
)
