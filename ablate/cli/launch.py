"""The verbs that run a study and follow it: ``launch``, ``list``, ``status``, ``logs``, ``cancel``."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate.cli.run import Device, OnDevice, Root, app
from ablate.runs.folder import Workspace
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ablate.launch.base import Options
    from ablate.studies.study import Job, Study

StudyName = Annotated[str, typer.Argument(metavar="[STUDY]", help="Its name.", show_default="the newest")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Look again every two seconds, until Ctrl-C.")]
WATCH_SECONDS = 2.0
FOLLOW_SECONDS = 0.5
PANEL = "Studies"


@app.command(rich_help_panel=PANEL)
def launch(
    study: StudyName = "",
    root: Root = Path(),
    device: OnDevice = Device.auto,
    gpus_per_run: Annotated[int, typer.Option("--gpus-per-run", help="GPUs that train one run together.", min=1)] = 1,
    retry: Annotated[
        bool, typer.Option("--retry", help="Run again what failed, diverged or ran out of memory.")
    ] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop everything at the first failure.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin at once: time nothing and do not ask.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images, a GPU.", min=0, show_default="as there are cores")
    ] = None,
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between checkpoints.", min=0)] = 10.0,
) -> None:
    """Run what is not done of a study, and end with its table; the same command continues after a stop or a kill.

    A run on each free GPU; without a GPU one after another. A failing run stops no other.
    """
    from ablate.launch.base import Options

    options = Options(
        device=device.value,
        gpus_per_run=gpus_per_run,
        retry=retry,
        fail_fast=fail_fast,
        loaders=workers,
        checkpoint_minutes=checkpoint_minutes,
    )
    launch_study(root, _study(root, study), yes=yes, options=options)


def launch_study(
    root: Path, study: "Study", *, device: str = "auto", yes: bool = False, options: "Options | None" = None
) -> None:
    """Run a study to its end, measure what its variants cost, and show the table.

    Raises:
        SomeFailed: not every run came to a result; the table of the others is shown.
        Stopped: somebody asked to stop.
        BadInput: nothing can be run, or nobody is there to be asked.
    """
    from ablate.launch.base import Options
    from ablate.launch.estimate import confirm_cost
    from ablate.launch.finish import finish
    from ablate.launch.local import LocalLauncher
    from ablate.launch.view import view_for

    options = options or Options(device=device)
    if not yes:
        confirm_cost(Workspace(root), study, options)
    with view_for(study.name) as view:
        outcome = LocalLauncher().launch(Workspace(root), study, options, view)
    finish(Workspace(root), study, options, outcome)


@app.command("list", rich_help_panel=PANEL)
def list_(root: Root = Path(), as_json: AsJson = False, watch: Watch = False) -> None:
    """Show the studies, the newest last, and how many of their runs are done."""
    from ablate.launch.view import studies_document, studies_screen
    from ablate.studies.study import list_studies

    _show(
        lambda: studies_screen(Workspace(root), list_studies(Workspace(root))),
        lambda: studies_document(Workspace(root), list_studies(Workspace(root))),
        as_json,
        watch,
    )


@app.command(rich_help_panel=PANEL)
def status(study: StudyName = "", root: Root = Path(), as_json: AsJson = False, watch: Watch = False) -> None:
    """Show how every run of a study stands: state, progress, loss, time left."""
    from ablate.launch.status import StatusReader
    from ablate.launch.view import status_document, status_screen

    chosen = _study(root, study)
    observer = StatusReader(Workspace(root), chosen)
    _show(
        lambda: status_screen(Workspace(root), chosen, observer.look()),
        lambda: status_document(Workspace(root), chosen, observer.look()),
        as_json,
        watch,
    )


@app.command(rich_help_panel=PANEL)
def logs(
    study: StudyName = "",
    run: Annotated[
        str,
        typer.Option("--run", metavar="RUN", help="A variant, VARIANT:SEED, or a folder's name.", show_default="all"),
    ] = "",
    root: Root = Path(),
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many last lines of each.", min=0)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the runs of a study said while they ran."""
    from ablate.launch.view import Logs

    chosen = _study(root, study)
    found = Logs(Workspace(root), _matching(chosen, run))
    if as_json:
        if follow:
            raise typer.BadParameter("choose one of --json and --follow", param_hint="--follow")
        said = [{"run": line.run, "text": line.text} for line in found.last(lines)]
        _print_json({"study": chosen.name, "lines": said})
        return
    for line in found.last(lines):
        typer.echo(found.shown(line))
    while follow:
        time.sleep(FOLLOW_SECONDS)
        for line in found.new():
            typer.echo(found.shown(line))


@app.command(rich_help_panel=PANEL)
def cancel(study: StudyName = "", root: Root = Path(), as_json: AsJson = False) -> None:
    """Stop the launchers of a study, on whatever machine; every run saves what it has, and launch continues."""
    from ablate.launch.status import cancel as ask_to_stop

    chosen = _study(root, study)
    asked = ask_to_stop(Workspace(root), chosen.name)
    if as_json:
        _print_json({"study": chosen.name, "asked": list(asked)})
        return
    for owner in asked:
        typer.echo(f"asked {owner} to stop")
    if not asked:
        typer.echo(f"nobody is running study {chosen.name}")


def _study(root: Path, name: str) -> "Study":
    from ablate.studies.study import newest_study, read_study

    return read_study(Workspace(root), name) if name else newest_study(Workspace(root))


def _matching(study: "Study", wanted: str) -> "list[Job]":
    """The runs that a word names; all for an empty one."""
    runs = [run for run in study.jobs if run.identity]
    found = [run for run in runs if wanted in ("", run.variant, f"{run.variant}:{run.seed}", run.identity)]
    if not found:
        names = "; ".join(dict.fromkeys(run.variant for run in study.jobs))
        raise BadInput(
            f"--run {wanted}: study {study.name} has no such run; there are {names} "
            f"(with :SEED for one of {', '.join(map(str, study.seeds))})"
        )
    return found


def _print_json(document: dict[str, Any]) -> None:
    import msgspec

    from ablate.runs.folder import SCHEMA

    whole = {"schema": SCHEMA} | document
    typer.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())


def _show(
    screen: "Callable[[], list[RenderableType]]", document: Callable[[], Any], as_json: bool, watch: bool
) -> None:
    import msgspec

    from analysis.render.screen import plain_console, print_whole

    if as_json:
        if watch:
            raise typer.BadParameter("choose one of --json and --watch", param_hint="--watch")
        _print_json(document())
        return
    if not watch:
        print_whole(*screen())
        return
    from rich.console import Group
    from rich.live import Live

    console = plain_console()
    last = None
    while not console.is_terminal:  # a file, or another program: no redrawing, only what is new
        seen = msgspec.json.encode(document())
        if seen != last:
            print_whole(*screen(), "")
            sys.stdout.flush()
        last = seen
        time.sleep(WATCH_SECONDS)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(Group(*screen()), refresh=True)
            time.sleep(WATCH_SECONDS)
