"""Augmentation of the training images: the range of scale jitter, and horizontal flips.

Large-scale jitter, from 0.1 to 2.0, with flips is the formula of the paper (arXiv 2111.11429, appendix) and of ViTDet;
the standard range, from 0.8 to 1.25, is that of arXiv 2012.07177, which compares the two.
"""

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.schema import RunConfig

LARGE, STANDARD, NO_JITTER = (0.1, 2.0), (0.8, 1.25), (1.0, 1.0)
FLIP = 0.5


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    rows = {
        "large-scale jitter, flip": (LARGE, FLIP),
        "standard jitter, flip": (STANDARD, FLIP),
        "large-scale jitter": (LARGE, 0.0),
        "flip": (NO_JITTER, FLIP),
        "none": (NO_JITTER, 0.0),
    }
    own = (base.train.jitter_scale, base.train.flip)
    if own not in rows.values():
        low, high = base.train.jitter_scale
        rows = {f"the base's: {low:g} to {high:g}, flip {base.train.flip:g}": own, **rows}
    return variants_from(
        "train", ((name, {"jitter_scale": list(scale), "flip": flip}, "") for name, (scale, flip) in rows.items())
    )


AXIS = Axis(
    name="augmentation",
    title="Augmentation",
    source="arXiv 2111.11429, appendix; arXiv 2012.07177",
    allowed_keys=frozenset({"train.jitter_scale", "train.flip"}),
    variants=_variants,
)
