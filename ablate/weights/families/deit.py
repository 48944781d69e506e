"""DeiT (arXiv 2012.12877), distilled or not: the supervised ViT-B of the paper. The supervised ViTs of MAE's code too.

Told from timm's models by what they lie in: these are kept under ``model``.
"""

from ablate.weights.families import plain
from ablate.weights.families.base import CLASS_TOKEN, Family, drop

DISTILLED = Family(
    name="DeiT, distilled",
    initialisation="supervised",
    recognises=lambda checkpoint: plain.is_plain(checkpoint) and "dist_token" in checkpoint.tensors,
    rules=(*plain.SUPERVISED_RULES, drop(r"dist_token", CLASS_TOKEN)),
)
FAMILY = Family(
    name="DeiT or another supervised ViT",
    initialisation="supervised",
    recognises=lambda checkpoint: plain.is_classifier(checkpoint) and checkpoint.container == '["model"]',
    rules=plain.SUPERVISED_RULES,
)
