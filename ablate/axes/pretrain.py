"""How long to pre-train: MAE weights after 100 to 1600 epochs, or of the base's own pre-training, and none at all.

Weights are given by their epochs: ``100``, ``mae@100``; ``mae`` alone is the released point of the sweep. Every length
is a full cosine schedule of its own; weights from the middle of a longer schedule are not comparable.
"""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.axes.init import AXIS as INIT
from ablate.axes.mae_recipe import epochs_to_compare, mae_recipe, pretraining_changes
from ablate.config.backbone import SIZES, model_size, vit_of
from ablate.config.schema import Pretrain, RunConfig
from ablate.weights.settings import init_settings
from analysis.exceptions import BadInput

EPOCHS = (100, 200, 400, 800, 1600)
PUBLIC = 1600  # the only point of the sweep whose weights MAE's authors released


def _variants(base: RunConfig, options: AxisOptions) -> tuple[Variant, ...]:
    vit_of(base, "pretrain")
    files = _files(options)
    random = Variant(name="0 epochs", changes=init_settings("random", base), note="random initialisation", number=0)
    recipe = None if files else mae_recipe(base)
    if recipe is not None:
        return (random, *(_pretrained_here(recipe, epochs, base) for epochs in epochs_to_compare(recipe)))
    published = model_size(base.model) in SIZES
    # The paper's points without weights are shown as blocked; with weights of another model only those are shown.
    points = sorted({*files, *EPOCHS} if not files or published else files)
    return (random, *(_from_file(epochs, base, files.get(epochs), published) for epochs in points))


def _files(options: AxisOptions) -> dict[int, str]:
    """The files by their epochs."""
    files = {}
    for name, file in options.weights.items():
        epochs = name.removeprefix("mae").removeprefix("@") or str(PUBLIC)
        if not epochs.isdecimal() or int(epochs) == 0:
            raise BadInput(f"--weights {name}={file}: write the number of epochs of pre-training, such as 100={file}")
        files[int(epochs)] = file
    return files


def _pretrained_here(recipe: Pretrain, epochs: int, base: RunConfig) -> Variant:
    changes = {**pretraining_changes(recipe, epochs), **init_settings("mae", base)}
    return Variant(name=f"{epochs} epochs", changes=changes, note="pre-trained here", number=epochs)


def _from_file(epochs: int, base: RunConfig, file: str | None, published: bool) -> Variant:
    reason = "" if epochs == PUBLIC and published else "no public weights; "
    blocked = f"{reason}pass --weights {epochs}=FILE" if file is None else None
    return Variant(name=f"{epochs} epochs", changes=init_settings("mae", base, file), blocked=blocked, number=epochs)


AXIS = Axis(
    name="pretrain",
    title="Epochs of MAE pre-training",
    source="arXiv 2111.11429, Figure 3",
    allowed_keys=INIT.allowed_keys,
    baseline="0 epochs",
    variants=_variants,
    takes_weights=True,
    unit="epochs of pre-training",
)
