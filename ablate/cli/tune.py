"""The verb ``tune``: the paper's tuning protocol as a study that grows."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablate.cli import completion
from ablate.cli.launch import confirm_cost
from ablate.cli.option_rules import RULES
from ablate.cli.options import (
    HERE,
    AsJson,
    DataFrom,
    DeviceMemory,
    EngineOfAll,
    InWorkspace,
    LaunchSettings,
    OnDevice,
    WithoutAsking,
    print_json,
    whole_numbers,
    with_options,
)
from ablate.cli.study import Base
from ablate.config.yaml import load_config
from ablate.engines.environment import python_of
from ablate.launch.base import LaunchOptions, SomeFailed
from ablate.launch.status import DONE
from ablate.runs.folder import Workspace
from ablate.studies.study import launch_command, slug, study_folder, write_study
from ablate.weights.settings import weights_from
from analysis.cli.compare import progress_line
from analysis.cli.figure_options import Style, StyleName, Width, figure_style
from analysis.cli.option_rules import check_options
from analysis.exceptions import BadInput
from analysis.files import write_all, write_bytes

if TYPE_CHECKING:
    from ablate.studies.tune import PlannedTuning

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What is tuned and how, and whether the tuning is only shown, written, or also run."""

    base: Base = "tiny-shapes"
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="NAME=FILE",
            help="Pre-trained weights, such as mae=FILE; repeat to tune each separately.",
        ),
    ] = None
    centre: Annotated[
        Literal["paper", "base"],
        typer.Option(
            "--centre",
            help="Centre of the first grid: the paper's (lr 1.6e-4, weight decay 0.1) or the base's own values.",
        ),
    ] = "paper"
    tune_split: Annotated[
        float,
        typer.Option(
            "--tune-split", metavar="SHARE", help="Choose settings on this held-out share of the training images."
        ),
    ] = 0.0
    larger: Annotated[
        str,
        typer.Option("--larger", metavar="CONFIG", help="Config of a larger model, for which drop path is also tuned."),
    ] = ""
    larger_weights: Annotated[
        str, typer.Option("--larger-weights", metavar="FILE", help="Pre-trained weights of the larger model.")
    ] = ""
    max_runs: Annotated[int, typer.Option("--max-runs", help="Maximum number of runs in total.", min=1)] = 60
    data: DataFrom = None
    name: Annotated[str, typer.Option("--name", help="Name of the study.", show_default="tune-BASE")] = ""
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds",
            metavar="0,1,...",
            help="Random seeds; every setting runs with each of them.",
            show_default="the base's",
        ),
    ] = ""
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field in all runs.", autocompletion=completion.keys),
    ] = None
    engine: EngineOfAll = None
    workspace: InWorkspace = HERE
    device: OnDevice = "auto"
    device_memory: DeviceMemory = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the next runs and write nothing.")] = False
    launch: Annotated[
        bool, typer.Option("--launch", help="Run all stages to the end, and show the chosen settings.")
    ] = False
    yes: WithoutAsking = False
    style: Style = StyleName.screen
    width: Width = ""
    as_json: AsJson = False


@with_options
def tune(context: typer.Context, options: TuneOptions, settings: LaunchSettings) -> None:
    """Tune learning rate, weight decay and drop path by the paper's protocol; each result decides the next runs.

    A 3 x 3 grid of learning rate and weight decay, in short runs without drop path, which grows where the best lies on
    its border; then drop path, in longer runs. The same command continues the tuning; with --launch to its end.
    """
    check_options(context, RULES["tune"])
    figure_style(options.style, options.width)  # refused before anything runs
    files = weights_from(options.weights or ())
    if options.larger_weights and not options.larger:
        raise BadInput("--larger-weights: belongs to --larger CONFIG")
    if options.larger and len(files) > 1:
        raise BadInput("--larger: takes one --weights, since each initialisation has its own larger model")
    for kinds in [{kind: file} for kind, file in files.items()] or [{}]:
        name = f"{options.name}-{next(iter(kinds))}" if options.name and len(files) > 1 else options.name
        _tune(options, settings, kinds, name)


