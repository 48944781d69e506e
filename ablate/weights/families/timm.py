"""timm's plain ViTs, flat files that do not name their origin; those of MAE and BEiT are recognised before.

Its DeiT and self-supervised models saw ImageNet's pixel statistics, its AugReg models a mean and deviation of one half.
The file does not tell which, so the config decides between the two.
"""

from ablate.weights.families import plain
from ablate.weights.families.base import Family
from ablate.weights.settings import HALF, IMAGENET

SUPERVISED = Family(
    name="timm ViT, supervised",
    initialisation="supervised",
    recognises=plain.is_classifier,
    rules=plain.SUPERVISED_RULES,
    pixels=(IMAGENET, HALF),
)
FAMILY = Family(
    name="plain ViT of unknown training",
    initialisation="",
    recognises=plain.is_plain,
    rules=plain.SUPERVISED_RULES,
    pixels=(IMAGENET, HALF),
)
