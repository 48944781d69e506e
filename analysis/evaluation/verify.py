"""The same numbers from independent programs: tidecv and hotcoco for the breakdown, pycocotools for the AP."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.coco import Detections, GroundTruth
from analysis.coco.federated import FREQUENCIES, Federated
from analysis.evaluation.analysis import Run
from analysis.evaluation.ap_evaluation import Evaluation
from analysis.evaluation.average_precision import MAX_DETS
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.selection import without_low_scores
from analysis.evaluation.settings import Settings
from analysis.evaluation.slices import SizeErrors
from analysis.evaluation.slices import by_size as errors_by_size
from analysis.evaluation.tide import break_down_matched, match_and_label

TIDE_NAMES = {
    "cls": "Cls", "loc": "Loc", "both": "Both", "dup": "Dupe", "bg": "Bkg", "miss": "Miss",
    "fp": "FalsePos", "fn": "FalseNeg",
}  # fmt: skip


def tidecv_evaluated(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> Any:
    """A TIDE of tidecv 1.0.1 after evaluation, fed record by record: its readers fail on some files.

    Raises:
        ImportError: tidecv is not installed.
        ZeroDivisionError: tidecv has nothing to average.
    """
    from tidecv import TIDE, Data

    masks = settings.iou_type == "segm"
    detections = without_low_scores(detections, settings.min_score)
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
    if ground_truth.federated:
        _ignore_unchecked(truth, ground_truth, ground_truth.federated)
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


def _ignore_unchecked(truth: Any, ground_truth: GroundTruth, rules: Federated) -> None:
    """A region that holds the whole image for each category that LVIS's rules leave out, as tidecv does."""
    every = np.arange(len(ground_truth.category_id))
    for image, identifier in enumerate(ground_truth.image_id):
        of_image = np.full(len(every), image)
        left_out = ~rules.is_checked(of_image, every) | rules.is_incomplete(of_image, every)
        for category in np.flatnonzero(left_out).tolist():
            truth.add_ignore_region(identifier, category)


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
    max_dets: Sequence[int] = MAX_DETS,
) -> dict[str, float]:
    """The numbers of pycocotools in points under the largest cap, an AR under each; with ``iou`` AP at it alone."""
    ious = None if iou is None else [iou]
    precision, recall = pycocotools_arrays(ground_truth, detections, iou_type=iou_type, ious=ious, max_dets=max_dets)
    # summarize() prints -1 for an AP without a cap of 100, and knows three caps only; this is what it averages.
    if iou is not None:
        return {"AP": max(_mean(precision[..., 0, -1]), 0.0)}
    ranges = {"s": 1, "m": 2, "l": 3}
    return {
        "AP": _mean(precision[..., 0, -1]),
        "AP50": _mean(precision[0, ..., 0, -1]),
        "AP75": _mean(precision[5, ..., 0, -1]),
        **{f"AP{name}": _mean(precision[..., area, -1]) for name, area in ranges.items()},
        **{f"AR{cap}": _mean(recall[..., 0, m]) for m, cap in enumerate(sorted(max_dets))},
        **{f"AR{name}": _mean(recall[..., area, -1]) for name, area in ranges.items()},
    }


