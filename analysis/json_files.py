"""JSON files from disk, plain or gzipped, with one clear sentence for everything that can be wrong with them."""

import gzip
import json
import math
import re
import zlib
from pathlib import Path
from typing import TypeVar

import msgspec

from analysis.refusal import BadInput

T = TypeVar("T")

_LOCATION = re.compile(r" - at `\$?(?P<place>[^`]*)`$")


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is gzipped (recognised by its first bytes, not by its name)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder; name the JSON file inside it") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise BadInput(f"{path}: the gzip data is damaged or cut short; copy the file again") from None
    if not content.strip():
        raise BadInput(f"{path}: the file is empty; it may have been cut short while it was written")
    return content


def is_list(content: bytes) -> bool:
    """Whether the document's outermost value is a list."""
    return content.lstrip()[:1] == b"["


def decode(path: Path, content: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Parse and validate in one pass.

    Raises:
        BadInput: malformed JSON, a NaN or Infinity literal, or a value of the wrong type; names the record.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise BadInput(explain(path, error)) from None
    except msgspec.DecodeError as error:
        raise BadInput(_explain_malformed(path, content, str(error))) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not readable as JSON ({error})") from None


def explain(path: Path, error: msgspec.ValidationError) -> str:
    """A validation error as a sentence that names the record."""
    text = str(error)
    location = _LOCATION.search(text)
    place = location["place"].lstrip(".") if location else ""
    what = _LOCATION.sub("", text).replace("`", "")
    what = what[:1].lower() + what[1:]
    record = f"record {place}" if place.startswith("[") else place
    return f"{path}: {record + ': ' if record else ''}{what} (records are counted from 0)"


def _explain_malformed(path: Path, content: bytes, reason: str) -> str:
    """Why a document is not JSON: Python writes NaN and Infinity, which JSON does not have; else a cut or a slip."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        position = re.search(r"byte (\d+)", reason)
        where = f" at byte {position[1]} of {len(content)}" if position else f" after {len(content)} bytes"
        cut = "truncated" in reason or (position is not None and int(position[1]) >= len(content) - 1)
        remedy = "the file is cut short; copy or write it again" if cut else "write it with a JSON library"
        return f"{path}: not valid JSON{where}: {remedy}"
    place = _find_non_finite(document, "")
    return f"{path}: {place} is NaN or infinite, which JSON and AP have no place for; remove or repair that record"


def _find_non_finite(value: object, place: str) -> str:
    """The path of the first NaN or infinite number of a document, ``""`` where there is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return place
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        inside = f"{place}[{key}]" if isinstance(value, list) else f"{place}.{key}".lstrip(".")
        found = _find_non_finite(child, inside if place or isinstance(value, dict) else f"record [{key}]")
        if found:
            return found
    return ""
