"""The verb ``doctor``."""

from pathlib import Path
from typing import Annotated

import typer


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
    root: Annotated[Path, typer.Option("--root", help="The folder that holds results/.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Say which engines and features work here, and for what is missing, the remedy.

    Exit code 0: an engine works; 5: none does.
    """
    from ablate.doctor.diagnosis import diagnose

    diagnosis = diagnose(root, python)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(diagnosis), indent=2).decode())
    else:
        from ablate.doctor.diagnosis import doctor_screen
        from analysis.render.screen import print_whole

        print_whole(*doctor_screen(diagnosis))
    raise typer.Exit(diagnosis.exit_code)