def pycocotools_arrays(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou_type: str = "bbox",
    ious: Sequence[float] | None = None,
    sizes: Mapping[str, tuple[float, float]] | None = None,
    max_dets: Sequence[int] = MAX_DETS,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Arrays of pycocotools: precision [T, 101, K, A, M] and recall [T, K, A, M].

    IoUs, sizes and caps are its parameters ``iouThrs``, ``areaRng`` and ``maxDets``; none: its own.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class RespectsIgnore(COCOeval):  # type: ignore[misc]
        """COCOeval, whose _prepare overwrites `ignore` with `iscrowd`, made to ignore what we ignore."""

        def _prepare(self) -> None:
            super()._prepare()
            for of_one in self._gts.values():
                for one in of_one:
                    one["ignore"] = int(ground_truth.ignore[one["id"] - 1])

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
        evaluation = RespectsIgnore(truth, result, iou_type)
        evaluation.params.maxDets = sorted(max_dets)
        if ious is not None:
            evaluation.params.iouThrs = np.array(ious)
        if sizes is not None:
            evaluation.params.areaRng = [list(limits) for limits in sizes.values()]
            evaluation.params.areaRngLbl = list(sizes)
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = (evaluation.eval[name] for name in ("precision", "recall"))
    return precision, recall


def _mean(values: NDArray[Any]) -> float:
    """Over what is above -1, in points; -1 where there is nothing."""
    known = values[values > -1]
    return float(np.mean(known)) * 100 if known.size else -1.0


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


def compare_metrics(
    ground_truth: GroundTruth,
    detections: Detections,
    evaluation: Evaluation,
    settings: Settings,
    sizes: Mapping[str, tuple[float, float]],
) -> tuple[str, str]:
    """The peer, and the largest difference of the arrays of precision and recall to its, as a sentence."""
    kept = without_low_scores(detections, settings.min_score)
    if settings.federated:
        return "hotcoco", _compare_with_hotcoco(ground_truth, kept, evaluation, settings)
    precision, recall = pycocotools_arrays(
        ground_truth,
        kept,
        iou_type=settings.iou_type,
        ious=evaluation.ious.tolist(),
        sizes=sizes,
        max_dets=evaluation.caps,
    )
    ours, category = evaluation.precision[:, -1], evaluation.category  # [A, T, K, 101]
    theirs = precision[..., -1][:, :, category].transpose(3, 0, 2, 1)
    largest = np.abs(ours - theirs).max(initial=0.0)
    reached = recall[:, :, 0][:, category].transpose(2, 0, 1)  # [M, T, K]
    largest = 100 * max(largest, np.abs(evaluation.recall[0] - reached).max(initial=0.0))
    count = ours.size + reached.size
    return "pycocotools", f"pycocotools' {count:,} precisions and recalls: largest difference {largest:.1e} points"


def _compare_with_hotcoco(
    ground_truth: GroundTruth, detections: Detections, evaluation: Evaluation, settings: Settings
) -> str:
    try:
        peer = hotcoco_lvis(ground_truth, detections, settings)
    except ImportError:
        return "hotcoco, which knows LVIS's rules, is not installed: pip install 'detablate[verify]'"
    found = peer.get_results()
    theirs = {"AR300" if name == "AR@300" else name.replace("@300", ""): 100 * found[name] for name in found}
    ours = {name: value for name, value in evaluation.names.items() if theirs.get(name, -100.0) >= 0}
    largest = max((abs(ours[name] - theirs[name]) for name in ours), default=0.0)
    return f"hotcoco's {len(ours)} LVIS numbers: largest difference {largest:.1e} points"


def hotcoco_lvis(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> Any:
    """Hotcoco's evaluation of a run under LVIS's rules, finished.

    Raises:
        ImportError: hotcoco is not installed.
    """
    from hotcoco import COCO, COCOeval

    rules = ground_truth.federated
    assert rules is not None
    masks, ids, categories = settings.iou_type == "segm", ground_truth.image_id, ground_truth.category_id

    def listed(keys: NDArray[Any], image: int) -> list[int]:
        low, high = np.searchsorted(keys, [image * len(categories), (image + 1) * len(categories)])
        return [categories[key - image * len(categories)] for key in keys[low:high].tolist()]

    truth = COCO(
        {
            "images": [
                {
                    "id": one,
                    "height": int(height),
                    "width": int(width),
                    "neg_category_ids": listed(rules.checked, place),
                    "not_exhaustive_category_ids": listed(rules.incomplete, place),
                }
                for place, (one, (height, width)) in enumerate(zip(ids, ground_truth.image_size, strict=True))
            ],
            "categories": [
                {"id": one, "name": name, "frequency": FREQUENCIES[letter]}
                for one, name, letter in zip(
                    categories, ground_truth.category_name, rules.frequency.tolist(), strict=True
                )
            ],
            "annotations": _annotations(
                ground_truth,
                ground_truth,
                masks,
                area=ground_truth.area_of(settings.iou_type),
                iscrowd=np.zeros(len(ground_truth), dtype=int),
                ignore=ground_truth.ignore.astype(int),
            ),
        }
    )
    records = [
        {key: value for key, value in one.items() if key != "id"}
        for one in _annotations(ground_truth, detections, masks, score=detections.score)
    ]
    evaluation = COCOeval(truth, truth.loadRes(records), settings.iou_type, lvis_style=True)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.run()
    return evaluation


def compare_breakdown(ground_truth: GroundTruth, run: Run, by_size: bool = False) -> list[tuple[str, str]]:
    """Pairs (check, result): the breakdown in the ``tidecv`` convention against tidecv, the AP against pycocotools.

    ``by_size``: also COCO's three sizes against tidecv's qualifiers.
    """
    settings, dt = run.breakdown.settings, run.detections
    coco, tidecv = (match_and_label(ground_truth, dt, replace(settings, convention=one)) for one in ("coco", "tidecv"))
    ap = coco.average_precision(coco.base).mean
    if settings.federated:
        checks = [("lvis", "pycocotools does not know LVIS's rules; analyze ap --verify compares with hotcoco")]
    else:
        checks = [("pycocotools", f"AP differs by {abs(ap - _pycocotools_ap(ground_truth, dt, settings)):.1e} points")]
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


def _pycocotools_ap(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> float:
    return pycocotools_metrics(
        ground_truth,
        without_low_scores(detections, settings.min_score),
        iou_type=settings.iou_type,
        iou=settings.iou,
        max_dets=[settings.max_dets],
    )["AP"]


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
