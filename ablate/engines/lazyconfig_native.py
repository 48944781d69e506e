"""The variants whose backbone detectron2 has itself: its `SimpleFeaturePyramid` on its `ViT`."""

from ablate.config.schema import Freeze, RunConfig, ViT
from ablate.models.vit import global_block_indexes
from analysis.exceptions import BadInput

NATIVE_MODULES = (
    "from detectron2.modeling import SimpleFeaturePyramid, ViT",
    "from detectron2.modeling.backbone.fpn import LastLevelMaxPool",
)


def reasons_against(config: RunConfig) -> list[str]:
    """The settings that a config would need for detectron2's own backbone; empty if that can be used."""
    vit, pyramid = config.model.backbone, config.model.pyramid
    if not isinstance(vit, ViT):
        return ["model.backbone.type=vit (its ResNet is what --format lazyconfig writes already)"]
    position, attention = vit.position, vit.attention
    wanted = {
        "model.pyramid.type=simple": pyramid.type == "simple",
        "model.backbone.patch_size=16": vit.patch_size == 16,  # of its levels p2 to p6
        "model.backbone.position.relative=none": position.relative == "none",  # its own are of another kind
        "model.backbone.position.absolute=rand, pt or none": position.absolute != "zero",
        "model.backbone.layer_scale=none": vit.layer_scale == "none",
        "init.scheme=random": config.init.scheme == "random",
        "model.backbone.attention.propagation=none or conv_bottleneck": (
            attention.propagation in ("none", "conv_bottleneck")
        ),
        "model.backbone.attention.checkpoint=none": attention.checkpoint == "none",  # it would need fairscale
        "evaluate.padding=full": config.evaluate.padding == "full",
        "train.freeze without parts": config.train.freeze == Freeze(),
    }
    return [setting for setting, holds in wanted.items() if not holds]


def native_backbone(config: RunConfig) -> str:
    """The lines that build it.

    Raises:
        BadInput: with every setting that stands against it.
    """
    against = reasons_against(config)
    if against:
        raise BadInput(
            "detectron2's own ViT and SimpleFeaturePyramid cannot be this model; they would take "
            f"{'; '.join(against)}; --format lazyconfig writes every config"
        )
    vit = config.model.backbone
    assert isinstance(vit, ViT)
    attention = vit.attention
    convolved, everywhere = attention.propagation == "conv_bottleneck", attention.pattern == "global"
    needed = convolved or attention.pattern == "hybrid"
    chosen = global_block_indexes(vit.depth, attention.global_blocks, attention.global_count) if needed else ()
    windowed = [] if everywhere else [block for block in range(vit.depth) if convolved or block not in chosen]
    grid, stored = vit.image_size // vit.patch_size, vit.position.absolute_grid
    return f"""# Model: the backbone, detectron2's own
#
# Beside detablate's, with the same weights it gives the same maps, up to rounding; but its attention materialises the
# logits, and its random weights lack BEiT's scaling by depth.

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.backbone = L(SimpleFeaturePyramid)(
    net=L(ViT)(
        img_size=side,
        patch_size={vit.patch_size},  # {vit.image_size} / {vit.patch_size} = {grid}, a grid of {grid} x {grid} tokens
        embed_dim={vit.width},
        depth={vit.depth},
        num_heads={vit.heads},
        mlp_ratio={vit.mlp_ratio},
        qkv_bias={vit.qkv_bias},
        drop_path_rate={vit.drop_path},
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_abs_pos={vit.position.absolute != "none"},
        use_rel_pos=False,
        window_size={0 if everywhere else attention.window_size},
        window_block_indexes={windowed},  # the others are global
        residual_block_indexes={list(chosen) if convolved else []},
        pretrain_img_size={stored} * {vit.patch_size},  # the absolute embedding is stored on {stored} x {stored}
        pretrain_use_cls_token=False,
        out_feature="last_feat",
    ),
    in_feature="${{.net.out_feature}}",
    out_channels={config.model.pyramid.channels},
    scale_factors=(4.0, 2.0, 1.0, 0.5),
    top_block=L(LastLevelMaxPool)(),
    norm="LN",
    square_pad=side,  # with zeros after normalisation, below and on the right
)
"""
