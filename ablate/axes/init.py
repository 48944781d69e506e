"""Initialisation: random, supervised, MoCo v3, BEiT, MAE; each with the settings that belong to its weights.

The paper tuned learning rate and weight decay for each of them: 8e-5 and 0.1, but 1.6e-4 for random and MoCo v3, and
0.2 for random. Here the same ratios apply to the base, whose values are assumed to fit its own initialisation. It
tuned drop path for each size (0.1 for ViT-B, 0.3 for ViT-L), not for each initialisation: here the base's is kept.
Pixel statistics, layer scale and the kind of bias tables follow from what lies in the file.

All train as long as the base, which is the controlled comparison. With ``--schedule best`` each trains for the length
at which the paper's was best, as in its Table 1: the length then is a second difference, and tables mark it.
"""

import msgspec

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.axes.mae_recipe import mae_recipe, pretraining_changes
from ablate.config.backbone import model_size, vit_of
from ablate.config.schema import RunConfig
from ablate.weights.settings import KINDS, TITLES, best_schedule, init_settings
from analysis.exceptions import BadInput

UNPUBLISHED = {
    ("supervised", "vit-l"): "the paper's weights were never released",
    ("mocov3", "vit-l"): "no such weights were released",
    ("beit", "vit-b"): "the paper's weights (ImageNet-1k only) were never released; other BEiT weights can be used",
    ("beit", "vit-l"): "the paper's weights (ImageNet-1k only) were never released; other BEiT weights can be used",
}


def _variants(base: RunConfig, options: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "init")
    check_options(options, KINDS)
    random = Variant(name="random", changes=init_settings("random", base), note="BEiT's depth-scaled scheme")
    variants = {"random": random, **{kind: _pretrained(kind, base, options) for kind in KINDS}}
    if options.schedule == "same":
        return tuple(variants.values())
    return tuple(_at_its_best_length(variant, kind, base) for kind, variant in variants.items())


def _at_its_best_length(variant: Variant, kind: str, base: RunConfig) -> Variant:
    ((key, length),) = best_schedule(kind, base).items()
    note = f"{variant.note}; the paper's best length for it, {length:g} {key.removeprefix('train.')}"
    return msgspec.structs.replace(variant, changes={**variant.changes, key: length}, note=note)


def _pretrained(kind: str, base: RunConfig, options: AxisOptions) -> Variant:
    file = options.weights.get(kind)
    recipe = mae_recipe(base) if kind == "mae" and not options.weights else None
    if recipe is not None:
        changes = {**pretraining_changes(recipe, round(recipe.epochs)), **init_settings(kind, base)}
        return Variant(name=TITLES[kind], changes=changes, note="pre-trained here")
    return Variant(
        name=TITLES[kind],
        changes=init_settings(kind, base, file),
        note="learning rate and weight decay in the paper's ratio to the base's",
        blocked=missing_weights(kind, kind, base) if file is None else None,
    )


def missing_weights(option: str, kind: str, base: RunConfig) -> str:
    """The remedy for weights that were not given."""
    size = model_size(base.model)
    reason = UNPUBLISHED.get((kind, size), "") if size in ("vit-b", "vit-l") else f"there are none for size {size}"
    return f"no public weights ({reason}); " * bool(reason) + f"pass --weights {option}=FILE"


def check_options(options: AxisOptions, names: tuple[str, ...]) -> None:
    """Refuse weights that no variant uses.

    Raises:
        BadInput: a name of ``--weights`` is none of ``names``.
    """
    for name, file in options.weights.items():
        if name not in names:
            raise BadInput(f"--weights {name}={file}: the names of this axis are {', '.join(names)}")


AXIS = Axis(
    name="init",
    title="Initialisation and pre-training",
    source="arXiv 2111.11429, Table 1",
    allowed_keys=frozenset(
        {"init", *(f"model.backbone.position.{key}" for key in ("relative", "absolute", "tables"))}
        | {"model.backbone.layer_scale", "model.pixel_mean", "model.pixel_std", "train.lr", "train.weight_decay"}
        | {"train.layer_decay"}  # random weights are trained without it
    ),
    baseline="random",
    variants=_variants,
    takes_weights=True,
)
