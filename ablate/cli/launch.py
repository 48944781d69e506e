"""The verbs that run a study and follow it: ``launch``, ``list``, ``status``, ``logs``, ``cancel``."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ablate.cli import completion
from ablate.cli.option_rules import RULES
from ablate.cli.options import (
    HERE,
    AsJson,
    DrainSettings,
    InWorkspace,
    LaunchSettings,
    OnDevice,
    SlurmSettings,
    StudyName,
    WithoutAsking,
    chosen_study,
    print_json,
    show,
    with_options,
)
from ablate.launch.base import Drain, LaunchOptions
from ablate.launch.job_files import Scheduler, job_file
from ablate.launch.status import StatusReader
from ablate.launch.status import cancel as ask_to_stop
from ablate.runs.folder import SCHEMA, Workspace
from ablate.studies.study import Job, Study, list_studies
from analysis.cli.option_rules import check_options, given_options
from analysis.exceptions import BadInput
from analysis.shell import shell_command

if TYPE_CHECKING:
    from ablate.launch.cluster import Cluster
    from ablate.launch.remove import Removal

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Refresh every two seconds, until Ctrl-C.")]
FOLLOW_SECONDS = 0.5
MOST_DRAINS = 8  # of a job file, unless more are asked for


@with_options
def launch(
    context: typer.Context,
    settings: LaunchSettings,
    draining: DrainSettings,
    slurm: SlurmSettings,
    study: StudyName = "",
    workspace: InWorkspace = HERE,
    device: OnDevice = "auto",
    yes: WithoutAsking = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the batch scripts of --on slurm.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Watch the jobs of --on slurm until all have ended.")
    ] = False,
    print_job: Annotated[
        Scheduler | None,
        typer.Option(
            "--print-job",
            help="Print a job file that starts drains on any scheduler, --max-parallel of them.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the unfinished runs of a study, then show its table; the same command continues after a stop or a kill.

    Each free GPU gets a run; on a CPU one run starts after the other, or several with --parallel. A failing run
    does not stop the others. --on slurm submits one job per run and returns; with --drain several hosts share a
    study.
    """
    check_options(context, RULES["launch"])
    chosen, drain = chosen_study(workspace, study), draining.chosen()
    if print_job is not None:
        drains = slurm.max_parallel or min(MOST_DRAINS, len({job.run_id for job in chosen.jobs if job.run_id}))
        gpus = 0 if device == "cpu" else settings.gpus_per_run
        typer.echo(job_file(workspace, chosen, print_job, drains=drains, gpus=gpus, device=device), nl=False)
        return
    if slurm.on == "here":
        launch_study(workspace, chosen, settings.on(device), yes=yes, drain=drain)
        return
    given = given_options(context)
    cluster = slurm.chosen(workspace, settings.gpus_per_run if "--gpus-per-run" in given else None)
    submit_and_show(workspace, chosen, settings.on(device), cluster, dry_run=dry_run, follow=follow)


def submit_and_show(
    workspace: Workspace, study: Study, options: LaunchOptions, cluster: "Cluster", *, dry_run: bool, follow: bool
) -> None:
    """Submit a study to Slurm, print what was submitted, and watch it with ``--follow``.

    Raises:
        BadInput: an option does not fit, or Slurm refuses a job; nothing is submitted.
        SomeFailed: the jobs were watched, and not every run has a result.
    """
    from ablate.launch.follow import follow_jobs, submission_lines
    from ablate.launch.slurm import submit_study

    submission, texts = submit_study(workspace, study, options, cluster, dry_run=dry_run)
    if dry_run:
        for batch, text in zip(submission.batches, texts, strict=True):
            typer.echo(f"# ---- {batch.job}: {', '.join(batch.runs) or 'costs, table and report'}\n{text}")
        return
    for line in submission_lines(workspace, study, submission):
        typer.echo(line)
    if follow:
        follow_jobs(workspace, study)


def launch_study(
    workspace: Workspace, study: Study, options: LaunchOptions, *, yes: bool = False, drain: Drain | None = None
) -> None:
    """Run a study to its end, measure what its variants cost, and show the table.

    Args:
        workspace: above `results/`.
        study: whose runs.
        options: of the launch.
        yes: start long runs without asking; a drain never asks.
        drain: work on the study beside other launches.

    Raises:
        SomeFailed: not every run has a result; the table of the others is shown.
        Stopped: the user or a signal asked to stop.
        BadInput: no run can start, every run would run out of memory, or there is no terminal for a question.
    """
    from ablate.launch.estimate import check_memory
    from ablate.launch.finish import finish, finish_drain
    from ablate.launch.local import launch_here
    from ablate.launch.view import view_for

    check_memory(workspace, study, options)
    if not yes and drain is None:
        confirm_cost(workspace, study, options)
    with view_for(workspace, study) as view:
        outcome = launch_here(workspace, study, options, view, drain=drain)
    (finish if drain is None else finish_drain)(workspace, study, options, outcome)


def confirm_cost(workspace: Workspace, study: Study, options: LaunchOptions) -> None:
    """Show what a launch will cost and ask whether to begin, except for the tiny preset and for finished runs.

    Raises:
        BadInput: there is no terminal for a question, or nothing could be timed.
        typer.Abort: the answer is no.
    """
    from ablate.launch.estimate import costly_jobs, estimate

    jobs = costly_jobs(workspace, study, options)
    if jobs and not sys.stdin.isatty():
        raise BadInput(
            f"study {study.name} has {len(jobs)} unfinished runs that take longer than those of the tiny preset; add "
            "--yes to start without a question"
        )
    if jobs:
        estimate(workspace, jobs, options)
        typer.confirm("Begin?", abort=True, err=True)


