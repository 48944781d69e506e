"""The verbs that plan and measure studies: one for every axis, ``vary``, ``axes`` and ``probe``."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.axes import AXES, Axis, AxisOptions, Variant, find_axis, outside_axes
from ablate.axes.custom import axis_from_file, axis_from_keys
from ablate.axes.plugins import plugin_axis
from ablate.cli import completion
from ablate.cli.launch import launch_study
from ablate.cli.option_rules import RULES
from ablate.cli.options import (
    HERE,
    AsJson,
    DataFrom,
    DeviceMemory,
    EngineName,
    EngineOfAll,
    InWorkspace,
    LaunchSettings,
    OnDevice,
    StudyName,
    WithoutAsking,
    chosen_study,
    show,
    whole_numbers,
    with_options,
)
from ablate.cli.verbs import axis_summary
from ablate.config.foreign import CommandConfig
from ablate.config.yaml import load_any_config, load_config
from ablate.engines.environment import python_of
from ablate.launch.status import DONE, read_statuses
from ablate.runs.folder import SCHEMA
from ablate.studies.study import check_free, write_study
from ablate.weights.settings import weights_from
from analysis.cli.option_rules import check_options
from analysis.exceptions import BadInput
from analysis.shell import shell_command

logger = logging.getLogger(__name__)

NOT_LAUNCHED = LaunchSettings()
Base = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="CONFIG",
        help="Preset or YAML file that all variants share.",
        autocompletion=completion.configs,
    ),
]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options common to all runs of a study, and whether the study is only shown, written, or also run."""

    base: Base = "tiny-shapes"
    data: DataFrom = None
    name: Annotated[str, typer.Option("--name", help="Name of the study.", show_default="AXIS-BASE")] = ""
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds",
            metavar="0,1,...",
            help="Random seeds; every variant runs with each of them.",
            show_default="the base's",
        ),
    ] = ""
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a field in all runs: train.lr=8e-5.",
            autocompletion=completion.keys,
        ),
    ] = None
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="VARIANT",
            help="Only this variant and the baseline; repeat for more.",
            autocompletion=completion.variants,
        ),
    ] = None
    product: Annotated[
        str,
        typer.Option(
            "--product",
            metavar="AXIS",
            help="Cross with another axis (or its YAML file).",
            autocompletion=completion.axes,
        ),
    ] = ""
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", metavar="NAME=FILE", help="Pre-trained weights, such as mae=FILE: of variants, or of all runs."
        ),
    ] = None
    schedule: Annotated[
        Literal["same", "best"],
        typer.Option(
            "--schedule", help="Train all initialisations equally long, or each for its best length in the paper."
        ),
    ] = "same"
    engine: EngineOfAll = None
    workspace: InWorkspace = HERE
    device: OnDevice = "auto"
    device_memory: DeviceMemory = None
    paper_hardware: Annotated[
        bool,
        typer.Option(
            "--paper-hardware", help="Limit memory to the paper's 32 GiB for the variant that ran out of memory there."
        ),
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")] = False
    launch: Annotated[bool, typer.Option("--launch", help="Run the unfinished runs, then show the table.")] = False
    yes: WithoutAsking = False
    as_json: AsJson = False


def axis_verb(name: str) -> Callable[..., None]:
    """The verb of an axis, of this project or of another package: it plans a study of it."""

    def command(context: typer.Context, options: StudyOptions, settings: LaunchSettings) -> None:
        check_options(context, RULES["AXIS"])
        plan_study(find_axis(name), options, settings)

    command.__doc__ = f"{axis_summary(name)}\n\nPlans a study of these variants; --launch also runs it."
    return with_options(command)


@with_options
def vary(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="AXIS.yaml", help="A file with an axis of your own.", show_default=False)
    ] = "",
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=V1,V2,...",
            autocompletion=completion.keys,
            help="A key and its values; repeat to vary more keys, one at a time, or crossed with --grid.",
        ),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Combine every value of each --vary key with every value of the others.")
    ] = False,
    options: StudyOptions = StudyOptions(),
    settings: LaunchSettings = NOT_LAUNCHED,
) -> None:
    """Study any key of the config, or an axis of your own from a YAML file."""
    check_options(context, RULES["vary"])
    if not file and not keys:
        raise BadInput("name what to vary: a YAML file with an axis, or --vary KEY=VALUE,VALUE,...")
    axis = axis_from_file(Path(file)) if file else axis_from_keys(keys or (), grid=grid)
    plan_study(axis, options, settings)


