"""Evaluation of a part of the files: with all categories as one, or without detections of low score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import Ints
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.matched_run import LOW_SCORE, MatchedRun
from analysis.evaluation.tide import match_and_label
from analysis.exceptions import BadInput

ALL_CATEGORIES = "any category"


def class_agnostic(
    ground_truth: GroundTruth, runs: Sequence[tuple[str, Detections]], convention: str = "coco"
) -> tuple[GroundTruth, list[tuple[str, Detections]]]:
    """Ground truth and named detections with all categories taken as one, as pycocotools' ``useCats=0`` does.

    In the ``coco`` convention rows come out by category and keep their order within one, in which pycocotools then
    settles ties; in ``tidecv`` they stay in the order of the file.

    Raises:
        BadInput: LVIS's rules hold, which say for each category where it counts.
    """
    if ground_truth.federated:
        raise BadInput(
            f"{ground_truth.path}: under LVIS's rules each category counts only in some images, so categories cannot "
            "be treated as one; leave out --class-agnostic"
        )

    def order(of: GroundTruth | Detections) -> Ints:
        return np.argsort(of.category, kind="stable") if convention == "coco" else np.arange(len(of))

    by_category = order(ground_truth)
    merged = replace(
        ground_truth,
        **{
            name: getattr(ground_truth, name)[by_category]
            for name in ("box", "image", "area", "crowd", "marked", "ignore", "annotation_id")
        },
        category=np.zeros(len(ground_truth), dtype=np.int64),
        masks=ground_truth.masks.of_rows(by_category),
        category_id=[1],
        category_name=[ALL_CATEGORIES],
    )
    ordered = [(name, some_rows(one, order(one))) for name, one in runs]
    return merged, [(name, replace(one, category=np.zeros(len(one), dtype=np.int64))) for name, one in ordered]


def is_class_agnostic(ground_truth: GroundTruth) -> bool:
    """Whether the categories of this ground truth were taken as one."""
    return ground_truth.category_name == [ALL_CATEGORIES]


def without_low_scores(detections: Detections, min_score: float | None) -> Detections:
    """The detections with a score of ``min_score`` or more; none: all."""
    return detections if min_score is None else some_rows(detections, np.flatnonzero(detections.score >= min_score))


@dataclass(frozen=True)
class LowScores:
    """The detections that are left out for their score, and what that does to the AP."""

    detections: int
    ap: float  # without them, in points
    ap_with: float
    missed_for_the_score: int | None  # objects that are missed without them alone; None: not counted


def low_scores(ground_truth: GroundTruth, detections: Detections, run: MatchedRun) -> LowScores | None:
    """The detections below the smallest score, and their effect, for which the run is matched again with them."""
    if run.settings.min_score is None:
        return None
    whole = match_and_label(ground_truth, detections, replace(run.settings, min_score=None))
    ap, ap_with = (one.average_precision(one.base).mean for one in (run, whole))
    missed = int((run.labels.missed & ~whole.labels.missed).sum())
    return LowScores(int((run.labels.error == LOW_SCORE).sum()), ap, ap_with, missed)


def some_rows(detections: Detections, rows: Ints) -> Detections:
    """Some of the detections, by their rows i64, in that order."""
    columns = {name: getattr(detections, name)[rows] for name in ("box", "score", "category", "image", "row")}
    return replace(detections, **columns, masks=detections.masks.of_rows(rows))
