"""What a run of a study starts from, where that is pre-trained in the house: found, named and loaded."""

from pathlib import Path

import msgspec
import torch
from torch import nn

from ablate.config import Init, Pretrain, Pretraining, RunConfig, pretraining_of
from ablate.data.pictures import are_there, find_pictures
from ablate.identity import pretraining_identity
from ablate.models.positions import resize_embedding
from ablate.pretraining_folder import PretrainingFolder, pretraining_folder
from analysis.refusal import BadInput


def resolved(pretraining: Pretraining, device: str) -> Pretraining:
    """A pre-training whose precision is no longer `auto`."""
    from ablate.engines.precision import resolve

    recipe = pretraining.pretrain
    precision = resolve(recipe.precision, torch.device(device))
    return msgspec.structs.replace(pretraining, pretrain=msgspec.structs.replace(recipe, precision=precision))


def initial_digest(config: RunConfig, root: Path, *, write: bool = True) -> str:
    """How the initial weights of a run enter its identity; empty for random ones.

    Args:
        config: of the run.
        root: above `results/`, where the embedded data lies.
        write: make the embedded data where it is missing; without it and the data, the answer is empty.

    Raises:
        BadInput: the images of the pre-training cannot be found.
    """
    recipe = config.init.pretraining
    if not isinstance(recipe, Pretrain) or not (write or are_there(recipe.images, root)):
        return ""
    return pretraining_identity(pretraining_of(config), find_pictures(recipe.images, root).digest)


def epoch_of(init: Init) -> int:
    """After which epoch of the pre-training the weights are taken."""
    assert isinstance(init.pretraining, Pretrain)
    return round(init.pretraining.epochs) if init.pretraining_epoch == "last" else init.pretraining_epoch


def pretrained_weights(config: RunConfig, root: Path) -> Path:
    """The file of weights that the pre-training of a run has left.

    Raises:
        BadInput: it is not there.
    """
    folder = pretraining_folder(root, initial_digest(config, root))
    path = folder.weights_after(epoch_of(config.init))
    if not path.exists():
        raise BadInput(f"{path}: the run starts from these weights, and they are not there; {_remedy(folder, config)}")
    return path


def _remedy(folder: PretrainingFolder, config: RunConfig) -> str:
    status = folder.read_status()
    if status is not None and status.state == "finished":
        return (
            f"epoch {epoch_of(config.init)} was not kept: move {folder.path} away and pre-train again with "
            f"--save-epochs {epoch_of(config.init)}"
        )
    return "pre-train first: ablate launch of the study does, and so does ablate run"


def load_pretrained(backbone: nn.Module, config: RunConfig, path: Path) -> None:
    """Load an encoder of MAE's layout into a ViT."""
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    own = backbone.state_dict()
    taken = {}
    for key, value in state.items():
        name = key.replace("patch_embed.proj.", "patch_embed.")
        if name == "pos_embed":
            side = round(own["pos_embed"].shape[1] ** 0.5)
            taken[name] = resize_embedding(value[:, 1:], (side, side)).reshape(own["pos_embed"].shape)
        elif not name.startswith(("norm.", "cls_token")):
            taken[name] = value
    backbone.load_state_dict({**own, **taken})
