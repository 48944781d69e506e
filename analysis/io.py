"""JSON files from disk, plain or gzipped, with one clear sentence for everything that can be wrong with them."""

import gc
import gzip
import io
import json
import math
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from analysis.exceptions import BadInput
from analysis.files import kind_of_file, read_whole

T = TypeVar("T")

REMEDY = "write it in COCO's format"
GZIP = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"  # some editors put it at the start
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
LARGEST_FILE = 1 << 34  # bytes, plain or unpacked: 16 GiB, several times the largest public annotation files
SMALL_UNPACKED = 1 << 25  # bytes up to which any ratio is good
LARGEST_RATIO = 100  # unpacked to packed; prediction files reach about 20, a gzip bomb 1000
UNPACKED_PART = 1 << 24  # bytes
_RESULTS = "write the detections as a COCO results file, a JSON list of records"
_OTHER_FORMATS = tuple(
    (re.compile(pattern, re.DOTALL), sentence)
    for pattern, sentence in (
        (
            rb"\x80[\x02-\x05]|\(lp|\(dp|\]q\x00|\}q\x00",
            "is a Python pickle (as mmdetection's --out and old PyTorch files are), which is never loaded here, "
            f"because loading can run any code; {_RESULTS}",
        ),
        (
            rb"PK\x03\x04",
            "is a zip archive (as PyTorch's .pth files are), which is never loaded here; unpack an archive of JSON, "
            f"and instead of detectron2's instances_predictions.pth give coco_instances_results.json, or {_RESULTS}",
        ),
        (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch the file with git lfs pull"),
        (rb"\s*<", "is XML or HTML (a Pascal VOC annotation, or a web page that was saved); convert it to COCO's JSON"),
        (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "is compressed, but not by gzip; unpack it or use gzip"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|BM|II\*\x00|MM\x00\*|%PDF", "is an image or a PDF; name the JSON file"),
        (rb"\x89HDF|\x93NUMPY|PAR1|SQLite format", f"is a file of binary arrays or tables; {_RESULTS}"),
        (
            rb"\s*\d+([ \t]+[-+.\deE]+){4,}\s",
            "is a text of numbers, as YOLO's label files are; convert the data set or the detections to COCO's JSON",
        ),
        (rb"\x00", "begins with zero bytes; the file is damaged, so copy it again"),
    )
)
_TEXT, _LIST = re.compile(rb"\s*\S"), re.compile(rb"\s*\[")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LOCATION = re.compile(r" - at `\$?(?P<place>[^`]*)`$")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file, unpacked where it is gzipped (recognised by its first bytes, not by its name).

    Raises:
        BadInput: there is no such file, it is no regular file, its first bytes are those of another format, or it is
            unreasonably large.
    """
    try:
        _check_regular(path)
        content = read_whole(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if content[:2] == GZIP:
        content = _unpacked(path, content)
    if content[:2] in _UTF16:
        raise BadInput(f"{path}: is text in UTF-16; write it again in UTF-8")
    content = content.removeprefix(UTF8_MARK)
    if not _TEXT.match(content):  # strip() would copy it
        raise BadInput(f"{path}: the file is empty; it may have been cut short while it was written, so write it again")
    other = next((what for pattern, what in _OTHER_FORMATS if pattern.match(content)), "")
    if other:
        raise BadInput(f"{path}: {other}")
    if not content.isascii() and not _is_utf8(content):
        raise BadInput(f"{path}: holds text that is not UTF-8; write the file again in UTF-8")
    return content


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_regular(path: Path) -> None:
    """Refuse what is no regular file, which may have no end, before it is opened; and one that no memory holds."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise BadInput(f"{path}: is a folder; name the JSON file inside it")
    if not stat.S_ISREG(status.st_mode):
        kind = kind_of_file(status.st_mode)
        raise BadInput(f"{path}: is {kind}, not a regular file; write the JSON to a file and name that")
    if status.st_size > LARGEST_FILE:
        raise BadInput(f"{path}: holds {status.st_size:,} bytes, more than the limit of {LARGEST_FILE:,}; split it")


def largest_content(packed: int) -> int:
    """The bytes up to which a gzipped file of so many bytes is unpacked: no annotations compress better."""
    return min(LARGEST_FILE, max(SMALL_UNPACKED, LARGEST_RATIO * packed))


def _unpacked(path: Path, content: bytes) -> bytes:
    """The content of a gzipped file, part by part, so that one made to exhaust the memory is refused early."""
    most = largest_content(len(content))
    parts, size = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while part := file.read(UNPACKED_PART):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise BadInput(
                        f"{path}: unpacks to more than {most:,} bytes from {len(content):,}, unlike any annotations; "
                        "unpack it and check its content"
                    )
    except (OSError, EOFError, zlib.error):
        raise BadInput(f"{path}: the gzip data is damaged or cut short; copy the file again") from None
    return b"".join(parts)


def is_list(content: bytes) -> bool:
    """Whether the document's outermost value is a list."""
    return _LIST.match(content) is not None


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
        raise BadInput(f"{path}: has lists or objects nested far too deep; {remedy}") from None


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
    return f"{path}: {place} is NaN or infinite, which JSON cannot store; remove or repair that record"


def decode_any(path: Path, content: bytes) -> Any:
    """A document of generic values; also one with the NaN and Infinity that Python writes and JSON does not have.

    Raises:
        BadInput: malformed JSON.
    """
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = error
        with suppress(ValueError, RecursionError):
            return json.loads(content)
    if isinstance(reason, RecursionError):
        raise BadInput(f"{path}: has lists or objects nested far too deep; {REMEDY}")
    raise BadInput(_explain_malformed(path, content, str(reason)))


def encode_any(value: object) -> bytes:
    """A value of :func:`decode_any` as JSON again; NaN and infinity become null."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError):  # a number of more than 64 bits, or half a character
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite).encode()


def _explain_malformed(path: Path, content: bytes, reason: str) -> str:
    """Why a document is not JSON: Python writes NaN and Infinity, which JSON does not have; else a cut or a slip."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        position = re.search(r"byte (\d+)", reason)
        where = f" at byte {position[1]} of {len(content)}" if position else f" after {len(content)} bytes"
        return f"{path}: not valid JSON{where}: " + (
            "the file is cut short; copy or write it again"
            if _is_cut_short(content, reason, int(position[1]) if position else len(content))
            else "write it with a JSON library"
        )
    place = _find_non_finite(document)
    escape = f"{path}: holds a string with a damaged character escape; write the file with a JSON library"
    return explain_non_finite(path, place) if place else escape


def _is_cut_short(content: bytes, reason: str, position: int) -> bool:
    """Whether a malformed document ends too early: at its end, a list, an object or a string is still open."""
    if "truncated" not in reason and position < len(content) - 1:
        return False
    outside = _STRING.sub(b"", content)
    opened = sum(outside.count(mark) for mark in (b"[", b"{"))
    return b'"' in outside or opened > sum(outside.count(mark) for mark in (b"]", b"}")) or not opened


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


def json_bytes(document: object) -> bytes:
    """A document as indented JSON with a final newline; NaN and infinity become null, numpy's scalars plain numbers."""
    plain = methodcaller("item")
    try:
        content = msgspec.json.encode(document, enc_hook=plain)
    except UnicodeEncodeError:  # the name of a file need not be UTF-8
        content = msgspec.json.encode(_legible(msgspec.to_builtins(document, enc_hook=plain)))
    return msgspec.json.format(content, indent=2) + b"\n"


def _legible(value: object) -> object:
    """Plain values whose texts can be written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_legible(key): _legible(item) for key, item in value.items()}
    return [_legible(item) for item in value] if isinstance(value, list | tuple) else value
