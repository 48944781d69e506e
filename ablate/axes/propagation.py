"""How windows exchange information: global blocks, convolutions, shifted windows, or not at all."""

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

GROUP = "model.backbone.attention"
ROWS = (  # name, pattern, propagation, note
    ("none", "window", "none", "windows alone"),
    ("global blocks", "hybrid", "none", "a few blocks attend to the whole image"),
    ("shifted windows", "window", "shift", "every other block shifts its windows by half their size"),
    ("conv, naive", "window", "conv_naive", "one 3x3 convolution instead of each global block"),
    ("conv, basic", "window", "conv_basic", "two 3x3 convolutions"),
    ("conv, bottleneck", "window", "conv_bottleneck", "1x1, 3x3, 1x1 convolutions"),
)


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "propagation")
    return variants_from(
        GROUP, ((name, {"pattern": pattern, "propagation": kind}, note) for name, pattern, kind, note in ROWS)
    )


AXIS = Axis(
    name="propagation",
    title="Propagation between windows",
    source="arXiv 2203.16527",
    allowed_keys=frozenset({f"{GROUP}.pattern", f"{GROUP}.propagation"}),
    baseline="global blocks",
    variants=_variants,
)
