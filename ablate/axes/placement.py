"""Where the global blocks stand, and how many they are."""

from collections.abc import Iterator

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

KEY = "model.backbone.attention"


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    return tuple(_all(base))


def _all(base: RunConfig) -> Iterator[Variant]:
    own = vit_of(base, "placement").attention
    count = len(own.global_blocks) if isinstance(own.global_blocks, tuple) else own.global_count

    def variant(name: str, place: str, count: int, note: str = "") -> Variant:
        changes = {f"{KEY}.pattern": "hybrid", f"{KEY}.global_blocks": place, f"{KEY}.global_count": count}
        return Variant(name=name, changes=changes, note=note)

    yield variant(f"{count} even", "even", count, "the last block of each part")
    yield variant(f"first {count}", "first", count)
    yield variant(f"last {count}", "last", count)
    if count >= 2:
        yield variant(f"{count // 2} even", "even", count // 2)
    yield Variant(name="all", changes={f"{KEY}.pattern": "global"}, note="no windows at all")


AXIS = Axis(
    name="placement",
    title="Place and number of global blocks",
    source="arXiv 2203.16527",
    allowed_keys=frozenset({f"{KEY}.pattern", f"{KEY}.global_blocks", f"{KEY}.global_count"}),
    variants=_variants,
)
