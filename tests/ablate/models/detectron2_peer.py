"""detectron2's own ViT and simple feature pyramid with the weights of ours, for tests and `benchmarks/backbone.py`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ablate.models import ViT
from ablate.models.pyramid import SimplePyramid


@contextmanager
def quietly() -> Iterator[None]:
    """detectron2 and its timm import parts of torch and Python that warn of their end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def detectron2_vit(ours: ViT, *, image_size: int, relative: bool = False) -> nn.Module:
    """detectron2's ViT of the same settings with the weights of ours; its map is called ``last_feat``.

    Args:
        ours: without relative bias (detectron2 has no such tables) and without layer scale.
        image_size: side of the training images in pixels, for the tables of its own relative position.
        relative: gives it its own, decomposed relative position, for comparisons of cost alone.
    """
    with quietly():
        from detectron2.modeling.backbone.vit import ViT as Detectron2ViT

        blocks: Any = ours.blocks
        theirs = Detectron2ViT(
            img_size=image_size,
            patch_size=ours.patch_size,
            embed_dim=ours.width,
            depth=ours.depth,
            num_heads=ours.heads,
            mlp_ratio=blocks[0].mlp.fc1.out_features / ours.width,
            qkv_bias=blocks[0].attn.qkv.bias is not None,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_abs_pos=ours.pos_embed is not None,
            use_rel_pos=relative,
            window_size=ours.window_size,
            window_block_indexes=[number for number in range(ours.depth) if number not in ours.global_blocks],
            residual_block_indexes=[int(number) for number in ours.propagation],
            pretrain_img_size=0 if ours.pos_embed is None else round(ours.pos_embed.shape[1] ** 0.5) * ours.patch_size,
            pretrain_use_cls_token=False,
        )
    state = {their_name(name): value for name, value in ours.state_dict().items() if not name.endswith("bias.table")}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(relative and ".rel_pos_" in name for name in missing), missing
    return theirs.train(ours.training)


def their_name(name: str) -> str:
    """What detectron2 calls a parameter of ours."""
    if name.startswith("patch_embed."):
        return name.replace("patch_embed.", "patch_embed.proj.")
    if name.startswith("propagation."):
        _, block, kind, place, parameter = name.split(".")
        return f"blocks.{block}.residual.{kind.removesuffix('s')}{int(place) + 1}.{parameter}"
    return name


def detectron2_pyramid(ours: SimplePyramid, backbone: nn.Module) -> nn.Module:
    """detectron2's ``SimpleFeaturePyramid`` on its ViT, with the weights of ours."""
    with quietly():
        from detectron2.modeling.backbone.fpn import LastLevelMaxPool
        from detectron2.modeling.backbone.vit import SimpleFeaturePyramid

        theirs = SimpleFeaturePyramid(
            backbone,
            in_feature="last_feat",
            out_channels=ours.channels,
            scale_factors=(4.0, 2.0, 1.0, 0.5),
            top_block=LastLevelMaxPool(),
            norm="LN",
        )
    state: dict[str, Tensor] = {}
    for level, stage in enumerate(ours.stages):
        own = list(stage.children())  # type: ignore[union-attr]
        first_conv = len(own) - 4  # ours: scaling, conv, norm, conv, norm; theirs: the norm inside its convolution
        for place, module in enumerate(own):
            if place < first_conv:
                name = f"simfp_{level + 2}.{place}"
            else:
                conv, inside = divmod(place - first_conv, 2)
                name = f"simfp_{level + 2}.{first_conv + conv}" + (".norm" if inside else "")
            state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    state |= {f"net.{name}": value for name, value in backbone.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    return theirs.train(ours.training)
