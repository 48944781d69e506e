"""The verbs that make and read studies: one for every axis, ``vary``, ``axes``, ``probe`` and ``table``."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.axes import AXES
from ablate.axes.custom import COMMAND
from ablate.cli.run import DataFrom, Device, OnDevice, Root, app
from ablate.runs.folder import Workspace
from ablate.shell import shell_command
from analysis.cli.analyze import IouType, Kind
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from ablate.axes import Axis, Variant
    from ablate.studies.plan import Request
    from ablate.studies.study import Study


class EngineName(StrEnum):
    """What carries out a run."""

    vision = "vision"
    detectron2 = "detectron2"


Base = Annotated[str, typer.Option("--base", metavar="CONFIG", help="Preset or YAML file that all variants share.")]
Name = Annotated[str, typer.Option("--name", help="Of the study.", show_default="AXIS-BASE")]
Seeds = Annotated[
    str, typer.Option("--seeds", metavar="0,1,...", help="Every variant runs under each.", show_default="the base's")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field in all runs: train.lr=8e-5.")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="VARIANT", help="This one, and the baseline; repeat for more.")
]
Engine = Annotated[
    EngineName | None, typer.Option("--engine", help="What trains all runs.", show_default="the base's, vision")
]
Product = Annotated[str, typer.Option("--product", metavar="AXIS", help="Cross with another axis (or its YAML file).")]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="NAME=FILE", help="To start from: mae=FILE; of variants, or of all of them."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")]
Launch = Annotated[bool, typer.Option("--launch", help="Run what is not done, and end with the table.")]
Yes = Annotated[bool, typer.Option("--yes", help="Launch without asking, whatever it costs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
StudyName = Annotated[str, typer.Argument(metavar="[STUDY]", help="Its name.", show_default="the newest")]


def _command_of(axis: "Axis") -> Callable[..., None]:
    def command(
        base: Base = "tiny-shapes",
        data: DataFrom = None,
        name: Name = "",
        seeds: Seeds = "",
        changes: Set = None,
        only: Only = None,
        product: Product = "",
        weights: Weights = None,
        engine: Engine = None,
        root: Root = Path(),
        device: OnDevice = Device.auto,
        dry_run: DryRun = False,
        launch: Launch = False,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        request = _request(base, data, name, seeds, _with_engine(changes, engine), only, weights, device)
        _make(axis, request, product, root, dry_run=dry_run, launch=launch, yes=yes, as_json=as_json)

    command.__doc__ = f"{axis.title}. Plans a study; --launch runs it."
    return command


for _one in AXES.values():
    app.command(_one.name, rich_help_panel="Axes")(_command_of(_one))


@app.command(COMMAND, rich_help_panel="Axes")
def vary(
    file: Annotated[str, typer.Argument(metavar="[AXIS.yaml]", help="An axis of your own.", show_default=False)] = "",
    keys: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="KEY=V1,V2,...", help="A key and its values; more keys are varied one by one."),
    ] = None,
    base: Base = "tiny-shapes",
    data: DataFrom = None,
    name: Name = "",
    seeds: Seeds = "",
    changes: Set = None,
    only: Only = None,
    product: Product = "",
    weights: Weights = None,
    engine: Engine = None,
    root: Root = Path(),
    device: OnDevice = Device.auto,
    dry_run: DryRun = False,
    launch: Launch = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Any key of the config, or a YAML file, as the axis: ablate vary --vary train.lr=5e-4,1e-3,2e-3."""
    from ablate.axes.custom import axis_from_file, axis_from_keys

    if bool(file) == bool(keys):
        raise BadInput("name one: a YAML file with an axis, or --vary KEY=VALUE,VALUE,...")
    axis = axis_from_file(Path(file)) if file else axis_from_keys(keys or ())
    request = _request(base, data, name, seeds, _with_engine(changes, engine), only, weights, device)
    _make(axis, request, product, root, dry_run=dry_run, launch=launch, yes=yes, as_json=as_json)


@app.command()
def axes(
    axis: Annotated[str, typer.Argument(metavar="[AXIS]", help="Show this one in full.", show_default=False)] = "",
    base: Base = "tiny-shapes",
    as_json: AsJson = False,
) -> None:
    """Show what can be studied: axes, their variants, who asked, and what was found."""
    import msgspec

    from ablate.axes import AxisOptions
    from ablate.config.yaml import load_config
    from ablate.studies.show_plan import axes_screen, axis_document, axis_screen
    from analysis.render.screen import print_whole

    config = load_config(base)

    def variants_on_base(one: "Axis") -> "tuple[Variant, ...] | str":
        try:
            return one.variants(config, AxisOptions())
        except BadInput as error:
            if axis:
                raise
            return str(error)  # the others may fit this base

    chosen = [(one, variants_on_base(one)) for one in ([_axis(axis)] if axis else AXES.values())]
    if as_json:
        documents = [axis_document(one, variants) for one, variants in chosen]
        typer.echo(msgspec.json.format(msgspec.json.encode({"schema": 1, "axes": documents}), indent=2).decode())
        return
    one, variants = chosen[0]
    if axis and not isinstance(variants, str):
        print_whole(*axis_screen(one, variants, base))
    else:
        print_whole(*axes_screen(chosen))


