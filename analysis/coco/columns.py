"""Lists of COCO records -> columns, by the compiled core; only where every record is in the usual spelling.

Whoever calls has another way for everything else, and for installations without the core: :mod:`analysis.coco.rules`
and the decoders of msgspec, which also have the sentences for what is wrong. Both ways give the same bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints

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


def read_columns(content: bytes) -> Columns | None:
    """The columns of a JSON list of records; None without the compiled core, and where a record is unusual.

    Unusual are an id that is no whole number, a field among those of `Columns` that some records have and others do
    not (but for the flags and segmentations), names of files or categories in a record, and what is no JSON.
    """
    read = None if native.core is None else native.core.read_records(content)
    if read is None:
        return None
    rows, arrays, in_all, in_any = read
    has = {name: bool(in_any >> bit & 1) for bit, name in enumerate(FIELDS)}
    everywhere = {name: bool(in_all >> bit & 1) for bit, name in enumerate(FIELDS)}
    uneven = any(has[name] != everywhere[name] for name in ("score", "bbox", "id", "area"))
    if not rows or uneven or not (everywhere["image_id"] and everywhere["category_id"]):
        return None
    array: dict[str, Any] = dict(zip(FIELDS, arrays, strict=True))

    def column(name: str, kind: type) -> Any:
        return np.frombuffer(array[name], dtype=kind) if has[name] else None

    box, place = column("bbox", np.float64), column("segmentation", np.int64)
    return Columns(
        image_id=column("image_id", np.int64),
        category_id=column("category_id", np.int64),
        score=column("score", np.float64),
        bbox=None if box is None else box.reshape(-1, 4),
        id=column("id", np.int64),
        area=column("area", np.float64),
        iscrowd=np.frombuffer(array["iscrowd"], dtype=np.bool_),
        ignore=np.frombuffer(array["ignore"], dtype=np.bool_),
        segmentation=Spans(b"", np.zeros((rows, 2), dtype=np.int64))  # and the content need not be kept
        if place is None
        else Spans(content, place.reshape(-1, 2)),
    )
