"""Evaluating an exponential moving average of the weights in the place of the last ones, and its decay.

The paper (arXiv 2111.11429) uses none. No source known here has numbers of a detector with a plain ViT.
"""

from ablate.axes.base import Axis, AxisOptions, Variant, own_and
from ablate.config.schema import RunConfig

KEY = "train.ema"
DECAYS = ("none", 0.99, 0.999, 0.9998)


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    return tuple(Variant(name=f"{value}", changes={KEY: value}) for value in own_and(base.train.ema, DECAYS))


AXIS = Axis(
    name="ema",
    title="Exponential moving average of the weights",
    source="engineering question; arXiv 2111.11429 uses none",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
)
