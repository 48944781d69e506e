"""The positions and the number of global blocks."""

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

GROUP = "model.backbone.attention"


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    own = vit_of(base, "placement").attention
    count = len(own.global_blocks) if isinstance(own.global_blocks, tuple) else own.global_count
    rows = [
        (f"{count} even", "even", count, "the last block of each part"),
        (f"first {count}", "first", count, ""),
        (f"last {count}", "last", count, ""),
        *([(f"{count // 2} even", "even", count // 2, "")] if count >= 2 else []),
    ]
    hybrids = (
        (name, {"pattern": "hybrid", "global_blocks": blocks, "global_count": number}, note)
        for name, blocks, number, note in rows
    )
    return variants_from(GROUP, [*hybrids, ("all", {"pattern": "global"}, "no windows at all")])


AXIS = Axis(
    name="placement",
    title="Place and number of global blocks",
    source="arXiv 2203.16527",
    allowed_keys=frozenset(f"{GROUP}.{key}" for key in ("pattern", "global_blocks", "global_count")),
    variants=_variants,
)
