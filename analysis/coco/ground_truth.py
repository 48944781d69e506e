"""COCO instances JSON -> :class:`GroundTruth`: columnar, checked; masks stay undecoded until they are asked for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints, distinct, index_of
from analysis.coco.columns import Spans, read_columns
from analysis.coco.federated import LVIS_KEYS, Federated, build_federated
from analysis.coco.masks import NOTHING, Masks
from analysis.coco.plausibility import of_ground_truth
from analysis.coco.rules import (
    LARGEST_SIDE,
    REMEDY,
    CheckedDocument,
    category_name,
    check_document,
    file_path,
    good_boxes,
    refuse,
)
from analysis.exceptions import BadInput
from analysis.io import encode, encode_any, is_list, no_collector, read_bytes


class _Image(msgspec.Struct, gc=False):
    id: int | str
    width: int | None = None
    height: int | None = None
    file_name: str | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None
    extra: msgspec.Raw = NOTHING  # Roboflow's, with the name that the file had before the export


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    id: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: bool | int = 0
    ignore: bool | int = 0
    segmentation: msgspec.Raw = NOTHING


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str | None = None
    frequency: str | None = None


class _Document(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True, eq=False, repr=False)
class GroundTruth:
    """Annotated objects, one row each, and the images and categories that they refer to by index.

    Images and categories are in ascending order of their ids, as pycocotools walks them; annotations keep the order
    of the file. Boxes are ``x, y, width, height`` in pixels.
    """

    path: Path
    box: Floats  # [M, 4] xywh, pixels
    category: Ints  # [M] index into category_id
    image: Ints  # [M] index into image_id
    area: Floats  # [M] square pixels: the file's, else the box's (or the mask's, see `area_of`)
    crowd: Bools  # [M]
    marked: Bools  # [M] the file says `ignore` (VOC's difficult), respected or not
    ignore: Bools  # [M] crowds, and what is marked where that is respected
    annotation_id: Ints  # [M]
    masks: Masks
    image_id: list[int] | list[str]  # ascending
    image_rank: Ints  # [images] place of each image in the file
    image_size: Ints  # [images, 2] height and width, -1 where the file does not say
    file_name: list[str | None]
    earlier_name: list[str | None]  # the file's name before the export (Roboflow's extra.name)
    category_id: list[int]  # ascending
    category_name: list[str]
    has_area: bool
    federated: Federated | None = None  # LVIS: which categories were looked for in which images; None: all in all
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.category)

    def __repr__(self) -> str:
        numbers = f"{len(self.image_id):,} images, {len(self):,} objects, {len(self.category_id):,} categories"
        return f"GroundTruth({self.path.name}: {numbers})"

    def area_of(self, iou_type: str) -> Floats:
        """f64[M] square pixels by which COCO's size ranges judge an object: the file's ``area`` where it has one."""
        return self.area if self.has_area or iou_type == "bbox" else self.masks.area

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the decoded content: the same for the same annotations whatever the spelling of the file."""
        names = (self.image_id, self.file_name, self.category_id, self.category_name, self.has_area)
        flags = self.crowd + 2 * self.marked.astype(np.uint8)
        objects = (self.box, self.category, self.image, self.area, flags, self.annotation_id)
        columns = (np.ascontiguousarray(one).tobytes() for one in (self.image_rank, self.image_size, *objects))
        digest = hashlib.sha256()
        rules = [] if self.federated is None else [self.federated.checked, self.federated.incomplete]
        of_rules = (one.tobytes() for one in rules)
        for part in (msgspec.json.encode(names), *columns, *of_rules, self.masks.canonical()):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


class _Fields(NamedTuple):
    """The fields of M annotations, as they are written."""

    image_id: Ints | list[Any]
    category_id: Ints
    id: Ints | list[Any] | None
    iscrowd: Bools
    ignore: Bools
    bbox: Floats  # [M, 4]
    without_box: Ints  # the rows that have none
    area: Floats  # [M] NaN where there is none
    segmentation: Sequence[msgspec.Raw] | Spans


class _Columns(NamedTuple):
    """A document whose annotations are columns."""

    images: list[_Image]
    categories: list[_Category]
    annotations: _Fields


