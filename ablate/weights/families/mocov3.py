"""MoCo v3 (arXiv 2104.02057): the base encoder among its training state, or a linear probe on it.

Its fixed embedding has the halves of MAE's channels swapped, by which a probe is distinguished from MAE.
"""

import re

from ablate.weights.checkpoint import Checkpoint
from ablate.weights.families import plain
from ablate.weights.families.base import Family, Rule, drop


def _recognises(checkpoint: Checkpoint) -> bool:
    return "base_encoder.patch_embed.proj.weight" in checkpoint.tensors or (
        plain.is_plain(checkpoint) and plain.has_sine_cosine(checkpoint.tensors.get("pos_embed"), first="rows")
    )


FAMILY = Family(
    name="MoCo v3",
    initialisation="MoCo v3",
    recognises=_recognises,
    rules=(
        *(
            Rule(re.compile(rf"(?:base_encoder\.)?(?:{rule.pattern.pattern})"), rule.to, rule.reason)
            for rule in plain.RULES
        ),
        plain.HEADS,
        drop(r"base_encoder\.head\..*", "the projector is only used by the contrastive loss"),
        drop(r"momentum_encoder\..*", "the moving average; the paper's weights are those of the base encoder"),
        drop(r"predictor\..*", "the predictor is only used by the contrastive loss"),
    ),
    classifier=plain.CLASSIFIER,
)
