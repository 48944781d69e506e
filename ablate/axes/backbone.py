"""The backbone itself: ViT sizes against residual networks, under one training formula."""

from typing import Any

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import SIZES, model_size
from ablate.config.schema import RunConfig, ViT

DROP_PATH = {"vit-b": 0.1, "vit-l": 0.3}  # the paper's
TITLES = {"vit-b": "ViT-B", "vit-l": "ViT-L", "vit-h": "ViT-H"}


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    side = base.model.backbone.image_size
    residual = tuple(
        Variant(
            name=f"ResNet-{depth}",
            changes={
                "model.backbone": {"type": "resnet", "depth": depth, "image_size": side},
                "model.pyramid.type": "fpn",
            },
        )
        for depth in (50, 101)
    )
    back = {"model.pyramid.type": "multi_scale"} if base.model.pyramid.type == "fpn" else {}
    return (*(_vit(name, changes, back) for name, changes in _sizes(base).items()), *residual)


def _vit(name: str, changes: dict[str, Any], back: dict[str, Any]) -> Variant:
    whole = {"model.backbone": changes} if "type" in changes else {f"model.backbone.{k}": v for k, v in changes.items()}
    return Variant(name=name, changes={**whole, **back})


def _sizes(base: RunConfig) -> dict[str, dict[str, Any]]:
    """ViTs by name: the paper's two, or for a base of another size itself, twice as wide and twice as deep."""
    backbone, size = base.model.backbone, model_size(base.model)
    if isinstance(backbone, ViT) and size not in SIZES:
        width, depth, heads = backbone.width, backbone.depth, backbone.heads
        return {
            f"ViT {w} wide, {d} deep": {"width": w, "depth": d, "heads": h}
            for w, d, h in ((width, depth, heads), (2 * width, depth, 2 * heads), (width, 2 * depth, heads))
        }
    whole = {} if isinstance(backbone, ViT) else {"type": "vit", "image_size": backbone.image_size}
    return {
        TITLES[name]: {**whole, **SIZES[name]._asdict(), "drop_path": DROP_PATH[name]} for name in ("vit-b", "vit-l")
    }


AXIS = Axis(
    name="backbone",
    title="Size and kind of the backbone",
    source="arXiv 2111.11429, Tables 1 and 5",
    allowed_keys=frozenset({"model.backbone", "model.pyramid.type"}),
    variants=_variants,
)