def plan_study(axis: Axis, options: StudyOptions, settings: LaunchSettings) -> None:
    """Plan a study and show it; write it unless it is a dry run, and launch it with ``--launch``.

    Raises:
        BadInput: there is no such study, or its name is taken; and the errors of `launch_study`.
        MissingEngine: it cannot be launched here; nothing is written.
    """
    from ablate.studies.plan import Request, plan
    from ablate.studies.plan_command import plan_command
    from ablate.studies.show_plan import plan_document, plan_screen

    workspace, written = options.workspace, not options.dry_run
    request = Request(
        base=options.base,
        data=options.data or (),
        name=options.name,
        seeds=whole_numbers("--seeds", options.seeds, "0,1,2"),
        settings=[*(options.changes or ()), *([f"engine={options.engine}"] if options.engine else [])],
        only=options.only or (),
        weights=weights_from(options.weights or ()),
        schedule=options.schedule,
        device=options.device,
        device_gib=options.device_memory,
        gpus=settings.gpus_per_run,
        paper_hardware=options.paper_hardware,
    )
    second = options.product
    crossed = None if not second else axis_from_file(Path(second)) if Path(second).is_file() else find_axis(second)
    base = load_any_config(request.base)
    if isinstance(base, CommandConfig):
        study = plan_command(axis, request, workspace, crossed=crossed, write=written)
    else:
        if options.launch:  # a missing engine is reported before anything is written
            python_of(load_config(request.base, request.settings).engine)
        study = plan(axis, request, workspace, crossed=crossed, write=written)
    for engine in {run.config.engine for run in study.runs if run.config is not None} if options.launch else ():
        python_of(engine)
    if written:
        write_study(workspace, study)
    elif all(run.run_id or run.blocked for run in study.runs):  # else its data is missing, so no such study can exist
        try:
            check_free(workspace, study)
        except BadInput as error:
            logger.warning(f"without --dry-run this is refused: {error}")
    show(lambda: plan_document(study), lambda: plan_screen(study, workspace, written=written), options.as_json)
    if options.launch:
        launch_study(workspace, study, settings.on(request.device), yes=options.yes)
    elif written and not options.as_json:
        left = [one for one in read_statuses(workspace, study) if one.state not in (*DONE, "blocked")]
        verb, what = ("launch", "Run") if left else ("table", "See")
        typer.echo(f"\n{what} it: {shell_command('ablate', verb, root=workspace.root, study=study.name)}")


def axes(
    axis: Annotated[
        str,
        typer.Argument(
            metavar="AXIS", help="Show this axis in full.", show_default=False, autocompletion=completion.axes
        ),
    ] = "",
    base: Base = "tiny-shapes",
    as_json: AsJson = False,
) -> None:
    """Show the axes: their variants, the source of each, and published findings."""
    from ablate.studies.show_plan import axes_screen, axis_document, axis_screen

    config = load_config(base)

    def variants_on_base(one: Axis) -> tuple[Variant, ...] | str:
        try:
            return one.variants(config, AxisOptions())
        except BadInput as error:
            if axis:
                raise
            return str(error)  # the others may fit this base

    chosen = [(one, variants_on_base(one)) for one in ([find_axis(axis)] if axis else _all_axes())]
    one, variants = chosen[0]
    show(
        lambda: {"schema": SCHEMA, "axes": [axis_document(*pair) for pair in chosen]},
        lambda: axis_screen(one, variants, base) if axis and not isinstance(variants, str) else axes_screen(chosen),
        as_json,
    )


def probe(
    study: StudyName = "",
    workspace: InWorkspace = HERE,
    device: OnDevice = "auto",
    again: Annotated[
        bool, typer.Option("--again", help="Measure again what was already measured on this machine.")
    ] = False,
    engine: Annotated[
        EngineName | None, typer.Option("--engine", help="Only the runs of this engine.", show_default="all")
    ] = None,
) -> None:
    """Measure the cost of each variant for one image: peak memory, seconds per training step and per prediction."""
    from ablate.studies.benchmark import probe_study

    probe_study(workspace, chosen_study(workspace, study), device=device, again=again, engine=engine or "")


def _all_axes() -> Iterator[Axis]:
    """The axes of this project and of other packages; a warning says why one cannot be loaded."""
    yield from AXES.values()
    for entry in outside_axes().values():
        try:
            yield plugin_axis(entry)
        except BadInput as error:
            logger.warning("%s", error)
