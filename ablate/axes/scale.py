"""Feature maps for the detector: the paper's multi-scale FPN, one map alone, and ViTDet's two pyramids."""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

KEY = "model.pyramid.type"


PYRAMIDS = (
    ("multi-scale FPN", "multi_scale", "a tap every quarter of the blocks, then FPN"),
    ("single-scale", "single_scale", "proposals and heads on the final map alone"),
    ("simple pyramid", "simple", "four scales of the final map, without FPN"),
    ("FPN on last map", "last_map", "four scales of the final map, then FPN"),
)


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "scale")
    return tuple(Variant(name=name, changes={KEY: kind}, note=note) for name, kind, note in PYRAMIDS)


AXIS = Axis(
    name="scale",
    title="Feature pyramids for a plain backbone",
    source="arXiv 2111.11429, Table 2; arXiv 2203.16527",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
)
