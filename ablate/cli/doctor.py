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
    workspace: InWorkspace = HERE,
    as_json: AsJson = False,
) -> None:
    """Say which engines and features work here, and for what is missing, the remedy.

    Exit code 0: an engine works; 5: none does.
    """
    from ablate.doctor.diagnosis import diagnose, doctor_screen

    diagnosis = diagnose(workspace.root, python)
    show(lambda: diagnosis, lambda: doctor_screen(diagnosis), as_json)
    raise typer.Exit(diagnosis.exit_code)
