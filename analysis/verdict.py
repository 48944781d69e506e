"""A run matched and labelled, and the curve that it becomes when some of its errors are fixed (TIDE, section 2.3)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import COCO_RECALLS, EPSILON, Ranking, precision_at_recalls, rank, recall_steps
from analysis.error_types import ERRORS, TRUE_POSITIVE, Labels, Settings

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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
class Verdict:
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
