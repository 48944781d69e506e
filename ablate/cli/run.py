"""The verbs of ``ablate``: parse the command line, call the library, show the result."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.runs.folder import Workspace

if TYPE_CHECKING:
    from ablate.config.schema import RunConfig

app = typer.Typer(help="Make and run controlled studies.", no_args_is_help=True)


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Format(StrEnum):
    """What a config is written as."""

    lazyconfig = "lazyconfig"
    native = "lazyconfig-native"


Config = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file or the name of a preset.")]
Root = Annotated[Path, typer.Option("--root", help="The folder that holds results/.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field, such as train.lr=8e-5.")
]
DataFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="shapes, a COCO root or a YAML file; or four times: train JSON, its images, the same of validation.",
        show_default="the config's",
    ),
]
StartsFrom = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Start from these, with the settings that belong to them (see: weights inspect); --set counts before.",
        show_default="the config's",
    ),
]
OnDevice = Annotated[Device, typer.Option("--device", help="auto takes a GPU where there is one.")]


@app.command()
def run(
    config: Config,
    data: DataFrom = None,
    root: Root = Path(),
    changes: Changes = None,
    weights: StartsFrom = "",
    device: OnDevice = Device.auto,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images.", min=0, show_default="as the machine has cores")
    ] = None,
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between checkpoints.", min=0)] = 10.0,
    checkpoint_iterations: Annotated[
        int, typer.Option(help="Iterations between checkpoints; 0: by time and epoch.", min=0)
    ] = 0,
    curve_iterations: Annotated[
        int, typer.Option(help="Measure the validation set this often, for the curves alone; 0: never.", min=0)
    ] = 0,
) -> None:
    """Train, predict and analyse one run; the same command continues it after a kill, or shows it when it is done.

    Where the run starts from a pre-training in the house that is not there yet, that comes first.
    On several GPUs: torchrun --nproc-per-node 8 cli.py ablate run CONFIG
    """
    from ablate.engines.environment import package_environment, python_of
    from ablate.execute.pretraining import execute_from_the_start
    from ablate.execute.show_run import run_screen
    from ablate.train.outcome import RuntimeOptions
    from analysis.render.screen import print_whole

    runtime = RuntimeOptions(
        device=device.value,
        workers=workers,
        checkpoint_seconds=checkpoint_minutes * 60,
        checkpoint_iterations=checkpoint_iterations,
        curve_iterations=curve_iterations,
        say=lambda line: typer.echo(line, err=True),
    )
    wanted = _config(config, data, changes, weights)
    python = python_of(wanted.engine)
    if python != sys.executable:
        os.execve(python, [python, "-m", "cli", *sys.argv[1:]], package_environment())
    executed = execute_from_the_start(wanted, Workspace(root), runtime)
    if executed.first_process:
        print_whole(*run_screen(executed.folder))


@app.command()
def describe(
    config: Config,
    data: DataFrom = None,
    root: Root = Path(),
    changes: Changes = None,
    weights: StartsFrom = "",
    device: OnDevice = Device.auto,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Show what a config comes to: every field, parameters and cost by part, levels, identities."""
    import msgspec

    from ablate.execute.describe import describe as describe_config
    from ablate.execute.describe import description_screen
    from analysis.render.screen import print_whole

    description = describe_config(_config(config, data, changes, weights), Workspace(root), device.value)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(description), indent=2).decode())
    else:
        print_whole(*description_screen(description))


@app.command()
def export(
    config: Config,
    data: DataFrom = None,
    root: Root = Path(),
    changes: Changes = None,
    weights: StartsFrom = "",
    form: Annotated[
        Format, typer.Option("--format", help="lazyconfig-native builds on detectron2's own ViT, where that can.")
    ] = Format.lazyconfig,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="the screen")] = None,
    device: OnDevice = Device.auto,
) -> None:
    """Write a config as one LazyConfig file, for detectron2's own tools/lazyconfig_train_net.py."""
    import msgspec

    from ablate.config.schema import Init
    from ablate.detector.init_weights import write_backbone
    from ablate.engines.lazyconfig import facts_of, lazyconfig_text
    from ablate.train.distributed import device_of
    from ablate.train.optim import resolve
    from analysis.exceptions import BadInput
    from analysis.io import write_bytes

    whole = _config(config, data, changes, weights)
    precision = resolve(whole.train.precision, device_of(device.value))
    whole = msgspec.structs.replace(whole, train=msgspec.structs.replace(whole.train, precision=precision))
    native, written = form is Format.native, ""
    if whole.init != Init():
        if out is None or native:
            remedy = "use --format lazyconfig, detectron2's own ViT has other names" if native else "name it with --out"
            raise BadInput(f"pre-trained weights are written beside the exported file, for its model: {remedy}")
        written = str(out.with_suffix(".pth").absolute())
    text = lazyconfig_text(whole, facts_of(whole, Workspace(root)), Path(config).stem, native=native, weights=written)
    if written:
        write_backbone(whole, Workspace(root), Path(written), "backbone.net.")
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_bytes(out, text.encode())


def _config(source: str, data: list[str] | None, changes: list[str] | None, weights: str) -> "RunConfig":
    from ablate.config.yaml import load_config, scalar
    from ablate.data.sources import data_from
    from ablate.weights.settings import init_settings, initialisation_of

    settings: list[str] = []
    if weights:
        belonging = init_settings(initialisation_of(weights), load_config(source), weights)
        settings = [f"{key}={scalar(value)}" for key, value in belonging.items()]
    return load_config(source, [*settings, *(changes or ())], data_from(data) if data else None)
