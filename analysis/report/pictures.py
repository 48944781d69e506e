"""Pictures of errors: the part of an image around one, small enough for a page, and what is drawn and written over it.

Boxes and outlines of masks are in pixels of the image; words keep their size however large the picture is shown.
"""

import base64
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np

from analysis.arrays import Floats
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.matched_run import TRUE_POSITIVE
from analysis.evaluation.single_error_cost import Example
from analysis.exceptions import DetablateError
from analysis.parallel import threads
from analysis.render.markup import Markup, tag
from analysis.report.outlines import TOLERANCE, outline
from analysis.report.report_data import ReportData

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_SIDE = 560  # pixels of a picture
MOST_BYTES = 38_000  # of one as JPEG: 300 of them, as text of four characters for three bytes, come to 15 MB
QUALITIES = (80, 66, 50, 35)
ASPECT = 4 / 3
ROOM = 2.2  # a window is so many times as large as what it shows,
LEAST_SHARE = 0.5  # and at least this share of each side of the image
COARSE = 3.0  # pixels: what is only shown beside an example may be simplified more
MOST_OTHERS = 60  # objects drawn beside those that an example is about
LONGEST_LABEL = 34  # characters
NAME_DIGITS = 24  # of the digest of a picture, in the name of its file


class PillowMissing(DetablateError):
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

    ``size`` is width and height of the image, None if they are not known.

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


class NotShown(NamedTuple):
    """Images that cannot be shown for one cause."""

    cause: str  # the rest of a sentence about them
    images: int
    first: str  # the sentence about the first of them; empty where its file is missing


class Wanted(NamedTuple):
    """Windows of one image."""

    image: int
    windows: Sequence[Window]
    size: tuple[int, int] | None  # width, height that they are measured in and the image must have; none: its own


class Album:
    """The images of a data set on disk; remembers which could not be shown."""

    def __init__(
        self,
        folder: Path | None,
        file_name: Sequence[str | None],
        *,
        follow_symlinks: bool = False,
        assets: str = "",
    ) -> None:
        """The images of a folder; no folder: no pictures.

        Symbolic links that lead out of the folder are followed where that is asked for alone: the page is mailed.

        Args:
            folder: of the images.
            file_name: of each image, as the ground truth has it.
            follow_symlinks: also those that lead out of the folder.
            assets: the folder of the pictures, relative to that of the page; empty: they are in the page.

        Raises:
            PillowMissing: there is a folder, and nothing to open its images with.
        """
        self._folder, self._file_name, self._follow_symlinks = folder, file_name, follow_symlinks
        self._assets = quote(assets)
        self.files: dict[str, bytes] = {}  # the pictures of the folder ``assets``, by their file names
        self.outside: set[int] = set()  # images that a symbolic link leads to, out of the folder
        self.missing: set[int] = set()  # images without a file
        self.damaged: dict[int, str] = {}  # images whose file cannot be read, or is of a kind that is not read, and why
        self.other_size: dict[int, str] = {}  # images whose file has another size than the ground truth says
        if folder is not None:
            try:
                import PIL.Image  # noqa: F401
            except ModuleNotFoundError:
                raise PillowMissing(
                    "pictures need Pillow: pip install pillow, or make a report without pictures (without --images)"
                ) from None

    def pictures(self, wanted: Sequence[Wanted]) -> Iterator[list[str | None]]:
        """The addresses of the windows of each image, None for all where it cannot be shown.

        The pictures are made from this call on, several at a time on other threads. An address is the picture itself
        (``data:``) or a file of the folder ``assets``, named by its content: runs that show the same window share it.
        """
        paths = [self._path(one.image) for one in wanted]
        pool = ThreadPoolExecutor(threads())
        encoded = pool.map(_encode_windows, paths, wanted)

        def addresses() -> Iterator[list[str | None]]:
            with pool:
                for one, found in zip(wanted, encoded, strict=True):
                    if found.why:
                        (self.other_size if found.is_size else self.damaged)[one.image] = found.why
                    yield list(map(self._address, found.pictures)) or [None] * len(one.windows)

        return addresses()

    def _address(self, picture: bytes) -> str:
        if not self._assets:
            return "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        name = f"{hashlib.sha256(picture).hexdigest()[:NAME_DIGITS]}.jpg"
        self.files[name] = picture
        return f"{self._assets}/{name}"

    def size(self, image: int) -> tuple[int, int] | None:
        """Width and height of an image on disk, by its file's header."""
        path = self._path(image)
        if path is None:
            return None
        from analysis.image_files import UnusableImage, read_header

        try:
            return read_header(path).size
        except UnusableImage as error:
            self.damaged[image] = str(error)
            return None

    def not_shown(self) -> list[NotShown]:
        """What was needed so far and cannot be shown."""
        causes = (
            (
                "are symbolic links to files outside the folder (use --follow-symlinks to include them)",
                len(self.outside),
                "",
            ),
            ("are not in the image folder", len(self.missing), ""),
            ("cannot be read", len(self.damaged), next(iter(self.damaged.values()), "")),
            (
                "have another size than in the ground truth",
                len(self.other_size),
                next(iter(self.other_size.values()), ""),
            ),
        )
        return [NotShown(*cause) for cause in causes if cause[1]]

    def _path(self, image: int) -> Path | None:
        name = self._file_name[image]
        if self._folder is None:
            return None
        folder = Path(os.path.abspath(self._folder))
        for part in () if name is None else (name, Path(name).name):  # COCO has bare names, others paths
            path = Path(os.path.abspath(folder / part))
            if path.is_relative_to(folder) and path.is_file():
                if self._follow_symlinks or path.resolve().is_relative_to(folder.resolve()):
                    return path
                self.outside.add(image)
                return None
        self.missing.add(image)
        return None


