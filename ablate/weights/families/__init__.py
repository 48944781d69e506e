"""The families of checkpoints that are understood; the first in ``FAMILIES`` that recognises a file has it."""

from ablate.weights.checkpoint import Checkpoint
from ablate.weights.families import beit, deit, mae, mocov3, timm, torchvision
from ablate.weights.families.base import Family
from analysis.exceptions import BadInput

FAMILIES: tuple[Family, ...] = (
    torchvision.FAMILY,
    beit.FAMILY,
    mocov3.FAMILY,
    mae.FAMILY,
    deit.DISTILLED,
    deit.FAMILY,
    timm.SUPERVISED,
    timm.FAMILY,
)
DETECTOR = ("rpn.", "heads.box", "roi_heads.", "proposal_generator.", "backbone.bottom_up.", "bbox_head.")


def recognise(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint.

    Raises:
        BadInput: it belongs to none.
    """
    for family in FAMILIES:
        if family.recognises(checkpoint):
            return family
    names = list(checkpoint.tensors)
    if any(name.startswith(DETECTOR) for name in names):
        raise BadInput(
            f"{checkpoint.path}: is a checkpoint of a whole detector, not of a pre-trained backbone; "
            "give the weights from which it started"
        )
    known = ", ".join(dict.fromkeys(family.name for family in FAMILIES[:-1]))
    there = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    raise BadInput(f"{checkpoint.path}: its weights belong to no known family ({known}); it has {there}")


__all__ = ["FAMILIES", "Family", "recognise"]
