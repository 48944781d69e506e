"""Ground truth and detections that a program holds in memory, in the forms that training code has, read like files.

Everything becomes COCO's records first and goes through the checks of the readers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.coco.detections import Detections, read_detections
from analysis.coco.ground_truth import GroundTruth, ground_truth_from, read_ground_truth
from analysis.exceptions import BadInput

TRUTH, RUN = Path("ground truth in memory"), Path("detections in memory")
_FORMS_OF_TRUTH = (
    "give a path, a COCO document (a dict), an object with it as dataset (pycocotools, lvis), or a list of targets "
    "{boxes x1 y1 x2 y2, labels}, one for each image"
)
_FORMS_OF_RUN = (
    "give a path, a list of COCO result records, an object that loadRes made, an array N x 7 of image id, x, y, width, "
    "height, score and category id, or predictions {boxes x1 y1 x2 y2, labels, scores}, as a list in the order of the "
    "targets or a dict by image id"
)
_MASK = 0.5  # from which a pixel of a predicted mask belongs to it


def load(
    ground_truth: Any,
    detections: Any,
    *,
    iou_type: str = "bbox",
    respect_ignore: bool = False,
    drop_unknown: bool = False,
    drop_invalid: bool = False,
    names: Mapping[int, str] | None = None,
) -> tuple[GroundTruth, Detections]:
    """Load ground truth and detections from files or memory, for every analysis of this package.

    Args:
        ground_truth: a path; a COCO or LVIS document as a dict; a ``COCO`` or ``LVIS`` object; a list of torchvision's
            targets, one per image: ``boxes`` f32[n, 4] x1, y1, x2, y2 in pixels, ``labels`` i64[n] category ids, and if
            present ``image_id``, ``area`` f32[n], ``iscrowd`` [n], ``masks`` [n, H, W]; or a GroundTruth.
        detections: a path; a list of COCO's result records; what ``loadRes`` made; an array [N, 7] as ``loadRes`` takes
            it; torchvision's predictions, ``boxes``, ``labels``, ``scores`` f32[n], optionally ``masks`` [n, 1, H, W],
            as a list in the order of the targets (or each with its ``image_id``) or a dict by image id; or Detections.
        iou_type: ``segm`` if masks will be compared.
        respect_ignore: as in :func:`analysis.read_ground_truth`.
        drop_unknown: as in :func:`analysis.read_detections`.
        drop_invalid: as in both.
        names: names of the categories by id, for targets, which contain none.

    Raises:
        BadInput: the form is unknown, or the content cannot be used; the sentence names the record.

    >>> targets = [{"boxes": np.array([[10, 10, 60, 50]]), "labels": np.array([2])}]
    >>> predictions = [{"boxes": np.array([[10, 10, 60, 50]]), "labels": np.array([2]), "scores": np.array([0.9])}]
    >>> gt, dt = load(targets, predictions, names={2: "cat"})
    >>> from analysis import break_down
    >>> gt.category_name, round(break_down(gt, dt).ap, 6)
    (['cat'], 100.0)
    """
    truth = _truth(ground_truth, iou_type, respect_ignore, drop_invalid, names)
    if isinstance(detections, Detections):
        return truth, detections
    options: dict[str, Any] = {"drop_unknown": drop_unknown, "drop_invalid": drop_invalid, "iou_type": iou_type}
    if isinstance(detections, str | Path):
        return truth, read_detections(detections, truth, **options)
    ids = _image_ids(ground_truth) if _is_targets(ground_truth) else None
    return truth, Detections.from_records(_records(detections, ids), truth, name=RUN, **options)


def _truth(
    value: Any, iou_type: str, respect_ignore: bool, drop_invalid: bool, names: Mapping[int, str] | None
) -> GroundTruth:
    options: dict[str, Any] = {"iou_type": iou_type, "respect_ignore": respect_ignore, "drop_invalid": drop_invalid}
    if isinstance(value, GroundTruth):
        return value
    if isinstance(value, str | Path):
        return read_ground_truth(value, **options)
    document = getattr(value, "dataset", value)
    if _is_targets(document):
        document = _document(document, names)
    if not isinstance(document, Mapping):
        raise BadInput(f"{TRUTH}: {type(value).__name__} is not a ground truth; {_FORMS_OF_TRUTH}")
    tables = {
        key: [_plain(one) if isinstance(one, Mapping) else one for one in table] if isinstance(table, list) else table
        for key, table in document.items()
        if key in ("images", "annotations", "categories")
    }
    return ground_truth_from(tables, TRUTH, **options)


def _is_targets(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(one, Mapping) and {"boxes", "labels"} <= one.keys() for one in value)
        and len(value) > 0
    )


def _image_ids(targets: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The ids of the images of targets: their own, or 1, 2, ... where none has one."""
    ids = [one.get("image_id") for one in targets]
    if all(one is None for one in ids):
        return list(range(1, len(ids) + 1))
    if None in ids:
        first = ids.index(None)
        raise BadInput(f"{TRUTH}: target[{first}] has no image_id but others do; give all of them one, or none")
    return [_array(one).reshape(-1)[0].item() if not isinstance(one, str) else one for one in ids]


