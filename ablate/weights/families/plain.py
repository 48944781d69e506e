"""The names that most ViT code shares (timm's and DeiT's), and the fixed sine-cosine embeddings."""

from typing import Literal

import torch
from torch import Tensor

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
LAYER_SCALE = keep(r"blocks\.(\d+)\.ls([12])\.gamma", r"blocks.\1.gamma_\2")


def is_plain(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of a plain ViT."""
    return {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"} <= set(checkpoint.tensors)


def sine_cosine(side: int, width: int, first: Literal["columns", "rows"]) -> Tensor:
    """The fixed embedding f32[side*side, width].

    The first half of its channels encodes columns in MAE, rows in MoCo v3. A half is sines, then cosines, of the place
    times 10000^(-i/n), i = 0 ... n-1 with n = width / 4.
    """
    n = width // 4
    angles = torch.arange(side)[:, None] * 10000.0 ** -(torch.arange(n) / n)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width / 2]
    rows, columns = line.repeat_interleave(side, dim=0), line.repeat(side, 1)
    return torch.cat([columns, rows] if first == "columns" else [rows, columns], dim=1)


def has_sine_cosine(embedding: Tensor | None, first: Literal["columns", "rows"]) -> bool:
    """Whether an embedding [1, n, C], with or without a class token, is that one, or has barely moved from it."""
    if embedding is None or embedding.dim() != 3 or embedding.shape[2] % 4:
        return False
    side = int(embedding.shape[1] ** 0.5)
    fixed = sine_cosine(side, embedding.shape[2], first)
    own = embedding[0, embedding.shape[1] - side * side :].float()
    # Fine-tuning moves it by little; the halves in the other order have a similarity of 0.91 at most, noise of std 0.02
    # (the size of a learned embedding) leaves 0.9995.
    return bool(torch.nn.functional.cosine_similarity(own.flatten(), fixed.flatten(), dim=0) > 0.99)
