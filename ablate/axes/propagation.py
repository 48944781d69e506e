"""How windows exchange information: global blocks, convolutions, shifted windows, or not at all."""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

KEY = "model.backbone.attention"
BETWEEN_WINDOWS = (
    ("none", "none", "windows alone"),
    ("shifted windows", "shift", "every other block shifts its windows by half their size"),
    ("conv, naive", "conv_naive", "one 3x3 convolution in the place of each global block"),
    ("conv, basic", "conv_basic", "two 3x3 convolutions"),
    ("conv, bottleneck", "conv_bottleneck", "1x1, 3x3, 1x1 convolutions"),
)


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "propagation")

    def variant(name: str, pattern: str, propagation: str, note: str) -> Variant:
        return Variant(name=name, changes={f"{KEY}.pattern": pattern, f"{KEY}.propagation": propagation}, note=note)

    first, *others = (variant(name, "window", kind, note) for name, kind, note in BETWEEN_WINDOWS)
    return (first, variant("global blocks", "hybrid", "none", "a few blocks attend to the whole image"), *others)


AXIS = Axis(
    name="propagation",
    title="Propagation between windows",
    source="arXiv 2203.16527",
    allowed_keys=frozenset({f"{KEY}.pattern", f"{KEY}.propagation"}),
    baseline="global blocks",
    variants=_variants,
)
