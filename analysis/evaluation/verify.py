"""The same numbers from independent programs: tidecv and hotcoco for the breakdown, pycocotools for the AP."""

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.coco import Detections, GroundTruth
from analysis.evaluation.analysis import Run
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import Settings
from analysis.evaluation.slices import SizeErrors
from analysis.evaluation.slices import by_size as errors_by_size
from analysis.evaluation.tide import break_down_matched, match_and_label

TIDE_NAMES = {
    "cls": "Cls", "loc": "Loc", "both": "Both", "dup": "Dupe", "bg": "Bkg", "miss": "Miss",
    "fp": "FalsePos", "fn": "FalseNeg",
}  # fmt: skip
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def tidecv_evaluated(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> Any:
    """A TIDE of tidecv 1.0.1 after evaluation, fed record by record: its readers fail on some files.

    Raises:
        ImportError: tidecv is not installed.
        ZeroDivisionError: tidecv has nothing to average.
    """
    from tidecv import TIDE, Data

    masks = settings.iou_type == "segm"
    truth, result = (Data(name, max_dets=settings.max_dets) for name in ("ground truth", "detections"))
    ids = ground_truth.image_id
    for image in np.argsort(ground_truth.image_rank).tolist():
        truth.add_image(ids[image], str(ids[image]))
    for row in range(len(ground_truth)):
        add = truth.add_ignore_region if ground_truth.ignore[row] else truth.add_ground_truth
        add(
            ids[ground_truth.image[row]],
            int(ground_truth.category[row]),
            ground_truth.box[row].tolist(),
            ground_truth.masks.rle(row) if masks else None,
        )
    for row in range(len(detections)):
        result.add_detection(
            ids[detections.image[row]],
            int(detections.category[row]),
            float(detections.score[row]),
            detections.box[row].tolist(),
            detections.masks.rle(row) if masks else None,
        )
    tide = TIDE(settings.iou, settings.background_iou, mode=TIDE.MASK if masks else TIDE.BOX)
    tide.evaluate(truth, result, name="detections")
    return tide


def tidecv_breakdown(tide: Any) -> tuple[float, dict[str, float], dict[str, int]]:
    """AP, the eight delta-APs and the six counts.

    Raises:
        ZeroDivisionError: tidecv has nothing to average.
    """
    run, errors = tide.runs["detections"], tide.get_all_errors()
    found = errors["main"]["detections"] | errors["special"]["detections"]
    counts = {error.short_name: count for error, count in run.count_errors().items()}
    return (
        float(run.ap),
        {name: float(found[theirs]) for name, theirs in TIDE_NAMES.items()},
        {name: counts[theirs] for name, theirs in TIDE_NAMES.items() if theirs in counts},
    )


def pycocotools_metrics(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: str = "bbox",
    iou: float | None = None,
    max_dets: int = 100,
) -> dict[str, float]:
    """The 12 numbers of pycocotools in points, or with ``iou`` the AP at that threshold alone (key ``AP``)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    masks = iou_type == "segm"
    truth, result = COCO(), COCO()
    truth.dataset = {
        "images": [
            {"id": image, "height": int(height), "width": int(width)}
            for image, (height, width) in zip(ground_truth.image_id, ground_truth.image_size, strict=True)
        ],
        "categories": [{"id": category} for category in ground_truth.category_id],
        "annotations": _annotations(
            ground_truth,
            ground_truth,
            masks,
            area=ground_truth.area_of(iou_type),
            iscrowd=ground_truth.crowd.astype(int),
        ),
    }
    result.dataset = truth.dataset | {
        "annotations": _annotations(
            ground_truth,
            detections,
            masks,
            area=detections.area,
            score=detections.score,
            iscrowd=np.zeros(len(detections), dtype=int),
        )
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        result.createIndex()
        evaluation = COCOeval(truth, result, iou_type)
        if iou is not None:
            evaluation.params.iouThrs, evaluation.params.maxDets = np.array([iou]), [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
        if iou is not None:
            precision = evaluation.eval["precision"][:, :, :, 0, 0]
            known = precision[precision > -1]
            return {"AP": float(np.mean(known)) * 100 if known.size else 0.0}
        evaluation.summarize()
    return {
        name: float(value) * 100 if value > -1 else -1.0 for name, value in zip(METRICS, evaluation.stats, strict=True)
    }


def _annotations(
    ground_truth: GroundTruth, of: GroundTruth | Detections, masks: bool, **columns: NDArray[Any]
) -> list[dict[str, Any]]:
    """Objects or detections as the records that pycocotools works on, with more columns by name."""
    return [
        {
            "id": row + 1,  # never 0, which COCOeval takes for "not matched"
            "image_id": ground_truth.image_id[of.image[row]],
            "category_id": ground_truth.category_id[of.category[row]],
            "bbox": of.box[row].tolist(),
            **{name: column[row].item() for name, column in columns.items()},
            **({"segmentation": of.masks.rle(row)} if masks else {}),
        }
        for row in range(len(of))
    ]


def compare_metrics(ground_truth: GroundTruth, detections: Detections, metrics: dict[str, float], iou_type: str) -> str:
    """The largest difference of the 12 numbers to pycocotools', as a sentence."""
    theirs = pycocotools_metrics(ground_truth, detections, iou_type=iou_type)
    name = max(metrics, key=lambda key: abs(metrics[key] - theirs[key]))
    return f"pycocotools' 12 numbers: largest difference {abs(metrics[name] - theirs[name]):.1e} points ({name})"


def compare_breakdown(ground_truth: GroundTruth, run: Run, by_size: bool = False) -> list[tuple[str, str]]:
    """Pairs (check, result): the breakdown in the ``tidecv`` convention against tidecv, the AP against pycocotools.

    ``by_size``: also COCO's three sizes against tidecv's qualifiers.
    """
    settings, dt = run.breakdown.settings, run.detections
    theirs = pycocotools_metrics(
        ground_truth, dt, iou_type=settings.iou_type, iou=settings.iou, max_dets=settings.max_dets
    )["AP"]
    coco, tidecv = (match_and_label(ground_truth, dt, replace(settings, convention=one)) for one in ("coco", "tidecv"))
    checks = [("pycocotools", f"AP differs by {abs(coco.average_precision(coco.base).mean - theirs):.1e} points")]
    try:
        tide = tidecv_evaluated(ground_truth, dt, settings)
        ap, delta, count = tidecv_breakdown(tide)
    except ImportError:
        return [*checks, ("tidecv", "not installed: pip install 'detablate[verify]'")]
    except ZeroDivisionError:
        return [*checks, ("tidecv", "divides by zero on this input, so there is nothing to compare")]
    ours = break_down_matched(tidecv, dt)
    worst = max(abs(ap - ours.ap), *(abs(delta[name] - ours.delta_ap[name]) for name in delta))
    counts = "equal" if count == ours.count else f"different: {count} there, {ours.count} here"
    checks.append(("tidecv", f"AP and deltas differ by at most {worst:.1e} points, counts are {counts}"))
    if by_size:
        checks.append(_compare_sizes(errors_by_size(ground_truth, dt, tidecv), tide))
    return checks


def _compare_sizes(ours: SizeErrors, tide: Any) -> tuple[str, str]:
    from tidecv.errors.qualifiers import AREA

    fixed = tide.runs["detections"].fix_main_errors
    try:
        differences = [
            abs(theirs - ours.delta_ap[name][place])
            for place, qualifier in enumerate(AREA)
            for name, theirs in zip(ERRORS, fixed(qual=qualifier).values(), strict=True)
        ]
    except ZeroDivisionError:
        return "tidecv by size", "divides by zero on this input, so there is nothing to compare"
    return "tidecv by size", f"deltas of small, medium and large differ by at most {max(differences):.1e} points"
