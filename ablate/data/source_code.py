"""The content of source files and folders, by which a command's run is named."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from analysis.exceptions import BadInput
from analysis.files import open_regular

LEFT_OUT = ("__pycache__", ".git", ".hg", ".svn")  # folders that a program or a person's tools make
COMPILED = (".pyc", ".pyo")
PART = 2**20  # bytes that are read at once


def sources_digest(sources: Sequence[str]) -> str:
    """SHA-256 (64 hex digits) over names and contents of files and of all files in folders; empty without any.

    Names count from the source that is listed, so the same sources elsewhere have the same digest.

    Args:
        sources: absolute paths, in the order of the config.

    Raises:
        BadInput: one is missing or cannot be read, is neither a file nor a folder, or a folder is behind a link.
    """
    rows = [(Path(source).name, name, content) for source in sources for name, content in _contents(Path(source))]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest() if sources else ""


def _contents(source: Path) -> Iterator[tuple[str, str]]:
    """The relative name and the hash of each file of a source."""
    if not source.exists():
        raise BadInput(f"{source}: there is no such file or folder; correct `sources` in the config")
    if not source.is_dir():
        yield "", _sha256(source)
        return
    for path in sorted(_files(source)):
        yield path.relative_to(source).as_posix(), _sha256(path)


def _files(folder: Path) -> Iterator[Path]:
    for above, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in folders:
            if (Path(above) / name).is_symlink():
                raise BadInput(f"{Path(above) / name}: is a link to a folder; list the folder itself under `sources`")
        yield from (Path(above) / name for name in names if not name.endswith(COMPILED))


def _refuse(error: OSError) -> None:
    raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); correct `sources` in the config")


def _sha256(path: Path) -> str:
    try:
        with open_regular(path) as file:
            digest = hashlib.sha256()
            while part := file.read(PART):
                digest.update(part)
            return digest.hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); correct `sources` in the config") from None
