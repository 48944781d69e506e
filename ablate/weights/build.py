"""From the settings of a plain ViT to the module."""

from typing import Literal

from ablate.config import schema as cfg
from ablate.models import ViT


def build_vit(
    settings: cfg.ViT, taps: Literal["quarters", "last"] = "last", scheme: Literal["random", "truncated"] = "random"
) -> ViT:
    """The backbone, with random weights drawn from torch's global generator.

    Args:
        settings: of a config.
        taps: as the pyramid reads it.
        scheme: ``init.scheme`` of a config.
    """
    attention, position = settings.attention, settings.position
    return ViT(
        width=settings.width,
        depth=settings.depth,
        heads=settings.heads,
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        mlp_ratio=settings.mlp_ratio,
        pattern=attention.pattern,
        window_size=attention.window_size,
        global_blocks=attention.global_blocks,
        global_count=attention.global_count,
        propagation=attention.propagation,
        kernel=attention.kernel,
        checkpoint=attention.checkpoint,
        relative=position.relative,
        tables=position.tables,
        absolute=position.absolute,
        absolute_grid=position.absolute_grid,
        layer_scale=None if settings.layer_scale == "none" else settings.layer_scale,
        drop_path=settings.drop_path,
        qkv_bias=settings.qkv_bias,
        taps=taps,
        scheme=scheme,
    )
