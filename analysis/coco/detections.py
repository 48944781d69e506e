"""COCO results JSON -> :class:`Detections`: columnar, checked against the ground truth, suspicious content named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from analysis.arrays import Floats, Ints, best_in_group, index_of, order_by_index
from analysis.coco.ground_truth import GroundTruth, check_boxes
from analysis.coco.masks import NOTHING, Masks
from analysis.exceptions import BadInput
from analysis.io import decode, encode, explain_non_finite, is_list, no_collector, read_bytes


class _AnyIdRecord(msgspec.Struct, gc=False, kw_only=True):
    image_id: int | str
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: msgspec.Raw = NOTHING


class _Record(_AnyIdRecord, gc=False, kw_only=True):
    image_id: int


_REMEDY = "a record is written as {image_id, category_id, score, bbox [x, y, width, height] or segmentation}"
_DECODER = msgspec.json.Decoder(list[_Record])
_ANY_ID_DECODER = msgspec.json.Decoder(list[_AnyIdRecord])


@dataclass(frozen=True, eq=False)
class Detections:
    """Scored boxes (and masks, where the file has them), one row each, in the order of the file.

    Images and categories are indices into the ground truth's; boxes are ``x, y, width, height`` in pixels.
    """

    path: Path
    box: Floats  # [N, 4] xywh, pixels
    score: Floats  # [N]
    category: Ints  # [N] index into the ground truth's category_id
    image: Ints  # [N] index into the ground truth's image_id
    row: Ints  # [N] place in the file, from 0
    masks: Masks
    has_box: bool  # the file's records carry a bbox (else `box` was taken from the masks)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def area(self) -> Floats:
        """f64[N] square pixels by which COCO's size ranges judge a detection.

        As in pycocotools' ``loadRes``: the box's area wherever the file has boxes, else the mask's, whichever of the
        two is compared.
        """
        return self.box[:, 2] * self.box[:, 3] if self.has_box else self.masks.area

    @classmethod
    def from_records(
        cls,
        records: Sequence[Mapping[str, Any]],
        ground_truth: GroundTruth,
        *,
        drop_unknown: bool = False,
        name: str | Path = "detections",
    ) -> "Detections":
        """Detections in memory, as COCO result records, with the checks of :func:`read_detections`.

        Args:
            records: each with ``image_id, category_id, score`` and ``bbox`` (x, y, width, height in pixels) or
                ``segmentation`` (polygons or RLE with text counts) or both; plain Python values.
            ground_truth: whose ids the records use.
            drop_unknown: leave out detections on unknown images or categories, as in :func:`read_detections`.
            name: what error messages call them.

        Raises:
            BadInput: a record cannot be used; the sentence names it.

        >>> from analysis import read_ground_truth
        >>> from analysis.coco.synthetic import write_example
        >>> gt = read_ground_truth(write_example(getfixture("tmp_path"), images=50)[0])
        >>> record = {"image_id": 1, "category_id": 2, "bbox": [10, 10, 50, 40], "score": 0.9}
        >>> Detections.from_records([record], gt).area.tolist()
        [2000.0]
        """
        return _parse(Path(name), encode(Path(name), records), ground_truth, drop_unknown)

    @classmethod
    def from_arrays(
        cls,
        ground_truth: GroundTruth,
        *,
        box: Floats,
        score: Floats,
        category: Ints,
        image: Ints,
        masks: Sequence[Any] | None = None,
        name: str | Path = "detections",
    ) -> "Detections":
        """Detections in memory, column by column, with the checks of :func:`read_detections`.

        Args:
            ground_truth: whose images and categories the indices count.
            box: f64[N, 4] x, y, width, height in pixels.
            score: f64[N], higher is surer.
            category: i64[N] index into ``ground_truth.category_id``.
            image: i64[N] index into ``ground_truth.image_id``.
            masks: N segmentations as in a COCO file (polygons or RLE with text counts); none: boxes alone.
            name: what error messages call them.

        Raises:
            BadInput: shapes disagree, an index is out of range, or a value cannot be used.

        >>> from analysis import break_down, read_ground_truth
        >>> from analysis.coco.synthetic import write_example
        >>> gt = read_ground_truth(write_example(getfixture("tmp_path"), images=50)[0])
        >>> dt = Detections.from_arrays(
        ...     gt, box=gt.box, score=np.ones(len(gt)), category=gt.category, image=gt.image
        ... )
        >>> round(break_down(gt, dt).ap, 6)
        100.0
        """
        path, count = Path(name), len(score)
        shapes = [one.shape for one in (box, score, category, image)] + ([] if masks is None else [(len(masks),)])
        if shapes != [(count, 4), *[(count,)] * (len(shapes) - 1)]:
            raise BadInput(f"{path}: box, score, category, image, masks have shapes {shapes}; give N x 4 and N")
        for what, index, limit in (
            ("category", category, len(ground_truth.category_id)),
            ("image", image, len(ground_truth.image_id)),
        ):
            wrong = np.flatnonzero((index < 0) | (index >= limit))
            if len(wrong):
                raise BadInput(
                    f"{path}: the {what} {index[wrong[0]]} of record {wrong[0]} is no index into the ground truth's "
                    f"{limit:,}; count from 0"
                )
        raw = [NOTHING if masks is None else msgspec.Raw(msgspec.json.encode(one)) for one in masks or score]
        return _checked(
            ground_truth,
            path,
            box,
            score,
            category,
            image,
            row=np.arange(count),
            masks=Masks(path, "record", raw, image, ground_truth.image_size),
            has_box=True,
            notes=[],
        )


@no_collector()
def read_detections(path: str | Path, ground_truth: GroundTruth, *, drop_unknown: bool = False) -> Detections:
    """Read a COCO results file (``.json`` or ``.json.gz``), as detectron2, mmdetection and Ultralytics write it.

    It is a list of ``image_id, category_id, score`` and ``bbox`` (x, y, width, height in pixels) or ``segmentation``
    or both.

    ``drop_unknown`` leaves out detections on images or categories that the ground truth does not have, and says so
    in ``warnings``; otherwise they are an error.

    Raises:
        BadInput: the file, or one of its records, cannot be used.

    >>> from analysis import read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> dt = read_detections(predictions["sloppy-boxes"], read_ground_truth(truth))
    >>> dt.box.shape == (len(dt), 4) and float(dt.score.max()) <= 1
    True
    """
    return _parse(Path(path), read_bytes(Path(path)), ground_truth, drop_unknown)


def _parse(path: Path, content: bytes, ground_truth: GroundTruth, drop_unknown: bool) -> Detections:
    if not is_list(content):
        raise BadInput(_explain_not_a_list(path, content))
    records = _decode(path, content)
    notes: list[str] = []
    image = _image_index(path, records, ground_truth, notes)
    category = index_of(_column(path, records, "category_id"), np.array(ground_truth.category_id))
    row = np.flatnonzero((image >= 0) & (category >= 0))
    if len(row) < len(records):
        message = _explain_unknown(path, records, image, category)
        if not drop_unknown:
            raise BadInput(f"{message}; --drop-unknown leaves them out" + _shift_hint(records, ground_truth))
        notes.append(message.removeprefix(f"{path}: ") + ": left out, as asked")
        records, image, category = [records[i] for i in row.tolist()], image[row], category[row]
    masks = Masks(path, "record", list(map(attrgetter("segmentation"), records)), image, ground_truth.image_size, row)
    box, has_box = _boxes(path, records, masks, row)
    score = np.fromiter(map(attrgetter("score"), records), np.float64, len(records))
    return _checked(ground_truth, path, box, score, category, image, row, masks, has_box, notes)


def _checked(
    ground_truth: GroundTruth, path: Path, box: Floats, score: Floats, category: Ints, image: Ints, row: Ints,
    masks: Masks, has_box: bool, notes: list[str],
) -> Detections:  # fmt: skip
    """What every way to detections goes through: impossible values are refused, suspicious ones named."""
    odd = np.flatnonzero(~np.isfinite(score))
    if len(odd):
        raise BadInput(explain_non_finite(path, f"record [{row[odd[0]]}].score"))
    check_boxes(path, "record", box, row)
    notes = notes + suspicions(box, score, image, category, ground_truth)
    return Detections(path, box, score, category, image, row, masks, has_box, tuple(notes))


def _decode(path: Path, content: bytes) -> list[Any]:
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
    if "missing required field `score`" in text and b'"iscrowd"' in content:
        raise BadInput(
            f"{path}: its records have no score but iscrowd: these are annotations; give the ground truth with --gt "
            "and the detector's output here"
        )
    strings = text.endswith(".image_id`") and "got `str`" in text
    return decode(path, content, _ANY_ID_DECODER if strings else _DECODER, _REMEDY)  # the second says what is wrong


def _explain_not_a_list(path: Path, content: bytes) -> str:
    try:
        keys = list(msgspec.json.decode(content, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode(path, content, _DECODER, _REMEDY)
        keys = []
    if {"images", "annotations"} <= set(keys):
        return (
            f"{path}: is a COCO ground truth document, not predictions; give it with --gt, and the detector's results "
            "list here"
        )
    return (
        f"{path}: is a JSON object with {', '.join(keys[:5]) or 'nothing'}, but predictions are a list of records "
        "(a COCO results file)"
    )


def _column(path: Path, records: list[Any], name: str) -> Ints:
    try:
        return np.fromiter(map(attrgetter(name), records), np.int64, len(records))
    except OverflowError:
        place = next(i for i, r in enumerate(records) if not -(2**63) <= getattr(r, name) < 2**63)
        raise BadInput(f"{path}: {name} of record {place} does not fit 64 bits; write the ground truth's ids") from None


def _image_index(path: Path, records: list[Any], ground_truth: GroundTruth, notes: list[str]) -> Ints:
    integer_ids = not ground_truth.image_id or isinstance(ground_truth.image_id[0], int)
    if integer_ids and (not records or isinstance(records[0], _Record)):
        return index_of(_column(path, records, "image_id"), np.array(ground_truth.image_id))
    values = [r.image_id for r in records]
    if not integer_ids:
        position = {value: index for index, value in enumerate(ground_truth.image_id)}
        return np.array([position.get(v, -1) for v in values], dtype=np.int64)
    place = next(i for i, value in enumerate(values) if isinstance(value, str))
    if any(isinstance(value, int) for value in values):
        raise BadInput(f"{path}: image_id of record {place} is a string while others are numbers; use one kind")
    for what, name in _NAMES.items():
        position = {name(file): index for index, file in enumerate(ground_truth.file_name) if file is not None}
        files = sum(file is not None for file in ground_truth.file_name)
        if position and len(position) == files and all(value in position for value in values):
            notes.append(
                f"image ids are strings: all {len(values):,} were matched to the {what} of the ground truth's images"
            )
            return np.array([position[value] for value in values], dtype=np.int64)
    raise BadInput(
        f"{path}: image_id of record {place} is the string {values[place]!r}, and not all of these strings are file "
        "names (with or without ending) of the ground truth's images; write the ground truth's image ids"
    )


_NAMES: dict[str, Callable[[str], str]] = {
    "file_name stems": lambda file: PurePosixPath(file).stem,
    "file names": lambda file: PurePosixPath(file).name,
    "file_name paths": lambda file: file,
}


def _explain_unknown(path: Path, records: list[Any], image: Ints, category: Ints) -> str:
    parts = []
    for index, attribute in ((image, "image_id"), (category, "category_id")):
        rows = np.flatnonzero(index < 0)
        ids = list(dict.fromkeys(repr(getattr(records[i], attribute)) for i in rows[:1000]))
        if ids:
            parts.append(
                f"the {attribute} of {len(rows):,} of {len(records):,} detections is not in the ground truth "
                f"(first at record {rows[0]}: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            )
    return f"{path}: " + " and ".join(parts)


def _shift_hint(records: list[Any], ground_truth: GroundTruth) -> str:
    used = {r.category_id for r in records}
    ids = ground_truth.category_id
    if len(used) > 1 and used <= set(range(len(ids) + 1)):
        return (
            f" (these category ids run from {min(used)} to {max(used)}, as class indices do, while the ground truth's "
            f"run from {ids[0]} to {ids[-1]}: map each index to its category id first)"
        )
    return ""


def _boxes(path: Path, records: list[Any], masks: Masks, row: Ints) -> tuple[Floats, bool]:
    boxes = list(map(attrgetter("bbox"), records))
    try:
        return np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4), True
    except TypeError:  # None is not iterable
        if any(box is not None for box in boxes):
            raise BadInput(
                f"{path}: record {row[boxes.index(None)]} has no bbox while others have; give all of them one or none"
            ) from None
        empty = np.flatnonzero(~masks.present)
        if len(empty):
            raise BadInput(
                f"{path}: record {row[empty[0]]} has neither bbox nor segmentation; give it a bbox [x, y, w, h]"
            ) from None
        return masks.box(np.arange(len(boxes))), False


def suspicions(box: Floats, score: Floats, image: Ints, category: Ints, ground_truth: GroundTruth) -> list[str]:
    """What is legal but looks wrong, one sentence each."""
    if not len(box):
        return ["there are no detections: every object is a miss"]
    images = len(ground_truth.image_id)
    outside = int(((score < 0) | (score > 1)).sum())
    flat = int(((box[:, 2] == 0) | (box[:, 3] == 0)).sum())
    normalised = bool(box.max() <= 1)
    height, width = ground_truth.image_size.T[:, image]
    sized = (height > 0) & (width > 0)
    beyond = (box[:, 0] + box[:, 2] > width * 1.05) | (box[:, 1] + box[:, 3] > height * 1.05)
    past = int((beyond & sized).sum()) / max(1, int(sized.sum()))  # the share of the boxes on images of known size
    unseen = int((np.bincount(image, minlength=images) == 0).sum())
    cases = (
        (outside, f"{outside:,} scores lie outside 0..1 (logits?): their order is used as it is"),
        (flat, f"{flat:,} boxes have zero width or height: they can match nothing"),
        (normalised, "all box coordinates are at most 1: are they normalised instead of in pixels?"),
        (
            past > 0.5 and not normalised,
            f"{100 * past:.0f} % of the boxes reach past their image's edge: is bbox written as x1, y1, x2, y2 "
            "instead of x, y, width, height?",
        ),
        (
            unseen > images / 2,
            f"{unseen:,} of {images:,} images have no detection at all: was the detector run on a subset? Their "
            "objects all count as missed",
        ),
    )
    shifted = _shifted_categories(score, category, image, ground_truth)
    return [sentence for holds, sentence in (*cases, (shifted, shifted)) if holds]


def _shifted_categories(box_score: Floats, category: Ints, image: Ints, ground_truth: GroundTruth) -> str:
    """Class indices written as category ids: legal numbers, wrong meaning.

    The best detection of an image is mostly of a category that the image contains; if another reading of the ids
    makes that true far more often, the ids are probably shifted.
    """
    ids = np.array(ground_truth.category_id)
    classes = len(ids)
    present = np.unique(ground_truth.image * classes + ground_truth.category)
    order = order_by_index(image, len(ground_truth.image_id))
    best = order[best_in_group(image[order], box_score[order])[1]]
    if not len(present) or len(best) < 20:
        return ""

    def agreement(index: Ints) -> float:
        there = index_of(image[best] * classes + index, present) >= 0
        return float((there & (index >= 0) & (index < classes)).mean())

    as_read = agreement(category[best])
    for first in (0, 1):
        as_index = agreement(ids[category[best]] - first)
        if as_index > max(0.3, 2 * as_read):
            return (
                f"category ids look shifted: the best detection of an image is of a category it contains in "
                f"{100 * as_read:.0f} % of the images, but in {100 * as_index:.0f} % if the ids are class indices "
                f"counted from {first}; the ground truth's ids run from {ids[0]} to {ids[-1]}"
            )
    return ""
