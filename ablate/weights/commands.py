"""The verbs of ``weights``."""

import typer

app = typer.Typer(help="Look at pre-trained weights, and make them.", no_args_is_help=True)
