"""Files appear whole or not at all."""

import os
import tempfile
from pathlib import Path

from analysis.refusal import BadInput


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; makes the folder.

    Raises:
        BadInput: the folder cannot be written; the sentence names it and the system's reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"{path.parent}: cannot write here ({error.strerror}); name another folder") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 would hide results from the rest of a lab
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); free space or name another folder") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
