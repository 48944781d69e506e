"""TIDE's error analysis (arXiv 2008.08115) in two exact conventions: matching, labelling, and what each error costs.

``docs/conventions.md`` says where the conventions differ. The fix of each type of error is a rule of its record in
:mod:`analysis.evaluation.error_types`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints, blocks, order_by_index, order_descending
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.average_precision import rank
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.matched_run import (
    BG,
    BOTH,
    CLS,
    DUP,
    IGNORED,
    LOC,
    LOW_SCORE,
    OVER_CAP,
    TRUE_POSITIVE,
    UNCHECKED,
    Labels,
    MatchedRun,
)
from analysis.evaluation.matching import (
    AREA_RANGES,
    PairedDetections,
    Pairs,
    best_objects,
    candidates,
    ignored_by_size,
    match_coco,
    match_greedily,
    pair_detections,
)
from analysis.evaluation.settings import Settings
from analysis.presentation import Presentable


def match_and_label(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> MatchedRun:
    """Match and label the detections of a run.

    Raises:
        BadInput: masks are asked for and a record has none.
    """
    return next(match_and_label_at(ground_truth, detections, [settings]))


def match_and_label_at(
    ground_truth: GroundTruth,
    detections: Detections,
    each: Sequence[Settings],
    paired: PairedDetections | None = None,
) -> Iterator[MatchedRun]:
    """A matched run for each of several settings that differ in their IoUs alone, from pairs that are built once.

    Args:
        ground_truth: the objects.
        detections: the detections.
        each: the settings.
        paired: of the two, in the convention of the settings; they are paired here where there are none.

    Raises:
        BadInput: masks are asked for and a record has none.
    """
    if not each:
        return
    coco = each[0].convention == "coco"
    paired = paired or pair_detections(ground_truth, detections, each[0])
    row, categories = paired.row, len(ground_truth.category_id)
    category, image, score = detections.category[row], None, None
    ignored, excused = ground_truth.ignore, paired.excused
    if coco:
        ignored, too_large = ignored_by_size(ground_truth, detections.area[row], each[0].iou_type, AREA_RANGES["all"])
        excused = excused | too_large
    ranking = rank(paired.by_score, category, categories)
    lowest = -np.inf if each[0].min_score is None else each[0].min_score
    unmeasured = np.where(detections.score < lowest, LOW_SCORE, OVER_CAP).astype(np.int8)
    unmeasured[paired.unchecked] = UNCHECKED
    counts, same = ~ignored[paired.pairs.truth], paired.same_category
    own, others = same & counts, ~same & counts
    best_own, best_other = (best_objects(paired.pairs, kind, len(row), len(ignored)) for kind in (own, others))
    nearest = _Nearest(best_own, best_other, paired.pairs.at(np.flatnonzero(own)))
    matches = _matches_coco if coco else _matches_tidecv
    found = matches(ground_truth, paired, [settings.iou for settings in each], ignored, excused)
    for settings, (taken, left_out) in zip(each, found, strict=True):
        by_score_fixed, ranking_fixed = paired.by_score, ranking
        if not coco:
            by_score_fixed = _wrong_before_right(ground_truth, detections, row, taken >= 0)
            ranking_fixed = rank(by_score_fixed, category, categories)
        labels = _label(paired, nearest, ignored, taken, left_out, settings, unmeasured)
        if image is None or score is None:  # after the first labels, which take the most memory
            image, score = detections.image[row], detections.score[row]
        yield MatchedRun(
            ground_truth=ground_truth,
            settings=settings,
            labels=labels,
            categories=categories,
            row=row,
            image=image,
            category=category,
            score=score,
            object_category=ground_truth.category,
            gt_valid=~ignored,
            ranking=ranking,
            by_score_fixed=by_score_fixed,
            ranking_fixed=ranking_fixed,
        )


_Matches = Iterator[tuple[Ints, Bools]]  # by position: the object taken or -1, and what is left out


def _matches_coco(
    ground_truth: GroundTruth, paired: PairedDetections, ious: Sequence[float], ignored: Bools, excused: Bools
) -> _Matches:
    found = candidates(paired, min(*ious, 1 - 1e-10), prefer_last=True)
    for iou in ious:
        yield match_coco(found, iou, ignored, ground_truth.crowd, excused)


def _matches_tidecv(
    ground_truth: GroundTruth, paired: PairedDetections, ious: Sequence[float], ignored: Bools, excused: Bools
) -> _Matches:
    pairs = paired.pairs
    on_ignored = ignored[pairs.truth]
    found = candidates(paired, min(ious), prefer_last=False, usable=~on_ignored)
    for iou in ious:
        taken = match_greedily(found, found.iou >= iou, len(paired.row), len(ground_truth))
        # A region that holds the whole image is left out as one of IoU 1 is.
        left_out = excused & (iou < 1)
        # Strictly above the threshold, unlike COCOeval.
        left_out[pairs.detection[paired.same_category & on_ignored & (pairs.iou > iou)]] = True
        yield taken, left_out & (taken < 0)


def _wrong_before_right(ground_truth: GroundTruth, detections: Detections, row: Ints, right: Bools) -> Ints:
    """The positions i64[n] by descending score, ties as in tidecv's fixed curves.

    Those are filled with the errors first, then the true positives, each in the order found (by image in the order of
    the file, then by score), and only then sorted by score: ties come out wrong before right.
    """
    images = ground_truth.image_rank
    order = order_by_index(images[detections.image[row]], len(images))
    filled = np.concatenate([order[~right[order]], order[right[order]]])
    return filled[order_descending(detections.score[row][filled])]


@dataclass(frozen=True, eq=False)
class _Nearest:
    """What each detection overlaps of the objects that count, whatever the threshold."""

    same: tuple[Floats, Ints]  # [n] highest IoU with its own category, and the object: 0 and -1 for none
    other: tuple[Floats, Ints]  # [n] likewise with another category
    pairs: Pairs  # all of its own category


def _label(
    paired: PairedDetections, nearest: _Nearest, ignored: Bools, taken: Ints, left_out: Bools, settings: Settings,
    unmeasured: NDArray[np.int8],
) -> Labels:  # fmt: skip
    """Give every unmatched detection the first label that holds: loc, cls, dup, bg, both (TIDE, section 2.2).

    ``unmeasured`` i8[N] are the labels of rows of the file that have no position.
    """
    count = len(paired.row)
    matched = np.bincount(taken[taken >= 0], minlength=len(ignored)) > 0
    labelled = (taken < 0) & ~left_out if settings.convention == "coco" else taken < 0
    error, target, overlap = _nearest_label(nearest, matched, labelled, settings)
    claiming = np.flatnonzero(labelled & ((error == LOC) | (error == CLS)))
    claiming = claiming[~matched[target[claiming]]]
    winner = np.full(len(ignored), -1, dtype=np.int64)
    winner[target[claiming[::-1]]] = claiming[::-1]  # positions run by descending score: the first one stays
    recovers_gt = np.zeros(count, dtype=np.bool_)
    recovers_gt[winner[winner >= 0]] = True

    error[~labelled] = IGNORED
    hit, own = taken >= 0, nearest.pairs
    error[hit], target[hit] = TRUE_POSITIVE, taken[hit]
    of_match = np.flatnonzero(taken[own.detection] == own.truth)
    overlap[own.detection[of_match]] = own.iou[of_match]

    def by_row(elsewhere: float | NDArray[np.int8], values: NDArray[Any]) -> NDArray[Any]:
        whole = np.full(len(unmeasured), elsewhere, dtype=values.dtype)
        whole[paired.row] = values
        return whole

    return Labels(
        error=by_row(unmeasured, error),
        ignored=by_row(False, left_out),
        iou=by_row(np.nan, overlap),
        target=by_row(-1, target),
        recovers_gt=by_row(False, recovers_gt),
        missed=~ignored & ~matched & (winner < 0),
        matched=matched,
    )


def _nearest_label(
    nearest: _Nearest, matched: Bools, labelled: Bools, settings: Settings
) -> tuple[NDArray[np.int8], Ints, Floats]:
    """By position the label i8[n], the object i64[n] that it is about (-1: none), and the IoU f64[n] with that."""
    own = nearest.pairs
    used = (own.iou >= settings.iou) & matched[own.truth] & labelled[own.detection]
    best_used, used_target = best_objects(own, used, len(labelled), len(matched))

    t_f, t_b = settings.iou, settings.background_iou
    error = np.empty(len(labelled), dtype=np.int8)
    target = np.full(len(labelled), -1, dtype=np.int64)
    overlap = np.empty(len(labelled))
    for block in blocks(len(labelled)):
        best_same, best_other = (
            np.where(labelled[block], best[block], 0.0) for best in (nearest.same[0], nearest.other[0])
        )
        overlap[block] = np.maximum(best_same, best_other)
        error[block] = np.where(overlap[block] <= t_b, BG, BOTH)
        for label, holds, best, aim in (  # the last one that holds stays
            (DUP, best_used[block] >= t_f, best_used[block], used_target),
            (CLS, best_other >= t_f, best_other, nearest.other[1]),
            (LOC, (best_same >= t_b) & (best_same <= t_f), best_same, nearest.same[1]),
        ):
            rows = np.flatnonzero(holds)
            for values, new in ((error, label), (target, aim[block][rows]), (overlap, best[rows])):
                values[block][rows] = new
    return error, target, overlap


@dataclass(frozen=True, eq=False, repr=False)
class Breakdown(Presentable):
    """The breakdown of the AP by error type, in points (0..100); shown by error, class or detection.

    ``raw`` are the differences of AP if one type of error is fixed; ``delta_ap`` are the values to show: the ``tidecv``
    convention clamps them at 0 for the six main types.
    """

    settings: Settings
    ap: float  # of the run as it is, in points
    raw: dict[str, float]  # points by cls, loc, both, dup, bg, miss, fp, fn
    category_ap: Floats  # [K] NaN: not in the mean (see CurveAP)
    category_raw: dict[str, Floats]  # [K] as `raw`, of each category
    count: dict[str, int]  # cls, loc, both, dup, bg, miss
    true_positives: int
    positives: int  # objects that count
    labels: Labels
    never_detected: tuple[int, ...]  # category indices with objects and without any detection
    ground_truth: GroundTruth
    detections: Detections

    @property
    def delta_ap(self) -> dict[str, float]:
        """Points of AP to gain by fixing each type of error alone."""
        clamped = ERRORS if self.settings.convention == "tidecv" else ()
        return {name: max(value, 0.0) if name in clamped else value for name, value in self.raw.items()}


def break_down(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou: float = 0.5,
    background_iou: float = 0.1,
    max_dets: int | None = None,
    convention: str = "coco",
    iou_type: str = "bbox",
) -> Breakdown:
    """Label every detection and compute the cost of each type of error.

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        iou: lowest IoU of a correct detection; 0 < ``background_iou`` <= ``iou`` <= 1.
        background_iou: highest IoU of a detection on background.
        max_dets: highest number of detections per image (``coco`` convention: per image and category); None: 100, or
            300 per image for LVIS.
        convention: ``coco`` (the AP is pycocotools') or ``tidecv`` (every number is tidecv 1.0.1's).
        iou_type: ``bbox`` or ``segm``.

    Raises:
        BadInput: a setting is out of range, or masks are compared and a record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> result = break_down(gt, read_detections(predictions["confused-classes"], gt))
    >>> max(result.delta_ap, key=result.delta_ap.get), result.count["cls"] > result.count["dup"]
    ('cls', True)
    """
    settings = Settings.on(
        ground_truth,
        max_dets=max_dets,
        iou_type=iou_type,
        iou=iou,
        background_iou=background_iou,
        convention=convention,
    )
    matched_run = match_and_label(ground_truth, detections, settings)
    return break_down_matched(matched_run, detections)


def break_down_matched(matched_run: MatchedRun, detections: Detections) -> Breakdown:
    """The AP of the run as it is, and what each type of error costs."""
    base = matched_run.average_precision(matched_run.base)
    fixed = {name: matched_run.average_precision(one.fix(matched_run)) for name, one in ERROR_TYPES.items()}
    labels, positives = matched_run.labels, matched_run.positives
    seen = np.bincount(detections.category[labels.error != LOW_SCORE], minlength=len(positives))
    return Breakdown(
        settings=matched_run.settings,
        ap=base.mean,
        raw={name: curve.mean - base.mean for name, curve in fixed.items()},
        category_ap=base.category,
        category_raw={name: curve.category - base.category for name, curve in fixed.items()},
        count={name: int(ERROR_TYPES[name].occurs(labels).sum()) for name in ERRORS},
        true_positives=int((labels.error == TRUE_POSITIVE).sum()),
        positives=int(positives.sum()),
        labels=labels,
        never_detected=tuple(np.flatnonzero((positives > 0) & (seen == 0)).tolist()),
        ground_truth=matched_run.ground_truth,
        detections=detections,
    )
