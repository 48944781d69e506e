"""Initialisation: random, supervised, MoCo v3, BEiT, MAE; each with the settings that belong to its weights.

The paper tuned learning rate and weight decay for each of them: 8e-5 and 0.1, but 1.6e-4 for random and MoCo v3, and
0.2 for random. Here they keep those ratios to the base, whose own initialisation they are taken to fit.
"""

from typing import Any

from ablate.axes.base import Axis, Options, Variant, vit_of
from ablate.axes.in_house import made_after, recipe_of
from ablate.axes.sizes import model_size
from ablate.config import RunConfig

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNPUBLISHED = {
    ("supervised", "vit-l"): "the paper's were never released",
    ("mocov3", "vit-l"): "none were released",
    ("beit", "vit-b"): "the paper's, of ImageNet-1k alone, were never released; others of BEiT serve",
    ("beit", "vit-l"): "the paper's, of ImageNet-1k alone, were never released; others of BEiT serve",
}
KINDS = ("supervised", "mocov3", "beit", "mae")
TITLES = {"supervised": "supervised", "mocov3": "MoCo v3", "beit": "BEiT", "mae": "MAE"}


def _variants(base: RunConfig, options: Options) -> tuple[Variant, ...]:
    vit_of(base, "init")
    random = Variant(name="random", changes=settings_of("random", base), note="BEiT's depth-scaled scheme")
    return (random, *(_pretrained(kind, base, options) for kind in KINDS))


def _pretrained(kind: str, base: RunConfig, options: Options) -> Variant:
    file = options.weights.get(kind)
    changes = settings_of(kind, base)
    recipe = recipe_of(base) if kind == "mae" and file is None else None
    if recipe is not None:
        made = made_after(recipe, round(recipe.epochs))
        return Variant(name=TITLES[kind], changes={**made, **changes}, note="made in the house")
    return Variant(
        name=TITLES[kind],
        changes=changes if file is None else {"init.weights": file, **changes},
        note="learning rate and weight decay in the paper's ratio to the base's",
        blocked=advice(kind, kind, base) if file is None else None,
    )


def advice(option: str, kind: str, base: RunConfig) -> str:
    """What to do about weights that were not given."""
    size = model_size(base.model)
    reason = UNPUBLISHED.get((kind, size))
    if size not in ("vit-b", "vit-l"):
        reason = f"there are none of size {size}"
    return f"no public weights ({reason}); " * (reason is not None) + f"pass --weights {option}=FILE"


def settings_of(kind: str, base: RunConfig) -> dict[str, Any]:
    """What belongs to an initialisation beside its weights."""
    vit = vit_of(base, "init")
    mean, std = HALF if kind == "beit" else IMAGENET
    changes: dict[str, Any] = {
        "model.backbone.position.relative": "pt" if kind == "beit" else "zero",
        "model.backbone.position.absolute": "rand" if kind in ("random", "beit") else "pt",
        "train.lr": _scaled(base.train.lr, 2 if kind in ("random", "mocov3") else 1, base),
        "train.weight_decay": _scaled(base.train.weight_decay, 2 if kind == "random" else 1, base),
    }
    if kind == "beit":
        changes["model.backbone.layer_scale"] = 0.1 if vit.width < 1024 else 1e-5
    elif vit.layer_scale != "none":
        changes["model.backbone.layer_scale"] = "none"
    if kind != "mae" and base.init.pretraining != "none":
        changes["init.pretraining"] = "none"
    if (mean, std) != (base.model.pixel_mean, base.model.pixel_std):
        changes |= {"model.pixel_mean": mean, "model.pixel_std": std}
    return changes


def _scaled(value: float, share: int, base: RunConfig) -> float:
    own = 2 if base.init.weights == base.init.pretraining == "none" else 1
    return value * share / own


AXIS = Axis(
    name="init",
    title="Initialisation and pre-training",
    source="arXiv 2111.11429, Table 1",
    touches=frozenset(
        {
            "init",
            "model.backbone.position.relative",
            "model.backbone.position.absolute",
            "model.backbone.layer_scale",
            "model.pixel_mean",
            "model.pixel_std",
            "train.lr",
            "train.weight_decay",
        }
    ),
    baseline="random",
    variants=_variants,
)