@app.command()
def probe(
    study: StudyName = "",
    root: Root = Path(),
    device: OnDevice = Device.auto,
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured on this machine.")] = False,
    engine: Annotated[
        EngineName | None, typer.Option("--engine", help="Only the runs of this one.", show_default="all")
    ] = None,
) -> None:
    """Measure what each variant of a study costs: peak memory, seconds an iteration and an image; run it alone."""
    from ablate.studies.benchmark import probe_study

    probe_study(
        Workspace(root),
        chosen_study(root, study),
        device=device.value,
        again=again,
        engine=engine.value if engine else "",
    )


@app.command()
def table(
    study: StudyName = "",
    root: Root = Path(),
    iou_type: Kind = IouType.bbox,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV, Markdown, LaTeX, JSON and figures.")] = None,
    as_json: AsJson = False,
) -> None:
    """The answer: AP, errors and cost of every variant of a study, with published findings where there are any."""
    from ablate.studies.results import summarise
    from ablate.studies.show_results import summary_screen
    from ablate.studies.write_results import as_json as encode
    from ablate.studies.write_results import write_files
    from analysis.render.screen import print_whole

    summary = summarise(Workspace(root), chosen_study(root, study), iou_type.value)
    if out:
        write_files(out, summary)
    if as_json:
        typer.echo(encode(summary).decode(), nl=False)
    else:
        print_whole(*summary_screen(summary))


def _axis(name: str) -> "Axis":
    if name not in AXES:
        raise BadInput(f"there is no axis {name!r}; there are {', '.join(AXES)}, and ablate vary makes any other")
    return AXES[name]


def chosen_study(root: Path, name: str) -> "Study":
    """The study of a name, or the newest."""
    from ablate.studies.study import newest_study, read_study

    return read_study(Workspace(root), name) if name else newest_study(Workspace(root))


def _with_engine(changes: list[str] | None, engine: EngineName | None) -> list[str]:
    return [*(changes or ()), *([f"engine={engine.value}"] if engine else [])]


def _request(
    base: str,
    data: Sequence[str] | None,
    name: str,
    seeds: str,
    changes: Sequence[str] | None,
    only: Sequence[str] | None,
    weights: Sequence[str] | None,
    device: Device,
) -> "Request":
    from ablate.studies.plan import Request
    from ablate.weights.settings import weights_from

    return Request(
        base=base,
        data=data or (),
        name=name,
        seeds=_numbers(seeds),
        settings=changes or (),
        only=only or (),
        weights=weights_from(weights or ()),
        device=device.value,
    )


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise BadInput(f"--seeds {text}: must be whole numbers with commas between them, such as 0,1,2")
    return list(dict.fromkeys(map(int, parts)))


def _make(
    axis: "Axis",
    request: "Request",
    product: str,
    root: Path,
    *,
    dry_run: bool,
    launch: bool,
    yes: bool,
    as_json: bool,
) -> None:
    import msgspec

    from ablate.axes.custom import axis_from_file
    from ablate.config.yaml import load_config
    from ablate.engines.environment import python_of
    from ablate.studies.plan import plan
    from ablate.studies.show_plan import plan_document, plan_screen
    from ablate.studies.study import check_free, write_study
    from analysis.render.screen import print_whole

    if dry_run and launch:
        raise typer.BadParameter("choose one of --dry-run and --launch", param_hint="--launch")
    crossed = None
    if product:
        crossed = axis_from_file(Path(product)) if Path(product).is_file() else _axis(product)
    if launch:  # a missing engine is told before anything is written
        python_of(load_config(request.base, request.settings).engine)
    study = plan(axis, request, Workspace(root), crossed=crossed, write=not dry_run)
    for engine in {run.config.engine for run in study.runs if run.config is not None} if launch else ():
        python_of(engine)
    if not dry_run:
        write_study(Workspace(root), study)
    elif all(run.identity or run.blocked for run in study.runs):  # else its data is not there, nor is such a study
        try:
            check_free(Workspace(root), study)
        except BadInput as error:
            typer.echo(f"warning: without --dry-run this is refused: {error}", err=True)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(plan_document(study)), indent=2).decode())
    else:
        print_whole(*plan_screen(study, Workspace(root), written=not dry_run))
    if launch:
        from ablate.cli.launch import launch_study

        launch_study(root, study, device=request.device, yes=yes)
    elif not dry_run and not as_json:
        from ablate.launch.status import DONE, standings

        done = all(standing.state in (*DONE, "blocked") for standing in standings(Workspace(root), study))
        verb, what = ("table", "See") if done else ("launch", "Run")
        typer.echo(f"\n{what} it: {shell_command('ablate', verb, root=root, study=study.name)}")
