"""Segmentations (polygons, RLE compressed or not) -> run-length masks, decoded in bulk when first asked for."""

import ast
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints
from analysis.coco.columns import Spans
from analysis.coco.run_lengths import RunLengths, decode_run_lengths, run_lengths_of
from analysis.exceptions import BadInput, BadRecords
from analysis.io import explain


class _Rle(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


class _FloatRle(msgspec.Struct, gc=False):
    size: tuple[float, float]
    counts: list[float]


_Value = list[list[float]] | _Rle
REMEDY = "write polygons as [[x1, y1, x2, y2, ...], ...] or an RLE as {size: [height, width], counts}"
_SPACE, _EMPTY_LISTS = b" \t\r\n", b" \t\r\n[],"
NOTHING = msgspec.Raw()  # a field that is not there
_DECODER: "msgspec.json.Decoder[_Value]" = msgspec.json.Decoder(_Value)
_FLOAT_DECODER = msgspec.json.Decoder(_FloatRle)
_ANY_DECODER = msgspec.json.Decoder()
_LIST_DECODER: "msgspec.json.Decoder[list[_Value]]" = msgspec.json.Decoder(list[_Value])

LONGEST_NOTHING = 16  # bytes of a segmentation from which it holds a mask
MOST_PIXELS = 2**32  # of an image, exclusive: COCO's C code counts pixels in 32 bits
LONGEST_NUMBER = 7  # characters: 35 bits, more than any difference of two runs needs
CHECKED = 1 << 12  # masks checked at a time: bounds the memory, and what is checked again to find the bad ones
BLOCK = 1 << 16  # characters of compressed RLE checked at a time: bounds the memory


class Masks:
    """The masks of the rows of one file.

    A mask is held as COCO's compressed RLE, ``{"size": [height, width], "counts": bytes}``, column by column.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        raw: Sequence[msgspec.Raw] | Spans,
        image: Ints,
        image_size: Ints,
        row: Ints | None = None,
    ) -> None:
        """Keep undecoded ``segmentation`` values, the image index i64[N] of each, and height, width i64[images, 2].

        ``row`` i64[N] are their places in the file, for messages.
        """
        self._path, self._kind, self._raw = path, kind, raw
        self._image, self._image_size = image, image_size
        self._decoded: dict[int, dict[str, Any]] = {}
        self._runs: RunLengths | None = None
        self._has_runs = False
        self._short: set[int] = set()  # rows with polygon parts of fewer than 3 points
        self._bytes: set[int] = set()  # rows whose counts are Python's b'...'
        self._row = np.arange(len(raw)) if row is None else row
        self._paths: list[Path] | None = None  # of each row, where they are of several files

    @classmethod
    def joined(cls, parts: Sequence["Masks"]) -> "Masks":
        """The masks of several files of the same images, one after another; messages name the file of each."""
        raw: list[Any] = [one for part in parts for one in part._raw]
        first = parts[0]
        image, row = (np.concatenate([getattr(part, name) for part in parts]) for name in ("_image", "_row"))
        found = cls(first._path, first._kind, raw, image, first._image_size, row)
        found._paths = [part._path for part in parts for _ in range(len(part._raw))]
        return found

    def of_rows(self, rows: Ints) -> "Masks":
        """The masks of some rows i64, in that order."""
        raw = (
            Spans(self._raw.content, self._raw.place[rows])
            if isinstance(self._raw, Spans)
            else [self._raw[row] for row in rows.tolist()]
        )
        found = Masks(self._path, self._kind, raw, self._image[rows], self._image_size, self._row[rows])
        if self._paths is not None:
            found._paths = [self._paths[row] for row in rows.tolist()]
        return found

    @cached_property
    def present(self) -> Bools:
        """bool[N] which rows have a mask."""
        lengths = (
            self._raw.length
            if isinstance(self._raw, Spans)
            else np.fromiter(map(len, map(bytes, self._raw)), np.int64, len(self._raw))
        )
        here = lengths >= LONGEST_NOTHING
        for row in np.flatnonzero(~here & (lengths > 0)).tolist():
            here[row] = _holds_mask(bytes(self._raw[row]))
        return here

    @cached_property
    def in_run_lengths(self) -> Bools:
        """bool[N] which rows have a mask that is written as RLE, not as polygons."""
        return np.fromiter((bytes(raw).lstrip()[:1] == b"{" for raw in self._raw), np.bool_, len(self._raw))

    def rle(self, row: int) -> dict[str, Any]:
        """One mask as compressed RLE; see :meth:`rles`."""
        return self.rles([row])[0]

    def rles(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        """The masks of some rows as compressed RLE; many rows at once are far faster than one by one.

        Raises:
            BadRecords: a row has no mask, or one that is malformed, without a part, or of another size than its image.
        """
        rows = list(rows)
        todo = [row for row in rows if row not in self._decoded]
        if todo:
            self._decode(todo)
        return [self._decoded[row] for row in rows]

    @property
    def run_lengths(self) -> RunLengths | None:
        """All masks as runs, where there is the compiled core and it can decode each of them; else None."""
        if not self._has_runs:  # a cached_property of Python 3.11 would let one file at a time be decoded
            self._runs, self._has_runs = self._decode_runs(), True
        return self._runs

    def _decode_runs(self) -> RunLengths | None:
        if native.core is None or not len(self._raw) or not self.present.all():
            return None
        found = decode_run_lengths(self._raw) if isinstance(self._raw, Spans) else None
        if found is None:
            try:
                return run_lengths_of(self.rles(range(len(self._raw))))
            except BadInput:
                return None  # `rles` says what is wrong with that mask, once it is needed
        expected = self._image_size[self._image]
        fits = (expected == -1).any(axis=1) | (expected == found.size).all(axis=1)
        return found if fits.all() else None

    def faults(self, rows: Iterable[int]) -> dict[int, str]:
        """What is wrong with the masks of some rows, as a sentence for each bad one; checked without decoding them."""
        found: dict[int, str] = {}
        rows = list(rows)
        for start in range(0, len(rows), CHECKED):
            block = rows[start : start + CHECKED]
            try:
                self._checked(block)
            except BadInput:
                for row in block:  # one by one, to find them all
                    try:
                        self._checked([row])
                    except BadInput as error:
                        found[row] = str(error)
        return found

    def decode(self) -> None:
        """Decode all masks now.

        Raises:
            BadRecords: see :meth:`rles`.
        """
        if self.run_lengths is None:
            self.rles(range(len(self._raw)))

    def check(self) -> None:
        """Check all masks that are there, without decoding them.

        Raises:
            BadRecords: some are malformed, without a part, or of another size than their image.
        """
        faults = self.faults(np.flatnonzero(self.present).tolist())
        if faults:
            raise BadRecords(next(iter(faults.values())), len(faults))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or read in another spelling, in the masks that were checked or decoded so far."""
        short, quoted = len(self._short), len(self._bytes)
        cases = (
            (
                short,
                f"{short:,} masks have polygon parts with fewer than 3 points: these parts have no area and are "
                "left out",
            ),
            (quoted, f"{quoted:,} masks have counts written as Python bytes (b'...'): the text in them is read"),
        )
        return tuple(sentence for count, sentence in cases if count)

    def segmentation(self, row: int) -> "list[Floats] | dict[str, Any]":
        """One mask as it is written, and not kept in memory: polygons f64[points, 2] of x, y, or compressed RLE.

        Raises:
            BadInput: as :meth:`rles`.
        """
        (value,) = self._checked([row])
        if isinstance(value, _Rle):
            return _compressed(value)
        return [np.array(polygon).reshape(-1, 2) for polygon in value]

    @cached_property
    def area(self) -> Floats:
        """f64[N] number of pixels of each mask."""
        if self.run_lengths is not None:
            return self.run_lengths.area
        from pycocotools import mask

        # One by one: for a list, pycocotools 2.0 puts the areas into 8 bits.
        return np.array([mask.area(rle) for rle in self.rles(range(len(self._raw)))], dtype=np.float64)

    def box(self, rows: Ints) -> Floats:
        """f64[rows, 4] tight boxes xywh of the masks of some rows."""
        if self.run_lengths is not None and self.run_lengths.minimal[rows].all():
            return self.run_lengths.box[rows].astype(np.float64)
        from pycocotools import mask

        return np.asarray(mask.toBbox(self.rles(rows.tolist())), dtype=np.float64).reshape(-1, 4)

    def canonical(self) -> bytes:
        """The segmentations in one spelling, for a digest: numbers as floats, no white space; never fails."""
        return b"\n".join(_respell(raw) if here else b"" for raw, here in zip(self._raw, self.present, strict=True))

    def _place(self, row: int) -> str:
        return f"{self._path_of(row)}: the segmentation of {self._kind}[{self._row[row]}]"

    def _path_of(self, row: int) -> Path:
        return self._path if self._paths is None else self._paths[row]

    def _parse(self, rows: list[int]) -> list[_Value]:
        for row in rows:
            if not self.present[row]:
                raise BadInput(
                    f"{self._path_of(row)}: {self._kind}[{self._row[row]}] has no segmentation, so masks cannot be "
                    "compared; use --iou-type bbox, or a file with masks"
                )
        try:
            return _LIST_DECODER.decode(b"[" + b",".join([self._raw[row] for row in rows]) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError):  # one by one, to name the record
            return [self._parse_one(row) for row in rows]

    def _parse_one(self, row: int) -> _Value:
        raw = self._raw[row]
        try:
            return _DECODER.decode(raw)
        except msgspec.ValidationError as error:
            told = explain(self._place(row), error, REMEDY, "polygon")
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadInput(f"{self._place(row)} is not valid JSON; write it with a JSON library") from None
        try:  # counts as floats that are whole numbers
            value = _FLOAT_DECODER.decode(raw)
        except msgspec.DecodeError:
            raise BadInput(told) from None
        if not all(run.is_integer() for run in (*value.counts, *value.size)):
            raise BadInput(told)
        return _Rle((int(value.size[0]), int(value.size[1])), [int(run) for run in value.counts])

    def _checked(self, rows: list[int]) -> list[_Value]:
        """The masks of some rows, every rule checked; polygons without their parts of fewer than 3 points."""
        values = self._parse(rows)
        sizes = self._image_size[self._image[rows]].tolist()
        compressed: list[int] = []
        for place, (row, (height, width)) in enumerate(zip(rows, sizes, strict=True)):
            value = values[place]
            if not isinstance(value, _Rle):
                values[place] = self._check_polygons(row, value, height, width)
                continue
            self._check_size(row, value.size, height, width)
            if isinstance(value.counts, str):
                text = unquoted(value.counts)
                if text is not value.counts:
                    value.counts = text
                    self._bytes.add(row)
                compressed.append(place)
            elif min(value.counts, default=-1) < 0 or sum(value.counts) != value.size[0] * value.size[1]:
                raise self._damaged(row, value.size)
        codes = [values[place].counts.encode("utf-8", "replace") for place in compressed]  # type: ignore[union-attr]
        good = covers(codes, [values[place].size for place in compressed])  # type: ignore[union-attr]
        if not good.all():
            place = compressed[int(np.argmin(good))]
            raise self._damaged(rows[place], values[place].size)  # type: ignore[union-attr]
        return values

    def _decode(self, rows: list[int]) -> None:
        from pycocotools import mask

        try:
            values = self._checked(rows)
        except BadInput as error:
            faults = self.faults(rows)
            if sum(not self.present[row] for row in rows) == len(faults) == len(rows):
                raise  # boxes alone: no record is worse than the others
            raise BadRecords(next(iter(faults.values()), str(error)), len(faults)) from None
        for row, value, (height, width) in zip(rows, values, self._image_size[self._image[rows]].tolist(), strict=True):
            if isinstance(value, _Rle):
                self._decoded[row] = _compressed(value)
            else:
                self._decoded[row] = mask.merge(mask.frPyObjects(value, height, width))

    def _check_size(self, row: int, size: tuple[int, int], height: int, width: int) -> None:
        if -1 not in (height, width) and size != (height, width):
            raise BadInput(
                f"{self._place(row)} is {size[0]} x {size[1]} pixels (height x width) but its image is "
                f"{height} x {width}; write masks at the size of the image"
            )
        if min(size) < 1 or size[0] * size[1] >= MOST_PIXELS:
            raise BadInput(f"{self._place(row)} has the impossible size {size[0]} x {size[1]}; repair it")

    def _damaged(self, row: int, size: Sequence[int]) -> BadInput:
        return BadInput(
            f"{self._place(row)} does not cover its {size[0]} x {size[1]} pixels; the RLE is damaged or was cut short, "
            "so write it again"
        )

    def _check_polygons(self, row: int, polygons: list[list[float]], height: int, width: int) -> list[list[float]]:
        """The parts with an area: those with 3 points or more."""
        if -1 in (height, width):
            raise BadInput(
                f"{self._place(row)} is a polygon, but its image has no width and height; "
                "add them to the ground truth's images"
            )
        if height * width >= MOST_PIXELS:
            raise BadInput(f"{self._place(row)} is on an image of the impossible size {height} x {width}; repair it")
        if any(len(polygon) % 2 for polygon in polygons):
            raise BadInput(
                f"{self._place(row)} is not a polygon: it has an odd number of coordinates; write x1, y1, x2, y2, ..."
            )
        parts = [polygon for polygon in polygons if len(polygon) >= 6]
        if not parts:
            raise BadInput(
                f"{self._place(row)} is not a polygon: it needs at least 3 points, as a flat list x1, y1, x2, y2, ..."
            )
        if len(parts) < len(polygons):
            self._short.add(row)
        # COCO's code walks along every edge in fifths of a pixel: a wild point would cost gigabytes.
        furthest = min(16 * max(height, width) + 1000, 1_000_000)
        if max(map(max, parts)) > furthest or min(map(min, parts)) < -furthest:
            raise BadInput(f"{self._place(row)} has coordinates far outside its image; write pixels")
        return parts


def unquoted(counts: str) -> str:
    """Compressed counts without the quotes of Python bytes, ``b'...'``, in which a backslash stands twice."""
    if counts[:2] not in ("b'", 'b"'):
        return counts
    try:
        code = ast.literal_eval(counts)
    except (ValueError, SyntaxError):
        return counts
    return code.decode("ascii", "replace") if isinstance(code, bytes) else counts


def _holds_mask(raw: bytes) -> bool:
    """Whether a short segmentation is none of the ways to write that there is no mask: null, [] and [[]]."""
    return bool(raw.translate(None, _EMPTY_LISTS)) and raw.strip(_SPACE) != b"null"


def _compressed(value: _Rle) -> dict[str, Any]:
    """A checked RLE in COCO's compressed spelling."""
    from pycocotools import mask

    if isinstance(value.counts, str):
        return {"size": list(value.size), "counts": value.counts.encode("utf-8", "replace")}
    compressed: dict[str, Any] = mask.frPyObjects({"size": list(value.size), "counts": value.counts}, *value.size)
    return compressed


def _respell(raw: msgspec.Raw | bytes) -> bytes:
    """A segmentation in one spelling; what is none, or no JSON value at all, as near to that as possible."""
    for decoder in (_DECODER, _ANY_DECODER):
        try:
            return msgspec.json.encode(decoder.decode(raw), order="sorted")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
    return bytes(raw)


def covers(codes: Sequence[bytes], sizes: Sequence[Sequence[int]]) -> Bools:
    """bool[N] whether each compressed RLE is well formed and its runs add up to its height times width.

    COCO's C code checks neither, and a wrong one gives wrong areas and IoUs.
    """
    good = np.ones(len(codes), dtype=np.bool_)
    pixels = np.array(sizes, dtype=np.int64).reshape(-1, 2).prod(axis=1)
    ends = np.cumsum([len(code) for code in codes])
    low = 0
    while low < len(codes):
        high = max(low + 1, int(np.searchsorted(ends, (ends[low - 1] if low else 0) + BLOCK)))
        runs, start = _all_runs(codes[low:high])
        sums = np.concatenate([[0], np.cumsum(runs)])
        good[low:high] = sums[start[1:]] - sums[start[:-1]] == pixels[low:high]
        good[low + np.searchsorted(start, np.flatnonzero(runs < 0), side="right") - 1] = False
        low = high
    return good


def run_lengths(counts: str) -> Ints:
    """The runs i64[R] (pixels, background first) of a compressed RLE string; some are negative if it is malformed.

    COCO's code is a variant of LEB128: 5 data bits a character, character - 48, bit 6 says that more follow, bit 5 of
    the last is the sign; from the fourth run on a number is the difference to the run two before it.

    >>> run_lengths("52203").tolist()
    [5, 2, 2, 2, 5]
    """
    return _all_runs([counts.encode("utf-8", "replace")])[0]


def _all_runs(codes: Sequence[bytes]) -> tuple[Ints, Ints]:
    """The runs of many compressed RLEs, one after another, and where i64[N + 1] those of each begin."""
    code = np.frombuffer(b"".join(codes), dtype=np.uint8) - np.uint8(48)
    stop = np.cumsum([len(code) for code in codes])
    last = code & 32 == 0
    last_of_string = stop[stop > np.concatenate([[0], stop[:-1]])] - 1
    cut = last_of_string[~last[last_of_string]]
    last[last_of_string] = True
    end = np.flatnonzero(last)
    start = np.concatenate([[0], np.searchsorted(end, stop)])

    length = np.diff(end, prepend=-1)
    value = ((code[end] & 31).astype(np.int64) ^ 16) - 16  # the last character: the highest bits and the sign
    for back in range(1, LONGEST_NUMBER):
        longer = np.flatnonzero(length > back)
        if not len(longer):
            break
        value[longer] = value[longer] * 32 + (code[end[longer] - back] & 31)

    place = np.arange(len(end)) - np.repeat(start[:-1], np.diff(start))  # within its string
    runs = value.copy()
    for parity in (1, 0):  # runs 3, 5, ... are differences to run 1, 3, ...; runs 4, 6, ... to run 2, 4, ...
        chain = (place & 1 == parity) & (place > 0)
        total = np.concatenate([[0], np.cumsum(np.where(chain, value, 0))])
        before = np.repeat(total[start[:-1]], np.diff(start))
        np.copyto(runs, total[1:] - before, where=chain)
    malformed = np.concatenate([end[length > LONGEST_NUMBER], cut, np.flatnonzero(code > 63)])
    runs[np.searchsorted(end, malformed)] = -1
    return runs, start