def _document(targets: Sequence[Mapping[str, Any]], names: Mapping[int, str] | None) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, (target, image) in enumerate(zip(targets, _image_ids(targets), strict=True)):
        columns = _columns(f"{TRUTH}: target[{place}]", target, ("labels", "area", "iscrowd", "masks"))
        masks = columns.get("masks")
        size = {} if masks is None else {"height": masks.shape[-2], "width": masks.shape[-1]}
        images.append({"id": image, **size})
        for row, box in enumerate(columns["boxes"].tolist()):
            one: dict[str, Any] = {"image_id": image, "category_id": int(columns["labels"][row]), "bbox": box}
            if "area" in columns:
                one["area"] = float(columns["area"][row])
            if "iscrowd" in columns:
                one["iscrowd"] = int(columns["iscrowd"][row])
            if masks is not None:
                one["segmentation"] = _rle(masks[row])
            annotations.append({"id": len(annotations) + 1, **one})
    known = {one["category_id"] for one in annotations} | set(names or ())
    categories = [{"id": one, **({"name": names[one]} if names and one in names else {})} for one in sorted(known)]
    return {"images": images, "categories": categories, "annotations": annotations}


def _records(value: Any, ids: Sequence[Any] | None) -> list[dict[str, Any]]:
    """COCO's result records of detections in any form; ``ids`` of the images, where the targets tell their order."""
    dataset = getattr(value, "dataset", None)
    if isinstance(dataset, Mapping):
        value = _as_given(dataset.get("annotations", []))
    if isinstance(value, Mapping) and all(isinstance(one, Mapping) and "boxes" in one for one in value.values()):
        return [record for image, one in value.items() for record in _of_image(f"{RUN}: image {image!r}", one, image)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(one, Mapping) and "boxes" in one for one in value):
            return _of_list(value, ids)
        if all(isinstance(one, Mapping) for one in value):
            return [_plain(one) for one in value]
    if hasattr(value, "__array__"):
        rows = _array(value)
        if rows.ndim == 2 and rows.shape[1] == 7:
            _whole(f"{RUN}: column 0 (image id)", rows[:, 0])
            _whole(f"{RUN}: column 6 (category id)", rows[:, 6])
            return [
                {"image_id": int(one[0]), "category_id": int(one[6]), "bbox": one[1:5], "score": one[5]}
                for one in rows.tolist()
            ]
    raise BadInput(f"{RUN}: {type(value).__name__} is not a list of detections; {_FORMS_OF_RUN}")


