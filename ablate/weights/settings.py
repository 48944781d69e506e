"""The settings that belong to an initialisation, and the files of weights that a command line names for them.

The paper tuned learning rate and weight decay for each of them: 8e-5 and 0.1, but 1.6e-4 for random and MoCo v3, and
0.2 for random. Here they keep those ratios to the base, whose own initialisation they are taken to fit.
Pixel statistics, layer scale and the kind of bias tables follow from what lies in the file.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.backbone import model_size, vit_of
from ablate.config.schema import RunConfig
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from ablate.weights.source import CheckpointFacts

Triple = tuple[float, float, float]
PixelStatistics = tuple[Triple, Triple]  # mean and standard deviation by which images were normalised, RGB from 0 to 1
HALF: PixelStatistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET: PixelStatistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TITLES = {"supervised": "supervised", "mocov3": "MoCo v3", "beit": "BEiT", "mae": "MAE"}
KINDS = tuple(TITLES)
OTHER = "other"  # weights whose file does not tell what they are
LR = {"random": 2, "mocov3": 2}  # times that of the others
WEIGHT_DECAY = {"random": 2}
# What the files are whose official names presets give, so that a preset can be read where they are not.
OFFICIAL_FILES = {"mae_pretrain_vit_base.pth": "mae", "mae_pretrain_vit_large.pth": "mae"}
# The fine-tuning lengths at which the paper's initialisations were best. Its ViT-L overfits by 100 epochs, and reaches
# the number of its Table 1 after 50.
RANDOM_EPOCHS, PRETRAINED_EPOCHS, PRETRAINED_LARGE_EPOCHS = 200.0, 100.0, 50.0


def read_facts_of_kind(kind: str, file: str) -> "CheckpointFacts":
    """The facts about a file that should contain weights of a kind.

    Raises:
        BadInput: it cannot be read, or holds those of another kind.
    """
    from ablate.weights.source import read_facts

    facts, found = read_facts(file), initialisation_of(file)
    if kind not in (OTHER, found):
        remedy = f"pass it as {found}" if found != OTHER else "study it with ablate vary --vary init.weights=FILE,FILE"
        raise BadInput(f"{file}: should be {TITLES[kind]} weights, but is recognised as {facts.family}; {remedy}")
    return facts


def initialisation_of(file: str) -> str:
    """Which of ``KINDS`` a file holds, by its content; ``OTHER`` where that does not tell.

    Raises:
        BadInput: it cannot be read, or is of no known family.
    """
    from ablate.weights.source import read_facts

    return {title: kind for kind, title in TITLES.items()}.get(read_facts(file).initialisation, OTHER)


def init_settings(kind: str, base: RunConfig, file: str | None = None) -> dict[str, Any]:
    """What belongs to an initialisation: its weights, where there is a file of them, and what they need.

    Args:
        kind: random, one of ``KINDS``, or ``OTHER``.
        base: whose learning rate and weight decay are scaled.
        file: of the weights; without it, the settings are those of the official files.

    Raises:
        BadInput: the file holds weights of another kind.
    """
    vit = vit_of(base, "init")
    facts = None if file is None else read_facts_of_kind(kind, file)
    own = own_initialisation(base)
    changes: dict[str, Any] = {} if file is None else {"init.weights": file}
    if base.init.pretraining != "none" and (kind != "mae" or file is not None):
        changes["init.pretraining"] = "none"
    if kind == "random" and base.init.weights != "none":
        changes["init.weights"] = "none"
    without_bias = vit.position.relative == "none"  # a base without relative positions has none of its own accord
    relative = "pt" if kind == "beit" else "none" if without_bias else "zero"
    changes |= {
        "model.backbone.position.relative": relative,
        "model.backbone.position.absolute": "rand" if kind in ("random", "beit") else "pt",
        "train.lr": base.train.lr * LR.get(kind, 1) / LR.get(own, 1),
        "train.weight_decay": base.train.weight_decay * WEIGHT_DECAY.get(kind, 1) / WEIGHT_DECAY.get(own, 1),
    }
    if kind == "random" and base.train.layer_decay != "none":
        changes["train.layer_decay"] = "none"  # it spares pre-trained blocks, and ViTDet trains random ones without it
    has_layer_scale = kind == "beit" if facts is None else facts.layer_scale
    if has_layer_scale and vit.layer_scale == "none":
        changes["model.backbone.layer_scale"] = usual_layer_scale(vit.width)
    elif not has_layer_scale and vit.layer_scale != "none":
        changes["model.backbone.layer_scale"] = "none"
    if facts is not None and facts.relative == "per block" and vit.position.tables != "per_block":
        changes["model.backbone.position.tables"] = "per_block"
    pixels = facts.pixels if facts else (HALF if kind == "beit" else IMAGENET,)
    if (base.model.pixel_mean, base.model.pixel_std) not in pixels:
        mean, std = pixels[0]
        changes |= {"model.pixel_mean": mean, "model.pixel_std": std}
    return changes


def own_initialisation(config: RunConfig) -> str:
    """What a config starts from: random, one of ``KINDS``, or ``OTHER``."""
    if config.init.pretraining != "none":
        return "mae"
    weights = Path(config.init.weights)
    if config.init.weights != "none" and not weights.exists() and weights.name in OFFICIAL_FILES:
        return OFFICIAL_FILES[weights.name]
    return "random" if config.init.weights == "none" else initialisation_of(config.init.weights)


def best_epochs(kind: str, base: RunConfig) -> float:
    """The epochs of fine-tuning at which the paper's runs from an initialisation were best."""
    if kind == "random":
        return RANDOM_EPOCHS
    return PRETRAINED_LARGE_EPOCHS if model_size(base.model) == "vit-l" else PRETRAINED_EPOCHS


