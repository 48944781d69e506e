"""Errors and warnings about one image file of a data set, by the rules of the reader for training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from analysis.image_files import Header, Size, UnusableImage, peculiarities, read_rgb, wrong_size

Found = tuple[Literal["error", "warning"], str, str]  # level, kind, sentence
KINDS = {"missing": "missing image", "damaged": "broken image", "unsupported": "unsupported image"}


def check_image(record: dict[str, Any], folder: Path) -> Iterator[Found]:
    """Decode the file of an image record, which is an entry of ``images`` in COCO's format.

    Args:
        record: with ``file_name``, ``width`` and ``height``.
        folder: of the images.
    """
    name, width, height = record.get("file_name"), record.get("width"), record.get("height")
    who = f"image id {record.get('id')!r}"
    if not isinstance(name, str) or not name or "\0" in name:
        yield "error", "image without file name", f"{who} has file_name {name!r}"
        return
    annotated = (
        (width, height) if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0 else None
    )
    if annotated is None:
        yield "error", "image without size", f"{who} ({name}) has width {width!r} and height {height!r}"
    try:
        _, header = read_rgb(folder / name)
        found = list(peculiarities(folder / name))
    except UnusableImage as error:
        yield "error", KINDS[error.kind], f"{name}: {error.what}; {error.remedy}"
        return
    yield from (("warning", kind, f"{name}: {what}") for kind, what in found)
    yield from _check_size(name, folder, header, annotated)


def _check_size(name: str, folder: Path, header: Header, annotated: Size | None) -> Iterator[Found]:
    told = f"{name}: its EXIF orientation {header.orientation}"
    if not header.fits(annotated):
        yield "error", "size differs", f"{name}: {wrong_size(folder / name, header, annotated).what}"
    elif header.is_turned(annotated):
        yield "warning", "turned image", f"{told} is applied: the sizes in the annotations agree with it"
    elif header.orientation != 1:
        yield "warning", "turned image", f"{told} is not applied: the sizes in the annotations agree without it"
