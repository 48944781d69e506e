"""Lists of COCO records -> columns, by the compiled core; only where every record is in the usual spelling.

Callers have another way for everything else, and for installations without the core: :mod:`analysis.coco.rules`
and the decoders of msgspec, which also have the sentences for what is wrong. Both ways give the same bits.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from gzip import GzipFile
from io import BufferedReader
from operator import and_, or_
from pathlib import Path
from typing import Any, overload

import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints
from analysis.exceptions import BadInput
from analysis.files import ChangedWhileRead, unchanging
from analysis.io import GZIP, LARGEST_FILE, UTF8_MARK, largest_content

BLOCK = 1 << 22  # bytes of a file that are read at a time
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


_Part = tuple[int, tuple[bytearray, ...], int, int, int, int]  # of a list, as the core reads it


def read_columns(content: bytes) -> Columns | None:
    """The columns of a JSON list of records; None without the compiled core, and where a record is unusual.

    Unusual are an id that is no whole number, a field among those of `Columns` that some records have and others do
    not (but for the flags and segmentations), names of files or categories in a record, and what is no JSON.
    """
    part: _Part | None = None if native.core is None else native.core.read_records(content, _BEFORE)
    if part is None or part[4] != _BEHIND:
        return None
    return _joined([part], content)


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
            parts = _read_parts(file)
    except ChangedWhileRead as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except (OSError, EOFError, zlib.error):  # reading the whole file gives the sentence
        return None
    return _joined(parts, b"") if parts else None


def _read_parts(file: BufferedReader) -> list[_Part]:
    """The list of a file, part by part; empty where one is unusual, or the file too large."""
    size = os.fstat(file.fileno()).st_size
    packed = file.peek(2)[:2] == GZIP
    most = largest_content(size) if packed else LARGEST_FILE
    source = GzipFile(fileobj=file) if packed else file
    parts: list[_Part] = []
    state, rest, total = _BEFORE, b"", 0
    while block := source.read(BLOCK):
        content = rest + block if parts else block.removeprefix(UTF8_MARK)
        total += len(block)
        if total > most or not content.isascii() or (not parts and b'"segmentation"' in content[:SAMPLE]):
            return []
        part: _Part | None = native.core.read_records(content, state)
        if part is None or (not part[0] and state != _BEHIND) or part[3] >> FIELDS.index("segmentation") & 1:
            return []
        state, rest = part[4], content[part[5] :]
        parts.append(part)
    return parts if state == _BEHIND else []


def _joined(parts: Sequence[_Part], content: bytes) -> Columns | None:
    """The columns of all parts; segmentations are places in ``content``."""
    parts = [part for part in parts if part[0]]
    rows = sum(part[0] for part in parts)
    has, everywhere = (
        dict(zip(FIELDS, (bool(reduce(how, bits, start) >> bit & 1) for bit in range(len(FIELDS))), strict=True))
        for how, bits, start in ((or_, [part[3] for part in parts], 0), (and_, [part[2] for part in parts], -1))
    )
    uneven = any(has[name] != everywhere[name] for name in ("score", "bbox", "id", "area"))
    if not rows or uneven or not (everywhere["image_id"] and everywhere["category_id"]):
        return None

    def column(name: str, kind: type) -> Any:
        arrays: list[Any] = [np.frombuffer(part[1][FIELDS.index(name)], dtype=kind) for part in parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    place = column("segmentation", np.int64) if has["segmentation"] else None
    return Columns(
        image_id=column("image_id", np.int64),
        category_id=column("category_id", np.int64),
        score=column("score", np.float64) if has["score"] else None,
        bbox=column("bbox", np.float64).reshape(-1, 4) if has["bbox"] else None,
        id=column("id", np.int64) if has["id"] else None,
        area=column("area", np.float64) if has["area"] else None,
        iscrowd=column("iscrowd", np.bool_),
        ignore=column("ignore", np.bool_),
        segmentation=Spans(b"", np.zeros((rows, 2), dtype=np.int64))  # and the content need not be kept
        if place is None
        else Spans(content, place.reshape(-1, 2)),
    )
