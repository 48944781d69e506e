"""The weights that a run starts from, a file or a pre-training on one's own images: found, named and loaded."""

from pathlib import Path

import msgspec
import torch
from torch import nn

from ablate.config.identity import pretraining_identity
from ablate.config.schema import Init, Pretrain, Pretraining, RunConfig, epoch_of, pretraining_of
from ablate.config.yaml import with_changes
from ablate.data.images import find_images, is_available
from ablate.runs.folder import PretrainingFolder, Workspace
from ablate.train.optim import resolve
from ablate.weights.checkpoint import init_digest
from ablate.weights.convert import ConversionReport, load_weights
from analysis.exceptions import BadInput


def resolved(pretraining: Pretraining, device: str) -> Pretraining:
    """A pre-training whose precision is no longer `auto`."""
    recipe = pretraining.pretrain
    precision = resolve(recipe.precision, torch.device(device))
    return msgspec.structs.replace(pretraining, pretrain=msgspec.structs.replace(recipe, precision=precision))


def with_precision(config: RunConfig, device: torch.device) -> RunConfig:
    """A run whose precision, and that of its pre-training, is no longer `auto`."""
    changes = {"train.precision": resolve(config.train.precision, device)}
    recipe = config.init.pretraining
    if isinstance(recipe, Pretrain):
        changes["init.pretraining.precision"] = resolve(recipe.precision, device)
    return with_changes(config, changes)


def initial_digest(config: RunConfig, workspace: Workspace, *, write: bool = True) -> str:
    """The digest by which the initial weights of a run enter its identity; empty for random weights.

    Args:
        config: of the run.
        workspace: above `results/`, where the embedded data lies.
        write: make the embedded data where it is missing, and keep what was found of the images; without it and the
            data, the answer is empty.

    Raises:
        BadInput: the file of weights, or the images of the pre-training, cannot be found.
    """
    recipe = config.init.pretraining
    if not isinstance(recipe, Pretrain):
        return init_digest(config.init)
    if recipe.precision == "auto":
        raise BadInput("init.pretraining.precision=auto: a variant needs one precision; choose bf16, fp16 or fp32")
    if not (write or is_available(recipe.images, workspace)):
        return ""
    return pretraining_identity(pretraining_of(config), find_images(recipe.images, workspace, keep=write).digest)


def load_initial(backbone: nn.Module, config: RunConfig, digest: str, workspace: Workspace) -> ConversionReport:
    """Load the weights that a run starts from into its backbone.

    Args:
        backbone: of the run's detector.
        config: of the run, which names weights or a pre-training.
        digest: with which the run was prepared.
        workspace: above `results/`.

    Raises:
        BadInput: the weights are missing, do not fit, or have changed since the run was prepared.
    """
    if config.init.pretraining != "none":
        made = Init(weights=str(_made(config.init, workspace.pretraining(digest))))
        return load_weights(backbone, msgspec.structs.replace(config, init=made))
    report = load_weights(backbone, config)
    if report.facts.digest != digest:
        raise BadInput(f"{config.init.weights}: has changed since this run was planned; restore the old file")
    return report


def _made(init: Init, folder: PretrainingFolder) -> Path:
    """The weights file of a finished pre-training."""
    path, epoch = folder.weights_after(epoch_of(init)), epoch_of(init)
    if path.exists():
        return path
    status = folder.read_status()
    if status is not None and status.state == "finished":
        remedy = f"epoch {epoch} was not kept: move {folder.path} away, and pre-train again with --save-epochs {epoch}"
    else:
        remedy = "pre-train first: ablate launch and ablate run do it"
    raise BadInput(f"{path}: a run starts from these weights, but the file is missing; {remedy}")


def write_backbone(config: RunConfig, workspace: Workspace, path: Path, prefix: str) -> None:
    """The weights that a run starts from, fitted to its backbone, as a file for other programs.

    Args:
        config: of the run, which names weights or a pre-training.
        workspace: above `results/`.
        path: the file, ``{"model": {name: tensor}}``.
        prefix: of the names.

    Raises:
        BadInput: they are not there, do not fit, or the file cannot be written.
    """
    import io

    from ablate.detector.mask_rcnn import build_detector
    from analysis.files import write_bytes

    backbone = build_detector(config.model, 1, config.init.scheme).backbone
    load_initial(backbone, config, initial_digest(config, workspace), workspace)
    content = io.BytesIO()
    torch.save({"model": {prefix + name: value for name, value in backbone.state_dict().items()}}, content)
    write_bytes(path, content.getvalue())
