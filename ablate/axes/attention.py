"""Windowed, hybrid and global attention: what seeing the whole image is worth, and what it costs.

Global attention is computed in three ways, whose results are the same and whose memory and time are not.
"""

import msgspec

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

GROUP = "model.backbone.attention"


PAPER_GIB = 32.0  # of a V100, the paper's GPU


def _variants(base: RunConfig, options: AxisOptions) -> tuple[Variant, ...]:
    own = vit_of(base, "attention").attention
    rows = [  # name, pattern, recomputed blocks, kernel, note
        ("window", "window", "none", own.kernel, "no block attends beyond its window"),
        ("hybrid", "hybrid", "none", own.kernel, "windows, with a few global blocks"),
        ("global, checkpointed", "global", "all", own.kernel, "every block is recomputed in the backward pass"),
        ("global", "global", "none", own.kernel, "every activation is kept for the backward pass"),
    ]
    if own.kernel != "naive":
        note = "all logits in memory, as in the paper, where it ran out of 32 GB"
        rows.append(("global, naive kernel", "global", "none", "naive", note))
    no_propagation = {} if own.propagation == "none" else {"propagation": "none"}
    variants = variants_from(
        GROUP,
        (
            (name, {"pattern": pattern, "kernel": kernel, "checkpoint": recomputed, **no_propagation}, note)
            for name, pattern, recomputed, kernel, note in rows
        ),
    )
    return tuple(_with_cost_facts(variant, options) for variant in variants)


def _with_cost_facts(variant: Variant, options: AxisOptions) -> Variant:
    """The variant with `same_result_as` set and, with ``--paper-hardware``, the memory limit of the paper's GPU."""
    if variant.name.startswith("global, "):
        variant = msgspec.structs.replace(variant, same_result_as="global")
    if options.paper_hardware and variant.changes[f"{GROUP}.kernel"] == "naive":
        return msgspec.structs.replace(variant, changes={**variant.changes, "train.memory_cap_gib": PAPER_GIB})
    return variant


AXIS = Axis(
    name="attention",
    title="Windowed, hybrid and global attention",
    source="arXiv 2111.11429, Table 3; arXiv 2203.16527",
    allowed_keys=frozenset(f"{GROUP}.{key}" for key in ("pattern", "kernel", "checkpoint", "propagation"))
    | {"train.memory_cap_gib"},
    baseline="hybrid",
    variants=_variants,
)
