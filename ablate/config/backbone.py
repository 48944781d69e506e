"""The ViT of a config, and the names that papers give to the sizes of backbones."""

from typing import NamedTuple

from ablate.config.schema import Model, PluginBackbone, ResNet, RunConfig, ViT
from analysis.exceptions import BadInput


def vit_of(base: RunConfig, axis: str) -> ViT:
    """The ViT of a base config.

    Raises:
        BadInput: it has another backbone.
    """
    backbone = base.model.backbone
    if not isinstance(backbone, ViT):
        what = "a ResNet" if isinstance(backbone, ResNet) else "a backbone of another package"
        raise BadInput(f"axis {axis} varies a ViT, but the base has {what}; choose another --base")
    return backbone


class Dimensions(NamedTuple):
    """Dimensions of a plain ViT."""

    width: int
    depth: int
    heads: int


SIZES = {
    "vit-b": Dimensions(768, 12, 12),
    "vit-l": Dimensions(1024, 24, 16),
    "vit-h": Dimensions(1280, 32, 16),
}


def model_size(model: Model) -> str:
    """``vit-b``, ``vit-l``, ``vit-h``, ``resnet-50``, ``resnet-101``; a ViT of another size by its width and depth.

    A backbone of another package is named after its entry point.

    >>> from ablate.config.yaml import load_config
    >>> model_size(load_config("vit-l-coco").model), model_size(load_config("tiny-shapes").model)
    ('vit-l', 'vit-96x4')
    """
    backbone = model.backbone
    if isinstance(backbone, PluginBackbone):
        return backbone.name
    if isinstance(backbone, ResNet):
        return f"resnet-{backbone.depth}"
    own = Dimensions(backbone.width, backbone.depth, backbone.heads)
    return next((name for name, size in SIZES.items() if size == own), f"vit-{own.width}x{own.depth}")
