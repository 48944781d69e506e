"""The verbs of ``weights``: ``inspect``, and ``pretrain``, a masked autoencoder on images or on the embedded data."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ablate.cli import completion
from ablate.cli.option_rules import RULES
from ablate.cli.options import (
    HERE,
    AsJson,
    CheckpointMinutes,
    InWorkspace,
    OnDevice,
    Workers,
    show,
    whole_numbers,
)
from ablate.config.schema import Folder, Pretrain, Pretraining, Shapes, pretraining_of
from ablate.config.yaml import load_config, parse_change, with_changes
from ablate.runs.folder import PretrainingFolder
from ablate.studies.study import state_in_words
from ablate.train.outcome import RuntimeOptions
from analysis.cli.option_rules import check_options
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pth.tar or .safetensors file.")],
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="CONFIG", help="Config to load the weights into.", show_default="the preset of its size"
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show the family of a weights file, how each tensor is used or resized, and the config keys it needs."""
    from ablate.weights.inspect import inspect as inspect_file
    from ablate.weights.inspect import inspection_screen

    found = inspect_file(file, base)
    show(lambda: found, lambda: inspection_screen(found), as_json)


EMBEDDED = "tiny-shapes-mae"  # what is pre-trained on the embedded data, and how
RECIPE = "init.pretraining."  # what keys of the recipe begin with
LARGE = "vit-b-coco"  # what is pre-trained on other images; the recipe is MAE's own


def pretrain(
    context: typer.Context,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder of images; its subfolders are included.")
    ] = None,
    data: Annotated[
        str, typer.Option("--data", metavar="shapes", help="Use the embedded data set instead of --images.")
    ] = "",
    base: Annotated[
        str,
        typer.Option(
            "--base",
            metavar="CONFIG",
            autocompletion=completion.configs,
            help="Preset or YAML file whose backbone is pre-trained, with its init.pretraining (by default MAE's "
            "recipe).",
            show_default=f"{LARGE}; with --data shapes {EMBEDDED}",
        ),
    ] = "",
    epochs: Annotated[float | None, typer.Option(help="Number of epochs.", min=0, show_default="the recipe's")] = None,
    save_epochs: Annotated[
        str,
        typer.Option(
            "--save-epochs", metavar="100,200,...", help="Also keep the weights after these epochs, not only the last."
        ),
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a field of CONFIG: init.pretraining.batch_size=256.",
            autocompletion=completion.keys,
        ),
    ] = None,
    workspace: InWorkspace = HERE,
    device: OnDevice = "auto",
    accumulate: Annotated[
        int,
        typer.Option(help="Number of forward passes per optimizer step, if the batch does not fit into memory.", min=1),
    ] = 1,
    workers: Workers = None,
    checkpoint_minutes: CheckpointMinutes = 10.0,
) -> None:
    """Pre-train a ViT as a masked autoencoder (MAE); the same command continues after a kill, or shows the result.

    results/pretraining gets the weights in the official format and pictures of reconstructions. Weights before the
    last epoch belong to an unfinished cosine schedule: to compare with a shorter pre-training, run the shorter one.
    On several GPUs: torchrun --nproc-per-node 8 -m detablate weights pretrain --images DIR
    """
    check_options(context, RULES["pretrain"])
    from ablate.execute.pretraining import pretrain as carry_out
    from analysis.render.screen import fact_list, print_whole

    executed = carry_out(
        _pretraining(images, data, base, epochs, changes or ()),
        workspace,
        RuntimeOptions(device=device, workers=workers, checkpoint_seconds=checkpoint_minutes * 60),
        keep=whole_numbers("--save-epochs", save_epochs, "100,200"),
        grad_accum_steps=accumulate,
    )
    if executed.first_process:
        print_whole(fact_list(list(_facts(executed.folder))))


def _pretraining(
    images: Path | None, data: str, base: str, epochs: float | None, changes: Sequence[str]
) -> Pretraining:
    if (images is None) == (not data) or data not in ("", "shapes"):
        raise BadInput("name the images to pre-train on: --images DIR, or --data shapes for the embedded ones")
    source = Shapes(split="train") if images is None else Folder(path=str(images.expanduser().absolute()))
    base = base or (EMBEDDED if data else LARGE)
    own = [change for change in changes if change.strip().startswith(RECIPE)]
    config = load_config(base, [change for change in changes if change not in own])
    recipe = config.init.pretraining
    tree = msgspec.to_builtins(recipe if isinstance(recipe, Pretrain) else Pretrain(images=source, precision="auto"))
    tree |= {"images": msgspec.to_builtins(source)} | ({} if epochs is None else {"epochs": epochs})
    config = with_changes(config, {"init.weights": "none", "init.pretraining": tree})
    return pretraining_of(with_changes(config, dict(map(parse_change, own))))


def _facts(folder: PretrainingFolder) -> Iterator[tuple[str, str]]:
    status = folder.read_status()
    yield "pre-training", str(folder.path)
    yield "state", state_in_words(status)
    if status is not None and status.message:
        yield "reason", status.message
    losses = [line for line in folder.read_metrics() if line.get("loss") is not None]
    if losses:
        last = losses[-1]
        yield "loss", f"{losses[0]['loss']:.4f} first, {last['loss']:.4f} last ({last['iteration']:,} it.)"
    for path in sorted(path for path in folder.weights.glob("*.pth") if path.stem.isdecimal()):
        yield "weights", f"{path}  after {int(path.stem)} epochs"
    for path in sorted(folder.pictures.glob("[0-9]*.png"))[-1:]:
        yield "pictures", f"{path}  original, masked input, reconstruction"
