"""COCO results JSON -> :class:`Detections`: columnar, checked against the ground truth, suspicious content named."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analysis.arrays import Floats, Ints, distinct, index_of
from analysis.coco.categories import match_categories
from analysis.coco.columns import Columns, read_columns, stream_columns
from analysis.coco.containers import Container, open_container
from analysis.coco.ground_truth import GroundTruth
from analysis.coco.image_ids import compare_readings, image_index, usual_index
from analysis.coco.masks import NOTHING, Masks
from analysis.coco.plausibility import of_detections
from analysis.coco.rules import (
    BOX_REMEDY,
    DAMAGE,
    EXACT,
    Problem,
    Record,
    box_fault,
    check_boxes,
    fits,
    has_mask,
    is_damaged,
    is_id,
    is_number,
    is_text,
    is_whole,
    leave_out,
    note_left_out,
    only,
    read_numbers,
    refuse,
    shown,
)
from analysis.exceptions import BadInput, BadRecords
from analysis.io import decode_any, encode, encode_any, explain_non_finite, no_collector, read_bytes


class _Record(msgspec.Struct, gc=False, kw_only=True):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: msgspec.Raw = NOTHING


class _NamedRecord(msgspec.Struct, gc=False, kw_only=True):
    """A record whose image may have a text for an id, and that may carry the names of its image and category."""

    image_id: int | str
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: msgspec.Raw = NOTHING
    file_name: str | None = None
    category_name: str | None = None


DROP_UNKNOWN = "; use --drop-unknown to leave them out"  # the remedy that `analyze` has
_NUMBER = re.compile(r"[0-9]+")
_REMEDY = "a record is written as {image_id, category_id, score, bbox [x, y, width, height] or segmentation}"
_DECODER = msgspec.json.Decoder(list[_Record])
_NAMED_DECODER = msgspec.json.Decoder(list[_NamedRecord])


class _Records(NamedTuple):
    """Decoded records, their places i64[N] in the file, and notes on what was read in another spelling or left out."""

    records: list[Any]
    row: Ints
    notes: list[str]


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        return f"Detections({self.path.name}: {len(self):,})"

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
        drop_invalid: bool = False,
        iou_type: str = "bbox",
        name: str | Path = "detections",
    ) -> "Detections":
        """Detections in memory, as COCO result records, with the checks of :func:`read_detections`.

        Args:
            records: each with ``image_id, category_id, score`` and ``bbox`` (x, y, width, height in pixels) or
                ``segmentation`` (polygons or RLE with text counts) or both; plain Python values.
            ground_truth: whose ids the records use.
            drop_unknown: leave out detections on unknown images or categories, as in :func:`read_detections`.
            drop_invalid: leave out bad records, as in :func:`read_detections`.
            iou_type: what will be compared, as in :func:`read_detections`.
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
        content = encode(Path(name), records)
        found = _parse(Path(name), Container(content, {}, {}), ground_truth, drop_unknown, drop_invalid, iou_type)
        return _with_doubts(found, ground_truth)

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
            score: f64[N], higher is more confident.
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
                    f"{path}: the {what} {index[wrong[0]]} of record {wrong[0]} is not an index into the ground "
                    f"truth's {limit:,}; count from 0"
                )
        raw = [NOTHING if masks is None else msgspec.Raw(msgspec.json.encode(one)) for one in masks or score]
        found = _checked(
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
        return _with_doubts(found, ground_truth)


@no_collector()
def read_detections(
    path: str | Path,
    ground_truth: GroundTruth,
    *,
    drop_unknown: bool = False,
    drop_invalid: bool = False,
    iou_type: str = "bbox",
) -> Detections:
    """Read a COCO results file (``.json`` or ``.json.gz``), as detectron2, mmdetection and Ultralytics write it.

    It is a list of ``image_id, category_id, score`` and ``bbox`` (x, y, width, height in pixels) or ``segmentation``
    or both. The list may be the only one in a JSON object, or have one record per line; in a COCO document whose
    annotations have scores, as FiftyOne exports one, it is the annotations.

    Images are those of the ground truth with these ids; or those whose files the ids or a record's ``file_name`` name.
    Where a file names its categories, they are matched by name. ``warnings`` says what was decided.

    A folder of parts (``part-0.json``, ``part-1.json``: names that differ only in numbers) is one run, if no two
    of them contain detections of the same image; its rows are counted from the first part to the last.

    Args:
        path: of the file, or of the folder of its parts.
        ground_truth: whose images and categories the detections are of.
        drop_unknown: leave out detections on images or categories that the ground truth does not have, with a note in
            ``warnings``; otherwise they are an error.
        drop_invalid: leave out bad records, counted and listed in ``warnings``; otherwise they are an error.
        iou_type: ``segm`` if masks are to be compared; with ``drop_invalid``, a detection whose mask is missing or
            cannot be decoded is then a bad one too.

    Raises:
        BadRecords: some records cannot be used, and ``drop_invalid`` would leave them out.
        BadInput: the file cannot be used.

    >>> from analysis import read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> dt = read_detections(predictions["sloppy-boxes"], read_ground_truth(truth))
    >>> dt.box.shape == (len(dt), 4) and float(dt.score.max()) <= 1
    True
    """
    path = Path(path)
    names = parts_of(path)
    parts = [_read(one, ground_truth, drop_unknown, drop_invalid, iou_type) for one in names or [path]]
    return _with_doubts(_joined(path, parts, ground_truth) if names else parts[0], ground_truth)


def parts_of(path: Path) -> list[Path]:
    """The files of a folder that are the parts of one result, in the order of their numbers; empty for anything else.

    They are all its JSON files, two or more, and their names differ in numbers alone.
    """
    if not path.is_dir():
        return []
    names = [one for one in path.iterdir() if one.name.removesuffix(".gz").endswith(".json") and one.is_file()]
    if len(names) < 2 or len({_NUMBER.sub("0", one.name) for one in names}) > 1:
        return []
    return sorted(names, key=lambda one: ([int(number) for number in _NUMBER.findall(one.name)], one.name))


def _joined(path: Path, parts: Sequence[Detections], ground_truth: GroundTruth) -> Detections:
    """The parts of a result as one.

    Raises:
        BadInput: two hold detections of one image, so they are several results; or some alone have boxes.
    """
    owner = np.full(len(ground_truth.image_id), -1)
    for number, part in enumerate(parts):
        again = part.image[owner[part.image] >= 0]
        if len(again):
            raise BadInput(
                f"{path}: {parts[owner[again[0]]].path.name} and {part.path.name} both contain detections of image "
                f"{ground_truth.image_id[again[0]]!r}, so they are different results, not parts of one; give only one "
                "of them"
            )
        owner[part.image] = number
    if len({part.has_box for part in parts if len(part)}) > 1:
        raise BadInput(f"{path}: some of its parts have boxes, others only masks; give boxes in all parts, or in none")
    starts = np.cumsum([0, *(int(part.row.max(initial=-1)) + 1 for part in parts)])[:-1].tolist()
    notes = {f"{part.path.name}: {note}": None for part in parts for note in part.warnings}
    return Detections(
        path=path,
        box=np.concatenate([part.box for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        category=np.concatenate([part.category for part in parts]),
        image=np.concatenate([part.image for part in parts]),
        row=np.concatenate([start + part.row for start, part in zip(starts, parts, strict=True)]),
        masks=Masks.joined([part.masks for part in parts]),
        has_box=all(part.has_box for part in parts if len(part)),
        warnings=tuple(notes),
    )


def _read(path: Path, ground_truth: GroundTruth, drop_unknown: bool, drop_invalid: bool, iou_type: str) -> Detections:
    """One file."""
    columns = None if drop_invalid else stream_columns(path)
    usual = None if columns is None else _of_columns(path, columns, ground_truth)
    if usual is not None:
        return usual
    container = open_container(path, read_bytes(path))
    return _parse(path, container, ground_truth, drop_unknown, drop_invalid, iou_type)


def _parse(
    path: Path, container: Container, ground_truth: GroundTruth, drop_unknown: bool, drop_invalid: bool, iou_type: str
) -> Detections:
    if not drop_invalid:
        usual = _read_usual(path, container, ground_truth)
        if usual is not None:
            return usual
    records, row, notes = _decode(path, container, drop_invalid)
    image, other, image_notes = _images(path, records, container, ground_truth)
    category, names, category_notes = _categories(path, records, container, ground_truth)
    notes += [*image_notes, *category_notes]
    known = (image >= 0) & (category >= 0)
    if not known.all():
        message = _explain_unknown(path, records, row, image, category, names)
        hint = _shift_hint(records, ground_truth) if (category < 0).any() and not names else ""
        if not drop_unknown:
            raise BadInput(f"{message}{hint or DROP_UNKNOWN}")
        notes.append(message.removeprefix(f"{path}: ") + f": left out (--drop-unknown){hint}")
        records, row, image, category, other = _kept(known, records, row, image, category, other)
    masks = _masks(path, records, row, image, ground_truth)
    if drop_invalid:
        bad = _bad_masks(path, records, masks, row, needed=iou_type == "segm")
        if bad:
            notes += note_left_out(path, bad, len(row), "detections")
            good = ~np.isin(row, np.array([problem.row for problem in bad], dtype=np.int64))
            records, row, image, category, other = _kept(good, records, row, image, category, other)
            masks = _masks(path, records, row, image, ground_truth)
    box, has_box = _boxes(path, records, masks, row)
    score = np.fromiter(map(attrgetter("score"), records), np.float64, len(records))
    notes += _doubts_of_images(box, score, image, other, ground_truth)
    return _checked(path, box, score, category, image, row, masks, has_box, notes)


def _read_usual(path: Path, container: Container, ground_truth: GroundTruth) -> Detections | None:
    """The detections of a list in the usual spelling, with known ids alone; None for any other list."""
    if container.file_names or container.category_names:
        return None
    columns = read_columns(container.records)
    return None if columns is None else _of_columns(path, columns, ground_truth)


def _of_columns(path: Path, columns: Columns, ground_truth: GroundTruth) -> Detections | None:
    """The same of its columns."""
    if columns.score is None or np.abs(columns.image_id).max() > EXACT:
        return None
    images = usual_index(path, columns.image_id, ground_truth)
    category = index_of(columns.category_id, np.array(ground_truth.category_id))
    if images is None or (category < 0).any():
        return None
    image, other = images
    row = np.arange(len(columns))
    masks = Masks(path, "record", columns.segmentation, image, ground_truth.image_size, row)
    if columns.bbox is None and not masks.present.all():
        return None
    box = masks.box(row) if columns.bbox is None else columns.bbox
    notes = _doubts_of_images(box, columns.score, image, other, ground_truth)
    return _checked(path, box, columns.score, category, image, row, masks, columns.bbox is not None, notes)


def _doubts_of_images(
    box: Floats, score: Floats, image: Ints, other: Ints | None, ground_truth: GroundTruth
) -> list[str]:
    """A warning where another reading of the image ids suits the boxes far better."""
    looks_wrong = "" if other is None else compare_readings(box, score, image, other, ground_truth)
    return [looks_wrong] if looks_wrong else []


def _kept(
    keep: Any, records: list[Any], row: Ints, image: Ints, category: Ints, other: Ints | None
) -> tuple[list[Any], Ints, Ints, Ints, Ints | None]:
    """The columns where ``keep`` bool[N] holds."""
    chosen = [records[place] for place in np.flatnonzero(keep).tolist()]
    return chosen, row[keep], image[keep], category[keep], None if other is None else other[keep]


def _masks(path: Path, records: list[Any], row: Ints, image: Ints, ground_truth: GroundTruth) -> Masks:
    raw = list(map(attrgetter("segmentation"), records))
    return Masks(path, "record", raw, image, ground_truth.image_size, row)


def _bad_masks(path: Path, records: list[Any], masks: Masks, row: Ints, *, needed: bool) -> list[Problem]:
    """The records whose masks cannot be used; unless ``needed``, of those alone that a box is taken from."""
    asked = masks.present.any() if needed else False
    places = [place for place, record in enumerate(records) if asked or record.bbox is None]
    return [
        Problem("bad mask", sentence.removeprefix(f"{path}: "), int(row[place]))
        for place, sentence in masks.faults(places).items()
    ]


def _checked(
    path: Path, box: Floats, score: Floats, category: Ints, image: Ints, row: Ints, masks: Masks, has_box: bool,
    notes: list[str],
) -> Detections:  # fmt: skip
    """The detections, after the check that all readers share: impossible values are refused."""
    odd = np.flatnonzero(~np.isfinite(score))
    if len(odd):
        raise BadInput(explain_non_finite(path, f"record [{row[odd[0]]}].score"))
    check_boxes(path, "record", box, row)
    return Detections(path, box, score, category, image, row, masks, has_box, tuple(notes))


def _with_doubts(found: Detections, ground_truth: GroundTruth) -> Detections:
    """The detections with a warning for everything that is legal but looks wrong."""
    doubts = of_detections(found.box, found.score, found.image, found.category, ground_truth)
    return replace(found, warnings=(*found.warnings, *doubts))


def _decode(path: Path, container: Container, drop_invalid: bool) -> _Records:
    content = container.records
    if not drop_invalid:
        named = bool(container.file_names) or b'_name"' in content  # of the image's file, of the category
        for decoder in (_NAMED_DECODER,) if named else (_DECODER, _NAMED_DECODER):
            try:
                records: list[Any] = decoder.decode(content)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if any(isinstance(one.image_id, int) and EXACT < abs(one.image_id) < 2**63 for one in records):
                break  # to see whether it was written as a floating-point number, and rounded
            return _Records(records, np.arange(len(records)), [])
    return _decode_one_by_one(path, content, drop_invalid)


def _decode_one_by_one(path: Path, content: bytes, drop_invalid: bool) -> _Records:
    """The records in other spellings of numbers; each bad one named, or left out."""
    document = decode_any(path, content)
    keys = _NamedRecord.__struct_fields__
    records = {place: only(keys, one) for place, one in enumerate(document) if isinstance(one, dict)}
    bad = [
        Problem("no record", f"record[{place}] is not a record but {shown(one)}; {_REMEDY}", place)
        for place, one in enumerate(document)
        if not isinstance(one, dict)
    ]
    if records and all(isinstance(one, dict) and "score" not in one and "iscrowd" in one for one in document):
        raise BadInput(
            f"{path}: its records have iscrowd and no score, so they are annotations; give the ground truth with --gt "
            "and the predictions of the detector here"
        )
    _refuse_other_records(path, [one for one in document if isinstance(one, dict)])
    read_numbers(records.values(), "image_id", "", texts=False)
    notes = read_numbers(records.values(), "category_id", "category_id")
    notes += read_numbers(records.values(), "score", "score", whole=False)
    some_boxes = any(record.get("bbox") is not None for record in records.values())
    for place, record in records.items():
        bad += [Problem("bad record", sentence, place) for sentence in _faults(f"record[{place}]", record, some_boxes)]
    if drop_invalid:
        records, note = leave_out(path, records, bad, "detections")
        notes += note
    else:
        refuse(path, bad)
    try:
        decoded: list[Any] = _NAMED_DECODER.decode(encode_any(list(records.values())))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); {_REMEDY}") from None
    return _Records(decoded, np.array(list(records), dtype=np.int64), notes)


def _refuse_other_records(path: Path, records: list[Record]) -> None:
    """Refuse records of another kind, such as one for each image, or with fields of other names."""
    missing = [key for key in ("image_id", "category_id", "score") if not any(key in one for one in records)]
    if records and missing:
        fields = ", ".join(list(records[0])[:5]) or "no fields"
        raise BadInput(
            f"{path}: its records are not COCO detections: none has {' or '.join(missing)} (the first has "
            f"{shown(fields)}); {_REMEDY}, one for each detection"
        )


def _faults(who: str, record: Record, some_boxes: bool) -> list[str]:
    """What is wrong with one record, but for its mask."""
    image, category, score, box = (record.get(key) for key in ("image_id", "category_id", "score", "bbox"))
    cases = (
        (not is_id(image), f"{who} has image_id {shown(image)}; write the ground truth's image id"),
        (
            is_whole(image) and not fits(image),
            f"the image_id of {who} does not fit into 64 bits; write the id of the ground truth",
        ),
        (not is_whole(category), f"{who} has category_id {shown(category)}; write a whole number"),
        (
            is_whole(category) and not fits(category),
            f"the category_id of {who} does not fit into 64 bits; write the id of the ground truth",
        ),
        ("score" not in record, f"{who} has no score; {_REMEDY}"),
        ("score" in record and not is_number(score), f"the score of {who} is {shown(score)}; write a finite number"),
        (box is None and some_boxes, f"{who} has no bbox but others do; give all records a bbox, or none"),
        (
            box is None and not some_boxes and not has_mask(record),
            f"{who} has neither bbox nor segmentation; give it a bbox [x, y, w, h]",
        ),
        (box is not None and box_fault(box), f"the bbox {shown(box)} of {who} {box_fault(box)}; {BOX_REMEDY}"),
        (
            is_damaged(record.get("segmentation")),
            f"{who} has a segmentation with {DAMAGE}; repair it",
        ),
        *(
            (
                record.get(key) is not None and not is_text(record[key]),
                f"{who} has {key} {shown(record.get(key))}; write a text",
            )
            for key in ("file_name", "category_name")
        ),
    )
    return [sentence for holds, sentence in cases if holds]


def _images(
    path: Path, records: list[Any], container: Container, ground_truth: GroundTruth
) -> tuple[Ints, Ints | None, list[str]]:
    """The index i64[N] of each detection's image, that by another reading where there is one, and notes."""
    ids: list[int | str] = [record.image_id for record in records]
    names: list[str | None] | None = None
    if not records or isinstance(records[0], _Record):
        found_at_once = usual_index(path, ids, ground_truth)
        if found_at_once is not None:
            return (*found_at_once, [])
    else:
        names = [record.file_name or container.file_names.get(str(record.image_id)) for record in records]
        names = names if any(name is not None for name in names) else None
    found = image_index(path, ids, names, ground_truth)
    return found.index, found.other, found.notes


def _categories(
    path: Path, records: list[Any], container: Container, ground_truth: GroundTruth
) -> tuple[Ints, Mapping[int, str], list[str]]:
    """The index i64[N] of each detection's category, the names that the file gives its categories, and notes."""
    try:
        ids = np.fromiter(map(attrgetter("category_id"), records), np.int64, len(records))
    except OverflowError:
        place = next(place for place, record in enumerate(records) if not fits(record.category_id))
        raise BadInput(
            f"{path}: category_id of record {place} does not fit into 64 bits; write the id of the ground truth"
        ) from None
    names = dict(container.category_names)
    if records and isinstance(records[0], _NamedRecord):
        for record in records:
            if (
                record.category_name
                and names.setdefault(record.category_id, record.category_name) != record.category_name
            ):
                raise BadInput(
                    f"{path}: category_id {record.category_id} has two names, {names[record.category_id]!r} and "
                    f"{record.category_name!r}; write one name for each"
                )
    notes: list[str] = []
    if names:
        used = distinct(ids)
        moved, notes = match_categories(path, names, used.tolist(), ground_truth)
        position: dict[int | None, int] = {one: index for index, one in enumerate(ground_truth.category_id)}
        index = np.array([position.get(moved.get(one, one), -1) for one in used.tolist()], dtype=np.int64)
        return index[np.searchsorted(used, ids)], names, notes
    return index_of(ids, np.array(ground_truth.category_id)), names, notes


def _explain_unknown(
    path: Path, records: list[Any], row: Ints, image: Ints, category: Ints, names: Mapping[int, str]
) -> str:
    def told(place: int, attribute: str) -> str:
        value = getattr(records[place], attribute)
        return f"{value} {names[value]}" if attribute == "category_id" and value in names else repr(value)

    parts = []
    for index, attribute in ((image, "image_id"), (category, "category_id")):
        places = np.flatnonzero(index < 0)
        ids = list(dict.fromkeys(told(i, attribute) for i in places[:1000]))
        if ids:
            parts.append(
                f"the {attribute} of {len(places):,} of {len(records):,} detections is not in the ground truth "
                f"(first at record {row[places[0]]}: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            )
    return f"{path}: " + " and ".join(parts)


def _shift_hint(records: list[Any], ground_truth: GroundTruth) -> str:
    used = {r.category_id for r in records}
    ids = ground_truth.category_id
    if len(used) > 1 and used <= set(range(len(ids) + 1)):
        return (
            f" (these category ids run from {min(used)} to {max(used)}, like class indices, but those of the ground "
            f"truth run from {ids[0]} to {ids[-1]}: map each index to its category id first)"
        )
    if len(used) > 1 and {one + 1 for one in used} <= set(ids):
        return " (each of these category ids is one less than a category id of the ground truth: add 1 to each first)"
    return ""


def _boxes(path: Path, records: list[Any], masks: Masks, row: Ints) -> tuple[Floats, bool]:
    boxes = list(map(attrgetter("bbox"), records))
    try:
        return np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4), True
    except TypeError:  # None is not iterable
        missing = [place for place, box in enumerate(boxes) if box is None]
    if len(missing) < len(boxes):
        told = f"record[{row[missing[0]]}] has no bbox but others do; give all records a bbox, or none"
        raise BadRecords(f"{path}: {told}", len(missing))
    empty = np.flatnonzero(~masks.present)
    if len(empty):
        told = f"record[{row[empty[0]]}] has neither bbox nor segmentation; give it a bbox [x, y, w, h]"
        raise BadRecords(f"{path}: {told}", len(empty))
    return masks.box(np.arange(len(boxes))), False
