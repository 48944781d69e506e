"""An axis in Python: its variants follow from the base config. Where they do not, a YAML file is shorter."""

from typing import Any

from ablate.axes import Axis, AxisOptions, Variant

KEY = "model.backbone.options.stem"


def _variants(base: Any, options: AxisOptions) -> tuple[Variant, ...]:
    """The stems that the backbone knows; `base` is the config with what --set changes."""
    return (
        Variant(name="plain stem", changes={KEY: "plain"}, note="one convolution of stride 4"),
        Variant(name="double stem", changes={KEY: "double"}, note="two convolutions of stride 2"),
    )


STEM = Axis(
    name="stem",
    title="The first layers of the backbone",
    source="our group meeting",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
    baseline="plain stem",
)
