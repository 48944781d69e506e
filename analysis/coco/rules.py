"""The rules of a COCO instances document, record by record: every problem named, other spellings of numbers read.

A clean file never comes here: :func:`analysis.coco.read_ground_truth` decodes it into columns at once, and comes here
for a file that it cannot read so, and for one whose bad records are to be left out. ``data check`` always comes here.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analysis.arrays import Bools, Floats, Ints, blocks
from analysis.coco.federated import LVIS_KEYS, federated_faults
from analysis.coco.masks import NOTHING, Masks
from analysis.exceptions import BadInput, BadRecords
from analysis.io import decode_any, encode_any

FURTHEST = 1e100  # pixels: coordinates whose products are still numbers
EXACT = 2**53  # up to which a floating-point number stands for one whole number alone
LARGEST_SIDE = 2**31  # pixels, exclusive
WHOLE = -1  # the row of a problem of the whole file
SHOWN = 3  # bad records that a note lists
KEYS = {  # that are read, by table
    "images": ("id", "width", "height", "file_name", "extra", *LVIS_KEYS),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "segmentation"),
    "categories": ("id", "name", "frequency"),
}
REMEDY = (
    "write a COCO instances file: images (id), categories (id) and annotations (id, image_id, category_id, "
    "bbox [x, y, width, height])"
)
ADVICE = {"images": "an analysis needs at least one", "categories": "list them with id and name"}
BOX_REMEDY = "write boxes as [x, y, width, height] in pixels"
DAMAGE = "a number that is NaN or infinite, or with half a character"
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})(\.0+)?")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")

Record = dict[str, Any]


class Problem(NamedTuple):
    """One thing for which a file is refused."""

    kind: str
    sentence: str  # names the record, what is wrong and the remedy
    row: int = WHOLE  # place in the annotations (or predictions) of a bad record, which can be left out


@dataclass
class CheckedDocument:
    """The records of a COCO instances document, in the spelling that the reader takes, and their problems.

    Attributes:
        path: of the file.
        images: its records of images.
        categories: its records of categories.
        annotations: by their place in the file; entries that are no records are not among them.
        problems: for which the file is refused, in the order of the tables.
        notes: what was read in another spelling, one sentence each.
    """

    path: Path
    images: list[Record] = field(default_factory=list)
    categories: list[Record] = field(default_factory=list)
    annotations: dict[int, Record] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def category_names(self) -> dict[int, str]:
        """The name of each category by its id, as the ground truth has it."""
        return {one["id"]: category_name(one["id"], one.get("name")) for one in self.categories}

    def add(self, kind: str, sentence: str, row: int = WHOLE) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, sentence, row))

    def drop_invalid(self) -> None:
        """Leave bad annotations out, with a note that counts and lists them; other problems stay.

        Raises:
            BadInput: there are bad annotations alone.
        """
        whole = [problem for problem in self.problems if problem.row == WHOLE]
        if not whole:
            self.annotations, note = leave_out(self.path, self.annotations, self.problems, "annotations")
            self.notes += note
        self.problems = whole

    def check_masks(self, *, needed: bool) -> tuple[str, ...]:
        """Add a problem for each annotation whose mask cannot be decoded.

        Args:
            needed: check all masks there are; otherwise only those that a box is taken from.

        Returns:
            Notes on what was left out of masks or read in another spelling.
        """
        if any(problem.row == WHOLE for problem in self.problems):
            return ()  # without sound images, no mask can be judged
        unusable = {problem.row for problem in self.problems}
        rows = [
            row for row, one in self.annotations.items() if row not in unusable and (needed or one.get("bbox") is None)
        ]
        masks = self._masks(rows)
        for place, sentence in masks.faults(np.flatnonzero(masks.present).tolist()).items():
            value = self.annotations[rows[place]]["segmentation"]
            kind = "bad polygon" if isinstance(value, list) else "bad RLE"
            self.add(kind, sentence.removeprefix(f"{self.path}: "), rows[place])
        return masks.notes

    def check_masks_are_there(self) -> None:
        """Add a problem for each annotation without a mask, where others have one: masks cannot be compared then."""
        without = [row for row, record in self.annotations.items() if not has_mask(record)]
        for row in without if len(without) < len(self.annotations) else ():
            self.add("no mask", f"{named(row, self.annotations[row])} has no segmentation but others do", row)

    def _masks(self, rows: list[int]) -> Masks:
        index = {image["id"]: number for number, image in enumerate(self.images)}
        size = [(image.get("height") or -1, image.get("width") or -1) for image in self.images]
        return Masks(
            self.path,
            "annotations",
            [encoded(self.annotations[row].get("segmentation")) for row in rows],
            np.array([index[self.annotations[row]["image_id"]] for row in rows], dtype=np.int64),
            np.array(size, dtype=np.int64).reshape(-1, 2),
            np.array(rows, dtype=np.int64),
        )


def category_name(identifier: int, name: str | None) -> str:
    """The name of a category, also of one without a name."""
    return name if name is not None else f"category {identifier}"


def file_path(name: str) -> str:
    r"""A file name whose folders are separated by ``/``, also where it was written with ``\`` on Windows."""
    return name.replace("\\", "/")


def named(row: int, record: Record) -> str:
    """An annotation in a message, by its place and its id."""
    return f"annotations[{row}]" + (f" (id {record['id']})" if is_id(record.get("id")) else "")


def leave_out(
    path: Path, records: dict[int, Record], bad: Sequence[Problem], what: str
) -> tuple[dict[int, Record], list[str]]:
    """The good records, and a note on the others where there are any.

    Raises:
        BadInput: there are bad records alone.
    """
    rows = {problem.row for problem in bad}
    good = {row: record for row, record in records.items() if row not in rows}
    return good, note_left_out(path, bad, len(good) + len(rows), what)


def note_left_out(path: Path, bad: Sequence[Problem], of: int, what: str) -> list[str]:
    """A note that counts the bad among ``of`` records and lists the first, where there are any.

    Raises:
        BadInput: all are bad.
    """
    first = {problem.row: problem.sentence.split(";")[0] for problem in reversed(bad)}
    if not first:
        return []
    if len(first) == of:
        raise BadInput(f"{path}: all {of:,} {what} are bad records, so none would remain: {bad[0].sentence}")
    listed = "; ".join([sentence for _, sentence in sorted(first.items())][:SHOWN])
    more = f"; and {len(first) - SHOWN:,} more" if len(first) > SHOWN else ""
    return [f"{len(first):,} of {of:,} {what} are bad records and are left out (--drop-invalid): {listed}{more}"]


def refuse(path: Path, problems: Sequence[Problem]) -> None:
    """Refuse a file for its problems, where it has some.

    Raises:
        BadRecords: all are of records that can be left out.
        BadInput: one is not.
    """
    whole = [problem for problem in problems if problem.row == WHOLE]
    if whole:
        raise BadInput(f"{path}: {whole[0].sentence}")
    if problems:
        raise BadRecords(f"{path}: {problems[0].sentence}", len({problem.row for problem in problems}))


def check_document(path: Path, content: bytes, *, annotations: bool = True) -> CheckedDocument:
    """Check a COCO instances document but for its masks (see :meth:`CheckedDocument.check_masks`).

    Args:
        path: of the file, for messages.
        content: of the file.
        annotations: check them too; otherwise there are none in the result.

    Raises:
        BadInput: the content is no JSON at all.
    """
    checked = CheckedDocument(path)
    tables = _tables(checked, decode_any(path, content))
    checked.images = [image for _, image in tables["images"]]
    checked.categories = [category for _, category in tables["categories"]]
    checked.annotations = dict(tables["annotations"] if annotations else ())
    _respell(checked)
    for table, records in (("images", checked.images), ("categories", checked.categories)):
        _check_ids(checked, table, records)
    for kind, sentence in federated_faults(checked.images, checked.categories):
        checked.add(kind, sentence)
    for place, image in enumerate(checked.images):
        _check_image(checked, place, image)
    for place, category in enumerate(checked.categories):
        if category.get("name") is not None and not is_text(category["name"]):
            checked.add("bad category name", f"categories[{place}].name is {shown(category['name'])}; write a text")
    _check_annotations(checked)
    return checked


def _tables(checked: CheckedDocument, document: object) -> dict[str, list[tuple[int, Record]]]:
    """The three tables, each record with its place, as far as they are there."""
    tables: dict[str, list[tuple[int, Record]]] = {}
    for key in KEYS:
        rows = document.get(key) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            checked.add("not a COCO document", f"'{key}' is missing or not a list; {REMEDY}")
            rows = []
        elif not rows and key in ADVICE:
            checked.add(f"no {key}", f"has no {key}; {ADVICE[key]}")
        tables[key] = [(place, only(KEYS[key], row)) for place, row in enumerate(rows) if isinstance(row, dict)]
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                bad = place if key == "annotations" else WHOLE
                checked.add("not a COCO document", f"{key}[{place}] is not a record but {shown(row)}; {REMEDY}", bad)
    return tables


def _respell(checked: CheckedDocument) -> None:
    """Numbers in other spellings become numbers, absent flags and sizes absent, where all of a field agree."""
    annotations = list(checked.annotations.values())
    for key in ("iscrowd", "ignore", "area", "bbox", "segmentation"):
        for record in annotations:
            if record.get(key, ...) is None:
                del record[key]
    fields: tuple[tuple[str, list[Record], tuple[str, ...]], ...] = (
        ("images", checked.images, ("width", "height")),
        ("categories", checked.categories, ("id",)),
        ("annotations", annotations, ("id", "category_id", "iscrowd", "ignore")),
    )
    for table, records, keys in fields:
        for key in keys:
            checked.notes += read_numbers(records, key, f"{key} of the {table}")
    checked.notes += read_numbers(annotations, "area", "area of the annotations", whole=False)
    _respell_image_ids(checked, annotations)
    texts = [record for record in annotations if isinstance(record.get("id"), str)]
    if texts and len(texts) == len(annotations) and len({record["id"] for record in texts}) == len(texts):
        checked.notes.append(
            f"ids of the annotations are text ({shown(texts[0]['id'])}): annotations are numbered from 1 instead"
        )
        for number, record in enumerate(texts, start=1):
            record["id"] = number
    for image in checked.images:
        if isinstance(image.get("file_name"), str):
            image["file_name"] = file_path(image["file_name"])
    for category in checked.categories:
        if is_number(category.get("name")):
            checked.notes.append(f"the name of category {category.get('id')} is a number: it is read as text")
            category["name"] = str(category["name"])


def _respell_image_ids(checked: CheckedDocument, annotations: list[Record]) -> None:
    """Ids of images that are text in one table and numbers in the other become numbers in both."""
    for records, key in ((checked.images, "id"), (annotations, "image_id")):
        read_numbers(records, key, "", texts=False)
    kinds = [
        {type(record.get(key)) for record in records}
        for records, key in ((checked.images, "id"), (annotations, "image_id"))
    ]
    if kinds == [{str}, {int}]:
        checked.notes += read_numbers(checked.images, "id", "id of the images")
    elif kinds == [{int}, {str}]:
        checked.notes += read_numbers(annotations, "image_id", "image_id of the annotations")


def read_numbers(
    records: Iterable[Record], key: str, what: str, *, whole: bool = True, texts: bool = True
) -> list[str]:
    """Read numbers of a field in other spellings, in place: 1.0 for 1 and, where all values are text, "1" for 1.

    Args:
        records: all that may have the field.
        key: of the field.
        what: the field is called in the note.
        whole: whole numbers only, as ids are.
        texts: also read text.

    Returns:
        A note, where text was read.
    """
    given = [record for record in records if record.get(key) is not None]
    notes = []
    pattern = _WHOLE if whole else _NUMBER
    if texts and given and all(isinstance(one[key], str) and pattern.fullmatch(one[key]) for one in given):
        notes.append(f"{what} is text ({shown(given[0][key])}): it is read as a number")
        for record in given:
            record[key] = int(record[key].partition(".")[0]) if whole else float(record[key])
    if whole:
        for record in given:
            value = record[key]
            if type(value) is float and value.is_integer() and abs(value) <= EXACT:
                record[key] = int(value)
    return notes


def _check_ids(checked: CheckedDocument, table: str, records: list[Record]) -> None:
    """Ids of images (numbers or texts) or of categories (numbers): there, of one kind, and each its own."""
    kind = {"images": "image", "categories": "category"}[table]
    allowed = "a whole number or a text" if table == "images" else "a whole number"
    good: list[int | str] = []
    for place, record in enumerate(records):
        value = record.get("id")
        if value is None:
            checked.add(f"{kind} without id", f"{table}[{place}] has no id; give it one")
        elif not (is_whole(value) or (table == "images" and is_text(value))):
            checked.add(f"bad {kind} id", f"{table}[{place}].id is {shown(value)}; write {allowed}")
        elif isinstance(value, int) and not fits(value):
            checked.add(
                f"bad {kind} id", f"{table}[{place}].id is {shown(value)}, which does not fit 64 bits; renumber"
            )
        else:
            good.append(value)
    if len({type(value) for value in good}) > 1:
        checked.add(f"mixed {kind} ids", f"{table} mix integer and string ids; use one kind")
    clashes = [(value, count) for value, count in Counter(good).items() if count > 1]
    for value, count in clashes:
        checked.add(
            f"{kind} ids clash",
            f"{table} holds id {shown(value)} more than once ({count} times; {len(clashes):,} ids clash); give every "
            "record a different id",
        )


def _check_image(checked: CheckedDocument, place: int, image: Record) -> None:
    sides = [image.get("width"), image.get("height")]
    for key, side in zip(("width", "height"), sides, strict=True):
        if side is not None and not is_whole(side):
            checked.add("bad image size", f"images[{place}].{key} is {shown(side)}; write a whole number of pixels")
            return
    if any(side is not None and not 0 <= side < LARGEST_SIDE for side in sides):
        checked.add(
            "bad image size",
            f"images[{place}] is {sides[0]} x {sides[1]} pixels (width x height); repair it, or leave both out",
        )
    if image.get("file_name") is not None and not is_text(image["file_name"]):
        checked.add("bad file name", f"images[{place}].file_name is {shown(image['file_name'])}; write a text")


def _check_annotations(checked: CheckedDocument) -> None:
    annotations = checked.annotations
    images = {image["id"] for image in checked.images if is_id(image.get("id"))}
    categories = {category["id"] for category in checked.categories if is_id(category.get("id"))}
    some = {key: any(key in record for record in annotations.values()) for key in ("area",)}
    some["id"] = any(record.get("id") is not None for record in annotations.values())
    for place, record in annotations.items():
        for kind, sentence in _faults(named(place, record), record, images, categories, some):
            checked.add(kind, sentence, place)
    ids = Counter(record["id"] for record in annotations.values() if is_whole(record.get("id")))
    clashes = {value: count for value, count in ids.items() if count > 1}
    for place, record in annotations.items() if clashes else ():
        count = clashes.pop(record.get("id"), 0) if is_whole(record.get("id")) else 0
        if count:
            checked.add(
                "annotation ids clash",
                f"annotation id {record['id']} is used {count} times (first at annotations[{place}]); give every "
                "annotation a different id",
            )


def _faults(
    who: str, record: Record, images: set[Any], categories: set[Any], some: dict[str, bool]
) -> Iterable[tuple[str, str]]:
    """What is wrong with one annotation, but for its mask: kind and sentence of each fault."""
    identifier = record.get("id")
    if identifier is None and some["id"]:
        yield "annotation without id", f"{who} has no id but others do; give it one"
    elif identifier is not None and not (is_whole(identifier) and fits(identifier)):
        why = ", which does not fit 64 bits" if is_whole(identifier) else ""
        yield "bad annotation id", f"{who} has id {shown(identifier)}{why}; write whole numbers, for all of them"
    for key, ids, kind in (("image_id", images, "image"), ("category_id", categories, "category")):
        value = record.get(key)
        if not is_id(value) or value not in ids:
            plural = {"image": "images", "category": "categories"}[kind]
            yield (
                f"unknown {kind}",
                f"{who} has {key} {shown(value)}, which is not one of the {plural}; add that {kind} or remove the "
                "annotation",
            )
    for key, kind in (("iscrowd", "bad crowd flag"), ("ignore", "bad ignore flag")):
        value = record.get(key, 0)
        if not isinstance(value, int) or value not in (0, 1):
            yield kind, f"{who} has {key} {shown(value)}; write 0 or 1"
    if "bbox" in record:
        fault = box_fault(record["bbox"])
        if fault:
            yield "bad box", f"the bbox {shown(record['bbox'])} of {who} {fault}; {BOX_REMEDY}"
    elif not has_mask(record):
        yield "bad box", f"{who} has neither bbox nor segmentation; give it a bbox [x, y, width, height]"
    if is_damaged(record.get("segmentation")):
        yield "bad polygon", f"{who} has a segmentation with {DAMAGE}; repair it"
    area = record.get("area")
    if area is None and some["area"]:
        yield "bad area", f"{who} has no area but others do; give all annotations one, or none"
    elif area is not None and not (is_number(area) and 0 <= area <= 1.7e308):
        yield "bad area", f"the area {shown(area)} of {who} is not a size in square pixels; repair it"


def box_fault(box: object) -> str:
    """What is wrong with a box, as the predicate of a sentence; empty if it is four numbers that can be pixels."""
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(is_real(side) for side in box):
        return "is not four numbers"
    if not all(is_number(side) for side in box):
        return "is NaN or infinite"
    if max(box) > FURTHEST or min(box) < -FURTHEST:
        return "is far too large"
    if min(box[2:]) < 0:
        return "has a negative side"
    if any(0 < side < 1 / FURTHEST for side in box[2:]):
        return "has a side too small to measure"
    return ""


def good_boxes(box: Floats) -> Bools:
    """bool[N] whether boxes f64[N, 4] xywh are without a fault."""
    good = np.ones(len(box), dtype=np.bool_)
    for block in blocks(len(box)):
        sides = np.ascontiguousarray(box[block].T)
        if sides.max() <= FURTHEST and sides[:2].min() >= -FURTHEST and sides[2:].min() >= 1 / FURTHEST:
            continue  # as usual; no comparison holds with NaN
        good[block] = (np.abs(sides) <= FURTHEST).all(axis=0)
        good[block] &= ((sides[2:] == 0) | (sides[2:] >= 1 / FURTHEST)).all(axis=0)
    return good


def check_boxes(path: Path, kind: str, box: Floats, row: Ints) -> None:
    """Refuse boxes f64[N, 4] xywh that cannot be pixels; ``row`` i64[N] are their places in the file.

    Raises:
        BadRecords: the sentence names the first.
    """
    bad = np.flatnonzero(~good_boxes(box))
    if len(bad):
        first = box[bad[0]].tolist()
        sentence = f"{path}: the bbox {first} of {kind}[{row[bad[0]]}] {box_fault(first)}; {BOX_REMEDY}"
        raise BadRecords(sentence, len(bad))


def has_mask(record: Record) -> bool:
    """Whether a record has a segmentation other than the ways to write that there is none: null, [] and [[]]."""
    value = record.get("segmentation")
    return value is not None and not _is_empty(value)


def _is_empty(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_empty, value))


def encoded(value: object) -> msgspec.Raw:
    """A value as undecoded JSON."""
    return NOTHING if value is None else msgspec.Raw(encode_any(value))


def is_damaged(segmentation: object) -> bool:
    """Whether a segmentation holds what JSON has no place for: NaN, infinity or half a character."""
    parts = list(segmentation.values()) if isinstance(segmentation, dict) else segmentation
    if isinstance(parts, list):
        try:
            if all(math.isfinite(sum(part) if isinstance(part, list) else part) for part in parts):
                return False
        except (TypeError, OverflowError):
            pass  # no numbers, or large ones
    return _holds_damage(segmentation)


def _holds_damage(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_damage, (*value.keys(), *value.values())))
    if isinstance(value, list):
        return any(map(_holds_damage, value))
    if isinstance(value, str):
        return not is_text(value)
    return isinstance(value, float) and not math.isfinite(value)


def is_real(value: object) -> bool:
    """Whether a value is a number, finite or not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 1e308


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_id(value: object) -> bool:
    """Whether a value can be an id: a whole number or a text."""
    return is_text(value) or is_whole(value)


def merged(table: str, original: Record, checked: Record) -> Record:
    """A record as it was, but for the fields that are read: those as they were understood."""
    return {key: value for key, value in original.items() if key not in KEYS[table]} | checked


def is_text(value: object) -> bool:
    """Whether a value is a text without half a character, as a damaged escape leaves one."""
    return isinstance(value, str) and (value.isascii() or not _SURROGATES.search(value))


def only(keys: Sequence[str], record: Record) -> Record:
    """A record without the fields that are not read."""
    return {key: record[key] for key in keys if key in record}


def fits(value: Any) -> bool:
    """Whether a whole number fits 64 bits."""
    return bool(-(2**63) <= value < 2**63)


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
