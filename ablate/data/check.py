"""Find everything that is wrong with a COCO-style data set at once, before training fails on it piece by piece.

An *error* makes training or evaluation wrong or impossible; a *warning* is unusual, and handled as its text says.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import msgspec

from ablate.data.check_image import check_image
from ablate.data.coco import check_masks, check_training_masks
from ablate.data.fingerprint import federated_refusal
from ablate.data.sources import Files
from analysis import GroundTruth
from analysis.coco.categories import category_conflict
from analysis.coco.ground_truth import read_checked
from analysis.coco.masks import run_lengths, unquoted
from analysis.coco.plausibility import ANNOTATION_ID_0, implausible
from analysis.coco.rules import (
    LARGEST_SIDE,
    WHOLE,
    CheckedDocument,
    Record,
    check_document,
    has_mask,
    is_id,
    merged,
    named,
    refuse,
)
from analysis.exceptions import BadInput
from analysis.io import decode_any, encode_any, read_bytes

Level = Literal["error", "warning"]
Found = tuple[Level, str, str]  # level, kind, sentence
logger = logging.getLogger(__name__)
EXAMPLES = 5
OUTSIDE = 1.0  # pixels that a box may reach past its image, as rounding does


class DataProblem(msgspec.Struct, frozen=True):
    """One kind of problem in one data set."""

    level: Level
    kind: str
    count: int
    examples: tuple[str, ...]


class DataReport(msgspec.Struct, frozen=True):
    """All problems of one data set, errors first."""

    name: str
    annotations: str
    folder: str
    images: int
    objects: int
    crowds: int
    categories: int
    images_without_objects: int
    has_masks: bool  # of every object except crowds
    findings: tuple[DataProblem, ...]

    @property
    def errors(self) -> int:
        """How many errors were found."""
        return sum(finding.count for finding in self.findings if finding.level == "error")


def check(
    name: str, files: Files, tick: Callable[[], None] = lambda: None, *, drop_invalid: bool = False
) -> DataReport:
    """Check the annotations by the rules of their reader, and decode every image; ``tick`` is called after each image.

    Args:
        name: of the data set, for the report.
        files: of the data set.
        tick: called after each image.
        drop_invalid: report the annotations that reading with ``drop_invalid`` leaves out as warnings, and the rest as
            it is without them.

    Raises:
        BadInput: the annotations are no JSON at all.
    """
    checked = check_document(files.annotations, read_bytes(files.annotations))
    notes = [*checked.notes, *checked.check_masks(needed=True)]
    found: list[Found] = [("warning", "read in another spelling", note) for note in notes]
    bad = {problem.row for problem in checked.problems}
    if drop_invalid:
        found += [("warning", f"left out: {one.kind}", one.sentence) for one in checked.problems if one.row != WHOLE]
        checked.drop_invalid()
    found += [("error", problem.kind, problem.sentence) for problem in checked.problems]
    images, annotations = checked.images, list(checked.annotations.items())
    if not checked.problems:
        found += _check_reading(checked)
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in images if is_id(image.get("id"))}
    for place, annotation in annotations:
        if place not in bad:
            found += _check_annotation(named(place, annotation), annotation, sizes[annotation["image_id"]])
    found += _check_masks_are_there(annotations)
    found += _check_names(images, checked.categories)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for trouble in pool.map(lambda image: list(check_image(image, files.images)), images):
            found += trouble
            tick()
    objects = [record for _, record in annotations if not record.get("iscrowd")]
    if not objects:
        found.append(("error", "nothing to learn", f"{files.annotations} has no object except crowds"))
    with_objects = {record["image_id"] for record in objects if is_id(record.get("image_id"))}
    return DataReport(
        name=name,
        annotations=str(files.annotations),
        folder=str(files.images),
        images=len(images),
        objects=len(objects),
        crowds=len(annotations) - len(objects),
        categories=len(checked.categories),
        images_without_objects=len({image["id"] for image in images if is_id(image.get("id"))} - with_objects),
        has_masks=bool(objects) and all(map(has_mask, objects)),
        findings=_grouped(found),
    )


def clean_copy(files: Files) -> tuple[bytes, list[str]]:
    """The annotations of a data set without the bad ones, numbers in the usual spelling; and a note on those left out.

    Fields that are not read stay as they are.

    Raises:
        BadInput: the file has errors that leaving annotations out does not mend.
    """
    content = read_bytes(files.annotations)
    checked = check_document(files.annotations, content)
    checked.check_masks(needed=True)
    checked.drop_invalid()
    refuse(checked.path, checked.problems)
    document = decode_any(files.annotations, content)
    kept = {
        "images": enumerate(checked.images),
        "annotations": checked.annotations.items(),
        "categories": enumerate(checked.categories),
    }
    for table, records in kept.items():
        document[table] = [merged(table, document[table][place], record) for place, record in records]
    return encode_any(document), checked.notes


def check_pair(train: Files, validation: Files) -> list[DataProblem]:
    """Problems of two data sets together: an error if their categories differ, a warning for shared images.

    Shared images are found by their path. On them, memorisation is measured instead of generalisation.
    """
    sets = [
        check_document(files.annotations, read_bytes(files.annotations), annotations=False)
        for files in (train, validation)
    ]
    found = []
    if not any(one.problems for one in sets):
        (first, one), (second, other) = ((checked.path, checked.category_names) for checked in sets)
        conflict = category_conflict(first, one, second, other)
        if conflict:
            found.append(DataProblem("error", "categories differ", 1, (conflict,)))
    paths, others = (
        {str(files.images.resolve() / str(image.get("file_name"))) for image in one.images}
        for files, one in zip((train, validation), sets, strict=True)
    )
    shared = sorted(paths & others)
    if shared:
        found.append(DataProblem("warning", "train and validation overlap", len(shared), tuple(shared[:EXAMPLES])))
    return found


def check_annotations(training: GroundTruth, validation: GroundTruth, *, masks: bool) -> None:
    """Find errors that would otherwise stop the training later, and warn of what looks wrong.

    Args:
        training: annotations of the training set.
        validation: annotations of the validation set.
        masks: whether masks are trained and evaluated too.

    Raises:
        BadRecords: masks that cannot be decoded.
        BadInput: the sets differ in their categories, or masks are missing where they are learned or measured.
    """
    check_categories(training, validation)
    for truth in (training, validation):
        if masks:
            truth.masks.check()
        for note in (*truth.warnings, *truth.masks.notes):
            if note != ANNOTATION_ID_0:  # matters only to an evaluation by pycocotools
                logger.warning("%s: %s", truth.path, note)
    if masks:
        check_training_masks(training)
        check_masks(validation)


def check_categories(training: GroundTruth, validation: GroundTruth) -> None:
    """Refuse two data sets that differ in their categories, by id or by name.

    Raises:
        BadInput: they differ; the sentence lists both.
    """
    (first, names), (second, others) = (
        (truth.path, dict(zip(truth.category_id, truth.category_name, strict=True))) for truth in (training, validation)
    )
    conflict = category_conflict(first, names, second, others)
    if conflict:
        raise BadInput(conflict)


def _check_reading(checked: CheckedDocument) -> Iterator[Found]:
    """Errors and warnings of the reader for a file without bad records."""
    try:
        truth = read_checked(checked)
    except BadInput as error:
        yield "error", "cannot be read", str(error)
        return
    if truth.federated:
        yield "error", "LVIS file", federated_refusal(truth.path)
    for sentence in implausible(truth.box, truth.crowd, truth.ignore, truth.masks):
        yield "warning", "looks wrong", sentence
    for place, record in checked.annotations.items():
        if isinstance(record.get("segmentation"), dict) and not _has_pixels(record["segmentation"]):
            who = named(place, record)
            yield "warning", "empty mask", f"{who} has a mask without pixels; it is left out of training"


def _check_names(images: list[Record], categories: list[Record]) -> Iterator[Found]:
    for name, count in _repeated(str(image.get("file_name")) for image in images if image.get("file_name")):
        yield "warning", "one file for several images", f"{name} is listed {count} times"
    for name, count in _repeated(str(category.get("name")) for category in categories):
        yield "warning", "category names clash", f"{name} names {count} categories"


def _repeated(values: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    """Values that occur more than once, and how often."""
    return ((value, count) for value, count in Counter(values).items() if count > 1)


def _check_masks_are_there(annotations: list[tuple[int, Record]]) -> Iterator[Found]:
    """A problem for each annotation without a mask if others have one; a set without any mask is sound."""
    without = [(place, record) for place, record in annotations if not has_mask(record)]
    for place, record in without if len(without) < len(annotations) else ():
        told = f"{named(place, record)} has no segmentation, but others have one"
        if record.get("iscrowd"):
            yield "warning", "no mask", f"{told}; to validate on this crowd, set model.detector.masks=false"
        else:
            yield (
                "error",
                "no mask",
                f"{told}: masks can be neither trained nor evaluated; set model.detector.masks=false",
            )


def _check_annotation(who: str, record: Record, size: tuple[Any, Any]) -> Iterator[Found]:
    """Warnings about the box of a valid annotation; ``size`` is that of its image, height and width."""
    if record.get("bbox") is None:
        yield "warning", "no box", f"{who} has no bbox: the bounding box of its mask is used"
    else:
        yield from _check_box(who, record["bbox"], size if _are_sides(*size) else None)


def _check_box(who: str, box: list[float], size: tuple[int, int] | None) -> Iterator[Found]:
    x, y, width, height = box
    if width == 0 or height == 0:
        yield "warning", "empty box", f"{who} has bbox {box}; it is left out of training"
    if size is None:
        return
    bottom, right = size
    if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
        if width and height:
            told = f"{who} has bbox {box} on an image of {right} x {bottom} pixels"
            yield (
                "warning",
                "box outside its image",
                f"{told}; it is left out of training, and counts as missed in the evaluation",
            )
    elif min(x, y) < -OUTSIDE or x + width > right + OUTSIDE or y + height > bottom + OUTSIDE:
        yield "warning", "box past the edge", f"{who} has bbox {box} on {right} x {bottom} pixels; it is clipped"


def _has_pixels(rle: Record) -> bool:
    """Whether a sound RLE has a foreground pixel."""
    counts = rle["counts"]
    runs = run_lengths(unquoted(counts)).tolist() if isinstance(counts, str) else counts
    return any(runs[1::2])


def _grouped(found: list[Found]) -> tuple[DataProblem, ...]:
    by_kind = itemgetter(0, 1)
    groups = ((key, [sentence for *_, sentence in rows]) for key, rows in groupby(sorted(found, key=by_kind), by_kind))
    return tuple(
        DataProblem(level, kind, len(sentences), tuple(sentences[:EXAMPLES])) for (level, kind), sentences in groups
    )


def _are_sides(*values: object) -> bool:
    """Whether these can be the sides of an image in pixels."""
    return all(isinstance(value, int) and 0 < value < LARGEST_SIDE for value in values)
