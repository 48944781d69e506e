"""The verbs of ``analyze``: parse the command line, call the library, show the result."""

import typer

app = typer.Typer(help="Where a detector's average precision went.", no_args_is_help=True)
