"""Windowed, hybrid and global attention: what seeing the whole image is worth, and what it costs."""

from collections.abc import Iterator

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

KEY = "model.backbone.attention"


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    return tuple(_all(base))


def _all(base: RunConfig) -> Iterator[Variant]:
    own = vit_of(base, "attention").attention

    def variant(name: str, pattern: str, note: str, checkpoint: str = "none", kernel: str = own.kernel) -> Variant:
        changes = {f"{KEY}.pattern": pattern, f"{KEY}.kernel": kernel, f"{KEY}.checkpoint": checkpoint}
        if own.propagation != "none":
            changes[f"{KEY}.propagation"] = "none"
        return Variant(name=name, changes=changes, note=note)

    yield variant("window", "window", "no block sees beyond its window")
    yield variant("hybrid", "hybrid", "windows, and a few global blocks between them")
    yield variant("global, checkpointed", "global", "every block recomputed in the backward pass", checkpoint="all")
    yield variant("global", "global", "every activation kept for the backward pass")
    if own.kernel != "naive":
        note = "all logits in memory, as the paper did; the row that ran out of 32 GB there"
        yield variant("global, naive kernel", "global", note, kernel="naive")


AXIS = Axis(
    name="attention",
    title="Windowed, hybrid and global attention",
    source="arXiv 2111.11429, Table 3; arXiv 2203.16527",
    allowed_keys=frozenset({f"{KEY}.pattern", f"{KEY}.kernel", f"{KEY}.checkpoint", f"{KEY}.propagation"}),
    baseline="hybrid",
    variants=_variants,
)
