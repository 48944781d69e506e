"""Masks decoded to runs by the compiled core, and their overlaps; without one pycocotools does it.

Both count the same pixels: every area, box and IoU is equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import native
from analysis.arrays import Bools, Floats, Ints
from analysis.coco.columns import Spans

UNUSUAL, MINIMAL = 0, 3  # of the states of a mask in run_lengths.c


@dataclass(frozen=True, eq=False)
class RunLengths:
    """N masks as runs of pixels, column by column, background first.

    ``minimal`` are the masks without a run of 0 pixels behind the first. Of others pycocotools counts in a way of its
    own, so their boxes and IoUs are to be asked of it.
    """

    end: NDArray[np.uint32]  # [R] the pixel behind each run, column by column, of all masks one after another
    start: Ints  # [N + 1] where the runs of each begin
    size: Ints  # [N, 2] height, width in pixels
    area: Floats  # [N] pixels
    box: NDArray[np.int32]  # [N, 4] xywh, tight; 0 unless minimal
    minimal: Bools  # [N]

    @property
    def parts(self) -> tuple[Any, ...]:
        """As the core takes them."""
        return self.end, self.start, self.size, self.area, self.box


def decode_run_lengths(spans: Spans) -> RunLengths | None:
    """Decode segmentations that are all RLE with compressed counts, in the usual spelling and undamaged; else None."""
    if native.core is None:
        return None
    return _decoded(native.core.decode_masks(spans.content, np.ascontiguousarray(spans.place), None))


def run_lengths_of(masks: Sequence[dict[str, Any]]) -> RunLengths | None:
    """The runs of masks in pycocotools' form, size and compressed counts as bytes; None without the core."""
    if native.core is None:
        return None
    spans = _joined([mask["counts"] for mask in masks])
    sizes = np.array([mask["size"] for mask in masks], dtype=np.int64).reshape(-1, 2)
    return _decoded(native.core.decode_masks(spans.content, spans.place, sizes))


def _joined(parts: Sequence[bytes]) -> Spans:
    ends = np.cumsum([0, *map(len, map(bytes, parts))])
    return Spans(b"".join(parts), np.column_stack([ends[:-1], ends[1:]]).astype(np.int64))


def _decoded(arrays: tuple[bytearray, ...]) -> RunLengths | None:
    end, start, size, area, box, state = (
        np.frombuffer(array, dtype=kind)
        for array, kind in zip(arrays, (np.uint32, np.int64, np.int64, np.float64, np.int32, np.uint8), strict=True)
    )
    if (state == UNUSUAL).any():
        return None
    return RunLengths(end, start, size.reshape(-1, 2), area, box.reshape(-1, 4), state == MINIMAL)
