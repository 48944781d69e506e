"""The same numbers from three other programs, each fed from the plain JSON, past the readers under test."""

import contextlib
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evaluation.tide import Breakdown

ERRORS = ("cls", "loc", "both", "dup", "bg", "miss")
TIDECV = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg")
HOTCOCO = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class Numbers:
    """A breakdown in points, keyed like ours."""

    ap: float
    delta_ap: dict[str, float]
    count: dict[str, int]


def ours(result: Breakdown) -> Numbers:
    return Numbers(result.ap, result.delta_ap, result.count)


def largest_difference(a: Numbers, b: Numbers) -> float:
    assert a.delta_ap.keys() == b.delta_ap.keys()
    return max(abs(a.ap - b.ap), *(abs(a.delta_ap[name] - b.delta_ap[name]) for name in a.delta_ap))


def load(path: Path) -> Any:
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


def plain(path: Path, folder: Path) -> Path:
    """The file itself, or an unpacked copy in ``folder`` where it is gzipped (the peers read plain JSON only)."""
    if path.suffix != ".gz":
        return path
    copy = folder / path.stem
    if not copy.exists():
        copy.write_bytes(gzip.decompress(path.read_bytes()))
    return copy


def as_rle(segmentation: Any, height: int, width: int) -> Any:
    """A segmentation as compressed RLE, as pycocotools' annToRLE makes it."""
    from pycocotools import mask

    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask.frPyObjects(segmentation, height, width)
    return segmentation


def tidecv_tide(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    iou_type: str = "bbox",
    iou: float = 0.5,
    background_iou: float = 0.1,
    max_dets: int = 100,
) -> Any:
    """tidecv's TIDE after evaluation (its one run is called "dt"), fed record by record in the order of the file."""
    from pycocotools import mask
    from tidecv import TIDE, Data

    segm = iou_type == "segm"
    size = {image["id"]: (image.get("height"), image.get("width")) for image in truth["images"]}
    gt, dt = Data("gt", max_dets=max_dets), Data("dt", max_dets=max_dets)
    for image in truth["images"]:
        gt.add_image(image["id"], "image")
    for a in truth["annotations"]:
        add = gt.add_ignore_region if a.get("iscrowd") else gt.add_ground_truth
        rle = as_rle(a["segmentation"], *size[a["image_id"]]) if segm else None
        add(a["image_id"], a["category_id"], a["bbox"], rle)
    for r in results:
        rle = as_rle(r["segmentation"], *size[r["image_id"]]) if segm else None
        box = r["bbox"] if "bbox" in r else mask.toBbox(r["segmentation"]).tolist()
        dt.add_detection(r["image_id"], r["category_id"], r["score"], box, rle)
    tide = TIDE(pos_threshold=iou, background_threshold=background_iou, mode=TIDE.MASK if segm else TIDE.BOX)
    tide.evaluate(gt, dt, name="dt")
    return tide


def tidecv_numbers(truth: dict[str, Any], results: list[dict[str, Any]], **settings: Any) -> Numbers:
    """tidecv's AP, deltas and counts; settings as of :func:`tidecv_tide`."""
    tide = tidecv_tide(truth, results, **settings)
    run = tide.runs["dt"]
    errors = tide.get_all_errors()
    found = {**errors["main"]["dt"], **errors["special"]["dt"]}
    counts = {error.short_name: count for error, count in run.count_errors().items()}
    names = (*ERRORS, "fp", "fn")
    return Numbers(
        run.ap,
        {name: found[theirs] for name, theirs in zip(names, TIDECV, strict=True)},
        {name: counts[theirs] for name, theirs in zip(ERRORS, TIDECV[:6], strict=True)},
    )


def _evaluate(truth: Path, results: Path, iou_type: str, respect_ignore: bool = False, **parameters: Any) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class RespectsIgnore(COCOeval):  # type: ignore[misc]
        """COCOeval, whose _prepare overwrites `ignore` with `iscrowd`, made to keep it."""

        def _prepare(self) -> None:
            marked = {a["id"] for a in self.cocoGt.dataset["annotations"] if a.get("ignore")}
            super()._prepare()
            for annotations in self._gts.values():
                for a in annotations:
                    a["ignore"] = int(a["id"] in marked or bool(a.get("iscrowd")))

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        if load(results):
            dt = gt.loadRes(str(results))
        else:  # loadRes fails on an empty list
            dt = COCO()
            dt.dataset = {"images": gt.dataset["images"], "categories": gt.dataset["categories"], "annotations": []}
            dt.createIndex()
        evaluation = (RespectsIgnore if respect_ignore else COCOeval)(gt, dt, iou_type)
        for name, value in parameters.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
        if not parameters:
            evaluation.summarize()
    return evaluation


def pycocotools_metrics(
    truth: Path, results: Path, *, iou_type: str = "bbox", respect_ignore: bool = False
) -> dict[str, float]:
    """The 12 numbers in points, -1 where undefined, from the files themselves."""
    stats = _evaluate(truth, results, iou_type, respect_ignore).stats
    return {name: float(v) * 100 if v > -1 else -1.0 for name, v in zip(METRICS, stats, strict=True)}


def pycocotools_ap(truth: Path, results: Path, *, iou: float, max_dets: int = 100, iou_type: str = "bbox") -> float:
    """The AP in points at one threshold and cap, from the files themselves; 0 where nothing can be averaged."""
    evaluation = _evaluate(truth, results, iou_type, iouThrs=np.array([iou]), maxDets=[max_dets])
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    known = precision[precision > -1]
    return float(np.mean(known)) * 100 if known.size else 0.0


def pycocotools_class_ap(truth: Path, results: Path, *, iou: float, iou_type: str = "bbox") -> list[float]:
    """The AP in points of each category by ascending id, NaN where undefined, from the files themselves."""
    precision = _evaluate(truth, results, iou_type, iouThrs=np.array([iou]), maxDets=[100]).eval["precision"]
    by_class = precision[0, :, :, 0, 0]
    return np.where(by_class[0] > -1, by_class.mean(axis=0) * 100, np.nan).tolist()


def hotcoco_numbers(
    truth: Path, results: Path, *, iou_type: str = "bbox", iou: float | None = None, background_iou: float | None = None
) -> Numbers:
    """hotcoco's breakdown in points, from the files themselves."""
    from hotcoco import COCO, COCOeval

    gt = COCO(str(truth))
    evaluation = COCOeval(gt, gt.loadRes(str(results)), iou_type)
    evaluation.evaluate()
    thresholds = {}
    if iou is not None:
        thresholds["pos_thr"] = iou
    if background_iou is not None:
        thresholds["bg_thr"] = background_iou
    found = evaluation.tide_errors(**thresholds)
    names = (*ERRORS, "fp", "fn")
    return Numbers(
        found["ap_base"] * 100,
        {name: found["delta_ap"][theirs] * 100 for name, theirs in zip(names, HOTCOCO, strict=True)},
        {name: found["counts"][theirs] for name, theirs in zip(ERRORS, HOTCOCO[:6], strict=True)},
    )