class _Irregular(Exception):
    """The document is not one that can be read into columns at once; the rules for single records say why."""


_DECODER = msgspec.json.Decoder(_Document)
_IMAGES_DECODER = msgspec.json.Decoder(list[_Image])
_CATEGORIES_DECODER = msgspec.json.Decoder(list[_Category])
_EXTRA_DECODER = msgspec.json.Decoder(dict[str, Any])


@no_collector()
def read_ground_truth(
    path: str | Path, *, respect_ignore: bool = False, drop_invalid: bool = False, iou_type: str = "bbox"
) -> GroundTruth:
    """Read a COCO instances file (``.json`` or ``.json.gz``).

    ``segmentation``, ``iscrowd``, ``area`` and ``file_name`` may be missing. Other spellings of numbers (1.0 for 1; "1"
    if the whole field is text) are read, with a note in ``warnings``.

    Args:
        path: of the file.
        respect_ignore: leave objects with ``ignore: 1`` (VOC's "difficult") out of the evaluation; pycocotools does
            not, because it overwrites the field.
        drop_invalid: leave out bad annotations, counted and listed in ``warnings``; otherwise they are an error.
        iou_type: ``segm`` if masks are to be compared; with ``drop_invalid``, an annotation whose mask is missing or
            cannot be decoded is then a bad one too.

    Raises:
        BadRecords: some annotations cannot be used, and ``drop_invalid`` would leave them out.
        BadInput: the file cannot be used.

    >>> from analysis.coco.synthetic import write_example
    >>> truth, _ = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> gt.box.shape[1], len(gt.image_id), gt.category_name[0]
    (4, 50, 'category 1')
    """
    path = Path(path)
    return _parse(path, read_bytes(path), respect_ignore, drop_invalid, iou_type)


@no_collector()
def ground_truth_from(
    document: Mapping[str, Any],
    name: Path,
    *,
    respect_ignore: bool = False,
    drop_invalid: bool = False,
    iou_type: str = "bbox",
) -> GroundTruth:
    """A document in memory, with the checks of :func:`read_ground_truth`; ``name`` is what messages call it.

    Raises:
        BadInput: it cannot be used.
    """
    return _parse(name, encode(name, document), respect_ignore, drop_invalid, iou_type)


def _parse(path: Path, content: bytes, respect_ignore: bool, drop_invalid: bool, iou_type: str) -> GroundTruth:
    if is_list(content):
        raise BadInput(
            f"{path}: is a list of records, as prediction files are, but --gt needs a COCO instances document with "
            "images, annotations and categories; were the two files swapped?"
        )
    if not drop_invalid:
        try:
            return _read(path, content, respect_ignore)
        except _Irregular:
            pass
    checked = check_document(path, content)
    if drop_invalid:
        checked.check_masks(needed=iou_type == "segm")
        if iou_type == "segm":
            checked.check_masks_are_there()
        checked.drop_invalid()
    return read_checked(checked, respect_ignore=respect_ignore)


def read_checked(checked: CheckedDocument, *, respect_ignore: bool = False) -> GroundTruth:
    """The ground truth of a document whose records were checked one by one.

    Raises:
        BadInput: it has problems.
    """
    refuse(checked.path, checked.problems)
    annotations = list(checked.annotations.values())
    document = {"images": checked.images, "categories": checked.categories, "annotations": annotations}
    rows = np.array(list(checked.annotations), dtype=np.int64)
    try:
        truth = _read(checked.path, encode_any(document), respect_ignore, rows)
    except _Irregular as error:
        raise BadInput(f"{checked.path}: cannot be read ({error}); {REMEDY}") from None
    return replace(truth, warnings=(*checked.notes, *truth.warnings))


