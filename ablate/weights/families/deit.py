"""DeiT (arXiv 2012.12877), distilled or not: the supervised ViT-B of the paper. The supervised ViTs of MAE's code too.

Told from timm's models by what they lie in: these are kept under ``model``.
"""

from ablate.weights.checkpoint import Checkpoint
from ablate.weights.families import plain
from ablate.weights.families.base import CLASS_TOKEN, Family, drop


def _is_distilled(checkpoint: Checkpoint) -> bool:
    return plain.is_plain(checkpoint) and "dist_token" in checkpoint.tensors


def _is_supervised(checkpoint: Checkpoint) -> bool:
    return plain.is_classifier(checkpoint) and checkpoint.container == '["model"]'


DISTILLED = Family(
    name="DeiT, distilled",
    initialisation="supervised",
    recognises=_is_distilled,
    rules=(*plain.SUPERVISED_RULES, drop(r"dist_token", CLASS_TOKEN)),
)
FAMILY = Family(
    name="DeiT or another supervised ViT",
    initialisation="supervised",
    recognises=_is_supervised,
    rules=plain.SUPERVISED_RULES,
)
