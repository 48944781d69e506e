"""timm's plain ViTs, flat files without a word on where they come from; those of MAE and BEiT are told as such before.

Its DeiT and self-supervised models saw ImageNet's pixel statistics, its AugReg models a mean and deviation of one half.
The file does not tell which, so the config decides between the two.
"""

from ablate.weights.checkpoint import Checkpoint
from ablate.weights.families import plain
from ablate.weights.families.base import HALF, IMAGENET, Family


def _is_supervised(checkpoint: Checkpoint) -> bool:
    return plain.is_plain(checkpoint) and "head.weight" in checkpoint.tensors


RULES = (*plain.RULES, plain.HEADS, plain.LAYER_SCALE)

SUPERVISED = Family(
    name="timm ViT, supervised",
    initialisation="supervised",
    recognises=_is_supervised,
    rules=RULES,
    pixels=(IMAGENET, HALF),
)
FAMILY = Family(
    name="plain ViT of unknown training",
    initialisation="",
    recognises=plain.is_plain,
    rules=RULES,
    pixels=(IMAGENET, HALF),
)
