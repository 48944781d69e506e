"""The verbs of ``new``: start files of a person's own axis or preset."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.exceptions import BadInput
from analysis.shell import shell_command

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the axis or preset, and of its file.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write.", show_default="NAME.yaml")
]


def axis(name: Name, out: Out = None) -> None:
    """Write the start of an axis of your own, for ablate vary NAME.yaml."""
    from ablate.studies.start_files import axis_text, new_file

    path = _path(name, out)
    command = shell_command("ablate", "vary", str(path), "--dry-run")
    new_file(path, axis_text(name, command))
    typer.echo(f"written: {path}\nnext: edit it, then {command}")


def preset(
    name: Name,
    base: Annotated[str, typer.Option("--base", metavar="CONFIG", help="Preset or file to build on.")] = "tiny-shapes",
    out: Out = None,
) -> None:
    """Write the start of a config of your own, for --base NAME.yaml."""
    from ablate.config.yaml import load_config
    from ablate.studies.start_files import new_file, preset_text

    load_config(base)  # refuses a wrong base
    path = _path(name, out)
    command = shell_command("ablate", "describe", str(path))
    below = str(Path(base).absolute()) if Path(base).is_file() else base
    new_file(path, preset_text(below, command))
    typer.echo(f"written: {path}\nnext: edit it, then {command}")


def _path(name: str, out: Path | None) -> Path:
    if not name.strip() or not name.isprintable() or "/" in name:
        raise BadInput(f"NAME {name!r}: must be a word that can be the name of a file; name the folder with --out")
    path = out if out is not None else Path(f"{name}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise BadInput(f"{path}: name a file that ends in .yaml")
    return path
