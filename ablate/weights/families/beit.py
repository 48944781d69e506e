"""BEiT (arXiv 2106.08254), pre-trained or fine-tuned, from its authors or from timm.

One bias table shared by all blocks before fine-tuning, one a block after it; layer scale; no bias of the keys.
"""

from ablate.weights.families import plain
from ablate.weights.families.base import Family, drop, keep
from ablate.weights.settings import HALF

TABLE = "relative_position_bias_table"

FAMILY = Family(
    name="BEiT",
    initialisation="BEiT",
    recognises=lambda checkpoint: (
        plain.is_plain(checkpoint) and any(name.endswith(TABLE) for name in checkpoint.tensors)
    ),
    rules=(
        *plain.RULES,
        plain.HEADS,
        keep(r"blocks\.(\d+)\.attn\.([qv])_bias", r"blocks.\1.attn.qkv.bias#\2"),
        keep(r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.gamma_\2"),
        keep(rf"rel_pos_bias\.{TABLE}", "table"),
        keep(rf"blocks\.(\d+)\.attn\.{TABLE}", r"table.\1"),
        drop(
            r"(rel_pos_bias|blocks\.\d+\.attn)\.relative_position_index", "it is computed from the grid, not a weight"
        ),
        drop(r"mask_token", "the detector masks no patches"),
        drop(r"lm_head\.(weight|bias)", "the head for visual tokens is only used in pre-training"),
    ),
    pixels=(HALF,),
    classifier=plain.CLASSIFIER,
)
