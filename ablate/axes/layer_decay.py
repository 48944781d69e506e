"""Layer-wise learning rate decay: how much slower early blocks are trained than late ones.

ViTDet (arXiv 2203.16527) fine-tunes MAE weights with 0.7 for ViT-B, 0.8 for ViT-L and 0.9 for ViT-H, and reports a gain
of up to 0.3 AP; the paper (arXiv 2111.11429) uses none.
"""

from ablate.axes.base import Axis, AxisOptions, Variant, own_and
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

KEY = "train.layer_decay"
DECAYS = ("none", 0.9, 0.8, 0.7)


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "layer-decay")
    note = "random weights: early blocks hold nothing to preserve" * base.init.is_random
    return tuple(
        Variant(name=f"{value}", changes={KEY: value}, note="" if value == "none" else note)
        for value in own_and(base.train.layer_decay, DECAYS)
    )


AXIS = Axis(
    name="layer-decay",
    title="Layer-wise learning rate decay",
    source="arXiv 2203.16527",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
)
