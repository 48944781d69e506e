"""The names that papers give to backbone sizes."""

from typing import NamedTuple

from ablate.config import Model, ViT


class Dimensions(NamedTuple):
    """Of a plain ViT."""

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

    >>> from ablate.config_yaml import load_config
    >>> model_size(load_config("vit-l-coco").model), model_size(load_config("tiny-shapes").model)
    ('vit-l', 'vit-96x4')
    """
    backbone = model.backbone
    if not isinstance(backbone, ViT):
        return f"resnet-{backbone.depth}"
    own = Dimensions(backbone.width, backbone.depth, backbone.heads)
    return next((name for name, size in SIZES.items() if size == own), f"vit-{own.width}x{own.depth}")
