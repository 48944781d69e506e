"""How long to pre-train: MAE weights taken after 100 to 1600 epochs, and none at all."""

from ablate.axes.base import Axis, Options, Variant, vit_of
from ablate.axes.init import AXIS as INIT
from ablate.axes.init import settings_of
from ablate.axes.sizes import model_size
from ablate.config import RunConfig

EPOCHS = (100, 200, 400, 800, 1600)
PUBLIC = 1600  # the only point of the sweep whose weights MAE's authors released


def _variants(base: RunConfig, options: Options) -> tuple[Variant, ...]:
    vit_of(base, "pretrain")
    random = Variant(name="0 epochs", changes=settings_of("random", base), note="random initialisation", number=0)
    return (random, *(_after(epochs, base, options) for epochs in EPOCHS))


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