def _as_given(records: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The records as ``loadRes`` was given them: it adds boxes to masks, whose areas then are those of the masks."""
    derived = any(
        one.get("area") is not None and "bbox" in one and one.get("segmentation")
        and float(one["area"]) != float(one["bbox"][2]) * float(one["bbox"][3])
        for one in records
    )  # fmt: skip
    return [{key: one[key] for key in one if key != "bbox"} for one in records] if derived else records


def _of_list(predictions: Sequence[Mapping[str, Any]], ids: Sequence[Any] | None) -> list[dict[str, Any]]:
    own = [one.get("image_id") for one in predictions]
    if None in own:
        if ids is None or len(ids) != len(predictions):
            many = "" if ids is None else f": {len(predictions):,} predictions, {len(ids):,} targets"
            raise BadInput(
                f"{RUN}: prediction[{own.index(None)}] has no image_id, and the ground truth does not show to which "
                f"image it belongs{many}; give every prediction its image_id, or a dict by image id"
            )
        own = list(ids)
    return [
        record
        for place, (one, image) in enumerate(zip(predictions, own, strict=True))
        for record in _of_image(f"{RUN}: prediction[{place}]", one, image)
    ]


def _of_image(who: str, prediction: Mapping[str, Any], image: Any) -> list[dict[str, Any]]:
    columns = _columns(who, prediction, ("labels", "scores", "masks"))
    image = image if isinstance(image, str) else _array(image).reshape(-1)[0].item()
    records = []
    for row, box in enumerate(columns["boxes"].tolist()):
        label, score = int(columns["labels"][row]), float(columns["scores"][row])
        one = {"image_id": image, "category_id": label, "bbox": box, "score": score}
        if "masks" in columns:
            one["segmentation"] = _rle(columns["masks"][row])
        records.append(one)
    return records


def _columns(who: str, values: Mapping[str, Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Boxes xywh f64[n, 4] and the other columns as arrays.

    Raises:
        BadInput: one is missing, or of another length.
    """
    boxes = _array(values["boxes"])
    if boxes.dtype.kind not in "iuf":
        raise BadInput(f"{who} has boxes that are not numbers; give n x 4: x1, y1, x2, y2 in pixels")
    boxes = boxes.astype(np.float64)
    if boxes.size % 4 or (boxes.size and boxes.shape[-1] != 4):
        raise BadInput(f"{who} has boxes of shape {boxes.shape}; give n x 4: x1, y1, x2, y2 in pixels")
    boxes = boxes.reshape(-1, 4)
    columns = {"boxes": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)}
    for name in names:
        if values.get(name) is None:
            if name in ("labels", "scores"):
                raise BadInput(f"{who} has no {name}; {_FORMS_OF_RUN}")
            continue
        columns[name] = _array(values[name])
        if columns[name].ndim == 0 or len(columns[name]) != len(boxes):
            shape = columns[name].shape
            raise BadInput(f"{who} has {len(boxes)} boxes but {name} of shape {shape}; give one for each box")
    _whole(f"{who}: labels", columns["labels"])
    if len(boxes) and (columns["boxes"][:, 2:] < 0).any():
        row = int(np.flatnonzero((columns["boxes"][:, 2:] < 0).any(axis=1))[0])
        box = boxes[row].tolist()
        raise BadInput(f"{who}: box {box} ends before it begins; write boxes as x1, y1, x2, y2 in pixels")
    return columns


def _array(value: Any) -> NDArray[Any]:
    """A tensor, array or list as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        found = np.asarray(value)
    except ValueError as error:  # rows of several lengths
        raise BadInput(f"a value in memory is not an array ({error}); give numbers of one shape") from None
    return found


def _whole(what: str, values: NDArray[Any]) -> None:
    """Refuse ids that are no whole numbers.

    Raises:
        BadInput: the sentence names the first.
    """
    if values.dtype.kind in "iub":
        return
    bad = np.flatnonzero(~(values == np.floor(values))) if values.dtype.kind == "f" else np.arange(len(values))
    if len(bad):
        raise BadInput(f"{what}: value {bad[0]} is {values[bad[0]]!r}, not a whole number; give ids")


def _rle(mask: NDArray[Any]) -> dict[str, Any]:
    """A mask [H, W] or [1, H, W], of flags or of probabilities, as run lengths."""
    from pycocotools import mask as coco

    flags = mask.reshape(mask.shape[-2:])
    flags = flags >= _MASK if flags.dtype.kind == "f" else flags != 0
    encoded = coco.encode(np.asfortranarray(flags.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with plain Python values."""
    return {key: _plain_value(value) for key, value in record.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")  # pycocotools' run lengths
    return value.tolist() if hasattr(value, "tolist") else value