def _read(path: Path, content: bytes, respect_ignore: bool, rows: Ints | None = None) -> GroundTruth:
    """The columns of a document in the usual spelling; ``rows`` are the places of its annotations in the file."""
    try:
        document = _decode_usual(content) or _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Irregular(str(error)) from None
    fields = document.annotations
    image_id, image_rank, image_index = _index([image.id for image in document.images])
    category_id, _, category_index = _index([c.id for c in document.categories])
    names = {c.id: category_name(c.id, c.name) for c in document.categories}
    columns = _annotation_columns(fields, image_id, image_index, category_id)
    size = _image_sizes(document.images)[image_rank]
    masks = Masks(path, "annotations", fields.segmentation, columns["image"], size, rows)
    box = _boxes(fields, masks)
    area, has_area = _areas(fields.area, box)
    federated = _federated(document, image_rank, category_id, category_index, columns)
    notes: list[str] = []
    if federated is not None:  # LVIS has no crowds, and its own evaluation respects `ignore`
        crowds = int(columns["crowd"].sum())
        told = f"{crowds:,} annotations have iscrowd, which does not exist in LVIS: they count as objects"
        notes += [told] if crowds else []
        columns["crowd"] = np.zeros(len(box), dtype=np.bool_)
        respect_ignore = True
    return GroundTruth(
        path=path,
        box=box,
        **columns,
        area=area,
        ignore=columns["crowd"] | columns["marked"] if respect_ignore else columns["crowd"],
        masks=masks,
        image_id=image_id,
        image_rank=image_rank,
        image_size=size,
        file_name=[
            name and file_path(name) for name in (document.images[place].file_name for place in image_rank.tolist())
        ],
        earlier_name=[_earlier_name(document.images[place].extra) for place in image_rank.tolist()],
        category_id=category_id,
        category_name=[names[c] for c in category_id],
        has_area=has_area,
        federated=federated,
        warnings=(*notes, *of_ground_truth(columns, box, masks, len(fields.without_box), respect_ignore)),
    )


def _index(ids: list[Any]) -> tuple[list[Any], Ints, dict[Any, int]]:
    """Ids in ascending order, the place in the file of each, and the index of each id."""
    if len({type(i) for i in ids}) != 1:
        raise _Irregular("no ids, or ids of two kinds")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ascending = [ids[place] for place in order]
    index = {value: position for position, value in enumerate(ascending)}
    if len(index) < len(ids):
        raise _Irregular("an id twice")
    if isinstance(ascending[0], int) and not -(2**63) <= ascending[0] <= ascending[-1] < 2**63:
        raise _Irregular("a large id")
    return ascending, np.array(order, dtype=np.int64), index


def _federated(
    document: _Columns, image_rank: Ints, category_id: list[int], index: dict[int, int], columns: dict[str, Any]
) -> Federated | None:
    """LVIS's rules, where the document has its fields."""
    images = [document.images[place] for place in image_rank.tolist()]
    absent, incomplete = ([getattr(one, key) for one in images] for key in LVIS_KEYS)
    if not any(one is not None for one in (*absent, *incomplete)):
        return None
    letter = {one.id: one.frequency for one in document.categories}
    frequency = [letter[one] for one in category_id]
    if None in absent or None in incomplete or 0 < frequency.count(None) < len(frequency):
        raise _Irregular("LVIS fields of some records only")
    try:
        return build_federated(absent, incomplete, frequency, index, columns["image"], columns["category"])
    except (KeyError, ValueError):
        raise _Irregular("an unknown category or frequency in LVIS fields") from None


def _earlier_name(extra: msgspec.Raw) -> str | None:
    if not bytes(extra):
        return None
    try:
        name = _EXTRA_DECODER.decode(extra).get("name")
    except msgspec.DecodeError:
        return None
    return name if isinstance(name, str) else None


def _image_sizes(images: list[_Image]) -> Ints:
    """Height and width i64[images, 2] in pixels, -1 where the file does not say (or says 0, as some do)."""
    written = [(image.height, image.width) for image in images]
    sides = list(chain.from_iterable(written))
    if min(filter(None, sides), default=1) < 0 or max(filter(None, sides), default=1) >= LARGEST_SIDE:
        raise _Irregular("a size of an image")
    return np.array([side or -1 for side in sides], dtype=np.int64).reshape(-1, 2)


