"""Matching and labelling a run's detections, in the two conventions; ``docs/conventions.md`` says where they differ.

What each of the six error types of TIDE (arXiv 2008.08115) costs in AP, in two exact conventions.

A run matched and labelled, and the curve that it becomes when some of its errors are fixed (TIDE, section 2.3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints, best_in_group, order_by_index
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.average_precision import (
    AREA_RANGES,
    COCO_RECALLS,
    EPSILON,
    Ranking,
    cap_per_group,
    match_coco,
    precision_at_recalls,
    rank,
    recall_steps,
    score_order,
)
from analysis.evaluation.error_types import (
    BG,
    BOTH,
    CLS,
    DUP,
    ERRORS,
    IGNORED,
    LOC,
    OVER_CAP,
    SPECIAL,
    TRUE_POSITIVE,
    Labels,
    Settings,
)
from analysis.evaluation.matching import Pairs, build_pairs, candidates, match_greedily

TIDE_RECALLS: Floats = np.array([x / 100 for x in range(101)])  # ten of them differ from COCO's by one ulp


@dataclass(frozen=True, eq=False)
class Curve:
    """One evaluation whose AP is asked for: a run as it is, or with some of its errors fixed."""

    ranking: Ranking  # positions by category and descending score
    right: Bools  # [n] by position: the true positives
    counted: Bools  # [n] by position: what is not left out
    asked: Bools  # [M] the objects that are asked for


@dataclass(frozen=True, eq=False)
class CurveAP:
    """The AP of a curve in points: what the mean comes to, and what each category adds to it."""

    mean: float
    category: Floats  # [K] NaN: not in the mean


@dataclass(frozen=True, eq=False)
class MatchedRun:
    """A run matched and labelled, from which each of its curves is made without matching again.

    A *position* is a place among the n detections within the cap, by image and then descending score.
    """

    settings: Settings
    labels: Labels
    categories: int  # K
    row: Ints  # [n] of the detections, at each position
    image: Ints  # [n] at each position
    category: Ints  # [n] at each position
    score: Floats  # [n] at each position
    object_category: Ints  # [M]
    asked: Bools  # [M] the objects that count
    by_score: Ints  # [n] positions by descending score, for the curve as it is
    by_score_fixed: Ints  # [n] likewise for the fixed curves: tidecv orders ties in another way there

    @cached_property
    def positives(self) -> Ints:
        """i64[K] the objects of each category that count."""
        return np.bincount(self.object_category[self.asked], minlength=self.categories)

    @cached_property
    def label(self) -> NDArray[np.int8]:
        """i8[n] the label at each position."""
        return self.labels.error[self.row]

    @cached_property
    def base(self) -> Curve:
        """The run as it is."""
        ranking = rank(self.by_score, self.category, self.categories)
        return Curve(ranking, self.label == TRUE_POSITIVE, ~self.labels.ignored[self.row], self.asked)

    def fixed(self, error: str, chosen: Bools | None = None) -> Curve:
        """The run with one type of error fixed, wherever it occurs or only where it was chosen.

        Args:
            error: cls, loc, both, dup, bg, miss, fp or fn.
            chosen: bool[n] by position, for miss and fn bool[M] by object: which of the errors to fix. fp: not asked.
        """
        right, counted, ranking = self.base.right, self.base.counted, self.ranking_fixed
        if error == "fp":
            return self._best_first()
        if error in ("miss", "fn"):
            gone = self.labels.missed if error == "miss" else self.asked & ~self.labels.matched
            return Curve(ranking, right, counted, self.asked & ~(gone if chosen is None else gone & chosen))
        wrong = self.label == ERRORS.index(error)
        if chosen is not None:
            wrong &= chosen
        wins = wrong & self.labels.fixes[self.row]
        if error == "cls" and wins.any():
            ranking = self._with_moved(np.flatnonzero(wins))
        return Curve(ranking, right | wins, (counted & ~wrong) | wins, self.asked)

    def precision(self, curve: Curve) -> Floats:
        """f64[K, 101] the interpolated precision (0..1) of each category at the convention's recalls."""
        coco = self.settings.convention == "coco"
        positives = np.bincount(self.object_category[curve.asked], minlength=self.categories)
        steps = recall_steps(positives, COCO_RECALLS if coco else TIDE_RECALLS)
        rows = curve.ranking.rows
        found = precision_at_recalls(
            curve.ranking, curve.right[rows], curve.counted[rows], steps, EPSILON if coco else 0.0
        )
        if not coco:
            found[positives == 0] = 0
        return found

    def average_precision(self, curve: Curve) -> CurveAP:
        """The AP of a curve, in all and of each category; in the ``coco`` convention the second averages to the first.

        In the ``tidecv`` convention too, but which categories are in the mean depends on the curve.
        """
        found, known = self.precision(curve), self.positives > 0
        category = np.full(self.categories, np.nan)
        if self.settings.convention == "coco":
            found = found[known]
            mean = float(np.mean(found.T.ravel())) * 100 if found.size else 0.0  # recall by recall, as COCOeval sums
            category[known] = found.mean(axis=1) * 100
            return CurveAP(mean, category)
        known = np.bincount(self.object_category[curve.asked], minlength=self.categories) > 0
        known |= np.bincount(curve.ranking.category[curve.counted[curve.ranking.rows]], minlength=len(known)) > 0
        category[known] = found[known].sum(axis=1) / 101 * 100
        # tidecv divides by zero where a fix leaves nothing to average; AP was 0 then, and stays 0.
        return CurveAP(float(category[known].mean()) if known.any() else 0.0, category)

    @cached_property
    def ranking_fixed(self) -> Ranking:
        """The ranking of the fixed curves, before a cls error moves."""
        if self.by_score_fixed is self.by_score:
            return self.base.ranking
        return rank(self.by_score_fixed, self.category, self.categories)

    @cached_property
    def place(self) -> Ints:
        """i64[n] of each position, its place in the order by score of the fixed curves."""
        place = np.empty(len(self.row), dtype=np.int64)
        place[self.by_score_fixed] = np.arange(len(place))
        return place

    @cached_property
    def _key(self) -> Ints:
        """i64[n] ascending along the ranking of the fixed curves: by category, then by place."""
        return self.ranking_fixed.category * len(self.row) + self.place[self.ranking_fixed.rows]

    @cached_property
    def _falling(self) -> Floats:
        """f64[n] the scores in the order of the fixed curves, negated."""
        falling: Floats = -self.score[self.by_score_fixed]
        return falling

    def place_if_moved(self, moved: Ints) -> Ints:
        """i64 for positions i64 that change category: those of the new category with a lower place come before them.

        Among equal scores they come in the ``coco`` convention behind all that were in that category.
        """
        if self.settings.convention == "coco":
            return np.searchsorted(self._falling, -self.score[moved], side="right")
        return self.place[moved]

    def _with_moved(self, moved: Ints) -> Ranking:
        """The ranking of the fixed curves when some positions are in their target's category.

        The few are taken out and put in again: sorting all anew would take several times as long.
        """
        ranking, count = self.ranking_fixed, len(self.row)
        to = self.object_category[self.labels.target[self.row[moved]]]
        moved, to = (values[np.lexsort((self.place[moved], to))] for values in (moved, to))
        stays = np.ones(count, dtype=np.bool_)
        stays[moved] = False
        stays = stays[ranking.rows]
        at = np.searchsorted(self._key[stays], to * count + self.place_if_moved(moved))
        left, joined = (np.bincount(category, minlength=self.categories) for category in (self.category[moved], to))
        return Ranking(
            np.insert(ranking.rows[stays], at, moved),
            np.insert(ranking.category[stays], at, to),
            ranking.start + np.concatenate([[0], np.cumsum(joined - left)]),
        )

    def _best_first(self) -> Curve:
        """Every wrong detection below every right one: in COCO's terms, without the wrong ones."""
        right, counted = self.base.right, self.base.counted
        if self.settings.convention == "coco":
            return Curve(self.ranking_fixed, right, right, self.asked)
        order = self.by_score_fixed
        order = np.concatenate([order[right[order]], order[~right[order]]])
        return Curve(rank(order, self.category, self.categories), right, counted, self.asked)


