"""Segmentations (polygons, compressed and uncompressed RLE) -> run-length masks, decoded when first asked for."""

from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from analysis.json_files import explain
from analysis.refusal import BadInput


class _Rle(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


_ABSENT = (b"", b"null", b"[]")  # no field, or the ways to write that there is no mask
_DECODER = msgspec.json.Decoder(list[list[float]] | _Rle)


class Masks:
    """The masks of the rows of one file.

    A mask is held as COCO's compressed RLE, ``{"size": [height, width], "counts": bytes}``, column by column.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        raw: list[msgspec.Raw],
        image: NDArray[np.int64],
        image_size: NDArray[np.int64],
    ) -> None:
        """Keep the undecoded ``segmentation`` values, the image index i64[N] of each, and height, width i64[images, 2]."""
        self._path, self._kind, self._raw = path, kind, raw
        self._image, self._image_size = image, image_size
        self._decoded: dict[int, dict[str, Any]] = {}
        self._row = np.arange(len(raw))

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """bool[N] which rows have a mask."""
        return np.fromiter((bytes(raw) not in _ABSENT for raw in self._raw), np.bool_, len(self._raw))

    def rle(self, row: int) -> dict[str, Any]:
        """One mask as compressed RLE.

        Raises:
            BadInput: the row has no mask, or one that is malformed or of another size than its image.
        """
        if row not in self._decoded:
            self._decoded[row] = self._decode(row)
        return self._decoded[row]

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """f64[N] number of pixels of each mask."""
        from pycocotools import mask

        return np.array([mask.area(self.rle(row)) for row in range(len(self._raw))], dtype=np.float64)

    def box(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """f64[rows, 4] tight boxes xywh of the masks of some rows."""
        from pycocotools import mask

        return np.asarray(mask.toBbox([self.rle(int(row)) for row in rows]), dtype=np.float64).reshape(-1, 4)

    def take(self, rows: NDArray[np.int64]) -> "Masks":
        """The masks of some rows, which keep their places in the file for messages."""
        part = Masks(
            self._path, self._kind, [self._raw[int(row)] for row in rows], self._image[rows], self._image_size
        )
        part._row = self._row[rows]
        return part

    def canonical(self) -> bytes:
        """The segmentations in one spelling, for a digest: numbers as floats, no white space."""
        values = [self._parse(row) if self.present[row] else None for row in range(len(self._raw))]
        return msgspec.json.encode(values)

    def _place(self, row: int) -> str:
        return f"{self._path}: the segmentation of {self._kind}[{self._row[row]}]"

    def _parse(self, row: int) -> list[list[float]] | _Rle:
        if not self.present[row]:
            raise BadInput(
                f"{self._path}: {self._kind}[{self._row[row]}] has no segmentation, so masks cannot be compared; "
                "use --iou-type bbox, or a file with masks"
            )
        try:
            return _DECODER.decode(self._raw[row])
        except msgspec.ValidationError as error:
            raise BadInput(explain(self._path, error).replace(f"{self._path}: ", f"{self._place(row)}: ")) from None

    def _decode(self, row: int) -> dict[str, Any]:
        from pycocotools import mask

        value = self._parse(row)
        height, width = (int(side) for side in self._image_size[self._image[row]])
        if isinstance(value, _Rle):
            if (height, width) != (-1, -1) and value.size != (height, width):
                raise BadInput(
                    f"{self._place(row)} is {value.size[0]} x {value.size[1]} pixels (height x width) but its image is "
                    f"{height} x {width}; write masks at the size of the image"
                )
            return self._compress(row, value)
        if -1 in (height, width):
            raise BadInput(
                f"{self._place(row)} is a polygon, but its image has no width and height; "
                "add them to the ground truth's images"
            )
        if not value or any(len(polygon) < 6 or len(polygon) % 2 for polygon in value):
            raise BadInput(
                f"{self._place(row)} is not a polygon: it needs at least 3 points, as a flat list x1, y1, x2, y2, ..."
            )
        if not all(abs(c) < 1e7 for polygon in value for c in polygon):
            raise BadInput(f"{self._place(row)} has coordinates far outside any image; write pixels")
        merged: dict[str, Any] = mask.merge(mask.frPyObjects(value, height, width))
        return merged

    def _compress(self, row: int, value: _Rle) -> dict[str, Any]:
        from pycocotools import mask

        height, width = value.size
        if min(value.size) < 1 or height * width >= 2**32:
            raise BadInput(f"{self._place(row)} has the impossible size {height} x {width}")
        runs = run_lengths(value.counts) if isinstance(value.counts, str) else np.array(value.counts, dtype=object)
        if (runs < 0).any() or int(runs.sum()) != height * width:
            raise BadInput(
                f"{self._place(row)} does not cover its {height} x {width} pixels: its runs add up to {int(runs.sum()):,}; "
                "the RLE is damaged or was cut short"
            )
        if isinstance(value.counts, str):
            return {"size": [height, width], "counts": value.counts.encode()}
        packed: dict[str, Any] = mask.frPyObjects({"size": [height, width], "counts": value.counts}, height, width)
        return packed


def run_lengths(counts: str) -> NDArray[np.int64]:
    """The runs i64[R] (pixels, background first) of a compressed RLE string.

    COCO's code is a variant of LEB128: 5 data bits a character, character - 48, bit 6 says that more follow, bit 5 of
    the last is the sign; from the fourth run on a number is the difference to the run two before it.

    >>> run_lengths("52203").tolist()
    [5, 2, 2, 2, 5]
    """
    code = np.frombuffer(counts.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(code) or (code < 0).any() or (code > 63).any() or code[-1] & 32:
        return np.array([-1], dtype=np.int64)
    last = (code & 32) == 0
    end = np.flatnonzero(last)
    start = np.concatenate([[0], end[:-1] + 1])
    place = np.arange(len(code)) - np.repeat(start, end - start + 1)
    if place.max() > 10:
        return np.array([-1], dtype=np.int64)
    value = np.add.reduceat((code & 31) << (5 * place), start)
    negative = (code[end] & 16) != 0
    value[negative] -= np.int64(1) << (5 * (place[end][negative] + 1))
    runs = value.copy()
    for parity in (1, 2):  # runs 3, 5, ... are differences to run 1, 3, ...; runs 4, 6, ... to run 2, 4, ...
        runs[parity::2] = np.cumsum(value[parity::2])
    return runs
