"""Lists of COCO records -> columns, by the compiled core; only where every record is in the usual spelling.

Callers have another way for everything else, and for installations without the core: :mod:`analysis.coco.rules`
and the decoders of msgspec, which also have the sentences for what is wrong. Both ways give the same bits.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path
from typing import Any, overload

import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints
from analysis.exceptions import BadInput
from analysis.files import ChangedWhileRead, unchanging
from analysis.io import GZIP, LARGEST_FILE, UTF8_MARK, largest_content

BLOCK = 1 << 20  # bytes of a file that are read at a time; longer records are left to the other reader
SAMPLE = 1 << 12  # bytes among which a file with segmentations has one
_BEFORE, _BEHIND = 0, 2  # a list, as records.c counts
FIELDS = ("image_id", "category_id", "score", "bbox", "id", "area", "iscrowd", "ignore", "segmentation")


class Spans(Sequence[bytes]):
    """Pieces of a text, kept as the places where they begin and end.

    Args:
        content: the text.
        place: i64[N, 2] where each begins, and where it ends (exclusive).
    """

    def __init__(self, content: bytes, place: Ints) -> None:
        self.content, self.place = content, place

    def __len__(self) -> int:
        return len(self.place)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> "Spans": ...
    def __getitem__(self, row: int | slice) -> "bytes | Spans":
        if isinstance(row, slice):
            return Spans(self.content, self.place[row])
        start, stop = self.place[row].tolist()
        return self.content[start:stop]

    def __iter__(self) -> Iterator[bytes]:
        content = self.content
        return (content[start:stop] for start, stop in self.place.tolist())

    @property
    def length(self) -> Ints:
        """i64[N] bytes of each."""
        return self.place[:, 1] - self.place[:, 0]


@dataclass(frozen=True, eq=False)
class Columns:
    """N records by their fields; a field that no record has is None, and none is in some of the records alone.

    Two fields that may be missing are 0 there: ``iscrowd`` and ``ignore``.
    """

    image_id: Ints  # [N]
    category_id: Ints  # [N]
    score: Floats | None  # [N]
    bbox: Floats | None  # [N, 4] as written
    id: Ints | None  # [N]
    area: Floats | None  # [N]
    iscrowd: Bools  # [N]
    ignore: Bools  # [N]
    segmentation: Spans  # [N] undecoded; empty where a record has none

    def __len__(self) -> int:
        return len(self.image_id)


class _List:
    """A list of records as the core reads it, part by part."""

    def __init__(self) -> None:
        self.columns = tuple(bytearray() for _ in FIELDS)  # with room for more rows, or empty: no record has it
        self.rows, self.state = 0, _BEFORE
        self._everywhere, self._has = -1, 0  # a bit for each field

    def read(self, content: "bytes | memoryview") -> int | None:
        """Append the records of the next part of the text: how many bytes were read, or None: something is unusual."""
        found = native.core.read_records(content, self.state, self.columns, self.rows)
        if found is None:
            return None
        rows, everywhere, has, self.state, used = found
        self.rows += rows
        if rows:
            self._everywhere &= everywhere
            self._has |= has
        return int(used)

    def column(self, name: str, kind: type, width: int = 1) -> Any:
        """``width`` values of each record, [N * width]."""
        return np.frombuffer(self.columns[FIELDS.index(name)], dtype=kind, count=self.rows * width)

    def has(self, name: str) -> bool:
        """Whether some of the records have this field."""
        return bool(self._has >> FIELDS.index(name) & 1)

    def in_all(self, name: str) -> bool:
        """Whether all of them have it."""
        return bool(self._everywhere >> FIELDS.index(name) & 1)


def read_columns(content: bytes) -> Columns | None:
    """The columns of a JSON list of records; None without the compiled core, and where a record is unusual.

    Unusual are an id that is no whole number, a field among those of `Columns` that some records have and others do
    not (but for the flags and segmentations), names of files or categories in a record, and what is no JSON.
    """
    if native.core is None:
        return None
    found = _List()
    if found.read(content) is None or found.state != _BEHIND:
        return None
    return _columns(found, content)


def stream_columns(path: Path) -> Columns | None:
    """The same of a file, plain or gzipped, read in blocks, so that no more of its text than that is in memory.

    None also for a file with segmentations, which are kept as text, and for one that cannot be read.

    Raises:
        BadInput: the file was changed while it was read.
    """
    if native.core is None:
        return None
    try:
        with unchanging(path) as file:
            found = _read_parts(file)
    except ChangedWhileRead as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except (OSError, EOFError, zlib.error):  # reading the whole file gives the sentence
        return None
    return _columns(found, b"") if found else None


def _read_parts(file: BufferedReader) -> _List | None:
    """The list of a file, part by part; None where one is unusual, or the file too large."""
    size = os.fstat(file.fileno()).st_size
    packed = file.peek(2)[:2] == GZIP
    most = largest_content(size) if packed else LARGEST_FILE
    source = GzipFile(fileobj=file) if packed else file
    text = bytearray(SAMPLE + BLOCK)  # of all blocks in turn: new memory for each would take as long as reading it
    view = memoryview(text)
    filled = total = source.readinto(view[:SAMPLE])
    if b'"segmentation"' in text[:SAMPLE]:
        return None
    if text.startswith(UTF8_MARK):
        filled -= len(UTF8_MARK)
        view[:filled] = view[len(UTF8_MARK) : len(UTF8_MARK) + filled]
    found, new = _List(), 1
    while new:
        new = source.readinto(view[filled : filled + BLOCK])
        filled += new
        total += new
        if total > most or not text.isascii():
            return None
        before = found.rows
        used = found.read(view[:filled])
        if used is None or (found.rows == before and found.state != _BEHIND) or found.has("segmentation"):
            return None
        filled -= used
        view[:filled] = view[used : used + filled]
    return found if found.state == _BEHIND else None


def _columns(found: _List, content: bytes) -> Columns | None:
    """The columns of a list; segmentations are places in ``content``."""
    uneven = any(found.has(name) != found.in_all(name) for name in ("score", "bbox", "id", "area"))
    if not found.rows or uneven or not (found.in_all("image_id") and found.in_all("category_id")):
        return None

    column = found.column
    place = column("segmentation", np.int64, 2) if found.has("segmentation") else None
    return Columns(
        image_id=column("image_id", np.int64),
        category_id=column("category_id", np.int64),
        score=column("score", np.float64) if found.has("score") else None,
        bbox=column("bbox", np.float64, 4).reshape(-1, 4) if found.has("bbox") else None,
        id=column("id", np.int64) if found.has("id") else None,
        area=column("area", np.float64) if found.has("area") else None,
        iscrowd=column("iscrowd", np.bool_),
        ignore=column("ignore", np.bool_),
        segmentation=Spans(b"", np.zeros((found.rows, 2), dtype=np.int64))  # and the content need not be kept
        if place is None
        else Spans(content, place.reshape(-1, 2)),
    )
