"""The output of a command on its way into a log: without secrets, and of bounded length.

Gigabytes of output cost no disk and no memory: beyond `MOST_BYTES` only the end is kept, and written when the command
has ended. Of a line that is written over again and again, as a progress bar is, only the last state is kept.
"""

from collections import deque
from collections.abc import Mapping
from typing import IO

MOST_BYTES = 2**24  # of the output of one attempt
LAST_BYTES = 2**16  # that are kept of the rest
LONGEST_LINE = 2**14  # bytes; a longer one is cut into several
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
        """What of the stream so far can be told; the beginning of what may become a secret is held back."""
        content = self._redacted(self._held + part)
        held = max((_beginning(content, secret) for secret in self._known), default=0)
        self._held = content[len(content) - held :]
        return content[: len(content) - held]

    def end(self) -> bytes:
        """What was held back, when nothing more comes."""
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
        file: to write to, unbuffered.
        most: bytes that are written as they come.
    """

    def __init__(self, file: IO[bytes], most: int = MOST_BYTES) -> None:
        self._file, self._left = file, most
        self._line = b""
        self._last: deque[bytes] = deque()
        self._kept = self._dropped = 0
        self.last_line = ""  # that is not empty

    def feed(self, content: bytes) -> None:
        """Take more output."""
        *whole, self._line = (self._line + content).split(b"\n")
        for line in whole:
            self._write(line)
        shown = self._line.rstrip(b"\r").rpartition(b"\r")[2]  # a carriage return begins the line again
        self._line = shown + self._line[len(self._line.rstrip(b"\r")) :]
        while len(self._line) > LONGEST_LINE:
            self._write(self._line[:LONGEST_LINE])
            self._line = self._line[LONGEST_LINE:]

    def end(self) -> None:
        """Write the last line, and the end of what was too long."""
        if self._line.strip():
            self._write(self._line)
        self._line = b""
        if self._dropped > self._kept:
            self._file.write(f"[... {self._dropped - self._kept:,} bytes of output left out ...]\n".encode())
        self._file.write(b"".join(self._last))
        self._last.clear()

    def _write(self, line: bytes) -> None:
        line = line.rstrip(b"\r").rpartition(b"\r")[2][:LONGEST_LINE]
        if line.strip():
            self.last_line = line.decode(errors="replace").strip()
        line += b"\n"
        if self._left > 0:
            self._left -= len(line)
            self._file.write(line)
            return
        self._dropped += len(line)
        self._kept += len(line)
        self._last.append(line)
        while self._kept > LAST_BYTES:
            self._kept -= len(self._last.popleft())
