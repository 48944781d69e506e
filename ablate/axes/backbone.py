"""The backbone itself: ViT sizes against residual networks, under one training formula."""

from typing import Any

from ablate.axes.base import Axis, AxisOptions, Variant, variants_from
from ablate.config.backbone import SIZES, model_size
from ablate.config.schema import RunConfig, ViT

SIZES_OF_PAPER = (("vit-b", "ViT-B", 0.1), ("vit-l", "ViT-L", 0.3))  # with their drop path


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    """ResNets and ViTs: the paper's two sizes, or for another base its own, twice its width, twice its depth."""
    backbone, size = base.model.backbone, model_size(base.model)
    back = {"model.pyramid.type": "multi_scale"} if base.model.pyramid.type == "fpn" else {}
    vits: dict[str, dict[str, Any]] = {
        title: {**SIZES[name]._asdict(), "drop_path": rate} for name, title, rate in SIZES_OF_PAPER
    }
    if isinstance(backbone, ViT) and size not in SIZES:
        width, depth, heads = backbone.width, backbone.depth, backbone.heads
        vits = {
            f"ViT {w} wide, {d} deep": {"width": w, "depth": d, "heads": h}
            for w, d, h in ((width, depth, heads), (2 * width, depth, 2 * heads), (width, 2 * depth, heads))
        }
    side = backbone.image_size
    found = []
    for name, settings in vits.items():
        changes = {f"model.backbone.{key}": value for key, value in settings.items()}
        if not isinstance(backbone, ViT):
            changes = {"model.backbone": {"type": "vit", "image_size": side, **settings}}
        found.append(Variant(name=name, changes={**changes, **back}))
    resnets = (
        (
            f"ResNet-{depth}",
            {"backbone": {"type": "resnet", "depth": depth, "image_size": side}, "pyramid.type": "fpn"},
            "",
        )
        for depth in (50, 101)
    )
    return (*found, *variants_from("model", resnets))


AXIS = Axis(
    name="backbone",
    title="Size and kind of the backbone",
    source="arXiv 2111.11429, Tables 1 and 5",
    allowed_keys=frozenset({"model.backbone", "model.pyramid.type"}),
    variants=_variants,
)
