"""The output of a command on its way into a log: without secrets, and of bounded length.

Gigabytes of output cost no disk and no memory: beyond `MOST_BYTES` only the end is kept, and written when the command
has ended. Of a line that is written over again and again, as a progress bar is, only the last state is kept.
"""

import re
from collections.abc import Mapping
from typing import IO

MOST_BYTES = 2**24  # of the output of one attempt
LAST_BYTES = 2**16  # that are kept of the rest
LONGEST_LINE = 2**18  # bytes; a longer one is cut into several
OVERWRITTEN = re.compile(rb"^[^\n]*\r(?=[^\r\n])", re.MULTILINE)  # by what comes behind a carriage return
SHORTEST_SECRET = 4  # characters: a variable such as "1" is none


class Redactor:
    """Replaces the values of variables in a stream of bytes, wherever its parts are cut.

    Args:
        secrets: values by the names of their variables.

    >>> redactor = Redactor({"KEY": "s3cret"})
    >>> redactor.feed(b"the key is s3c"), redactor.feed(b"ret."), redactor.end()
    (b'the key is ', b'[KEY].', b'')
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        known: dict[bytes, bytes] = {}
        for name, value in secrets.items():
            for spelling in (value, value.strip(), value.replace("\n", "\\n"), *value.splitlines()):
                if len(spelling) >= SHORTEST_SECRET:
                    known[spelling.encode(errors="surrogateescape")] = f"[{name}]".encode()
        self._known = dict(sorted(known.items(), key=lambda item: -len(item[0])))  # the longest counts
        self._held = b""

    def feed(self, part: bytes) -> bytes:
        """The part of the stream that is safe to write; a possible beginning of a secret is held back."""
        content = self._redacted(self._held + part)
        held = max((_beginning(content, secret) for secret in self._known), default=0)
        self._held = content[len(content) - held :]
        return content[: len(content) - held]

    def end(self) -> bytes:
        """The rest that was held back, at the end of the stream."""
        rest, self._held = self._held, b""
        return rest

    def text(self, text: str) -> str:
        """A sentence without the secrets."""
        return self._redacted(text.encode(errors="surrogateescape")).decode(errors="replace")

    def _redacted(self, content: bytes) -> bytes:
        for secret, name in self._known.items():
            content = content.replace(secret, name)
        return content


def _beginning(content: bytes, secret: bytes) -> int:
    """How many last bytes of a content are the beginning of a secret."""
    return next((count for count in range(len(secret) - 1, 0, -1) if content.endswith(secret[:count])), 0)


class BoundedLog:
    """Writes lines until there are too many bytes, and then keeps the last ones.

    Args:
        file: to write to.
        most: bytes that are written as they come.
    """

    def __init__(self, file: IO[bytes], most: int = MOST_BYTES) -> None:
        self._file, self._left = file, most
        self._line, self._recent = b"", bytearray()
        self._dropped = 0

    @property
    def last_line(self) -> str:
        """The last line that is not empty."""
        lines = (self._recent[-LAST_BYTES:] + self._line).decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def feed(self, content: bytes) -> None:
        """Take more output."""
        content = self._line + content
        if b"\r" in content:
            content = OVERWRITTEN.sub(b"", content).replace(b"\r\n", b"\n")
        end = content.rfind(b"\n") + 1
        self._line = content[end:]
        self._write(content[:end])
        if len(self._line) > LONGEST_LINE:
            self._write(self._line + b"\n")
            self._line = b""

    def end(self) -> None:
        """Write the last line, and the end of what was too long."""
        self._write(self._line + b"\n" if self._line.strip() else b"")
        self._line = b""
        kept = self._recent[-min(self._dropped, LAST_BYTES) :] if self._dropped else b""
        if self._dropped > len(kept):
            self._file.write(f"[... {self._dropped - len(kept):,} bytes of output left out ...]\n".encode())
        self._file.write(kept)

    def _write(self, lines: bytes) -> None:
        self._recent += lines
        if len(self._recent) > 2 * LAST_BYTES:
            del self._recent[:-LAST_BYTES]
        self._file.write(lines[: self._left])
        self._dropped += max(0, len(lines) - self._left)
        self._left = max(0, self._left - len(lines))