def list_(context: typer.Context, workspace: InWorkspace = HERE, as_json: AsJson = False, watch: Watch = False) -> None:
    """List the studies, newest last, with the number of finished runs."""
    check_options(context, RULES["list"])
    from ablate.launch.view import studies_document, studies_screen

    show(
        lambda: studies_document(workspace, list_studies(workspace)),
        lambda: studies_screen(workspace, list_studies(workspace)),
        as_json,
        watch,
    )


def status(
    context: typer.Context,
    study: StudyName = "",
    workspace: InWorkspace = HERE,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Show every run of a study: state, progress, loss, time left."""
    check_options(context, RULES["status"])
    from ablate.launch.view import status_document, status_screen

    chosen = chosen_study(workspace, study)
    reader = StatusReader(workspace, chosen)
    show(
        lambda: status_document(workspace, chosen, reader.look()),
        lambda: status_screen(workspace, chosen, reader.look()),
        as_json,
        watch,
    )


def logs(
    context: typer.Context,
    study: StudyName = "",
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="RUN",
            help="A variant, VARIANT:SEED, or the name of a run folder.",
            show_default="all",
            autocompletion=completion.runs,
        ),
    ] = "",
    workspace: InWorkspace = HERE,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Number of last lines of each log.", min=0)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the logs of the runs of a study."""
    from ablate.launch.view import Logs

    check_options(context, RULES["logs"])
    chosen = chosen_study(workspace, study)
    found = Logs(workspace, _matching(chosen, run), chosen.name)
    last = found.new(lines)
    if as_json:
        print_json({"schema": SCHEMA, "study": chosen.name, "lines": [line._asdict() for line in last]})
        return
    empty = True
    for line in last:
        typer.echo(found.shown(line))
        empty = False
    if empty and lines and not follow:
        typer.echo(f"no log yet: {shell_command('ablate', 'status', root=workspace.root, study=chosen.name)}")
    while follow:
        time.sleep(FOLLOW_SECONDS)
        for line in found.new():
            typer.echo(found.shown(line))


def cancel(study: StudyName = "", workspace: InWorkspace = HERE, as_json: AsJson = False) -> None:
    """Stop the launchers and the jobs of a study, on all machines; every run saves its state, and launch continues it.

    The same command again ends the remaining jobs at once.
    """
    from ablate.launch.follow import cancel_jobs

    name = chosen_study(workspace, study).name
    asked = ask_to_stop(workspace, name)
    pending, running = cancel_jobs(workspace, name)
    lines = [f"asked {owner} to stop" for owner in asked]
    lines += [f"removed {len(pending)} jobs from the queue: {', '.join(pending)}"] if pending else []
    lines += [f"asked {len(running)} jobs to save their state and end: {', '.join(running)}"] if running else []
    show(
        lambda: {"schema": SCHEMA, "study": name, "asked": asked, "jobs": [*pending, *running]},
        lambda: lines or [f"no launcher is running for study {name}"],
        as_json,
    )


YesDelete = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]
ListOnly = Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")]


def delete(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")],
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Delete only the plan and the configs.")] = False,
    dry_run: ListOnly = False,
    yes: YesDelete = False,
    workspace: InWorkspace = HERE,
    as_json: AsJson = False,
) -> None:
    """Delete a study, its configs, and the runs that no other study uses; asks first."""
    from ablate.launch.remove import of_study

    _remove(workspace, of_study(workspace, study, keep_runs=keep_runs), dry_run=dry_run, yes=yes, as_json=as_json)


def gc(
    single_runs: Annotated[
        bool,
        typer.Option("--single-runs", help="Also delete runs that no study launched, such as those of ablate run."),
    ] = False,
    dry_run: ListOnly = False,
    yes: YesDelete = False,
    workspace: InWorkspace = HERE,
    as_json: AsJson = False,
) -> None:
    """Delete the runs and pre-trainings that no study uses any more; asks first.

    A run that a study uses, or that is running, is never deleted.
    """
    from ablate.launch.remove import unused

    _remove(workspace, unused(workspace, single_runs=single_runs), dry_run=dry_run, yes=yes, as_json=as_json)


def _remove(workspace: Workspace, removal: "Removal", *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show what can be deleted, ask, delete it, and say so."""
    from ablate.launch.remove import delete as delete_files
    from ablate.launch.remove import removal_lines

    if not (dry_run or yes or removal.is_empty):
        if as_json or not sys.stdin.isatty():
            raise BadInput(
                "this deletion needs a confirmation, and there is no terminal to ask on: --dry-run shows what would "
                "be deleted, --yes deletes it"
            )
        typer.echo("\n".join(removal_lines(removal, done=False)))
        typer.confirm("Delete this?", abort=True, err=True)
    left = [] if dry_run or removal.is_empty else delete_files(workspace, removal)
    deleted = msgspec.structs.replace(
        removal,
        runs=tuple(run for run in removal.runs if run not in {one.run for one in left}),
        kept=(*removal.kept, *left),
    )
    show(
        lambda: {"schema": SCHEMA, "deleted": not dry_run, **msgspec.to_builtins(deleted)},
        lambda: removal_lines(deleted, done=not dry_run) or ["nothing to delete"],
        as_json,
    )


def _matching(study: Study, wanted: str) -> list[Job]:
    """The runs that ``--run`` names; all if it is empty."""
    found = [
        job for job in study.jobs if job.run_id and wanted in ("", job.variant, f"{job.variant}:{job.seed}", job.run_id)
    ]
    if not found:
        names = "; ".join(dict.fromkeys(job.variant for job in study.jobs))
        raise BadInput(
            f"--run {wanted}: study {study.name} has no such run; there are {names} "
            f"(with :SEED for one of {', '.join(map(str, study.seeds))})"
        )
    return found
