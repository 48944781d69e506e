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
            help="Look for detectron2 in this Python's environment.",
            show_default="DETABLATE_DETECTRON2_PYTHON, else this one",
        ),
    ] = None,
    slurm: Annotated[
        bool,
        typer.Option("--slurm", help="Submit a job too: do nodes see the disk and this Python, how are their clocks?"),
    ] = False,
    wait: Annotated[int, typer.Option("--wait", metavar="SECONDS", help="For the job of --slurm.", min=1)] = 60,
    workspace: InWorkspace = HERE,
    as_json: AsJson = False,
) -> None:
    """Say which engines and features work here, and for what is missing, the remedy.

    Exit code 0: an engine works; 5: none does.
    """
    from ablate.doctor.diagnosis import diagnose, doctor_screen

    diagnosis = diagnose(workspace.root, python, wait if slurm else None)
    show(lambda: diagnosis, lambda: doctor_screen(diagnosis), as_json)
    raise typer.Exit(diagnosis.exit_code)
