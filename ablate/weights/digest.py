"""What weights are in an identity: the hash of a file's content, wherever it lies."""

import hashlib
from functools import lru_cache
from pathlib import Path

from ablate.config import Init
from analysis.refusal import BadInput


def digest_of(init: Init) -> str:
    """SHA-256 (64 hex digits) of the file of initial weights; empty where there is none.

    Raises:
        BadInput: the file cannot be read.
    """
    return "" if init.weights == "none" else file_digest(Path(init.weights).expanduser())


def file_digest(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file; one that did not change is read once a process.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return _digest(path.absolute(), path.stat().st_mtime_ns, path.stat().st_size)
    except OSError as error:
        raise BadInput(f"{path}: weights cannot be read ({error.strerror or error}); check init.weights") from None


@lru_cache(maxsize=64)
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
