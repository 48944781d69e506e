"""The evaluation of a run's predictions: COCO's metrics and the six types of error, of boxes and masks, in one file."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from ablate.config.foreign import AnyConfig
from ablate.config.schema import RunConfig
from ablate.data.sources import annotations_of
from ablate.runs.folder import SCHEMA, RunFolder, read_json, write_json
from analysis import Detections, GroundTruth, break_down, coco_metrics, read_detections, read_ground_truth
from analysis.evaluation.average_precision import MAX_DETS
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.settings import Settings

IOU = 0.5
COCO_CAP = MAX_DETS[-1]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # that an evaluation must hold to be shown
Record = dict[str, Any]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Boxes or masks of all validation images, in points (0 to 100)."""

    metrics: dict[str, float]  # COCO's, -1 where there is no object to measure
    ap: float  # AP at the IoU of the breakdown
    delta_ap: dict[str, float]  # AP to gain by fixing each type of error alone: cls, loc, both, dup, bg, miss, fp, fn
    raw_delta_ap: dict[str, float]
    count: dict[str, int]

    def __post_init__(self) -> None:
        for name, values, needed in (
            ("metrics", self.metrics, METRICS),
            ("delta_ap", self.delta_ap, ERROR_TYPES),
            ("raw_delta_ap", self.raw_delta_ap, ERROR_TYPES),
        ):
            missing = [key for key in needed if key not in values]
            if missing:
                raise ValueError(f"{name} lacks {missing[0]}")


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """``evaluation.json``."""

    detections: int
    images: int
    objects: int
    iou: float  # of the breakdown
    convention: str
    box: Measured
    mask: Measured | None
    max_dets: int = COCO_CAP  # detections of an image and category that are measured at most
    notes: tuple[str, ...] = ()  # what looks wrong in predictions that were not made here
    schema: int = SCHEMA


def evaluate(folder: RunFolder) -> Evaluation:
    """Analyse `predictions.json` and write `evaluation.json`."""
    config = folder.read_any_config()
    truth = read_ground_truth(annotations_of(config, folder.workspace))
    found = read_detections(folder.predictions, truth)
    cap = cap_of(config)

    def measure(iou_type: Literal["bbox", "segm"]) -> Measured:
        errors = break_down(truth, found, iou=IOU, iou_type=iou_type, max_dets=cap)
        return Measured(
            metrics=coco_metrics(truth, found, iou_type=iou_type, max_dets=Settings(max_dets=cap).caps),
            ap=errors.ap,
            delta_ap=errors.delta_ap,
            raw_delta_ap=errors.raw,
            count=errors.count,
        )

    evaluation = Evaluation(
        detections=len(found),
        images=len(truth.image_id),
        objects=len(truth),
        iou=IOU,
        convention="coco",
        max_dets=cap,
        box=measure("bbox"),
        mask=measure("segm") if measures_masks(config, found) and truth.masks.present.any() else None,
        notes=() if isinstance(config, RunConfig) else (*found.warnings, *_coverage(found, truth)),
    )
    write_json(folder.evaluation, evaluation)
    return evaluation


def cap_of(config: AnyConfig) -> int:
    """The cap of the evaluation: COCO's, or as many as the detector may give for an image where that is more."""
    return max(COCO_CAP, config.evaluate.max_detections) if isinstance(config, RunConfig) else COCO_CAP


def measures_masks(config: AnyConfig, found: Detections) -> bool:
    """Whether a run predicts masks: as its config says, or else as its predictions show."""
    return config.model.detector.masks if isinstance(config, RunConfig) else bool(found.masks.present.any())


def _coverage(found: Detections, truth: GroundTruth) -> list[str]:
    """A sentence where most images with objects have no detection."""
    wanted = {*truth.image[~truth.crowd].tolist()}
    covered = len(wanted & {*found.image.tolist()})
    if 2 * covered >= len(wanted):
        return []
    return [
        f"only {covered:,} of the {len(wanted):,} images with objects have a detection; the objects in the other "
        "images count as missed"
    ]


def box_ap(records: list[Record], truth: GroundTruth, max_dets: int = COCO_CAP) -> dict[str, float]:
    """AP and AP50 of boxes, in points, for the curves.

    Args:
        records: COCO results.
        truth: of the validation images.
        max_dets: the cap of the evaluation.
    """
    metrics = coco_metrics(truth, Detections.from_records(records, truth), max_dets=Settings(max_dets=max_dets).caps)
    return {f"box_{name}": metrics[name] for name in ("AP", "AP50")}


def read_evaluation(path: Path) -> Evaluation:
    """A file that `evaluate` wrote."""
    return read_json(path, Evaluation)