def _tune(options: TuneOptions, settings: LaunchSettings, weights: dict[str, str], name: str) -> None:
    """Tune one initialisation, as far as requested."""
    from ablate.studies.plan import Request
    from ablate.studies.tune import TuneRequest, plan_tuning

    workspace = options.workspace
    request = Request(
        base=options.base,
        data=options.data or (),
        name=name,
        seeds=whole_numbers("--seeds", options.seeds, "0,1,2"),
        settings=[*(options.changes or ()), *([f"engine={options.engine}"] if options.engine else [])],
        weights=weights,
        device=options.device,
        device_gib=options.device_memory,
        gpus=settings.gpus_per_run,
    )
    asked = TuneRequest(
        centre=options.centre,
        held_out=options.tune_split,
        larger=options.larger,
        larger_weights=options.larger_weights,
        most_runs=options.max_runs,
    )
    if options.launch:
        python_of(load_config(request.base, request.settings).engine)
    planned = plan_tuning(request, asked, workspace, write=not options.dry_run)
    if not options.dry_run:
        write_study(workspace, planned.study)
    if options.launch:
        launch_options = settings.on(request.device)
        if planned.step.missing and not options.yes:
            confirm_cost(workspace, planned.study, launch_options)
        while planned.step.missing or launch_options.retry:
            _run(workspace, planned, launch_options)
            launch_options = replace(launch_options, retry=False)
            planned = plan_tuning(request, asked, workspace)
            write_study(workspace, planned.study)
    _show(planned, options)


def _run(workspace: Workspace, planned: "PlannedTuning", options: LaunchOptions) -> None:
    """Run the settings requested so far; a run that diverges is a result.

    Raises:
        Stopped: the user or a signal asked to stop.
        SomeFailed: a run has no result for another reason, which must be fixed before anything is chosen.
    """
    from ablate.launch.estimate import check_memory
    from ablate.launch.finish import check_not_stopped
    from ablate.launch.local import launch_here
    from ablate.launch.view import view_for

    study = planned.study
    check_memory(workspace, study, options)
    with view_for(workspace, study) as view:
        outcome = launch_here(workspace, study, options, view)
    check_not_stopped(outcome)
    failed = [one for one in outcome.statuses if one.state not in (*DONE, "diverged")]
    if failed:
        for one in failed:
            logger.error("%s: %s", one.label, one.message or one.state)
        raise SomeFailed(
            f"{len(failed)} of {len(outcome.statuses)} runs have no result, and the choice needs all of them; once "
            "the cause is fixed, continue with the same command and --retry"
        )


def _show(planned: "PlannedTuning", options: TuneOptions) -> None:
    """Show the results so far; when the tuning is done, also write its files and the chosen settings.

    Raises:
        BadInput: the tuning cannot go on.
    """
    from ablate.studies.show_tuning import (
        measure_stages,
        tuning_csv,
        tuning_document,
        tuning_figure,
        tuning_screen,
        tuning_table,
    )
    from ablate.studies.tune import chosen_text
    from analysis.render.screen import print_whole
    from analysis.render.table import markdown

    workspace, study, step = options.workspace, planned.study, planned.step
    stages = measure_stages(planned, workspace, progress_line())
    written: dict[str, str] = {}
    if stages and not options.dry_run:
        table = tuning_table(planned, stages, workspace)
        picture = tuning_figure(planned, stages, figure_style(options.style, options.width))
        pictures = picture.named("tuning") if picture else {}
        folder = study_folder(workspace, study.name)
        write_all(folder, {**pictures, "tuning.csv": tuning_csv(table).encode(), "tuning.md": markdown(table).encode()})
        if pictures:
            written["heat map"] = str(folder / "tuning.png")
    if step.stage == "done" and not options.dry_run:
        for stage, suffix in (("drop path", ""), ("larger model", "-larger")):
            point = step.best.get(stage)  # type: ignore[call-overload]
            if point is not None:
                path = Path("configs", "tuned", f"{slug(study.name)}{suffix}.yaml")
                (workspace.root / path).parent.mkdir(parents=True, exist_ok=True)
                write_bytes(workspace.root / path, chosen_text(planned, point, workspace.root / path).encode())
                written[f"chosen{suffix.replace('-', ' ')}"] = str(workspace.root / path)
    if options.as_json:
        print_json(tuning_document(planned, stages))
    else:
        print_whole(*tuning_screen(planned, stages, workspace, written))
    if step.trouble == "no result":
        raise BadInput(
            f"study {study.name}: all runs of the {step.stage} diverged or ran out of memory, so no setting can be "
            "chosen; see ablate logs, and start from another centre "
            "(--centre base: the base's), from a longer "
            "warm-up (--set train.warmup_epochs) or from a smaller model under another --name"
        )
    if step.trouble:
        raise BadInput(
            f"study {study.name}: the next settings of the {step.stage} would be more runs than --max-runs "
            f"{options.max_runs}; nothing is chosen; raise this limit, and run the same command to continue"
        )
    if step.missing and not options.as_json and not options.dry_run:
        command = launch_command(workspace, study)
        typer.echo(f"\nRun the next runs: {command}\nThen give this command again; --launch does both.")
