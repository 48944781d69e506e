"""How long to pre-train: MAE weights after 100 to 1600 epochs, or some made in the house, and none at all.

Every length is a schedule of its own that ends with its cosine, as in the paper; weights from the middle of a longer
one would be something else.
"""

from ablate.axes.base import Axis, Options, Variant, vit_of
from ablate.axes.in_house import lengths_of, made_after, recipe_of
from ablate.axes.init import AXIS as INIT
from ablate.axes.init import settings_of
from ablate.axes.sizes import model_size
from ablate.config import Pretrain, RunConfig

EPOCHS = (100, 200, 400, 800, 1600)
PUBLIC = 1600  # the only point of the sweep whose weights MAE's authors released


def _variants(base: RunConfig, options: Options) -> tuple[Variant, ...]:
    vit_of(base, "pretrain")
    random = Variant(name="0 epochs", changes=settings_of("random", base), note="random initialisation", number=0)
    recipe = None if options.weights else recipe_of(base)
    if recipe is not None:
        return (random, *(_made(recipe, epochs, base) for epochs in lengths_of(recipe)))
    return (random, *(_after(epochs, base, options) for epochs in EPOCHS))


def _made(recipe: Pretrain, epochs: int, base: RunConfig) -> Variant:
    return Variant(
        name=f"{epochs} epochs",
        changes={**made_after(recipe, epochs), **settings_of("mae", base)},
        note="made in the house, a full schedule of its own",
        number=epochs,
    )


def _after(epochs: int, base: RunConfig, options: Options) -> Variant:
    file = options.weights.get(f"mae@{epochs}", options.weights.get("mae") if epochs == PUBLIC else None)
    public = epochs == PUBLIC and model_size(base.model) in ("vit-b", "vit-l", "vit-h")
    advice = f"pass --weights mae@{epochs}=FILE" if public else f"no public weights; pass --weights mae@{epochs}=FILE"
    changes = settings_of("mae", base)
    return Variant(
        name=f"{epochs} epochs",
        changes=changes if file is None else {"init.weights": file, **changes},
        blocked=advice if file is None else None,
        number=epochs,
    )


AXIS = Axis(
    name="pretrain",
    title="Epochs of MAE pre-training",
    source="arXiv 2111.11429, Figure 3",
    touches=INIT.touches,
    baseline="0 epochs",
    variants=_variants,
    unit="epochs of pre-training",
)
