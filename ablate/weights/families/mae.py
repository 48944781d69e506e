"""MAE (arXiv 2111.06377): encoder, or encoder and decoder (``*_full``, ``*_visualize``), or fine-tuned on labels."""

from ablate.weights.checkpoint import Checkpoint
from ablate.weights.families import plain
from ablate.weights.families.base import Family, drop


def _recognises(checkpoint: Checkpoint) -> bool:
    return plain.is_plain(checkpoint) and (
        checkpoint.tensors.keys() >= {"decoder_embed.weight", "mask_token"}
        or plain.has_sine_cosine(checkpoint.tensors.get("pos_embed"), first="columns")
    )


FAMILY = Family(
    name="MAE",
    initialisation="MAE",
    recognises=_recognises,
    rules=(
        *plain.RULES,
        plain.HEADS,
        drop(r"mask_token|decoder_.*", "the decoder is only used in pre-training"),
    ),
    classifier=plain.CLASSIFIER,
)
