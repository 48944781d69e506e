"""The verbs of ``ablate``: parse the command line, call the library, show the result."""

import typer

app = typer.Typer(help="Make and run controlled studies.", no_args_is_help=True)
