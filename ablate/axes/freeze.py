"""Which parts of a ViT are trained: all, or not the patch embedding, the first blocks, the norms.

No source known here has numbers of a detector with a plain ViT. Frozen parts keep their initial values, so the question
only makes sense with pre-trained weights.
"""

from typing import Any

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

GROUP = "train.freeze"
NOTHING: dict[str, Any] = {"patch_embedding": False, "blocks": 0, "norms": False}


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    depth = vit_of(base, "freeze").depth
    note = "random weights: the frozen parts stay random" * base.init.is_random
    counts = sorted({round(depth * share) for share in (0.25, 0.5, 0.75)} - {0, depth})
    parts: list[tuple[str, dict[str, Any]]] = [
        ("nothing", {}),
        ("patch embedding", {"patch_embedding": True}),
        *((f"patch embedding and {count} blocks", {"patch_embedding": True, "blocks": count}) for count in counts),
        ("norms", {"norms": True}),
    ]
    return variants_from(GROUP, ((name, {**NOTHING, **what}, note if what else "") for name, what in parts))


AXIS = Axis(
    name="freeze",
    title="Frozen parts of the backbone",
    source="engineering question",
    allowed_keys=frozenset({GROUP}),
    baseline="nothing",
    variants=_variants,
)