def _decode_usual(content: bytes) -> _Columns | None:
    """A document by the compiled core; none without it, and where an annotation is unusual."""
    places = None if native.core is None else native.core.split_object(content)
    if places is None or not {"images", "categories", "annotations"} <= places.keys():
        return None
    view = memoryview(content)
    images, categories, annotations = (view[slice(*places[key])] for key in ("images", "categories", "annotations"))
    found = read_columns(bytes(annotations))
    if found is None:
        return None
    count = len(found)
    return _Columns(
        _IMAGES_DECODER.decode(images),
        _CATEGORIES_DECODER.decode(categories),
        _Fields(
            image_id=found.image_id,
            category_id=found.category_id,
            id=found.id,
            iscrowd=found.iscrowd,
            ignore=found.ignore,
            bbox=np.zeros((count, 4)) if found.bbox is None else found.bbox,
            without_box=np.arange(count if found.bbox is None else 0),
            area=np.full(count, np.nan) if found.area is None else found.area,
            segmentation=found.segmentation,
        ),
    )


def _decode(content: bytes) -> _Columns:
    """A document by msgspec."""
    document = _DECODER.decode(content)
    annotations = document.annotations
    crowd, marked = [a.iscrowd for a in annotations], [a.ignore for a in annotations]
    if not {*crowd, *marked} <= {0, 1}:
        raise _Irregular("a flag")
    ids: list[Any] = [a.id for a in annotations]
    try:
        category = np.array([a.category_id for a in annotations], dtype=np.int64)
    except OverflowError:
        raise _Irregular("an unknown category") from None
    fields = _Fields(
        image_id=[a.image_id for a in annotations],
        category_id=category,
        id=None if ids.count(None) == len(ids) else ids,
        iscrowd=np.array(crowd, dtype=np.bool_),
        ignore=np.array(marked, dtype=np.bool_),
        bbox=np.array([a.bbox or (0, 0, 0, 0) for a in annotations], dtype=np.float64).reshape(-1, 4),
        without_box=np.array([row for row, a in enumerate(annotations) if a.bbox is None], dtype=np.int64),
        area=np.array([a.area for a in annotations], dtype=np.float64),
        segmentation=[a.segmentation for a in annotations],
    )
    return _Columns(document.images, document.categories, fields)


def _annotation_columns(
    fields: _Fields, image_id: list[Any], image_index: dict[Any, int], category_id: list[int]
) -> dict[str, Any]:
    """The columns of :class:`GroundTruth` that bear its names: category, image, crowd, marked, annotation_id."""
    if isinstance(fields.image_id, np.ndarray):
        whole = isinstance(image_id[0], int)
        image = index_of(fields.image_id, np.array(image_id)) if whole else np.full(len(fields.image_id), -1)
    else:
        image = np.array([image_index.get(one, -1) for one in fields.image_id], dtype=np.int64)
    if not -(2**63) <= category_id[0] <= category_id[-1] < 2**63:
        raise _Irregular("a large id")
    category = index_of(fields.category_id, np.array(category_id))
    if len(category) and min(image.min(), category.min()) < 0:
        raise _Irregular("an unknown image or category")
    try:
        annotation_id = np.array(range(1, len(category) + 1) if fields.id is None else fields.id, dtype=np.int64)
    except (OverflowError, TypeError):
        raise _Irregular("an id of an annotation") from None
    if len(distinct(annotation_id)) < len(annotation_id):
        raise _Irregular("an id of an annotation twice")
    return {
        "image": image,
        "category": category,
        "annotation_id": annotation_id,
        "crowd": fields.iscrowd,
        "marked": fields.ignore,
    }


def _boxes(fields: _Fields, masks: Masks) -> Floats:
    """f64[M, 4] xywh; where an annotation has none, that of its mask."""
    box, missing = fields.bbox, fields.without_box
    if len(missing):
        if not masks.present[missing].all():
            raise _Irregular("neither a box nor a mask")
        box[missing] = masks.box(missing)
    if not good_boxes(box).all():
        raise _Irregular("a box")
    return box


def _areas(area: Floats, box: Floats) -> tuple[Floats, bool]:
    """f64[M] square pixels and whether the file has them; ``area`` is NaN where it does not."""
    missing = int(np.isnan(area).sum())
    if missing and missing == len(area):
        return box[:, 2] * box[:, 3], False
    if missing or not (np.isfinite(area) & (area >= 0)).all():
        raise _Irregular("an area")
    return area, True
