"""Commands that messages tell people to type, spelt so that they work where they are printed."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def shell_command(*words: str, root: Path = Path(), study: str | None = None) -> str:
    """A command of this program in one line, as a shell takes it.

    Args:
        words: its verbs and options, such as ``ablate``, ``launch``.
        root: above `results/`; told where it is not the current folder.
        study: the name to end with, whatever it holds.
    """
    whole = [*words]
    if root.absolute() != Path().absolute():
        whole += ["--root", str(root)]
    if study is not None:
        whole += ["--", study] if study.startswith("-") else [study]
    return f"{_program()} {shlex.join(whole)}"


def _program() -> str:
    """How this process was started: installed, by uv, or by a Python."""
    name = sys.argv[0]
    if Path(name).suffix != ".py":
        return "detablate"
    if os.environ.get("UV"):  # uv's own, which it tells those that it starts
        runner = "uv run" if shutil.which("uv") else "python -m uv run"
        return f"{runner} {shlex.quote(name)}"
    python = Path(sys.executable).name
    found = shutil.which(python)
    same = found is not None and Path(found).absolute() == Path(sys.executable).absolute()
    return f"{shlex.quote(python if same else sys.executable)} {shlex.quote(name)}"
