"""How parts of a detector with a plain ViT are trained differently: slower the deeper they lie, or not at all."""

from torch import nn

from ablate.models.vit import ViT


def layer_lr_factor(name: str, *, decay: float, depth: int) -> float:
    """The factor of the learning rate of a parameter under layer-wise decay.

    The heads, the pyramid, convolutions between blocks and tables of relative positions that blocks share have 1, the
    last block ``decay``, every block before it that once more, and the patch and absolute embeddings once more than the
    first block. So have BEiT's code, timm (which counts a shared table among the embeddings) and detectron2.

    Args:
        name: of the parameter in the detector, such as ``backbone.blocks.3.attn.qkv.weight``; in detectron2 the ViT is
            ``backbone.net``.
        decay: above 0, at most 1.
        depth: blocks of the ViT.

    >>> layer_lr_factor("backbone.blocks.11.norm1.weight", decay=0.5, depth=12)
    0.5
    >>> layer_lr_factor("backbone.net.pos_embed", decay=0.5, depth=2)
    0.125
    """
    package, *parts = name.split(".")
    if package != "backbone":
        return 1.0
    part, *rest = parts[1:] if parts[0] == "net" else parts
    if part in ("pos_embed", "patch_embed"):
        return float(decay ** (depth + 1))
    if part in ("blocks", "block_bias"):
        return float(decay ** (depth - int(rest[0])))
    return 1.0


def freeze(vit: ViT, *, patch_embedding: bool = False, blocks: int = 0, norms: bool = False) -> None:
    """Keep parts of a ViT as they are: they get no gradient, and no optimizer takes them.

    Args:
        vit: of which the rest is trained.
        patch_embedding: the patch embedding.
        blocks: the first so many blocks, with the tables of relative positions that are theirs alone.
        norms: every norm.
    """
    frozen: list[nn.Module] = [*vit.blocks[:blocks], *vit.block_bias[:blocks]]
    frozen += [vit.patch_embed] * patch_embedding
    frozen += [module for module in vit.modules() if norms and isinstance(module, nn.LayerNorm)]
    for module in frozen:
        module.requires_grad_(False)
