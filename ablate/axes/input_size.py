"""Side of the square input, in training and at test: half of the base's, three quarters, and a quarter more.

The paper and ViTDet train and test at 1024 pixels. Anchors and windows stay as they are, so objects are smaller for
them on a smaller input.
"""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.schema import RunConfig, ViT

KEY = "model.backbone.image_size"
SHARES = (0.5, 0.75, 1, 1.25)
COARSEST = 32  # stride of the last map of other backbones


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    backbone = base.model.backbone
    own = backbone.image_size
    unit = 2 * backbone.patch_size if isinstance(backbone, ViT) else COARSEST  # every pyramid can halve the grid
    sides = {max(1, round(own * share / unit)) * unit for share in SHARES} | {own}
    return tuple(Variant(name=f"{side} px", changes={KEY: side}, number=side) for side in sorted(sides))


AXIS = Axis(
    name="input-size",
    title="Size of the input",
    source="engineering question; arXiv 2111.11429 and arXiv 2203.16527 take 1024 pixels",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
    unit="side of the input in pixels",
)
