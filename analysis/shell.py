"""Commands in messages and help pages, spelled so that they work where they are printed."""

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

UVX_FOLDER = "archive-v0"  # of uv's cache, in which uvx makes environments


def shell_command(*words: str, root: Path = Path(), study: str | None = None) -> str:
    """A command of this program in one line, as a shell takes it.

    Args:
        words: its verbs and options, such as ``ablate``, ``launch``.
        root: above `results/`; printed if it is not the current folder.
        study: the name to end with, whatever it holds.
    """
    whole = [*words]
    if root.absolute() != Path().absolute():
        whole += ["--root", str(root)]
    if study is not None:
        whole += ["--", study] if study.startswith("-") else [study]
    return f"{program()} {shlex.join(whole)}"


def program() -> str:
    """How this process was started, as a shell takes it: installed, by a Python, as a script, by uv."""
    name = Path(sys.argv[0])
    started = getattr(sys.modules["__main__"], "__spec__", None)
    if started is not None and started.name == "detablate":
        return f"{_python()} -m detablate"
    if name.suffix == ".py" and name.stem in ("cli", "detablate"):
        return f"{_python()} {shlex.quote(str(sys.argv[0]))}"
    if name.stem == "detablate":
        if os.environ.get("UV"):
            return f"{_uvx()} detablate" if UVX_FOLDER in Path(sys.prefix).parts else f"{_python()} detablate"
        found = shutil.which("detablate")
        same = found is not None and Path(found).absolute() == name.absolute()
        return "detablate" if same or len(name.parts) == 1 else shlex.quote(str(name))
    clone = Path(__file__).parent.parent / "cli.py"  # a worker, a notebook, a program that imports this one
    return f"{_python()} {shlex.quote(str(clone))}" if clone.is_file() else "detablate"


def install_command(extra: str = "") -> str:
    """The command that installs an optional set of packages, such as ``train``, into the environment of this process.

    It names the clone or the present installation, never a package index that may not have this project.

    Args:
        extra: an optional dependency of `pyproject.toml`; empty for the packages that are always needed.
    """
    chosen = f"[{extra}]" if extra else ""
    clone = Path(__file__).parent.parent
    if os.environ.get("UV"):
        if UVX_FOLDER in Path(sys.prefix).parts:
            return f"{_uvx(chosen)} detablate"
        return f"{_python().removesuffix('run')}sync{f' --extra {extra}' if extra else ''}"
    if (clone / "pyproject.toml").is_file():
        folder = "." if clone.resolve() == Path().resolve() else str(clone)
        return f"pip install -e {shlex.quote(folder + chosen)}"
    return f"pip install {shlex.quote('detablate' + chosen)}"


def _uvx(extra: str = "") -> str:
    """The words that make uv install the program again from its source.

    Args:
        extra: optional packages in brackets, such as ``[train]``.
    """
    import json
    from importlib import metadata
    from urllib.parse import unquote

    runner = "uvx" if shutil.which("uvx") else "python -m uv tool run"
    with suppress(metadata.PackageNotFoundError, ValueError, LookupError):
        source: str = json.loads(metadata.distribution("detablate").read_text("direct_url.json") or "{}")["url"]
        path = unquote(source.removeprefix("file://")) if source.startswith("file:") else source
        return f"{runner} --from {shlex.quote(path + extra)}"
    return f"{runner} --from {shlex.quote('detablate' + extra)}" if extra else runner


def _python() -> str:
    """The Python of this process, by the shortest words that start it again."""
    if os.environ.get("UV"):  # uv sets it for the programs that it starts
        return "uv run" if shutil.which("uv") else "python -m uv run"
    python = Path(sys.executable).name
    found = shutil.which(python)
    same = found is not None and Path(found).absolute() == Path(sys.executable).absolute()
    return shlex.quote(python if same else sys.executable)
