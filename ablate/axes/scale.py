"""Feature maps for the detector: the paper's multi-scale FPN, one map alone, and ViTDet's two pyramids."""

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "scale")
    return variants_from(
        "model.pyramid",
        [
            ("multi-scale FPN", {"type": "multi_scale"}, "the outputs after each quarter of the blocks, then FPN"),
            ("single-scale", {"type": "single_scale"}, "proposals and heads use only the final map"),
            ("simple pyramid", {"type": "simple"}, "four scales of the final map, without FPN"),
            ("FPN on last map", {"type": "last_map"}, "four scales of the final map, then FPN"),
        ],
    )


AXIS = Axis(
    name="scale",
    title="Feature pyramids for a plain backbone",
    source="arXiv 2111.11429, Table 2; arXiv 2203.16527",
    allowed_keys=frozenset({"model.pyramid.type"}),
    variants=_variants,
)
