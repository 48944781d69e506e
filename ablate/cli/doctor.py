"""The verb ``doctor``."""

from typing import Annotated

import typer

from ablate.cli.options import HERE, AsJson, InWorkspace, show


def doctor(
    python: Annotated[
        str | None,
        typer.Option(
            "--python",
            metavar="INTERPRETER",
            help="Look for detectron2 in the environment of this Python.",
            show_default="DETABLATE_DETECTRON2_PYTHON, else this one",
        ),
    ] = None,
    slurm: Annotated[
        bool,
        typer.Option(
            "--slurm",
            help="Also submit a job that checks whether nodes see the disk and this Python, and compares clocks.",
        ),
    ] = False,
    wait: Annotated[
        int, typer.Option("--wait", metavar="SECONDS", help="Seconds to wait for the job of --slurm.", min=1)
    ] = 60,
    workspace: InWorkspace = HERE,
    as_json: AsJson = False,
) -> None:
    """Check which engines and features work on this machine, and how to fix what does not.

    Exit code 0: an engine works; 5: none does.
    """
    from ablate.doctor.diagnosis import diagnose, doctor_screen

    diagnosis = diagnose(workspace.root, python, wait if slurm else None)
    show(lambda: diagnosis, lambda: doctor_screen(diagnosis), as_json)
    raise typer.Exit(diagnosis.exit_code)