def match_and_label(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> MatchedRun:
    """Match and label the detections of a run."""
    return next(match_and_label_at(ground_truth, detections, settings, [settings.iou]))


def match_and_label_at(
    ground_truth: GroundTruth, detections: Detections, settings: Settings, ious: Sequence[float]
) -> Iterator[MatchedRun]:
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
) -> Iterator[MatchedRun]:
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
) -> Iterator[MatchedRun]:
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
) -> MatchedRun:  # fmt: skip
    return MatchedRun(
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


@dataclass(frozen=True, eq=False)
class Breakdown:
    """Where the AP went, in points (0..100).

    ``raw`` are the unclamped differences of AP when one type of error is fixed; ``delta_ap`` is what to show, which
    the ``tidecv`` convention clamps at 0 for the six main types.
    """

    settings: Settings
    ap: float
    raw: dict[str, float]  # cls, loc, both, dup, bg, miss, fp, fn
    category_ap: Floats  # [K] NaN: not in the mean (see CurveAP)
    category_raw: dict[str, Floats]  # [K] as `raw`, of each category
    count: dict[str, int]  # cls, loc, both, dup, bg, miss
    true_positives: int
    positives: int  # objects that count
    labels: Labels
    never_detected: tuple[int, ...]  # category indices with objects and without any detection

    @property
    def delta_ap(self) -> dict[str, float]:
        """Points of AP to gain by fixing each type of error alone."""
        if self.settings.convention == "coco":
            return dict(self.raw)
        return {name: max(value, 0.0) if name in ERRORS else value for name, value in self.raw.items()}


def break_down(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou: float = 0.5,
    background_iou: float = 0.1,
    max_dets: int = 100,
    convention: str = "coco",
    iou_type: str = "bbox",
) -> Breakdown:
    """Label every detection and measure what each type of error costs.

    Args:
        ground_truth: from :func:`analysis.read_ground_truth`.
        detections: from :func:`analysis.read_detections`.
        iou: the IoU from which a detection is right; 0 < ``background_iou`` <= ``iou`` <= 1.
        background_iou: the IoU up to which a detection is on nothing.
        max_dets: detections considered an image, in the ``coco`` convention of each category.
        convention: ``coco`` (the AP is pycocotools') or ``tidecv`` (every number is tidecv 1.0.1's).
        iou_type: ``bbox`` or ``segm``.

    Raises:
        BadInput: a setting is out of range, or masks are asked for and a record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> result = break_down(gt, read_detections(predictions["confused-classes"], gt))
    >>> max(result.delta_ap, key=result.delta_ap.get), result.count["cls"] > result.count["dup"]
    ('cls', True)
    """
    return break_down_as(ground_truth, detections, Settings(iou_type, iou, background_iou, max_dets, convention))


def break_down_as(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> Breakdown:
    """:func:`break_down` with its settings in one piece."""
    return break_down_verdict(match_and_label(ground_truth, detections, settings), detections)


def break_down_verdict(matched_run: MatchedRun, detections: Detections) -> Breakdown:
    """The AP of the run as it is, and what each type of error costs."""
    base = matched_run.average_precision(matched_run.base)
    fixed = {name: matched_run.average_precision(matched_run.fixed(name)) for name in (*ERRORS, *SPECIAL)}
    labels, positives = matched_run.labels, matched_run.positives
    count = {name: int((labels.error == error).sum()) for error, name in enumerate(ERRORS[:5])}
    count["miss"] = int(labels.missed.sum())
    seen = np.bincount(detections.category, minlength=len(positives)) > 0
    return Breakdown(
        settings=matched_run.settings,
        ap=base.mean,
        raw={name: curve.mean - base.mean for name, curve in fixed.items()},
        category_ap=base.category,
        category_raw={name: curve.category - base.category for name, curve in fixed.items()},
        count=count,
        true_positives=int((labels.error == TRUE_POSITIVE).sum()),
        positives=int(positives.sum()),
        labels=labels,
        never_detected=tuple(np.flatnonzero((positives > 0) & ~seen).tolist()),
    )
