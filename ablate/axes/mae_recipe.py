"""Weights that this program pre-trains: the recipe that a base has for them, and the keys that a variant sets."""

from typing import Any

import msgspec

from ablate.config.schema import Pretrain, RunConfig, Shapes, ViT
from ablate.config.yaml import load_config

EMBEDDED = "tiny-shapes-mae"  # the preset whose recipe serves every base on the embedded data


def mae_recipe(base: RunConfig) -> Pretrain | None:
    """How weights for a base are made: as its `init.pretraining` says, or the embedded recipe on the embedded data.

    None if neither exists: pre-training on the user's own images takes days, and only starts on request.
    """
    own = base.init.pretraining
    if isinstance(own, Pretrain):
        return own
    backbone = base.model.backbone
    if not (isinstance(base.data.train, Shapes) and isinstance(backbone, ViT)):
        return None
    recipe = load_config(EMBEDDED).init.pretraining
    assert isinstance(recipe, Pretrain)
    return recipe if recipe.image_size % backbone.patch_size == backbone.width % 4 == 0 else None


def epochs_to_compare(recipe: Pretrain) -> tuple[int, ...]:
    """Numbers of epochs to compare: a quarter, half and all of the recipe's; each is a full schedule of its own."""
    lengths = (round(recipe.epochs * share) for share in (0.25, 0.5, 1))
    return tuple(epochs for epochs in lengths if epochs > recipe.warmup_epochs)


def pretraining_changes(recipe: Pretrain, epochs: int) -> dict[str, Any]:
    """The config keys of a run that starts from weights of this many epochs."""
    tree = msgspec.to_builtins(msgspec.structs.replace(recipe, epochs=float(epochs)))
    defaults = {field.name: field.default for field in msgspec.structs.fields(Pretrain) if not field.required}
    short = {key: value for key, value in tree.items() if key not in defaults or defaults[key] != value}
    return {"init.pretraining": short}
