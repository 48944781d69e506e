"""The verbs of one config: ``run``, ``describe`` and ``export``."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli.options import AsJson, CheckpointMinutes, ConfigOptions, Workers, show, with_options
from ablate.config.foreign import CommandConfig
from ablate.config.schema import Coco
from ablate.engines.environment import package_environment, python_of
from ablate.runs.folder import RunFolder
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput
from analysis.files import check_target, write_bytes

logger = logging.getLogger(__name__)


@with_options
def run(
    options: ConfigOptions,
    workers: Workers = None,
    checkpoint_minutes: CheckpointMinutes = 10.0,
    checkpoint_iterations: Annotated[
        int, typer.Option(help="Number of iterations between checkpoints; 0: by time and epoch.", min=0)
    ] = 0,
    curve_iterations: Annotated[
        int,
        typer.Option(
            help="Number of iterations between measurements of the validation set, for the curves only; 0: never.",
            min=0,
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train, predict and analyse one run; the same command continues it after a kill, or shows its result.

    If the run starts from a pre-training on your own images that is not finished yet, the pre-training runs first.
    On several GPUs: torchrun --nproc-per-node 8 -m detablate ablate run CONFIG
    """
    from ablate.execute.show_run import run_document, run_screen

    def show_run(folder: RunFolder) -> None:
        show(lambda: run_document(folder), lambda: run_screen(folder), as_json)

    command = options.load_command()
    if command is not None:
        show_run(_run_command(command, options))
        return
    from ablate.execute.pretraining import execute_from_the_start

    runtime = RuntimeOptions(
        device=options.device,
        workers=workers,
        checkpoint_seconds=checkpoint_minutes * 60,
        checkpoint_iterations=checkpoint_iterations,
        curve_iterations=curve_iterations,
    )
    config = options.load()
    python = python_of(config.engine)
    if python != sys.executable:
        os.execve(python, [python, "-m", "detablate", *sys.argv[1:]], package_environment())
    executed = execute_from_the_start(config, options.workspace, runtime)
    if executed.first_process:
        show_run(executed.folder)


def _run_command(config: CommandConfig, options: ConfigOptions) -> RunFolder:
    """Run a command on the first visible GPU, or on the CPU, as soon as it is free."""
    from ablate.execute.command import execute_foreign
    from ablate.launch.base import devices_of, is_cpu, waiting_for_first

    with waiting_for_first(options.device):
        gpus = [device for device in devices_of(options.device, 1)[:1] if not is_cpu(device)]
        return execute_foreign(config, options.workspace, name=Path(options.config).stem, gpus=gpus)


@with_options
def describe(options: ConfigOptions, as_json: AsJson = False) -> None:
    """Show the resolved config: every field, parameters and FLOPs by part, pyramid levels, run id."""
    from ablate.execute.describe import describe as describe_config
    from ablate.execute.describe import description_screen

    description = describe_config(options.load(), options.workspace, options.device)
    show(lambda: description, lambda: description_screen(description), as_json)


@with_options
def export(
    options: ConfigOptions,
    form: Annotated[
        Literal["lazyconfig", "lazyconfig-native"],
        typer.Option("--format", help="lazyconfig-native uses detectron2's own ViT, where it supports the config."),
    ] = "lazyconfig",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file to write.", show_default="standard output"),
    ] = None,
) -> None:
    """Write a config as one LazyConfig file, for detectron2's own tools/lazyconfig_train_net.py."""
    from ablate.config.yaml import config_files, with_changes
    from ablate.detector.init_weights import write_backbone
    from ablate.engines.lazyconfig import check_exportable, facts_of, lazyconfig_text
    from ablate.train.distributed import device_of
    from ablate.train.optim import resolve

    config = options.load()
    check_exportable(config)
    if out is not None:
        sources = [source for source in (config.data.train, config.data.validation) if isinstance(source, Coco)]
        inputs = [Path(config.init.weights), *(Path(source.annotations) for source in sources)]
        inputs += config_files(options.config)
        for path in (out, out.with_suffix(".pth")):
            check_target(path, inputs)
    device = device_of(options.device)
    config = with_changes(config, {"train.precision": resolve(config.train.precision, device)})
    native, written = form == "lazyconfig-native", ""
    if not config.init.is_random:
        if out is None or native:
            remedy = (
                "use --format lazyconfig, since detectron2's own ViT names its weights differently"
                if native
                else "give a file with --out"
            )
            raise BadInput(f"pre-trained weights are written next to the exported file: {remedy}")
        written = str(out.with_suffix(".pth").absolute())
    facts, name = facts_of(config, options.workspace), Path(options.config).stem
    text = lazyconfig_text(config, facts, name, native=native, weights=written)
    if written:
        write_backbone(config, options.workspace, Path(written), "backbone.net.")
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_bytes(out, text.encode())
