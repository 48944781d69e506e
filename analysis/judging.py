"""Matching and labelling a run's detections, in the two conventions; ``docs/conventions.md`` says where they differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import AREA_RANGES, cap_per_group, match_coco, score_order
from analysis.detections import Detections
from analysis.error_types import (
    BG,
    BOTH,
    CLS,
    DUP,
    IGNORED,
    LOC,
    OVER_CAP,
    TRUE_POSITIVE,
    Labels,
    Settings,
)
from analysis.ground_truth import GroundTruth
from analysis.grouping import best_in_group, order_by_index
from analysis.matching import candidates, match_greedily
from analysis.pairs import Pairs, build_pairs
from analysis.verdict import Verdict

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def judge(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> Verdict:
    """Match and label the detections of a run."""
    return next(judge_at(ground_truth, detections, settings, [settings.iou]))


def judge_at(
    ground_truth: GroundTruth, detections: Detections, settings: Settings, ious: Sequence[float]
) -> Iterator[Verdict]:
    """A verdict for each IoU from which a detection is right, from pairs that are built once.

    Raises:
        BadInput: a threshold is out of range, or masks are asked for and a record has none.
    """
    each = [replace(settings, iou=iou) for iou in ious]
    judge_each = _judge_coco if settings.convention == "coco" else _judge_tidecv
    if each:
        yield from judge_each(ground_truth, detections, each, min(ious))


def _prepare(
    ground_truth: GroundTruth, detections: Detections, settings: Settings, by_score: Ints
) -> tuple[Ints, Pairs, Bools]:
    """Rows by image and then score, their overlapping pairs, and which pairs agree in category."""
    order = by_score[order_by_index(detections.image[by_score], len(ground_truth.image_id))]
    # What is ignored in the tidecv convention is a region, of which a detection has a share inside.
    inside = ground_truth.crowd if settings.convention == "coco" else ground_truth.ignore
    pairs = build_pairs(ground_truth, detections, order, settings.iou_type, inside)
    same = detections.category[order][pairs.detection] == ground_truth.category[pairs.truth]
    return order, pairs, same


def _judge_coco(
    ground_truth: GroundTruth, detections: Detections, each: Sequence[Settings], lowest: float
) -> Iterator[Verdict]:
    classes = len(ground_truth.category_id)
    by_score = score_order(detections, np.arange(len(ground_truth.image_id)))
    by_score = cap_per_group(by_score, detections.image * classes + detections.category, each[0].max_dets)
    order, pairs, same = _prepare(ground_truth, detections, each[0], by_score)
    area = ground_truth.area_of(each[0].iou_type)
    low, high = AREA_RANGES["all"]
    ignored_truth = ground_truth.ignore | (area < low) | (area > high)
    dt_area = detections.area[order]
    found = candidates(pairs, same, min(lowest, 1 - 1e-10), prefer_last=True)
    out_of_range = (dt_area < low) | (dt_area > high)
    ranked = _positions(detections, order, by_score)
    nearest = _nearest(pairs, same, ignored_truth, len(order))
    for settings in each:
        taken, dropped = match_coco(found, settings.iou, ignored_truth, ground_truth.crowd, out_of_range)
        labels = _label(detections, order, nearest, ignored_truth, taken, dropped, settings)
        yield _verdict(ground_truth, detections, settings, labels, order, ignored_truth, ranked, ranked)


def _judge_tidecv(
    ground_truth: GroundTruth, detections: Detections, each: Sequence[Settings], lowest: float
) -> Iterator[Verdict]:
    place = ground_truth.image_rank
    by_score = cap_per_group(score_order(detections, place), detections.image, each[0].max_dets)
    order, pairs, same = _prepare(ground_truth, detections, each[0], by_score)
    ignored_truth = ground_truth.ignore
    counts = ~ignored_truth[pairs.truth]
    found = candidates(pairs, same & counts, lowest, prefer_last=False)
    ranked = _positions(detections, order, by_score)
    found_order = order_by_index(place[detections.image[order]], len(place))
    nearest = _nearest(pairs, same, ignored_truth, len(order))
    for settings in each:
        taken = match_greedily(found, found.iou >= settings.iou, len(order), len(ground_truth))
        # Strictly above the threshold, unlike COCOeval.
        over = np.unique(pairs.detection[same & ~counts & (pairs.iou > settings.iou)])
        left_out = np.zeros(len(order), dtype=np.bool_)
        left_out[over] = True
        left_out &= taken < 0
        labels = _label(detections, order, nearest, ignored_truth, taken, left_out, settings)
        # The fixed curves are filled with the errors first, then the true positives, each in the order found (by image
        # in the order of the file, then by score), and only then sorted by score: ties come out wrong before right.
        right = labels.error[order] == TRUE_POSITIVE
        filled = np.concatenate([found_order[~right[found_order]], found_order[right[found_order]]])
        filled = filled[np.argsort(-detections.score[order][filled], kind="stable")]
        yield _verdict(ground_truth, detections, settings, labels, order, ignored_truth, ranked, filled)


def _verdict(
    ground_truth: GroundTruth, detections: Detections, settings: Settings, labels: Labels, order: Ints,
    ignored_truth: Bools, by_score: Ints, by_score_fixed: Ints,
) -> Verdict:  # fmt: skip
    return Verdict(
        settings=settings,
        labels=labels,
        categories=len(ground_truth.category_id),
        row=order,
        image=detections.image[order],
        category=detections.category[order],
        score=detections.score[order],
        object_category=ground_truth.category,
        asked=~ignored_truth,
        by_score=by_score,
        by_score_fixed=by_score_fixed,
    )


def _positions(detections: Detections, order: Ints, by_score: Ints) -> Ints:
    """The positions i64[n], of rows ``order``, by descending score."""
    position = np.empty(len(detections), dtype=np.int64)
    position[order] = np.arange(len(order))
    return position[by_score]


@dataclass(frozen=True, eq=False)
class _Nearest:
    """What each detection overlaps of the objects that count, whatever the threshold."""

    same: tuple[Floats, Ints]  # [n] highest IoU with its own category, and the object: 0 and -1 for none
    other: tuple[Floats, Ints]  # [n] likewise with another category
    pairs: Pairs  # all of its own category


def _nearest(pairs: Pairs, same: Bools, ignored_truth: Bools, count: int) -> _Nearest:
    counts = ~ignored_truth[pairs.truth]
    found = []
    for kind in (same & counts, ~same & counts):
        use = np.flatnonzero(kind)
        found.append(Pairs(pairs.detection[use], pairs.truth[use], pairs.iou[use]))
    return _Nearest(_best(found[0], count), _best(found[1], count), found[0])


def _label(
    detections: Detections,
    order: Ints,
    nearest: _Nearest,
    ignored_truth: Bools,
    taken: Ints,
    left_out: Bools,
    settings: Settings,
) -> Labels:
    """Give every unmatched detection the first label that holds: loc, cls, dup, bg, both (TIDE, section 2.2)."""
    count, truths = len(order), len(ignored_truth)
    matched = np.zeros(truths, dtype=np.bool_)
    matched[taken[taken >= 0]] = True
    judged = (taken < 0) & ~left_out if settings.convention == "coco" else taken < 0
    best_same, same_target = np.where(judged, nearest.same[0], 0.0), nearest.same[1]
    best_other, other_target = np.where(judged, nearest.other[0], 0.0), nearest.other[1]
    own = nearest.pairs
    used = np.flatnonzero((own.iou >= settings.iou) & matched[own.truth] & judged[own.detection])
    best_used, used_target = _best(Pairs(own.detection[used], own.truth[used], own.iou[used]), count)

    t_f, t_b = settings.iou, settings.background_iou
    overlap = np.maximum(best_same, best_other)
    error = np.full(count, BOTH, dtype=np.int8)
    target = np.full(count, -1, dtype=np.int64)
    error[overlap <= t_b] = BG
    for label, holds, best, aim in (  # the last one that holds stays
        (DUP, best_used >= t_f, best_used, used_target),
        (CLS, best_other >= t_f, best_other, other_target),
        (LOC, (best_same >= t_b) & (best_same <= t_f), best_same, same_target),
    ):
        rows = np.flatnonzero(holds)
        error[rows], target[rows], overlap[rows] = label, aim[rows], best[rows]
    fixes = np.zeros(count, dtype=np.bool_)
    claimants = np.flatnonzero(judged & ((error == LOC) | (error == CLS)))
    claimants = claimants[~matched[target[claimants]]]
    winner = np.full(truths, -1, dtype=np.int64)
    winner[target[claimants[::-1]]] = claimants[::-1]  # positions run by descending score: the first one stays
    fixes[winner[winner >= 0]] = True

    error[~judged] = IGNORED
    hit = taken >= 0
    error[hit], target[hit] = TRUE_POSITIVE, taken[hit]
    of_match = np.flatnonzero(taken[own.detection] == own.truth)
    overlap[own.detection[of_match]] = own.iou[of_match]
    return _scatter(detections, order, error, left_out, overlap, target, fixes, matched, winner, ignored_truth)


def _scatter(
    detections: Detections, order: Ints, error: NDArray[np.int8], left_out: Bools, overlap: Floats, target: Ints,
    fixes: Bools, matched: Bools, winner: Ints, ignored_truth: Bools,
) -> Labels:  # fmt: skip
    """From positions back to the rows of the file; what is not in ``order`` is over the cap."""
    total = len(detections)
    labels = np.full(total, OVER_CAP, dtype=np.int8)
    labels[order] = error
    columns = {
        "ignored": (np.zeros(total, dtype=np.bool_), left_out),
        "iou": (np.full(total, np.nan), overlap),
        "target": (np.full(total, -1, dtype=np.int64), target),
        "fixes": (np.zeros(total, dtype=np.bool_), fixes),
    }
    for whole, part in columns.values():
        whole[order] = part
    return Labels(
        error=labels,
        missed=~ignored_truth & ~matched & (winner < 0),
        matched=matched,
        **{name: whole for name, (whole, _) in columns.items()},
    )


def _best(pairs: Pairs, count: int) -> tuple[Floats, Ints]:
    """The highest IoU f64[count] of each detection and the first object i64[count] that has it (0 and -1: none)."""
    best, target = np.zeros(count), np.full(count, -1, dtype=np.int64)
    detection, row = best_in_group(pairs.detection, pairs.iou)
    best[detection], target[detection] = pairs.iou[row], pairs.truth[row]
    return best, target
