"""A run matched and labelled, and the curves that it becomes when some of its errors are fixed (TIDE, section 2.3)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints, inverse
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.average_precision import (
    COCO_RECALLS,
    EPSILON,
    Ranking,
    precision_at_recalls,
    rank,
    recall_steps,
)
from analysis.evaluation.settings import Settings

# Labels of a detection: its type of error, or the reason why it has none.
CLS, LOC, BOTH, DUP, BG, TRUE_POSITIVE, IGNORED, OVER_CAP, LOW_SCORE, UNCHECKED = range(10)

TIDE_RECALLS: Floats = np.array([x / 100 for x in range(101)])  # ten of them differ from COCO's by one ulp


@dataclass(frozen=True, eq=False)
class Labels:
    """The label of every detection (rows of the file's arrays), and which objects are matched or missed."""

    error: NDArray[np.int8]  # [N] CLS .. BG, TRUE_POSITIVE, IGNORED, OVER_CAP, LOW_SCORE, UNCHECKED
    ignored: Bools  # [N] left out of the AP by a crowd (the `tidecv` convention labels those too)
    iou: Floats  # [N] with the target; if there is none, the highest with any object of the image
    target: Ints  # [N] the object that it matches or nearly matches, -1 for none
    recovers_gt: Bools  # [N] a cls or loc error that wins its object when fixed
    missed: Bools  # [M] objects without a match that are not the target of a cls or loc error
    matched: Bools  # [M] objects that a detection matches

    @property
    def names(self) -> NDArray[np.str_]:
        """str[N] the label of every detection: tp, cls, loc, both, dup, bg, ignored, over-cap, low-score, unchecked."""
        from analysis.evaluation.error_types import LABEL_NAMES  # which imports this module

        return np.array(LABEL_NAMES)[self.error]


@dataclass(frozen=True, eq=False)
class Curve:
    """One evaluation whose AP is measured: a run as it is, or with some of its errors fixed."""

    ranking: Ranking  # positions by category and descending score
    is_tp: Bools  # [n] by position: the true positives
    not_ignored: Bools  # [n] by position: the detections that count
    gt_valid: Bools  # [M] the objects that count


@dataclass(frozen=True, eq=False)
class CurveAP:
    """The AP of a curve in points (0..100): the mean, and each category's part in it."""

    mean: float
    category: Floats  # [K] NaN: not in the mean


@dataclass(frozen=True, eq=False)
class MatchedRun:
    """A run matched and labelled at one IoU, from which each of its curves is made without matching again.

    A *position* is a place among the n detections within the cap, by image and then descending score.
    """

    ground_truth: GroundTruth
    settings: Settings
    labels: Labels
    categories: int  # K
    row: Ints  # [n] of the detections, at each position
    image: Ints  # [n] at each position
    category: Ints  # [n] at each position
    score: Floats  # [n] at each position
    object_category: Ints  # [M]
    gt_valid: Bools  # [M] the objects that count
    ranking: Ranking  # of the curve as it is
    by_score_fixed: Ints  # [n] positions by descending score, for the fixed curves
    ranking_fixed: Ranking  # of the fixed curves, before a cls error moves: tidecv orders ties in another way there

    @cached_property
    def positives(self) -> Ints:
        """i64[K] the objects of each category that count."""
        return self._objects(self.gt_valid)

    @cached_property
    def label(self) -> NDArray[np.int8]:
        """i8[n] the label at each position."""
        return self.labels.error[self.row]

    @cached_property
    def recovers_gt(self) -> Bools:
        """bool[n] the errors, by position, that win their object when fixed."""
        return self.labels.recovers_gt[self.row]

    @cached_property
    def base(self) -> Curve:
        """The run as it is."""
        return Curve(self.ranking, self.label == TRUE_POSITIVE, ~self.labels.ignored[self.row], self.gt_valid)

    def corrected(self, wrong: Bools, *, move: bool) -> Curve:
        """The run without the wrong detections bool[n], except those that win their object: they become right.

        ``move``: these count in the category of their object, so their ranking changes.
        """
        wins = wrong & self.recovers_gt
        ranking = self._with_moved(np.flatnonzero(wins)) if move and wins.any() else self.ranking_fixed
        return Curve(ranking, self.base.is_tp | wins, (self.base.not_ignored & ~wrong) | wins, self.gt_valid)

    def without_objects(self, gone: Bools) -> Curve:
        """The run on ground truth without some objects bool[M]."""
        return Curve(self.ranking_fixed, self.base.is_tp, self.base.not_ignored, self.gt_valid & ~gone)

    def right_first(self) -> Curve:
        """Every wrong detection below every right one: in COCO's terms, without the wrong ones."""
        is_tp, order = self.base.is_tp, self.by_score_fixed
        if self.settings.convention == "coco":
            return Curve(self.ranking_fixed, is_tp, is_tp, self.gt_valid)
        order = np.concatenate([order[is_tp[order]], order[~is_tp[order]]])
        return Curve(rank(order, self.category, self.categories), is_tp, self.base.not_ignored, self.gt_valid)

    @property
    def epsilon(self) -> float:
        """What the convention adds to the denominator of the precision."""
        return EPSILON if self.settings.convention == "coco" else 0.0

    def steps(self, positives: Ints) -> Ints:
        """i64[K, 101] the true positives at which each recall of the convention is reached, for objects i64[K]."""
        return recall_steps(positives, COCO_RECALLS if self.settings.convention == "coco" else TIDE_RECALLS)

    def precision(self, curve: Curve) -> Floats:
        """f64[K, 101] the interpolated precision (0..1) of each category at the convention's recalls."""
        positives = self._objects(curve.gt_valid)
        found = precision_at_recalls(curve.ranking, curve.is_tp, curve.not_ignored, self.steps(positives), self.epsilon)
        if self.settings.convention == "tidecv":
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
        known = self._objects(curve.gt_valid) > 0
        known |= np.bincount(curve.ranking.category[curve.not_ignored[curve.ranking.rows]], minlength=len(known)) > 0
        category[known] = found[known].sum(axis=1) / 101 * 100
        # tidecv divides by zero where a fix leaves nothing to average; AP was 0 then, and stays 0.
        return CurveAP(float(category[known].mean()) if known.any() else 0.0, category)

    @cached_property
    def place(self) -> Ints:
        """i64[n] of each position, its place in the order by score of the fixed curves."""
        return inverse(self.by_score_fixed, len(self.row))

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
        coco = self.settings.convention == "coco"
        return np.searchsorted(self._falling, -self.score[moved], side="right") if coco else self.place[moved]

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

    def _objects(self, which: Bools) -> Ints:
        return np.bincount(self.object_category[which], minlength=self.categories)
