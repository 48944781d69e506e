"""COCO instances JSON -> :class:`GroundTruth`: columnar, checked; masks stay undecoded until they are asked for."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analysis.arrays import Bools, Floats, Ints
from analysis.coco.masks import NOTHING, Masks
from analysis.exceptions import BadInput
from analysis.io import decode, is_list, no_collector, read_bytes

FURTHEST = 1e100  # pixels: coordinates whose products are still numbers
LARGEST_SIDE = 2**31  # pixels, exclusive

_REMEDY = (
    "write a COCO instances file: images (id), categories (id) and annotations (id, image_id, category_id, "
    "bbox [x, y, width, height])"
)


class _Image(msgspec.Struct, gc=False):
    id: int | str
    width: int | None = None
    height: int | None = None
    file_name: str | None = None
    neg_category_ids: msgspec.Raw = NOTHING
    not_exhaustive_category_ids: msgspec.Raw = NOTHING


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


class _Document(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True, eq=False)
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
    category_id: list[int]  # ascending
    category_name: list[str]
    has_area: bool
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.category)

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
        for part in (msgspec.json.encode(names), *columns, self.masks.canonical()):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


_DECODER = msgspec.json.Decoder(_Document)


@no_collector()
def read_ground_truth(path: str | Path, *, respect_ignore: bool = False) -> GroundTruth:
    """Read a COCO instances file (``.json`` or ``.json.gz``).

    ``segmentation``, ``iscrowd``, ``area`` and ``file_name`` may be missing. ``respect_ignore`` lets ``ignore: 1``
    (VOC's "difficult") take an object out of the evaluation, which pycocotools does not: it overwrites the field.

    Raises:
        BadInput: the file, or one of its records, cannot be used.

    >>> from analysis.coco.synthetic import write_example
    >>> truth, _ = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> gt.box.shape[1], len(gt.image_id), gt.category_name[0]
    (4, 50, 'category 1')
    """
    path = Path(path)
    content = read_bytes(path)
    if is_list(content):
        raise BadInput(
            f"{path}: is a list of records, as prediction files are, but --gt needs a COCO instances document with "
            "images, annotations and categories; were the two files swapped?"
        )
    document = decode(path, content, _DECODER, _REMEDY)
    if not document.images:
        raise BadInput(f"{path}: has no images; an analysis needs at least one")
    if not document.categories:
        raise BadInput(f"{path}: has no categories; list them under 'categories' with id and name")
    if any(bytes(i.neg_category_ids) or bytes(i.not_exhaustive_category_ids) for i in document.images):
        raise BadInput(
            f"{path}: is an LVIS file: its federated rules (neg_category_ids, not_exhaustive_category_ids) are not "
            "supported, and ignoring them would give wrong numbers; use COCO-style exhaustive annotations"
        )
    image_id, image_rank, image_index = _index(path, "images", [image.id for image in document.images])
    category_id, _, category_index = _index(path, "categories", [c.id for c in document.categories])
    names = {c.id: c.name if c.name is not None else f"category {c.id}" for c in document.categories}
    columns = _annotation_columns(path, document.annotations, image_index, category_index)
    size = _image_sizes(path, document.images)[image_rank]
    masks = Masks(path, "annotations", [a.segmentation for a in document.annotations], columns["image"], size)
    box, from_masks = _boxes(path, document.annotations, masks)
    area, has_area = _areas(path, document.annotations, box)
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
        file_name=[document.images[place].file_name for place in image_rank.tolist()],
        category_id=category_id,
        category_name=[names[c] for c in category_id],
        has_area=has_area,
        warnings=tuple(_warnings(columns, box, from_masks, respect_ignore)),
    )


def _index(path: Path, kind: str, ids: list[Any]) -> tuple[list[Any], Ints, dict[Any, int]]:
    """Ids in ascending order, the place in the file of each, and the index of each id."""
    if len({type(i) for i in ids}) > 1:
        raise BadInput(f"{path}: {kind} mix integer and string ids; use one kind")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ascending = [ids[place] for place in order]
    index = {value: position for position, value in enumerate(ascending)}
    if len(index) < len(ids):
        twice = next(a for a, b in pairwise(ascending) if a == b)
        raise BadInput(
            f"{path}: {kind} holds id {twice!r} more than once ({len(ids) - len(index)} clashes in all); "
            "give every record an id of its own"
        )
    if isinstance(ascending[0], int) and not -(2**63) <= ascending[0] <= ascending[-1] < 2**63:
        raise BadInput(f"{path}: {kind} holds an id that does not fit 64 bits; renumber them")
    return ascending, np.array(order, dtype=np.int64), index


def _image_sizes(path: Path, images: list[_Image]) -> Ints:
    """Height and width i64[images, 2] in pixels, -1 where the file does not say (or says 0, as some do)."""
    sizes = [(image.height or -1, image.width or -1) for image in images]
    for place, (image, size) in enumerate(zip(images, sizes, strict=True)):
        if not all(side == -1 or 0 < side < LARGEST_SIDE for side in size) or -1 in (image.height, image.width):
            raise BadInput(
                f"{path}: images[{place}] is {image.width} x {image.height} pixels (width x height); repair it, or "
                "leave both out"
            )
    return np.array(sizes, dtype=np.int64)


def _annotation_columns(
    path: Path, annotations: list[_Annotation], image_index: dict[Any, int], category_index: dict[Any, int]
) -> dict[str, Any]:
    """The columns of :class:`GroundTruth` that bear its names: category, image, crowd, marked, annotation_id."""
    image = np.array([image_index.get(a.image_id, -1) for a in annotations], dtype=np.int64)
    category = np.array([category_index.get(a.category_id, -1) for a in annotations], dtype=np.int64)
    for column, kind, attribute in ((image, "images", "image_id"), (category, "categories", "category_id")):
        unknown = np.flatnonzero(column < 0)
        if len(unknown):
            first = ", ".join(repr(getattr(annotations[i], attribute)) for i in unknown[:3])
            raise BadInput(
                f"{path}: the {attribute} of {len(unknown):,} annotations is not among the {kind} "
                f"(first at annotations[{unknown[0]}]: {first}); add those {kind} or remove the annotations"
            )
    ids = [a.id for a in annotations]
    if any(i is None for i in ids):
        if any(i is not None for i in ids):
            raise BadInput(f"{path}: annotations[{ids.index(None)}] has no id while others have; give it one")
        ids = list(range(1, len(ids) + 1))
    try:
        annotation_id = np.array(ids, dtype=np.int64)
    except OverflowError:
        raise BadInput(f"{path}: an annotation id does not fit 64 bits; renumber the annotations") from None
    unique, first_place, times = np.unique(annotation_id, return_index=True, return_counts=True)
    if len(unique) < len(ids):
        clash = int(np.argmax(times > 1))
        raise BadInput(
            f"{path}: annotation id {unique[clash]} stands {times[clash]} times (first at "
            f"annotations[{first_place[clash]}]; {int((times > 1).sum()):,} ids clash); give every annotation its own"
        )
    return {
        "image": image,
        "category": category,
        "annotation_id": annotation_id,
        "crowd": np.array([a.iscrowd for a in annotations], dtype=np.bool_),
        "marked": np.array([a.ignore for a in annotations], dtype=np.bool_),
    }


def _boxes(path: Path, annotations: list[_Annotation], masks: Masks) -> tuple[Floats, int]:
    """f64[M, 4] xywh and how many were taken from masks."""
    missing = [i for i, a in enumerate(annotations) if a.bbox is None]
    nothing = [i for i in missing if not masks.present[i]]
    if nothing:
        raise BadInput(f"{path}: annotations[{nothing[0]}] has neither bbox nor segmentation; give it a bbox [x,y,w,h]")
    box = np.array([a.bbox or (0, 0, 0, 0) for a in annotations], dtype=np.float64).reshape(-1, 4)
    if missing:
        box[missing] = masks.box(np.array(missing))
    check_boxes(path, "annotations", box)
    return box, len(missing)


def check_boxes(path: Path, kind: str, box: Floats, row: Ints | None = None) -> None:
    """Refuse boxes f64[N, 4] xywh that cannot be pixels; ``row`` i64[N] are their places in the file."""
    side = box[:, 2:]
    if bool((np.abs(box) <= FURTHEST).all()) and bool(((side == 0) | (side >= 1 / FURTHEST)).all()):
        return
    for bad, what in (
        (~(np.abs(box) <= FURTHEST).all(axis=1), "is out of all proportion"),
        ((side < 0).any(axis=1), "has a negative side"),
        (((side > 0) & (side < 1 / FURTHEST)).any(axis=1), "has a side too small to measure"),
    ):
        places = np.flatnonzero(bad)
        if len(places):
            first = places[0]
            raise BadInput(
                f"{path}: the bbox {box[first].tolist()} of {kind}[{first if row is None else row[first]}] {what} "
                f"({len(places):,} such records); write boxes as [x, y, width, height] in pixels"
            )


def _areas(path: Path, annotations: list[_Annotation], box: Floats) -> tuple[Floats, bool]:
    missing = [i for i, a in enumerate(annotations) if a.area is None]
    if missing and len(missing) < len(annotations):
        raise BadInput(f"{path}: annotations[{missing[0]}] has no area while others have; give all of them one or none")
    if missing:
        return box[:, 2] * box[:, 3], False
    area = np.array([a.area for a in annotations], dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(area) & (area >= 0)))
    if len(bad):
        raise BadInput(
            f"{path}: the area {area[bad[0]]} of annotations[{bad[0]}] is not a size in square pixels; repair it"
        )
    return area, True


def _warnings(columns: dict[str, Any], box: Floats, from_masks: int, respect_ignore: bool) -> list[str]:
    """What is legal but looks wrong, one sentence each; ``from_masks`` boxes were taken from masks."""
    flat = int((box[:, 2:] == 0).any(axis=1).sum())
    marked = 0 if respect_ignore else int((columns["marked"] & ~columns["crowd"]).sum())
    cases = (
        (
            bool((columns["annotation_id"] == 0).any()),
            "annotation id 0 is used: pycocotools counts the detection that matches it as wrong; here it is right",
        ),
        (flat, f"{flat:,} annotations have a zero-size box: nothing can match them, so each is a miss"),
        (
            marked,
            f"{marked:,} annotations carry ignore=1 (VOC's difficult?) and are counted as normal objects, "
            "as pycocotools counts them; --respect-ignore leaves them out",
        ),
        (
            len(box) > 0 and box.max() <= 1,
            "all coordinates of the ground truth are at most 1: are its boxes normalised instead of in pixels?",
        ),
        (from_masks, f"{from_masks:,} annotations have no bbox: theirs was taken from their masks"),
    )
    return [sentence for holds, sentence in cases if holds]
