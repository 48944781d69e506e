"""Side of the attention windows, in tokens.

The paper (arXiv 2111.11429) and ViTDet take 14, the grid of pre-training; the cost of windows grows with the square of
their side. Where the grid is no multiple of the side, it is padded with zeros.
"""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig
from analysis.exceptions import BadInput

KEY = "model.backbone.attention.window_size"


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    vit = vit_of(base, "window-size")
    if vit.attention.pattern == "global":
        raise BadInput("axis window-size varies windows, but the base has none; set model.backbone.attention.pattern")
    grid, own = vit.image_size // vit.patch_size, vit.attention.window_size
    return tuple(
        Variant(name=f"{side}", changes={KEY: side}, note="as large as the image" * (side == grid), number=side)
        for side in sorted({max(1, own // 2), own, min(2 * own, grid), grid})
    )


AXIS = Axis(
    name="window-size",
    title="Size of the attention windows",
    source="arXiv 2111.11429, section 2; arXiv 2203.16527",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
    unit="side of a window in tokens",
)
