"""Precision, recall and F1 of the detections from a score on: what a deployed detector shows.

Matching goes by descending score, so the detections from a score on are matched as they would be without the others:
one matching gives the numbers at every score. What is left out of AP (in a crowd, over the cap) is left out here too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints, group_starts, order_by_index
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.matched_run import TRUE_POSITIVE, MatchedRun
from analysis.evaluation.matching import PairedDetections, match_greedily, pair_detections, preferred_first
from analysis.evaluation.tide import match_and_label_at
from analysis.exceptions import BadInput

ROUNDING = 1e-9  # a rate that misses a target by less reaches it


@dataclass(frozen=True)
class Criterion:
    """The rule by which a score threshold is chosen.

    ``f1``: the score with the highest F1, the highest score among equal ones. ``precision``: the lowest score at which
    precision is at least ``value``, and is so at every higher score too. ``recall``: the highest score at which recall
    is at least ``value``. ``score``: ``value`` itself.

    Raises:
        BadInput: the value is not finite, or not a rate above 0 and up to 1.

    >>> str(Criterion()), str(Criterion("precision", 0.9))
    ('best F1', 'precision 0.9')
    """

    kind: Literal["f1", "precision", "recall", "score"] = "f1"
    value: float = math.nan

    def __post_init__(self) -> None:
        if self.kind == "score" and not math.isfinite(self.value):
            raise BadInput(f"the score {self.value} is not a finite number; give a threshold such as 0.5")
        if self.kind in ("precision", "recall") and not 0 < self.value <= 1:
            raise BadInput(f"the {self.kind} {self.value:g} is not above 0 and at most 1; write 0.9 for 90 %")

    @property
    def is_chosen(self) -> bool:
        """Whether the threshold is chosen on the images, not given by the user."""
        return self.kind != "score"

    def __str__(self) -> str:
        return "best F1" if self.kind == "f1" else f"{self.kind} {self.value:g}"

    def choose(self, right: NDArray[Any], shown: NDArray[Any], objects: NDArray[Any]) -> Ints:
        """The place along the last axis at which the threshold lies; -1: no score satisfies the criterion.

        Args:
            right: true positives from each candidate score on, the scores descending.
            shown: detections that count, likewise.
            objects: that count; without the last axis.
        """
        total = np.asarray(objects)[..., None]
        if self.kind == "f1":
            f1 = 2 * right / np.maximum(shown + total, 1)
            best: Ints = f1.argmax(axis=-1)
            return np.where(f1.max(axis=-1) > 0, best, -1)
        if self.kind == "precision":
            kept = np.logical_and.accumulate(right >= (self.value - ROUNDING) * shown, axis=-1)
            last = np.maximum(kept.sum(axis=-1) - 1, 0)[..., None]
            some = kept[..., 0] & (np.take_along_axis(right, last, axis=-1)[..., 0] > 0)
            # Of candidates that show the same detections, the highest.
            first = (shown >= np.take_along_axis(shown, last, axis=-1)).argmax(axis=-1)
            return np.where(some, first, -1)
        reached = (right >= (self.value - ROUNDING) * total) & (total > 0)
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), -1)


@dataclass(frozen=True, eq=False)
class Counts:
    """How many detections are shown, how many of them are right, and how many objects there are; arrays of one shape.

    Rates are 0..1, and NaN where nothing is counted: precision without a detection, recall without an object.
    """

    right: NDArray[Any]
    shown: NDArray[Any]
    objects: NDArray[Any]

    @property
    def wrong(self) -> NDArray[Any]:
        """False positives."""
        wrong: NDArray[Any] = self.shown - self.right
        return wrong

    @property
    def missed(self) -> NDArray[Any]:
        """False negatives."""
        missed: NDArray[Any] = self.objects - self.right
        return missed

    @property
    def precision(self) -> Floats:
        """The share of the detections shown that are right."""
        return share(self.right, self.shown)

    @property
    def recall(self) -> Floats:
        """The share of the objects that are found."""
        return share(self.right, self.objects)

    @property
    def f1(self) -> Floats:
        """The harmonic mean of precision and recall, as 2 TP / (2 TP + FP + FN)."""
        return share(2 * self.right, self.shown + self.objects)

    def total(self) -> "Counts":
        """All together."""
        return Counts(self.right.sum(), self.shown.sum(), self.objects.sum())


def share(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Part of a whole, of any shape; NaN where the whole is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    empty = np.full(whole.shape, np.nan)
    found: Floats = np.divide(part, whole, out=empty, where=whole > 0)
    return found


def mean_over_classes(rate: Floats, objects: NDArray[Any]) -> Floats:
    """The mean of a rate [..., K] over the categories that have objects; NaN where none has."""
    known = np.asarray(objects) > 0
    return share(np.where(known, np.nan_to_num(rate), 0.0).sum(axis=-1), known.sum(axis=-1))


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """The detections of a run that count, by descending score, and the objects that count."""

    score: Floats  # [n] descending
    right: Bools  # [n]
    category: Ints  # [n]
    image: Ints  # [n]
    object_category: Ints  # [m]
    object_image: Ints  # [m]
    images: int
    categories: int

    @classmethod
    def of(cls, run: MatchedRun, ground_truth: GroundTruth) -> "ScoredRun":
        """The detections and objects of a matched run that count."""
        position = run.by_score_fixed[run.base.not_ignored[run.by_score_fixed]]
        return cls(
            score=run.score[position],
            right=run.label[position] == TRUE_POSITIVE,
            category=run.category[position],
            image=run.image[position],
            object_category=ground_truth.category[run.gt_valid],
            object_image=ground_truth.image[run.gt_valid],
            images=len(ground_truth.image_id),
            categories=run.categories,
        )

    @property
    def objects(self) -> Ints:
        """i64[K] the objects of each category."""
        return np.bincount(self.object_category, minlength=self.categories)

    @property
    def ends(self) -> Ints:
        """Where equal scores end: the places at which the detections from a score on can be cut off."""
        return np.flatnonzero(np.diff(self.score, append=-np.inf)) if len(self.score) else np.empty(0, np.int64)

    def curve(self) -> tuple[Floats, Counts]:
        """Every score that occurs, descending, and the counts of the detections from it on."""
        ends = self.ends
        right, shown = np.cumsum(self.right)[ends], ends + 1
        return self.score[ends], Counts(right, shown, np.full(len(ends), len(self.object_category)))

    def threshold(self, criterion: Criterion) -> float | None:
        """The score from which detections are shown; None: no score satisfies the criterion."""
        if not criterion.is_chosen:
            return criterion.value
        score, counts = self.curve()
        if not len(score):
            return None
        place = int(criterion.choose(counts.right, counts.shown, np.array(len(self.object_category))))
        return float(score[place]) if place >= 0 else None

    def by_category(self) -> Iterator["ScoredRun"]:
        """The same of each category alone."""
        order = order_by_index(self.category, self.categories)
        start = group_starts(self.category, self.categories)
        objects = order_by_index(self.object_category, self.categories)
        first = group_starts(self.object_category, self.categories)
        for category in range(self.categories):
            rows = order[start[category] : start[category + 1]]
            own = objects[first[category] : first[category + 1]]
            yield replace(
                self,
                score=self.score[rows],
                right=self.right[rows],
                category=self.category[rows],
                image=self.image[rows],
                object_category=self.object_category[own],
                object_image=self.object_image[own],
            )

    def lowest_score(self, precision: float) -> float | None:
        """The lowest score at which precision is at least so much, whatever it is at higher ones; None: none."""
        score, counts = self.curve()
        reached = np.flatnonzero((counts.right >= (precision - ROUNDING) * counts.shown) & (counts.right > 0))
        return float(score[reached[-1]]) if len(reached) else None

    def class_thresholds(self, criterion: Criterion) -> Floats:
        """f64[K] a threshold for each category alone; NaN: no score satisfies the criterion there."""
        each = [one.threshold(criterion) for one in self.by_category()]
        return np.array([math.nan if one is None else one for one in each])

    def counts(self, threshold: float | Floats | None) -> Counts:
        """The counts of each category from a score on, or from one of its own f64[K]; NaN or None: nothing is shown."""
        limit = np.broadcast_to(np.nan if threshold is None else threshold, self.categories)
        shown = self.score >= limit[self.category]  # nothing is, compared with NaN

        def tally(which: Bools) -> Ints:
            return np.bincount(self.category[which], minlength=self.categories)

        return Counts(tally(shown & self.right), tally(shown), self.objects)


@dataclass(frozen=True, eq=False)
class AtThreshold:
    """The errors and the confusion of the detections at or above a score."""

    errors: dict[str, int]  # cls, loc, both, dup, bg, miss
    confusion: Ints  # [K + 1, K + 1] by true category (row) and predicted (column); the last one is the background


def at_threshold(
    ground_truth: GroundTruth,
    detections: Detections,
    run: MatchedRun,
    threshold: float | None,
    paired: PairedDetections | None = None,
) -> AtThreshold:
    """The errors and the confusion of the detections from a score on; None: of none.

    The errors are those of a file that holds these detections alone. In the confusion matrix the true positives stand
    on the diagonal. Of what is left, in descending order of score each detection takes the free object of another
    category that it overlaps most, at the IoU of the settings or more; then a detection without an object counts as
    one of the background, an object without a detection as taken for the background. So a row adds up to the objects
    of a category, a column to the detections shown. ``paired`` are the two at the settings of the run, if they are
    paired already.
    """
    paired = paired or pair_detections(ground_truth, detections, run.settings)
    # A cap takes detections of high scores first, so that those from a score on are the same with and without others.
    paired = paired.at(run.score >= (np.inf if threshold is None else threshold))
    matched = next(match_and_label_at(ground_truth, detections, [run.settings], paired))
    labels = matched.labels
    errors = {name: int(ERROR_TYPES[name].occurs(labels).sum()) for name in ERRORS}
    return AtThreshold(errors, _confusion(ground_truth, paired, matched))


def _confusion(ground_truth: GroundTruth, paired: PairedDetections, run: MatchedRun) -> Ints:
    counts, background = run.base.not_ignored, run.categories
    right, free = run.base.is_tp, run.gt_valid & ~run.labels.matched
    left = counts & ~right
    pairs = paired.pairs
    wrong = ~paired.same_category & (pairs.iou >= run.settings.iou) & left[pairs.detection] & free[pairs.truth]
    found = preferred_first(pairs.at(np.flatnonzero(wrong)), prefer_last=False)
    taken = match_greedily(found, np.ones(len(found.iou), dtype=np.bool_), len(run.row), len(ground_truth))
    true = np.full(len(run.row), background)
    true[right] = run.category[right]
    true[taken >= 0] = ground_truth.category[taken[taken >= 0]]
    free[taken[taken >= 0]] = False
    cell = true[counts] * (background + 1) + run.category[counts]
    missed = ground_truth.category[free] * (background + 1) + background
    table: Ints = np.bincount(np.concatenate([cell, missed]), minlength=(background + 1) ** 2)
    return table.reshape(background + 1, background + 1)