def best_schedule(kind: str, base: RunConfig) -> dict[str, Any]:
    """The paper's best length for an initialisation, as changes of a base.

    A base that counts in iterations is taken to have the best length of its own initialisation, and keeps the ratio.
    """
    if isinstance(base.train.iterations, int):
        ratio = best_epochs(kind, base) / best_epochs(own_initialisation(base), base)
        return {"train.iterations": max(1, round(base.train.iterations * ratio))}
    return {"train.epochs": best_epochs(kind, base)}


def usual_layer_scale(width: int) -> float:
    """Where BEiT's layer scale began, for a ViT of so many channels; pre-trained values replace it."""
    return 0.1 if width < 1024 else 1e-5


EPOCHS = "{epochs}"
FORMS = f"NAME=FILE, for example mae=mae_base.pth, or FILE with {EPOCHS} in its place, such as pretrain-{EPOCHS}.pth"


def weights_from(arguments: Sequence[str]) -> dict[str, str]:
    """Names to absolute paths. ``pretrain-{epochs}.pth`` stands for every file of that form, named by its epochs.

    Raises:
        BadInput: a form that is none, a file that is missing, a name given twice.
    """
    files: dict[str, str] = {}
    for argument in arguments:
        name, sign, file = argument.partition("=")
        if EPOCHS in argument:
            found = _expanded(argument, file if sign and EPOCHS in file and EPOCHS not in name else argument)
        elif not sign or not name:
            raise BadInput(f"--weights {argument}: write {FORMS}")
        else:
            found = {name: Path(file).expanduser()}
        for key, path in found.items():
            if not path.is_file():
                raise BadInput(f"--weights {argument}: no such file; write {FORMS}")
            if key in files:
                raise BadInput(f"--weights names {key} twice: {files[key]} and {path}")
            files[key] = str(path.absolute())
    return files


def _expanded(argument: str, pattern: str) -> dict[str, Path]:
    """Files by their epochs, fewest first."""
    place = Path(pattern).expanduser()
    if EPOCHS not in place.name or place.name.count(EPOCHS) > 1:
        raise BadInput(f"--weights {argument}: {EPOCHS} must occur once in the name of the file")
    before, _, after = place.name.partition(EPOCHS)
    form = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    there = sorted(place.parent.iterdir()) if place.parent.is_dir() else []
    found = {int(match[1]): path for path in there if (match := form.fullmatch(path.name))}
    if not found:
        raise BadInput(f"--weights {argument}: no file in {place.parent} has such a name")
    return {str(epochs): found[epochs] for epochs in sorted(found)}
