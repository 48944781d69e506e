"""Fingerprints of files that must not change any more, so that a change is noticed however it came about."""

import hashlib
from pathlib import Path

import msgspec

from analysis.files import unchanging


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Size, time and hash of a file when it was written."""

    size: int  # bytes
    modified: int  # nanoseconds
    sha256: str  # 64 hex digits

    def fits(self, path: Path) -> bool:
        """Whether a file is unchanged: true for the same size and time; else its content is read and compared.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        found = path.stat()
        if (found.st_size, found.st_mtime_ns) == (self.size, self.modified):
            return True
        return found.st_size == self.size and _sha256(path) == self.sha256


def fingerprint_of(path: Path) -> Fingerprint:
    """The fingerprint of a file.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    return Fingerprint(size=found.st_size, modified=found.st_mtime_ns, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with unchanging(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
