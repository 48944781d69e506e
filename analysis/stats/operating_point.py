"""Rates of a detector at a score threshold, on images that it was not chosen on, with intervals.

A threshold that is judged on the images it was chosen on looks better than it is. So it is cross-fitted: the images
are split into five folds, a threshold is chosen on four and judged on the fifth, and the counts of the five are added.
For the intervals the images are drawn again (:mod:`analysis.stats.resampling`) and all of it, the choice included, is
repeated on every draw; an image keeps its fold, so that no copy of it is on both sides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Bools, Floats, Ints, distinct, group_starts, order_by_index
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.matched_run import MatchedRun
from analysis.evaluation.matching import PairedDetections, pair_detections
from analysis.evaluation.operating_point import (
    AtThreshold,
    Counts,
    Criterion,
    ScoredRun,
    at_threshold,
    mean_over_classes,
)
from analysis.evaluation.settings import Settings
from analysis.evaluation.tide import match_and_label_at
from analysis.exceptions import BadInput
from analysis.presentation import Presentable
from analysis.stats.intervals import (
    FEWEST_OF_CATEGORY,
    Difference,
    Interval,
    difference,
    holm,
    limits,
    percentile_interval,
)
from analysis.stats.resampling import Grouped, measure_resamples

FOLDS = 5
CANDIDATES, CLASS_CANDIDATES = 1024, 64  # scores among which cross-fitting chooses: of all detections, of a category
RATES = ("precision", "recall", "f1", "fp_per_image")
GAINS = ("f1", "mean_f1")


@dataclass(frozen=True, eq=False)
class ClassRates:
    """The numbers of each category from the same score on, with 95 % intervals over images at that score.

    The limits are NaN where objects lie in fewer than 10 images, which tell too little about others.
    """

    counts: Counts  # [K]
    low: dict[str, Floats]  # [K] by rate
    high: dict[str, Floats]


@dataclass(frozen=True, eq=False)
class ClassThresholds:
    """A threshold for each category, chosen on its own detections by the same criterion, and what that gains."""

    threshold: Floats  # [K] NaN: no score satisfies the criterion
    counts: Counts  # [K] on the images it was chosen on
    gain: dict[str, Difference]  # cross-fitted: F1 of all detections, and the mean F1 of the categories
    gain_in_sample: dict[str, float]  # on the images that the thresholds were chosen on


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """One run at its threshold. Rates are 0..1.

    ``rates`` are cross-fitted with intervals that hold the choice; of a given score, they are as they are.
    """

    name: str
    criterion: Criterion
    threshold: float | None  # chosen on all images; None: no score satisfies the criterion
    in_sample: Counts  # of all categories together, at that threshold on all images
    fold_thresholds: tuple[float | None, ...]  # chosen without each fold; empty: not chosen, or a single image
    rates: dict[str, Interval]  # precision, recall, f1, fp_per_image; empty: there is no threshold
    drawn: dict[str, Floats]  # [R] of each rate, in each resample
    classes: ClassRates
    class_thresholds: ClassThresholds | None  # None: not asked for
    images: int
    resamples: int
    seed: int


def rates_of(counts: Counts, images: int) -> dict[str, Floats]:
    """Precision, recall, F1 (0..1) and false positives an image, of counts of any shape."""
    return {
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "fp_per_image": counts.wrong / max(images, 1),
    }


def measure(
    runs: Sequence[tuple[str, ScoredRun]],
    criterion: Criterion,
    *,
    per_class: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[OperatingPoint]:
    """Every run at its own threshold; all are drawn on the same resamples of the images.

    Args:
        runs: with their names, all on one ground truth.
        criterion: of the threshold.
        per_class: also choose a threshold for each category.
        resamples: of the images, R; 0: no intervals.
        seed: random seed for folds and resampling.
        progress: called with the number of finished resamples.
    """
    images = runs[0][1].images
    folds = _folds(images, seed) if criterion.is_chosen else np.zeros(images, dtype=np.int64)
    measured = [_Measured(run, criterion, folds, per_class) for _, run in runs]
    drawn = [one.empty(max(resamples, 1)) for one in measured]  # NaN where nothing is drawn

    def several(numbers: range, weights: Ints) -> None:
        for number, one in zip(numbers, weights, strict=True):
            for run, store in zip(measured, drawn, strict=True):
                for name, value in run.measure(one).items():
                    store[name][number] = value

    measure_resamples(several, images, resamples, seed, progress)
    if images == 1:  # every resample equals it
        for store in drawn:
            for values in store.values():
                values.fill(np.nan)
    return [
        run.point(name, store, resamples, seed) for (name, _), run, store in zip(runs, measured, drawn, strict=True)
    ]


def f1_differences(points: Sequence[OperatingPoint], baseline: int = 0) -> dict[str, Difference]:
    """F1 (0..1) of every run at its own threshold minus that of the baseline, on the same draws; p after Holm."""
    base = points[baseline]
    found = {
        one.name: difference(one.rates["f1"].value - base.rates["f1"].value, one.drawn["f1"] - base.drawn["f1"])
        for one in points
        if one is not base and one.rates and base.rates
    }
    return dict(zip(found, holm(list(found.values())), strict=True))


def _folds(images: int, seed: int) -> Ints:
    """i64[images] the fold of each, the folds of equal size but for one."""
    return np.random.default_rng([seed, FOLDS]).permutation(images) % min(FOLDS, max(images, 1))


class _Candidates:
    """Running counts along candidate thresholds, by fold and group of detections, for any weights of images."""

    def __init__(self, run: ScoredRun, group: Ints, object_group: Ints, groups: int, folds: Ints, most: int) -> None:
        self.shape = (int(folds.max(initial=0)) + 1, groups)
        order = order_by_index(group, groups)
        start = group_starts(group, groups)
        objects = np.bincount(object_group, minlength=groups)
        each = [
            _candidate_scores(run.score[rows], run.right[rows], int(objects[g]), most)
            for g, rows in enumerate(np.split(order, start[1:-1]))
        ]
        width = max(map(len, each), default=0)
        self.score = np.array([np.append(one, np.full(width - len(one), -np.inf)) for one in each]).reshape(groups, -1)
        self._known = np.array([len(one) for one in each], dtype=np.int64)
        place = np.empty(len(group), dtype=np.int64)
        for g, rows in enumerate(np.split(order, start[1:-1])):
            place[rows] = np.searchsorted(-each[g], -run.score[rows], side="left")
        inside = place < self._known[group]  # of the others no candidate shows them
        key = (folds[run.image] * groups + group) * width + place
        cells = self.shape[0] * groups
        self._parts = [
            Grouped.of(key[rows], run.image[rows], cells * width)
            for rows in (np.flatnonzero(inside & run.right), np.flatnonzero(inside))
        ]
        self._objects = Grouped.of(
            folds[run.object_image] * groups + object_group, run.object_image, self.shape[0] * groups
        )

    def counts(self, weights: Ints) -> Counts:
        """[folds, groups, candidates] of what each fold holds."""
        right, shown = (part.sums(weights).reshape(*self.shape, -1).cumsum(axis=-1) for part in self._parts)
        return Counts(right, shown, self._objects.sums(weights).reshape(self.shape))

    def cross_fitted(self, counts: Counts, criterion: Criterion) -> tuple[Counts, Floats]:
        """Counts [groups] over all folds, each at the threshold of the others; and those thresholds [folds, groups].

        A recall that the others never reach shows all detections; a precision that they never keep shows none.
        """
        right, shown, objects = counts.right, counts.shown, counts.objects
        if not right.shape[-1]:
            nothing = np.zeros(self.shape[1], dtype=np.int64)
            return Counts(nothing, nothing, objects.sum(axis=0)), np.full(self.shape, np.nan)
        of_others = [whole.sum(axis=0) - whole for whole in (right, shown, objects)]
        place = criterion.choose(*of_others)
        if criterion.kind == "recall":
            place = np.where(place < 0, right.shape[-1] - 1, place)
        place = np.minimum(place, self._known - 1)
        at = np.maximum(place, 0)[..., None]
        found = [
            np.where(place < 0, 0, np.take_along_axis(one, at, axis=-1)[..., 0]).sum(axis=0) for one in (right, shown)
        ]
        score = np.take_along_axis(np.broadcast_to(self.score, right.shape), at, axis=-1)[..., 0]
        return Counts(found[0], found[1], objects.sum(axis=0)), np.where(place < 0, np.nan, score)


def _candidate_scores(score: Floats, right: Bools, objects: int, most: int) -> Floats:
    """Up to ``most`` of the scores f64[n] that occur, descending.

    Where there are more, half of them are spread evenly over the first detections, twice as many as there are objects,
    and half over the true positives.
    """
    ends = np.flatnonzero(np.diff(score, append=-np.inf))
    if len(ends) > most:
        hits = np.flatnonzero(right)
        first = np.linspace(0, min(len(score), max(2 * objects, most)) - 1, most // 2).astype(np.int64)
        of_hits = hits[np.linspace(0, len(hits) - 1, most // 2).astype(np.int64)] if len(hits) else hits
        ends = distinct(ends[np.searchsorted(ends, np.concatenate([first, of_hits]))])
    return score[ends]


class _Categories:
    """Counts of each category among detections bool[N] that are shown, for any weights of images."""

    def __init__(self, run: ScoredRun, shown: Bools) -> None:
        category, image, right = run.category[shown], run.image[shown], run.right[shown]
        self._right = Grouped.of(category[right], image[right], run.categories)
        self._shown = Grouped.of(category, image, run.categories)
        self._objects = Grouped.of(run.object_category, run.object_image, run.categories)

    def counts(self, weights: Ints) -> Counts:
        """[K]."""
        return Counts(*(part.sums(weights) for part in (self._right, self._shown, self._objects)))


def _tally(category: Ints, image: Ints, weights: Ints, which: Bools, categories: int) -> Ints:
    """i64[K] how many of some rows bool[N] each category holds, for weights of images."""
    return np.bincount(category[which], weights[image[which]], minlength=categories).astype(np.int64)


class _Measured:
    """One run, ready for weights of images."""

    def __init__(self, run: ScoredRun, criterion: Criterion, folds: Ints, per_class: bool) -> None:
        self._run, self._criterion, self._folds = run, criterion, folds
        self._threshold = run.threshold(criterion)
        self._fixed = _Categories(run, run.score >= (np.inf if self._threshold is None else self._threshold))
        several = criterion.is_chosen and self._threshold is not None and int(folds.max(initial=0)) > 0
        zero, none = np.zeros_like(run.category), np.zeros_like(run.object_category)
        self._whole = _Candidates(run, zero, none, 1, folds, CANDIDATES) if several else None
        self._each = (
            _Candidates(run, run.category, run.object_category, run.categories, folds, CLASS_CANDIDATES)
            if several and per_class
            else None
        )
        self._per_class = per_class

    def empty(self, resamples: int) -> dict[str, Floats]:
        """Room for what :meth:`measure` gives."""
        names = {name: np.shape(value) for name, value in self.measure(np.ones(self._run.images, np.int64)).items()}
        return {name: np.full((resamples, *shape), np.nan) for name, shape in names.items()}

    def measure(self, weights: Ints) -> dict[str, Floats]:
        """The rates of all together, of each category (``class ...``) and the gains (``gain ...``)."""
        images = int(weights.sum())
        fixed = self._fixed.counts(weights)
        found = {f"class {name}": rate for name, rate in rates_of(fixed, images).items()}
        if self._whole is None:
            return found | rates_of(fixed.total(), images)
        one, thresholds = self._whole.cross_fitted(self._whole.counts(weights), self._criterion)
        found |= {name: rate[0] for name, rate in rates_of(one, images).items()}
        if self._each is not None:
            own, _ = self._each.cross_fitted(self._each.counts(weights), self._criterion)
            run = self._run
            shown = run.score >= thresholds[self._folds[run.image], 0]
            by_class = Counts(
                _tally(run.category, run.image, weights, shown & run.right, run.categories),
                _tally(run.category, run.image, weights, shown, run.categories),
                fixed.objects,
            )
            found |= {f"gain {name}": value for name, value in _gains(own, by_class).items()}
        return found

    def point(self, name: str, drawn: dict[str, Floats], resamples: int, seed: int) -> OperatingPoint:
        """The numbers on the images as they are, with their intervals."""
        run, images = self._run, self._run.images
        value = self.measure(np.ones(images, dtype=np.int64))
        by_class = run.counts(self._threshold)
        pairs = distinct(run.object_category * images + run.object_image)
        told = np.bincount(pairs // images, minlength=run.categories) >= FEWEST_OF_CATEGORY
        limits_of = {rate: [np.where(told, end, np.nan) for end in limits(drawn[f"class {rate}"].T)] for rate in RATES}
        fold_thresholds: tuple[float | None, ...] = ()
        if self._whole is not None:
            counts = self._whole.counts(np.ones(images, dtype=np.int64))
            chosen = self._whole.cross_fitted(counts, self._criterion)[1][:, 0]
            fold_thresholds = tuple(None if np.isnan(one) else float(one) for one in chosen)
        rates = {rate: percentile_interval(float(value[rate]), drawn[rate]) for rate in RATES}
        return OperatingPoint(
            name=name,
            criterion=self._criterion,
            threshold=self._threshold,
            in_sample=by_class.total(),
            fold_thresholds=fold_thresholds,
            rates=rates if self._threshold is not None else {},
            drawn={rate: drawn[rate] for rate in RATES},
            classes=ClassRates(
                by_class,
                {rate: low for rate, (low, _) in limits_of.items()},
                {rate: high for rate, (_, high) in limits_of.items()},
            ),
            class_thresholds=self._class_thresholds(value, drawn, by_class) if self._per_class else None,
            images=images,
            resamples=resamples,
            seed=seed,
        )

    def _class_thresholds(
        self, value: dict[str, Floats], drawn: dict[str, Floats], by_class: Counts
    ) -> ClassThresholds:
        threshold = self._run.class_thresholds(self._criterion)
        counts = self._run.counts(threshold)
        gain = {}
        if self._each is not None:
            gain = {name: _centred(float(value[f"gain {name}"]), drawn[f"gain {name}"]) for name in GAINS}
        return ClassThresholds(threshold, counts, gain, {n: float(v) for n, v in _gains(counts, by_class).items()})


def _gains(own: Counts, one: Counts) -> dict[str, Floats]:
    """What own thresholds gain over one for all categories: in F1 of all detections, and in the mean F1 of categories.

    The counts are those of each category [K].
    """
    return {
        "f1": own.total().f1 - one.total().f1,
        "mean_f1": mean_over_classes(own.f1, own.objects) - mean_over_classes(one.f1, one.objects),
    }


def _centred(value: float, drawn: Floats) -> Difference:
    """A gain with the spread of its draws about it.

    A draw holds fewer different images, on which thresholds per class are chosen worse, so the draws lie below.
    """
    return difference(value, drawn - np.nanmean(drawn) + value if not np.isnan(drawn).all() else drawn)


@dataclass(frozen=True, eq=False, repr=False)
class RunAtThreshold(Presentable):
    """One run with all results of ``analyze threshold``; shown by rate, class or confusion."""

    name: str
    ground_truth: GroundTruth
    detections: Detections
    settings: Settings
    scored: ScoredRun
    point: OperatingPoint
    shown: AtThreshold  # at the one threshold


def operating_points(
    ground_truth: GroundTruth,
    runs: Sequence[tuple[str, Detections]],
    settings: Settings | None = None,
    criterion: Criterion = Criterion(),  # noqa: B008 (immutable)
    *,
    per_class: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    matched: Sequence[MatchedRun] | None = None,
) -> list[RunAtThreshold]:
    """Every run at its own score threshold: rates with intervals, errors and confusion.

    Args:
        ground_truth: of all runs.
        runs: their detections, with their names.
        settings: of the matching; the ``coco`` convention.
        criterion: the rule by which the threshold is chosen.
        per_class: also choose a threshold for each category.
        resamples: number of resamples of the images, for intervals; 0: no intervals.
        seed: random seed for folds and resampling.
        progress: called with the number of finished resamples.
        matched: the same runs, matched at these settings already.

    Raises:
        BadInput: another convention, or masks are asked for and a record has none.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> (one,) = operating_points(gt, [("sloppy", read_detections(predictions["sloppy-boxes"], gt))], resamples=100)
    >>> 0 < one.point.threshold < 1 and one.point.rates["f1"].low < one.point.rates["f1"].value
    True
    >>> int(one.shown.confusion[:-1].sum()) == len(gt)  # a row adds up to the objects of a category
    True
    """
    settings = settings or Settings.on(ground_truth)
    if settings.convention != "coco":
        raise BadInput("score thresholds exist in the coco convention only; leave out --convention tidecv")
    paired: list[PairedDetections | None] = [None] * len(runs)
    if matched is None:
        paired = [pair_detections(ground_truth, detections, settings) for _, detections in runs]
        matched = [
            next(match_and_label_at(ground_truth, detections, [settings], pairs))
            for (_, detections), pairs in zip(runs, paired, strict=True)
        ]
    scored = [ScoredRun.of(run, ground_truth) for run in matched]
    points = measure(
        [(name, one) for (name, _), one in zip(runs, scored, strict=True)],
        criterion,
        per_class=per_class,
        resamples=resamples,
        seed=seed,
        progress=progress,
    )
    return [
        RunAtThreshold(
            name, ground_truth, dt, settings, scores, point, at_threshold(ground_truth, dt, run, point.threshold, pairs)
        )
        for (name, dt), run, scores, point, pairs in zip(runs, matched, scored, points, paired, strict=True)
    ]
