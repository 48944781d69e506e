"""Pictures for the page: the part of an image around an error, small enough to embed, as a data address."""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.refusal import Refusal

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = NDArray[np.float64]

LONGEST_SIDE = 560  # pixels of an embedded picture
MOST_BYTES = 38_000  # of one as JPEG: 300 of them, as text of four characters for three bytes, come to 15 MB
QUALITIES = (80, 66, 50, 35)
ASPECT = 4 / 3
ROOM = 2.2  # a window is so many times as large as what it shows,
LEAST_SHARE = 0.5  # and at least this share of each side of the image


class PillowMissing(Refusal):
    """Pictures are asked for and Pillow is not installed."""

    exit_code = 5


@dataclass(frozen=True)
class Window:
    """A part of an image, in its pixels."""

    x: int
    y: int
    width: int
    height: int


def window_around(boxes: Floats, size: tuple[int, int] | None) -> Window:
    """The window that shows boxes f64[B, 4] xywh with room about them, of width to height 4 to 3 where that fits.

    ``size`` is width and height of the image, None where nobody knows them.

    >>> window_around(np.array([[10.0, 10.0, 30.0, 30.0]]), (640, 480))
    Window(x=0, y=0, width=320, height=240)
    """
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    whole = np.array(size if size else np.maximum(np.ceil(high), 1), dtype=np.float64)
    low, high = np.clip(low, 0, whole), np.clip(high, 0, whole)
    side = np.maximum((high - low) * ROOM, whole * LEAST_SHARE)
    side = np.array([max(side[0], side[1] * ASPECT), max(side[1], side[0] / ASPECT)])
    side = np.maximum(np.round(np.minimum(side, whole)), 1)
    corner = np.clip(np.round((low + high) / 2 - side / 2), 0, whole - side)
    return Window(int(corner[0]), int(corner[1]), int(side[0]), int(side[1]))


class Album:
    """The images of a data set on disk; remembers which could not be shown."""

    def __init__(self, folder: Path | None, file_name: Sequence[str | None]) -> None:
        """``file_name`` are those of the ground truth, by image; no folder: no pictures.

        Raises:
            PillowMissing: there is a folder, and nothing to open its images with.
        """
        self._folder, self._file_name = folder, file_name
        self.missing: set[int] = set()  # images without a file
        self.damaged: set[int] = set()  # images whose file cannot be read
        if folder is not None:
            try:
                import PIL.Image  # noqa: F401
            except ModuleNotFoundError:
                raise PillowMissing(
                    "pictures need Pillow: pip install pillow, or leave --images away for a report without them"
                ) from None

    def pictures(self, image: int, windows: Sequence[Window], size: tuple[int, int] | None) -> list[str | None]:
        """Windows of one image as ``data:`` addresses, None for all where the image cannot be shown.

        ``size`` is the width and height that windows are measured in; a file of another size is scaled to it.
        """
        path = self._path(image)
        if path is None:
            return [None] * len(windows)
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.damaged.add(image)
            return [None] * len(windows)
        return [encode(_cut(picture, window, size or picture.size)) for window in windows]

    def size(self, image: int) -> tuple[int, int] | None:
        """Width and height of an image on disk, by its file's header."""
        path = self._path(image)
        if path is None:
            return None
        from PIL import Image

        try:
            with Image.open(path) as opened:
                return opened.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    def _path(self, image: int) -> Path | None:
        name = self._file_name[image]
        if self._folder is None:
            return None
        if name is not None:
            for path in (self._folder / name, self._folder / Path(name).name):  # COCO has bare names, others paths
                inside = os.path.normpath(path).startswith(os.path.normpath(self._folder) + os.sep)
                if inside and path.is_file():
                    return path
        self.missing.add(image)
        return None


def _cut(picture: "Image", window: Window, size: tuple[int, int]) -> "Image":
    """The window of a picture, at most ``LONGEST_SIDE`` pixels long."""
    from PIL.Image import Resampling

    across, down = picture.width / size[0], picture.height / size[1]
    box = (
        window.x * across, window.y * down, (window.x + window.width) * across, (window.y + window.height) * down
    )  # fmt: skip
    shrink = min(1.0, LONGEST_SIDE / max(window.width, window.height))
    target = (max(1, round(window.width * shrink)), max(1, round(window.height * shrink)))
    return picture.resize(target, Resampling.LANCZOS, box=box)


def encode(picture: "Image") -> str:
    """A picture as a JPEG in a ``data:`` address, of at most ``MOST_BYTES`` before it is written as text."""
    while True:
        for quality in QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= MOST_BYTES:
                return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        picture = picture.reduce(2)
