"""Asking the launchers of a study to stop, wherever they run: through a file that they look at."""

import secrets
from pathlib import Path

from ablate.lease import Owner, owners
from ablate.store import replacing
from ablate.studies.study import study_folder
from analysis.refusal import BadInput


def launchers_folder(root: Path, study: str) -> Path:
    """Where the launchers of a study are known by their claims."""
    return study_folder(root, study) / "launchers"


def _request(root: Path, study: str) -> Path:
    return study_folder(root, study) / "cancel"


class Cancelled:
    """Whether a study was cancelled since the last look; what is older than this object was for others."""

    def __init__(self, root: Path, study: str) -> None:
        self._path = _request(root, study)
        self._old = self._read()

    def __call__(self) -> bool:
        """Look; every request is told once, since a second one means: at once."""
        found = self._read()
        is_new = found not in (b"", self._old)
        if is_new:
            self._old = found
        return is_new

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


def cancel(root: Path, study: str) -> list[Owner]:
    """Ask every launcher of a study to stop -> those that were asked.

    Raises:
        BadInput: the request cannot be written.
    """
    asked = owners(launchers_folder(root, study))
    if asked:
        try:
            with replacing(_request(root, study)) as file:
                file.write(secrets.token_hex(8).encode())
        except OSError as error:
            raise BadInput(f"{_request(root, study)}: cannot be written ({error.strerror})") from None
    return asked
