"""``--cache``: the answer of a command is kept, and given again at once when the same is asked of the same files.

An answer is what the command prints. Its name is a hash of everything that it depends on: the content of the files, the
command with its options, this program, and the width and colours of the terminal.
"""

import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import typer

from analysis.cli.help import Command
from analysis.exceptions import BadInput
from analysis.files import read_whole, write_bytes

WANTED = "detablate.cache"  # the place in a command's context that says whether the option was given
ANSWERS = "answers"
MOST_ANSWERS = 200  # the oldest are removed
LARGEST_ANSWER = 1 << 24  # characters


def cache_folder() -> Path:
    """Where answers are kept: ``$XDG_CACHE_HOME/detablate``, or ``~/.cache/detablate``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detablate"


class AnsweringCommand(Command):
    """A verb of ``analyze`` whose answer is kept where ``--cache`` is given."""

    def invoke(self, ctx: Any) -> Any:
        """Print the answer that is kept, or call the verb and keep what it prints."""
        if not ctx.meta.get(WANTED):
            return super().invoke(ctx)
        from analysis.cli.analyze import find_inputs

        asked = ctx.params
        for option in ("out", "verify"):
            if asked.get(option):
                why = "what is kept is what the command prints, and it does more"
                raise typer.BadParameter(f"--cache and --{option} exclude each other: {why}")
        truth = Path(asked["gt"]) if asked["gt"] else None  # typer converts what it is given when it calls the verb
        files = find_inputs(ctx, asked["predictions"], truth, Path(asked["root"]))
        with kept_answer(ctx, [files.truth, *(path for _, path in files.named)]) as known:
            return None if known else super().invoke(ctx)


@contextmanager
def kept_answer(context: typer.Context, paths: Sequence[Path]) -> Iterator[bool]:
    """Whether the answer was known, and is printed already; else what the block prints is kept.

    Args:
        context: of the command; all its parameters are part of the question.
        paths: of the files that it reads, or folders of their parts.
    """
    entry = cache_folder() / ANSWERS / f"{_question(context, paths)}.json"
    known = _read(entry)
    if known is not None:
        for stream, text in zip((sys.stdout, sys.stderr), known, strict=True):
            stream.write(text)
            stream.flush()
        with suppress(OSError):
            os.utime(entry)  # the last to be removed
        yield True
        return
    own = sys.stdout, sys.stderr
    copies = [_Copy(stream) for stream in own]
    sys.stdout, sys.stderr = copies
    try:
        yield False
    finally:
        sys.stdout, sys.stderr = own
    if entry.stem == _question(context, paths):  # else a file was changed meanwhile
        _write(entry, [copy.text for copy in copies])


class _Copy(io.TextIOBase):
    """A stream that writes on, and keeps what it wrote."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._parts = stream, list[str]()

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # by which click finds out that it writes text
            raise TypeError("a text is written here, not bytes")
        self._parts.append(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True


def _question(context: typer.Context, paths: Sequence[Path]) -> str:
    """The hash of everything that an answer depends on."""
    from rich.console import Console

    console = Console()
    asked: dict[str, Any] = {
        "program": _program(),
        "command": context.command_path.split()[1:],
        "options": {name: str(value) for name, value in sorted(context.params.items())},
        "files": [_digest(path) for path in paths],
        "messages": logging.getLogger("analysis").getEffectiveLevel(),  # of --quiet and --verbose
        "screen": [console.width, console.color_system, console.encoding, sys.stderr.isatty()],
        "environment": [os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "DETABLATE_NATIVE")],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def _program() -> list[list[Any]]:
    """The identity of this program's state: its files with their sizes and times."""
    root = Path(__file__).parents[1]
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".so", ".css", ".js"))
    return [[path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _digest(path: Path) -> list[str]:
    """The name and the content of a file; of a folder, of the JSON files in it."""
    files: Iterable[Path] = sorted(path.glob("*.json*")) if path.is_dir() else [path]
    try:
        return [text for one in files for text in (str(one), hashlib.sha256(read_whole(one)).hexdigest())]
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None


def _read(entry: Path) -> tuple[str, str] | None:
    """What a command printed on both streams; None where it is not kept, or the entry is damaged."""
    try:
        kept = json.loads(read_whole(entry))
        streams = kept["stdout"], kept["stderr"]
        return streams if kept["sha256"] == _seal(*streams) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _write(entry: Path, streams: Sequence[str]) -> None:
    """Keep an answer; where that is impossible, the command has answered all the same."""
    stdout, stderr = streams
    if len(stdout) + len(stderr) > LARGEST_ANSWER:
        return
    content = {"sha256": _seal(stdout, stderr), "stdout": stdout, "stderr": stderr}
    try:
        entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes(entry, json.dumps(content).encode())
        by_age = sorted(entry.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in by_age[MOST_ANSWERS:]:
            old.unlink(missing_ok=True)
    except (BadInput, OSError) as error:
        sys.stderr.write(f"warning: the answer could not be kept for --cache ({error})\n")


def _seal(stdout: str, stderr: str) -> str:
    return hashlib.sha256(f"{len(stdout)} {stdout}{stderr}".encode("utf-8", "surrogatepass")).hexdigest()
