"""The names that most ViT code shares (timm's and DeiT's), and the fixed sine-cosine embeddings."""

from math import isqrt
from typing import Literal

import torch
from torch import Tensor

from ablate.models.mae import sin_cos_embedding
from ablate.weights.checkpoint import Checkpoint
from ablate.weights.families.base import CLASS_TOKEN, FINAL_NORM, HEAD, drop, keep

RULES = (
    keep(r"patch_embed\.proj\.(weight|bias)", r"patch_embed.\1"),
    keep(r"pos_embed", "pos_embed"),
    keep(r"blocks\.(\d+)\.(norm1|attn\.qkv|attn\.proj|norm2|mlp\.fc1|mlp\.fc2)\.(weight|bias)", r"blocks.\1.\2.\3"),
    drop(r"cls_token", CLASS_TOKEN),
    drop(r"(norm|fc_norm)\.(weight|bias)", FINAL_NORM),
)
CLASSIFIER = r"(head|head_dist)\.(weight|bias)"
HEADS = drop(CLASSIFIER, HEAD)
SUPERVISED_RULES = (*RULES, HEADS, keep(r"blocks\.(\d+)\.ls([12])\.gamma", r"blocks.\1.gamma_\2"))


def is_plain(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of a plain ViT."""
    return {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"} <= set(checkpoint.tensors)


def is_classifier(checkpoint: Checkpoint) -> bool:
    """Whether it is a plain ViT with a head for labels."""
    return is_plain(checkpoint) and "head.weight" in checkpoint.tensors


def has_sine_cosine(embedding: Tensor | None, first: Literal["columns", "rows"]) -> bool:
    """Whether an embedding [1, n, C], with or without a class token, is the fixed one, or has barely moved from it.

    The first half of the channels encodes columns in MAE (``ablate.models.mae.sin_cos_embedding``), rows in MoCo v3.
    """
    if embedding is None or embedding.dim() != 3 or embedding.shape[2] % 4:
        return False
    _, tokens, width = embedding.shape
    side = isqrt(tokens)
    fixed = sin_cos_embedding(width, side)[0, 1:].roll(width // 2 if first == "rows" else 0, dims=1)
    own = embedding[0, tokens - side * side :].float()
    # Fine-tuning moves it by little; the halves in the other order have a similarity of 0.91 at most, noise of std 0.02
    # (the size of a learned embedding) leaves 0.9995.
    return bool(torch.nn.functional.cosine_similarity(own.flatten(), fixed.flatten(), dim=0) > 0.99)
