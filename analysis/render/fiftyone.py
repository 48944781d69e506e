"""Detections and objects with what became of them, as files that the COCO importer of FiftyOne reads.

Each file is a COCO data set: ``images``, ``categories`` and ``annotations``, whose keys that are not COCO's become
fields of a FiftyOne ``Detection`` (``score`` its ``confidence``). For each run there are two, ``detections-RUN.json``

=================== ====================================================================================
``error``           tp, cls, loc, both, dup, bg, ignored (by a crowd), over-cap, low-score, unchecked
``iou``             with the target; without one, the best with any object
``cost``            points of AP to gain if it alone were fixed; 0 where it is no error
``costly``          whether it is among the fewest that hold 90 % of what its type of error costs
``target``          annotation id of the object that it points at; absent without one
``target_category`` name of its class; likewise
``row``             its place in the file of predictions, from 0
=================== ====================================================================================

and ``objects-RUN.json``, the ground truth: ``fate`` (as in ``objects.csv.gz``), ``cost`` and ``costly`` (of a missed
object that no detection points at; else 0 and false), and ``row``, the detection that took it or has the best claim to
it; absent without one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.error_types import ERROR_TYPES, LABEL_NAMES
from analysis.evaluation.outcomes import OUTCOME_NAMES
from analysis.exceptions import BadInput
from analysis.io import json_bytes

FOLDER = "fiftyone"  # in that of ``--out``


def fiftyone_files(ground_truth: GroundTruth, analyses: Sequence[RunAnalysis]) -> dict[str, bytes]:
    """The files of some runs, by their paths below the folder of ``--out``.

    Args:
        ground_truth: of all runs.
        analyses: of each run, with what its errors cost one by one.

    Raises:
        BadInput: the ground truth does not name the file of an image, or does not say its size.
    """
    document = {"images": list(_images(ground_truth)), "categories": _categories(ground_truth)}
    found: dict[str, bytes] = {}
    for name, one in zip(_file_names([one.name for one in analyses]), analyses, strict=True):
        for kind, annotations in (
            ("detections", _detections(ground_truth, one)),
            ("objects", _objects(ground_truth, one)),
        ):
            content = {**document, "annotations": list(annotations)}
            found[f"{FOLDER}/{kind}-{name}.json"] = json_bytes(content)
    return found


def _file_names(names: Sequence[str]) -> list[str]:
    """Names of files, whatever the runs are called, each once.

    >>> _file_names(["a/b", "a b", "yolov8n", ""])
    ['a-b', 'a-b-2', 'yolov8n', 'run']
    """
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:100] or "run"
        numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(names) + 1))
        found.append(next(free for free in numbered if free not in found))
    return found


def _images(ground_truth: GroundTruth) -> Iterator[dict[str, Any]]:
    for image, name, (height, width) in zip(
        ground_truth.image_id, ground_truth.file_name, ground_truth.image_size.tolist(), strict=True
    ):
        if name is None:
            raise BadInput(
                f"{ground_truth.path}: image {image!r} has no file_name, which FiftyOne needs to find the file; add it "
                "to the record, or do not use --export"
            )
        if width < 1 or height < 1:
            raise BadInput(
                f"{ground_truth.path}: image {image!r} has no width and height, which FiftyOne needs to scale boxes; "
                "add them to the record, or do not use --export"
            )
        yield {"id": image, "file_name": name, "width": width, "height": height}


def _categories(ground_truth: GroundTruth) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name}
        for number, name in zip(ground_truth.category_id, ground_truth.category_name, strict=True)
    ]


def _annotations(
    ground_truth: GroundTruth, source: GroundTruth | Detections, number: Sequence[int], with_masks: bool
) -> Iterator[dict[str, Any]]:
    """What COCO asks for of every row of a file, with the mask where masks are compared."""
    masks = source.masks.rles(range(len(source))) if with_masks else [None] * len(source)
    category, image = ground_truth.category_id, ground_truth.image_id
    columns = (
        number,
        source.image.tolist(),
        source.category.tolist(),
        source.box.tolist(),
        source.area.tolist(),
        masks,
    )
    for one, of_image, of_category, box, area, mask in zip(*columns, strict=True):
        found = {
            "id": one,
            "image_id": image[of_image],
            "category_id": category[of_category],
            "bbox": box,
            "area": area,
        }
        if mask is not None:
            found["segmentation"] = {"size": list(mask["size"]), "counts": mask["counts"].decode()}
        yield found


def _detections(ground_truth: GroundTruth, one: RunAnalysis) -> Iterator[dict[str, Any]]:
    assert one.at_stake is not None
    dt, labels = one.detections, one.breakdown.labels
    of_detections = [mask for name, mask in one.at_stake.costly.items() if not ERROR_TYPES[name].of_object]
    columns = {
        "score": dt.score,
        "error": np.array(LABEL_NAMES)[labels.error],
        "iou": labels.iou,
        "cost": one.at_stake.costs.detection,
        "costly": np.logical_or.reduce(of_detections),
        "row": dt.row,
    }
    segm, numbers = one.breakdown.settings.iou_type == "segm", range(1, len(dt) + 1)
    base = _annotations(ground_truth, dt, numbers, segm)
    for record, target, *values in zip(
        base, labels.target.tolist(), *(column.tolist() for column in columns.values()), strict=True
    ):
        record |= {"iscrowd": 0, **dict(zip(columns, values, strict=True))}
        if target >= 0:
            record["target"] = int(ground_truth.annotation_id[target])
            record["target_category"] = ground_truth.category_name[int(ground_truth.category[target])]
        yield record


def _objects(ground_truth: GroundTruth, one: RunAnalysis) -> Iterator[dict[str, Any]]:
    assert one.at_stake is not None
    columns = {
        "iscrowd": ground_truth.crowd.astype(np.int64),
        "fate": np.array(OUTCOME_NAMES)[one.outcomes.outcome],
        "cost": one.at_stake.costs.missed,
        "costly": one.at_stake.costly["miss"],
    }
    segm = one.breakdown.settings.iou_type == "segm"
    base = _annotations(ground_truth, ground_truth, ground_truth.annotation_id.tolist(), segm)
    for record, by, *values in zip(
        base, one.outcomes.by.tolist(), *(column.tolist() for column in columns.values()), strict=True
    ):
        record |= dict(zip(columns, values, strict=True))
        if by >= 0:
            record["row"] = int(one.detections.row[by])
        yield record
