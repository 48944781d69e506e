"""JSON files from disk, plain or gzipped, with one clear sentence for everything that can be wrong with them.

Files appear whole or not at all.
"""

import gc
import gzip
import json
import math
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from typing import TypeVar

import msgspec

from analysis.exceptions import BadInput

T = TypeVar("T")

REMEDY = "write it as COCO's format has it"
_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"  # some editors put it at the start
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LOCATION = re.compile(r" - at `\$?(?P<place>[^`]*)`$")


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is gzipped (recognised by its first bytes, not by its name)."""
    try:
        content = path.read_bytes()
    except OSError as error:
        known = {
            FileNotFoundError: "no such file; check the path",
            IsADirectoryError: "is a folder; name the JSON file inside it",
        }
        raise BadInput(f"{path}: {known.get(type(error), f'cannot be read ({error.strerror or error})')}") from None
    if content[:2] == _GZIP:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise BadInput(f"{path}: the gzip data is damaged or cut short; copy the file again") from None
    if content[:2] in _UTF16:
        raise BadInput(f"{path}: is text in UTF-16; write it again in UTF-8")
    content = content.removeprefix(_UTF8_MARK)
    if not content.strip():
        raise BadInput(f"{path}: the file is empty; it may have been cut short while it was written, so write it again")
    return content


def is_list(content: bytes) -> bool:
    """Whether the document's outermost value is a list."""
    return content.lstrip()[:1] == b"["


@contextmanager
def no_collector() -> Iterator[None]:
    """Work without the garbage collector, which would walk the millions of new records again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def decode(path: Path, content: bytes, decoder: "msgspec.json.Decoder[T]", remedy: str = REMEDY) -> T:
    """Parse and validate in one pass; ``remedy`` says what a record should look like.

    Raises:
        BadInput: malformed JSON, a NaN or Infinity literal, or a value of the wrong type; names the record.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise BadInput(explain(str(path), error, remedy)) from None
    except msgspec.DecodeError as error:
        raise BadInput(_explain_malformed(path, content, str(error))) from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: holds text that is not UTF-8; write the file again in UTF-8") from None
    except RecursionError:
        raise BadInput(f"{path}: nests lists or objects far too deep; {remedy}") from None


def explain(place: str, error: msgspec.ValidationError, remedy: str, item: str = "record") -> str:
    """A validation error as a sentence that names the record (or other ``item`` of a list), counted from 0."""
    text = str(error)
    location = _LOCATION.search(text)
    inside = location["place"].lstrip(".") if location else ""
    what = _LOCATION.sub("", text).replace("`", "")
    record = f"{item} {inside}" if inside.startswith("[") else inside
    return f"{place}: {record + ': ' if record else ''}{what[:1].lower()}{what[1:]}; {remedy}"


def encode(path: Path, document: object) -> bytes:
    """A document of plain Python values as JSON, for checks that read JSON; ``path`` is its name in messages.

    Raises:
        BadInput: a number is NaN or infinite, or a value is none of JSON's.
    """
    try:
        content = msgspec.json.encode(document)
    except (TypeError, OverflowError) as error:
        raise BadInput(
            f"{path}: cannot be written as JSON ({error}); give plain Python numbers, texts and lists"
        ) from None
    place = _find_non_finite(document) if b"null" in content else ""  # which is how NaN is written
    if place:
        raise BadInput(explain_non_finite(path, place))
    return content


def explain_non_finite(path: Path, place: str) -> str:
    """The sentence on a number that is NaN or infinite."""
    return f"{path}: {place} is NaN or infinite, which JSON and AP have no place for; remove or repair that record"


def _explain_malformed(path: Path, content: bytes, reason: str) -> str:
    """Why a document is not JSON: Python writes NaN and Infinity, which JSON does not have; else a cut or a slip."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        position = re.search(r"byte (\d+)", reason)
        where = f" at byte {position[1]} of {len(content)}" if position else f" after {len(content)} bytes"
        cut = "truncated" in reason or (position is not None and int(position[1]) >= len(content) - 1)
        return f"{path}: not valid JSON{where}: " + (
            "the file is cut short; copy or write it again" if cut else "write it with a JSON library"
        )
    place = _find_non_finite(document)
    escape = f"{path}: holds a string with a damaged character escape; write the file with a JSON library"
    return explain_non_finite(path, place) if place else escape


def _find_non_finite(document: object) -> str:
    """The path of the first NaN or infinite number of a document, ``""`` where there is none."""
    waiting: list[tuple[str, object]] = [("", document)]  # no recursion: a document may be nested deeper than a stack
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return place
        if isinstance(value, dict):
            waiting += reversed([(f"{place}.{key}".lstrip("."), child) for key, child in value.items()])
        elif isinstance(value, list | tuple):
            waiting += reversed([(f"{place or 'record '}[{key}]", child) for key, child in enumerate(value)])
    return ""


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


def json_bytes(document: object) -> bytes:
    """A document as indented JSON with a final newline; NaN and infinity become null, numpy's scalars plain numbers."""
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=methodcaller("item")), indent=2) + b"\n"
