"""Where the AP went, for programs: frames with a row a class, size, threshold, object ..., and the same as JSON."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.error_types import CLS, DUP, ERRORS, LOC, SPECIAL
from analysis.fates import FATE_NAMES, IGNORED
from analysis.ground_truth import GroundTruth
from analysis.where.analysis import Where
from analysis.where.by_class import ClassErrors
from analysis.where.by_iou import IouErrors
from analysis.where.by_size import SizeErrors

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str | tuple[str, str], Any]


def _columns(ground_truth: GroundTruth, one: Where) -> dict[str, Columns]:
    """The columns of every part that was computed, by the name of its file; a pair is a group and an error."""
    found: dict[str, Columns] = {}
    if one.classes:
        found["by_class"] = {
            "class": list(one.classes.names),
            "objects": one.classes.positives,
            "detections": one.classes.detections,
            "true_positives": one.classes.true_positives,
            "ap": one.classes.ap,
            **_errors(one.classes, (*ERRORS, *SPECIAL)),
        }
    if one.sizes:
        found["by_size"] = {
            "size": [size.name for size in one.sizes.sizes],
            "low": [size.low for size in one.sizes.sizes],
            "high": [size.high if math.isfinite(size.high) else None for size in one.sizes.sizes],
            "objects": one.sizes.objects,
            "found": one.sizes.found,
            **_errors(one.sizes, ERRORS),
        }
    if one.ious:
        found["by_iou"] = {
            "iou": one.ious.ious.round(12),
            "ap": one.ious.ap,
            **_errors(one.ious, (*ERRORS, *SPECIAL)),
        }
    if one.crowding:
        bins = one.crowding
        found["by_crowding"] = {
            "crowding": list(bins.names),
            "low": bins.low,
            "high": bins.high,
            "objects": bins.objects,
            **{name: bins.fate[:, i] for i, name in enumerate(FATE_NAMES) if i != IGNORED},
            "duplicates": bins.duplicates,
            "recall": bins.recall,
            "miss_rate": bins.miss_rate,
            "duplicate_rate": bins.duplicate_rate,
        }
    if one.confusion:
        names = np.array(ground_truth.category_name, dtype=object)
        found["confusion"] = {
            "true": names[one.confusion.true],
            "predicted": names[one.confusion.predicted],
            "detections": one.confusion.count,
            "objects": one.confusion.objects,
            "delta_ap": one.confusion.cost,
        }
    return found


def _errors(part: ClassErrors | SizeErrors | IouErrors, errors: Sequence[str]) -> Columns:
    return {
        **{("delta_ap", name): part.delta_ap[name] for name in errors},
        **{("raw_delta_ap", name): part.raw[name] for name in errors},
        **{("count", name): part.count[name] for name in ERRORS},
    }


def where_entry(ground_truth: GroundTruth, one: Where) -> dict[str, Any]:
    """What the JSON document says of a run beside its breakdown; NaN and infinity become null."""
    entry: dict[str, Any] = {"fates": one.fates.count}
    for name, columns in _columns(ground_truth, one).items():
        values = {key: column.tolist() if isinstance(column, np.ndarray) else column for key, column in columns.items()}
        records: list[dict[str, Any]] = [{} for _ in next(iter(values.values()))]
        for key, column in values.items():
            for record, value in zip(records, column, strict=True):
                if isinstance(key, tuple):
                    record.setdefault(key[0], {})[key[1]] = value
                else:
                    record[key] = value
        entry[name] = records
    if one.ious:
        entry["mean_over_iou"] = {"ap": one.ious.mean_ap, "delta_ap": one.ious.mean_delta_ap}
    return entry


def where_frames(ground_truth: GroundTruth, found: Sequence[Where]) -> "dict[str, pd.DataFrame]":
    """A frame with a row a run and class, size ... for each part that was computed, by the name of its file."""
    import pandas as pd

    frames: dict[str, list[pd.DataFrame]] = {}
    for one in found:
        for name, columns in _columns(ground_truth, one).items():
            flat = {"_".join(key) if isinstance(key, tuple) else key: column for key, column in columns.items()}
            frames.setdefault(name, []).append(pd.DataFrame({"run": one.run.name, **flat}))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}


def objects_frame(ground_truth: GroundTruth, found: Sequence[Where], crowding: NDArray[np.float64]) -> "pd.DataFrame":
    """One row a run and object: its fate, by which detection, and how many errors point at it.

    ``row`` is the place in the prediction file of the detection that took the object or has the best claim to it;
    ``by_category``, ``score`` and ``iou`` are its; all are empty where nothing points at the object. ``crowding`` is
    the highest IoU with another object of its category.
    """
    import pandas as pd

    names = np.array(ground_truth.category_name, dtype=object)
    frames = []
    for one in found:
        dt, labels, by = one.run.detections, one.run.breakdown.labels, one.fates.by
        pointed = by >= 0

        def of_detection(values: NDArray[Any], kind: Any, pointed: Any = pointed, by: Any = by) -> "pd.Series":
            column = pd.Series([None] * len(by), dtype=kind)
            column[pointed] = values[by[pointed]]
            return column

        frames.append(
            pd.DataFrame(
                {
                    "run": one.run.name,
                    "annotation_id": ground_truth.annotation_id,
                    "image_id": np.array(ground_truth.image_id)[ground_truth.image],
                    "category": names[ground_truth.category],
                    "area": ground_truth.area_of(one.run.breakdown.settings.iou_type),
                    "crowding": crowding,
                    "fate": np.array(FATE_NAMES)[one.fates.fate],
                    "row": of_detection(dt.row, "Int64"),
                    "by_category": of_detection(names[dt.category], object),
                    "score": of_detection(dt.score, np.float64),
                    "iou": of_detection(labels.iou, np.float64),
                    **{
                        f"{name}_errors": np.bincount(labels.target[labels.error == error], minlength=len(by))
                        for name, error in (("cls", CLS), ("loc", LOC), ("dup", DUP))
                    },
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