class _Encoded(NamedTuple):
    """The windows of an image file as JPEG; none where there is no file, or where it cannot be used."""

    pictures: Sequence[bytes] = ()
    why: str = ""  # it cannot be used
    is_size: bool = False  # because it has another size


def _encode_windows(path: Path | None, wanted: Wanted) -> _Encoded:
    if path is None:
        return _Encoded()
    from analysis.image_files import UnusableImage, read_annotated

    try:
        picture = read_annotated(path, wanted.size)
    except UnusableImage as error:
        return _Encoded((), str(error), error.kind == "size")
    return _Encoded([encode(_cut(picture, window)) for window in wanted.windows])


def _cut(picture: "Image", window: Window) -> "Image":
    """The window of a picture, at most ``LONGEST_SIDE`` pixels long."""
    from PIL.Image import Resampling

    box = window.x, window.y, window.x + window.width, window.y + window.height
    shrink = min(1.0, LONGEST_SIDE / max(window.width, window.height))
    width, height = (max(1, round(side * shrink)) for side in (window.width, window.height))
    return picture.resize((width, height), Resampling.LANCZOS, box=box)


def encode(picture: "Image") -> bytes:
    """A picture as a JPEG of at most ``MOST_BYTES``."""
    while True:
        for quality in QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= MOST_BYTES:
                return buffer.getvalue()
        picture = picture.reduce(2)


def overlay(data: ReportData, run: int, example: Example, image: int, window: Window) -> Markup:
    """Boxes, or masks where those were compared, in pixels of the image."""
    gt, dt = data.ground_truth, data.runs[run].detections

    def shape(source: GroundTruth | Detections, row: int, tolerance: float = TOLERANCE) -> Markup:
        if data.settings.iou_type == "segm":
            loops = outline(source.masks.rle(row), tolerance)
            path = "".join(f"M{' '.join(f'{x:g},{y:g}' for x, y in loop.tolist())}z" for loop in loops)
            return tag("path", d=path, fill_rule="evenodd")
        x, y, width, height = (f"{side:.1f}".removesuffix(".0") for side in source.box[row].tolist())
        return tag("rect", x=x, y=y, width=width, height=height)

    low, high = np.array([window.x, window.y]), np.array([window.x + window.width, window.y + window.height])
    others = np.flatnonzero(gt.image == image)
    in_window = ((gt.box[others, :2] < high) & (gt.box[others, :2] + gt.box[others, 2:] > low)).all(axis=1)
    others = others[in_window & (others != example.truth)][:MOST_OTHERS]
    parts = [tag("g", *(shape(gt, row, COARSE) for row in others.tolist()), class_="other")]
    if example.error == "dup":
        labels = data.runs[run].breakdown.labels
        taken = np.flatnonzero((labels.target == example.truth) & (labels.error == TRUE_POSITIVE))
        parts += [tag("g", shape(dt, row), class_="winner") for row in taken.tolist()]
    for source, row, role in ((gt, example.truth, "object"), (dt, example.detection, "found")):
        if row >= 0:
            drawn = shape(source, row)
            parts.append(tag("g", tag("g", drawn, class_="halo"), tag("g", drawn, class_=role)))
    frame = f"{window.x} {window.y} {window.width} {window.height}"
    return tag("svg", *parts, viewBox=frame, class_="overlay", aria_hidden="true")


def labels(data: ReportData, run: int, example: Example, window: Window) -> Markup:
    """The words on the picture, of one size however large the picture is shown."""
    gt, dt = data.ground_truth, data.runs[run].detections
    names, parts = gt.category_name, []
    if example.detection >= 0:
        text = f"{names[dt.category[example.detection]]} {dt.score[example.detection]:.2f}"
        parts.append(_label(text, dt.box[example.detection], window, "found", above=True))
    if example.truth >= 0 and example.error in ("cls", "miss"):
        text = names[gt.category[example.truth]]
        parts.append(_label(text, gt.box[example.truth], window, "object", above=example.error == "miss"))
    return tag("svg", *parts, class_="labels", aria_hidden="true")


def _label(text: str, box: Floats, window: Window, role: str, above: bool) -> Markup:
    """A word at the upper or lower edge of a box, in percents of a frame of 4 to 3 in which the window is centred."""
    shape = window.width / window.height / ASPECT
    across, down = min(1.0, shape), min(1.0, 1 / shape)  # the share of the frame that the window fills
    left = (box[0] - window.x) / window.width
    edge = (box[1] + (0 if above else box[3]) - window.y) / window.height
    to_the_left = left > 0.62
    x = left + (box[2] / window.width if to_the_left else 0)
    x, y = 0.5 + (min(max(x, 0.0), 1.0) - 0.5) * across, 0.5 + (min(max(edge, 0.0), 1.0) - 0.5) * down
    lift = -5 if above == (y > 0.09 if above else y < 0.91) else 13
    return tag(
        "text",
        text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…",
        x=f"{100 * min(max(x, 0.012), 0.988):.1f}%",
        y=f"{100 * y:.1f}%",
        dy=lift,
        class_=f"{role} {'end' if to_the_left else 'start'}",
    )
