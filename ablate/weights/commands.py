"""The verbs of ``weights``: parse the command line, call the library, show the result."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look into files of pre-trained weights.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look into files of pre-trained weights."""


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pth.tar or .safetensors file.")],
    base: Annotated[
        str,
        typer.Option("--base", metavar="CONFIG", help="To load into.", show_default="the preset of its size"),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Show of which family a file is, what becomes of each tensor, what is resized and new, and what a config sets."""
    import msgspec

    from ablate.weights.inspection import inspect as inspect_file
    from ablate.weights.inspection import inspection_screen
    from analysis.terminal import print_whole

    found = inspect_file(file, base)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print_whole(*inspection_screen(found))
