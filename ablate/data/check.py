"""What is wrong with a COCO-style data set, all of it at once, before training finds it one by one.

An *error* makes training or evaluation wrong or impossible; a *warning* is unusual, and handled as its text says.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import msgspec

from ablate.data.check_image import check_image
from ablate.data.sources import Files
from analysis.coco.masks import run_lengths
from analysis.io import decode, read_bytes

Record = dict[str, Any]
Level = Literal["error", "warning"]
Found = tuple[Level, str, str]  # level, kind, sentence
EXAMPLES = 5
OUTSIDE = 1.0  # pixels that a box may reach past its image, as rounding does


class DataProblem(msgspec.Struct, frozen=True):
    """One kind of trouble in one data set."""

    level: Level
    kind: str
    count: int
    examples: tuple[str, ...]


class DataReport(msgspec.Struct, frozen=True):
    """All trouble of one data set, errors first."""

    name: str
    annotations: str
    folder: str
    images: int
    objects: int
    crowds: int
    categories: int
    images_without_objects: int
    findings: tuple[DataProblem, ...]

    @property
    def errors(self) -> int:
        """How many errors were found."""
        return sum(finding.count for finding in self.findings if finding.level == "error")


def check(name: str, files: Files, tick: Callable[[], None] = lambda: None) -> DataReport:
    """Read the annotations and decode every image of a data set; ``tick`` is called after each image.

    Raises:
        BadInput: the annotations are no JSON at all.
    """
    (images, annotations, categories), found = _read(files)
    for kind, records in (("image", images), ("annotation", annotations), ("category", categories)):
        found += _check_ids(kind, records)
    by_id = {_id(image): image for image in images if _id(image) is not None}
    names = {_id(category) for category in categories} - {None}
    for place, annotation in enumerate(annotations):
        found += _check_annotation(place, annotation, by_id, names)
    found += _check_masks_are_there(annotations)
    found += _check_names(images, categories)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for trouble in pool.map(lambda image: list(check_image(image, files.images)), images):
            found += trouble
            tick()
    objects = [record for record in annotations if not record.get("iscrowd")]
    if not objects:
        found.append(("error", "nothing to learn", f"{files.annotations} holds no object that is no crowd"))
    return DataReport(
        name=name,
        annotations=str(files.annotations),
        folder=str(files.images),
        images=len(images),
        objects=len(objects),
        crowds=len(annotations) - len(objects),
        categories=len(categories),
        images_without_objects=len(by_id.keys() - {_id(record, "image_id") for record in objects}),
        findings=_grouped(found),
    )


def check_overlap(train: Files, validation: Files) -> DataProblem | None:
    """Images that stand in both sets, by their path: what is measured on them is memory."""
    paths, others = (
        {str(files.images.resolve() / str(image.get("file_name"))) for image in _read(files)[0][0]}
        for files in (train, validation)
    )
    shared = sorted(paths & others)
    if not shared:
        return None
    return DataProblem("warning", "train and validation overlap", len(shared), tuple(shared[:EXAMPLES]))


def _read(files: Files) -> tuple[list[list[Record]], list[Found]]:
    """Images, annotations and categories, as far as they are records, and what is wrong with the tables themselves."""
    document = decode(files.annotations, read_bytes(files.annotations), msgspec.json.Decoder())
    found: list[Found] = []
    tables = []
    for key in ("images", "annotations", "categories"):
        rows = document.get(key) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            found.append(("error", "not a COCO document", f"'{key}' is missing or no list"))
            rows = []
        good = [row for row in rows if isinstance(row, dict)]
        if len(good) < len(rows):
            found.append(("error", "not a COCO document", f"{len(rows) - len(good)} entries of '{key}' are no records"))
        tables.append(good)
    return tables, found


def _check_ids(kind: str, records: list[Record]) -> Iterator[Found]:
    for place, record in enumerate(records):
        if _id(record) is None:
            yield "error", f"{kind} without id", f"entry {place} has id {record.get('id')!r}"
    for identifier, count in _repeated(record["id"] for record in records if _id(record) is not None):
        yield "error", f"{kind} ids clash", f"{kind} id {identifier!r} stands {count} times"


def _check_names(images: list[Record], categories: list[Record]) -> Iterator[Found]:
    for name, count in _repeated(str(image.get("file_name")) for image in images if image.get("file_name")):
        yield "warning", "one file for several images", f"{name} is listed {count} times"
    for name, count in _repeated(str(category.get("name")) for category in categories):
        yield "warning", "category names clash", f"{name} names {count} categories"


def _repeated(values: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    """Values that occur more than once, and how often."""
    return ((value, count) for value, count in Counter(values).items() if count > 1)


def _check_masks_are_there(annotations: list[Record]) -> Iterator[Found]:
    """Boxes alone are sound; some with masks and some without are not."""
    without = [(place, record) for place, record in enumerate(annotations) if not _has_mask(record)]
    for place, record in without if len(without) < len(annotations) else ():
        told = f"{_who(place, record)} has no segmentation, though others have"
        if record.get("iscrowd"):
            yield "warning", "no mask", f"{told}; to validate on this crowd, set model.detector.masks=false"
        else:
            yield "error", "no mask", f"{told}: masks are neither learned nor measured; set model.detector.masks=false"


def _has_mask(record: Record) -> bool:
    return record.get("segmentation") not in (None, [])


def _who(place: int, record: Record) -> str:
    return f"annotation id {record['id']}" if "id" in record else f"annotations[{place}]"


def _check_annotation(place: int, record: Record, images: dict[Any, Record], categories: set[Any]) -> Iterator[Found]:
    who = _who(place, record)
    image = images.get(_id(record, "image_id"))
    if image is None:
        yield "error", "unknown image", f"{who} is on image id {record.get('image_id')!r}, which is not listed"
    if _id(record, "category_id") not in categories:
        yield "error", "unknown category", f"{who} has category id {record.get('category_id')!r}, which is not listed"
    if record.get("iscrowd", 0) not in (0, 1):
        yield "error", "bad crowd flag", f"{who} has iscrowd {record['iscrowd']!r}; it must be 0 or 1"
    sides = (image.get("height"), image.get("width")) if image is not None else (None, None)
    known = sides if _are_sides(*sides) else None
    if record.get("bbox") is None and _has_mask(record):
        yield "warning", "no box", f"{who} has no bbox: its mask's is taken"
    else:
        yield from _check_box(who, record.get("bbox"), known)
    if _has_mask(record):
        yield from _check_mask(who, record["segmentation"], known)


def _check_box(who: str, box: object, size: tuple[Any, Any] | None) -> Iterator[Found]:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
        yield "error", "bad box", f"{who} has bbox {box!r}; it must be [x, y, width, height] in pixels"
        return
    x, y, width, height = box
    if width < 0 or height < 0:
        yield "error", "bad box", f"{who} has the negative-sided bbox {box}; boxes are [x, y, width, height]"
        return
    if width == 0 or height == 0:
        yield "warning", "empty box", f"{who} has bbox {box}, which is left out of training"
    if size is None:
        return
    right, bottom = size[1], size[0]
    if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
        if width and height:
            yield "error", "box outside its image", f"{who} has bbox {box} on an image of {right} x {bottom} pixels"
    elif min(x, y) < -OUTSIDE or x + width > right + OUTSIDE or y + height > bottom + OUTSIDE:
        yield "warning", "box past the edge", f"{who} has bbox {box} on {right} x {bottom} pixels; it is clipped"


def _check_mask(who: str, value: object, size: tuple[Any, Any] | None) -> Iterator[Found]:
    for polygon in value if isinstance(value, list) else ():
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            yield "error", "bad polygon", f"{who} has a polygon that is not x1, y1, x2, y2, x3, y3, ..."
        elif not all(_is_number(part) and abs(part) < 1e7 for part in polygon):
            yield "error", "bad polygon", f"{who} has a polygon whose coordinates are no pixels"
    if isinstance(value, dict) and {"size", "counts"} <= value.keys():
        yield from _check_rle(who, value, size)
    elif not isinstance(value, list):
        yield "error", "bad RLE", f"{who} has a segmentation that is neither polygons nor RLE"


def _check_rle(who: str, value: Record, size: tuple[Any, Any] | None) -> Iterator[Found]:
    height, width = value["size"] if isinstance(value["size"], list) and len(value["size"]) == 2 else (0, 0)
    if not _are_sides(height, width) or max(height, width) >= 2**16:
        yield "error", "bad RLE", f"{who} has an RLE of size {value['size']!r}; it must be [height, width]"
        return
    if size is not None and (height, width) != size:
        yield "error", "bad RLE", f"{who} has an RLE of {height} x {width} pixels on an image of {size[0]} x {size[1]}"
        return
    runs = run_lengths(value["counts"]).tolist() if isinstance(value["counts"], str) else value["counts"]
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        yield "error", "bad RLE", f"{who} has an RLE whose counts cannot be decoded"
    elif sum(runs) != height * width:
        yield "error", "bad RLE", f"{who} has an RLE whose runs add up to {sum(runs)}, not {height} x {width}"
    elif sum(runs[1::2]) == 0:
        yield "warning", "empty mask", f"{who} has a mask without a pixel, which is left out of training"


def _grouped(found: list[Found]) -> tuple[DataProblem, ...]:
    by_kind = itemgetter(0, 1)
    groups = ((key, [sentence for *_, sentence in rows]) for key, rows in groupby(sorted(found, key=by_kind), by_kind))
    return tuple(
        DataProblem(level, kind, len(sentences), tuple(sentences[:EXAMPLES])) for (level, kind), sentences in groups
    )


def _id(record: Record, key: str = "id") -> int | str | None:
    """The id under a key; None where it is missing or can be none."""
    value = record.get(key)
    return value if isinstance(value, int | str) else None


def _are_sides(*values: object) -> bool:
    """Whether these can be the sides of an image in pixels."""
    return all(isinstance(value, int) and value > 0 for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
