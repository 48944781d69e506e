"""Runs against a baseline on the same images: what differs beyond noise, per class, and what became of each object."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERRORS, SPECIAL, Settings
from analysis.evaluation.outcomes import IGNORED as NOT_ASKED
from analysis.evaluation.outcomes import OUTCOME_NAMES, object_outcomes
from analysis.evaluation.tide import Breakdown, break_down_verdict, match_and_label
from analysis.exceptions import BadInput
from analysis.stats.bootstrap import Resampled, resample
from analysis.stats.intervals import (
    SIGNIFICANCE,
    Difference,
    Interval,
    difference,
    difference_over_seeds,
    holm,
    interval,
    limits,
    over_seeds,
)

# Below, intervals cover less than they say: docs/uncertainty.md.
FEWEST_IMAGES = 200  # of differences
FEWEST_FOR_ONE = 5000  # of the AP of one model, which itself comes out too high with few images
FEWEST_OF_CATEGORY = 10  # images with an object of a category, below which its interval is not told


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is compared: one model, or a design by the models that its seeds gave."""

    name: str
    detections: tuple[Detections, ...]  # one a seed
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True, eq=False)
class CategoryIntervals:
    """A number, or a difference, of each category f64[K] with its 95 % interval over images.

    NaN: no object, or, for the limits, objects in fewer than 10 images, which tell too little about others. Over
    several seeds the value is their mean, and the interval speaks of the images alone.
    """

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class Measured:
    """The numbers of one entrant. Keys: AP, AP50 (or as the IoU is), cls, loc, both, dup, bg, miss, fp, fn."""

    name: str
    seeds: tuple[int, ...]
    numbers: dict[str, Interval]
    categories: dict[str, CategoryIntervals]
    breakdowns: tuple[Breakdown, ...]  # one a seed


@dataclass(frozen=True, eq=False)
class OutcomeTransitions:
    """How the fates of objects differ between two models.

    Fates are those of :mod:`analysis.evaluation.outcomes` but ignored.
    """

    before: NDArray[np.int8]  # [M] fate in the baseline
    after: NDArray[np.int8]  # [M] fate in the other
    count: Ints  # [4, 4] objects by fate in the baseline (row) and in the other (column)
    outcomes: tuple[str, ...]

    def images(self, image: Ints, before: int, after: int, most: int = 3) -> list[tuple[int, int]]:
        """The images (indices) in which most objects (i64[M] their images) moved so, each with how many."""
        where, count = np.unique(image[(self.before == before) & (self.after == after)], return_counts=True)
        order = np.lexsort((where, -count))[:most]
        return [(int(where[at]), int(count[at])) for at in order]


@dataclass(frozen=True, eq=False)
class VsBaseline:
    """One entrant against the baseline; differences are the entrant minus the baseline, in points."""

    name: str
    seeds: tuple[int, ...]  # those that both have: differences are taken seed by seed
    differences: dict[str, Difference]
    categories: dict[str, CategoryIntervals]
    transitions: OutcomeTransitions | None  # none over several seeds, where an object has no single fate


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that is known of some runs against a baseline."""

    settings: Settings
    baseline: str
    numbers: tuple[str, ...]
    images: int
    resamples: int
    seed: int
    candidates: tuple[Measured, ...]  # in the order given, the baseline among them
    vs_baseline: tuple[VsBaseline, ...]  # the others
    family: str  # what p-values are corrected over
    cautions: tuple[str, ...]  # sentences on what the numbers cannot bear

    @property
    def of_designs(self) -> bool:
        """Whether anything may be said about designs: every difference is over at least two seeds."""
        return all(len(one.seeds) > 1 for one in self.vs_baseline)


def compare(
    ground_truth: GroundTruth,
    candidates: Sequence[Candidate],
    settings: Settings | None = None,
    *,
    baseline: str = "",
    resamples: int = 0,
    seed: int = 0,
    mean_ap: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Measure every entrant on the same resamples of the images, and its differences to the baseline.

    Args:
        ground_truth: of all entrants.
        candidates: their detections, on this ground truth.
        settings: as for :func:`analysis.evaluation.tide.match_and_label`; the ``coco`` convention.
        baseline: the name of an entrant; the first, if none is named.
        resamples: how many; 0: 1,000, or as many more as the correction for the size of the family needs.
        seed: of the resampling.
        mean_ap: also COCO's AP over ten IoUs.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: names clash, the baseline is none of them, there is no seed in common, or there are too few resamples
            for anything to stand after the correction.
    """
    settings = settings or Settings()
    names = [candidate.name for candidate in candidates]
    baseline = baseline or names[0]
    _check(names, baseline)
    base = candidates[names.index(baseline)]
    for candidate in candidates:
        if not set(candidate.seeds) & set(base.seeds):
            raise BadInput(
                f"{candidate.name} and the baseline {baseline} have no seed in common; run both under the same seeds"
            )
    matched_runs = [
        [match_and_label(ground_truth, dt, settings) for dt in candidate.detections] for candidate in candidates
    ]
    runs = [
        (dt, matched_run)
        for candidate, own in zip(candidates, matched_runs, strict=True)
        for dt, matched_run in zip(candidate.detections, own, strict=True)
    ]
    images = len(ground_truth.image_id)
    count = (len(ERRORS) + len(SPECIAL) + 1 + mean_ap) * (len(candidates) - 1)
    resamples = resamples or enough(count)
    if count > SIGNIFICANCE * (resamples + 1):
        raise BadInput(
            f"{resamples:,} resamples are too few for {count} tests: no p is below 1/{resamples + 1:,}, so nothing "
            f"could stand after the correction; use {math.ceil(count / SIGNIFICANCE):,} or more"
        )
    flat = iter(resample(ground_truth, runs, resamples=resamples, seed=seed, mean_ap=mean_ap, progress=progress))
    drawn = [[_or_nothing(next(flat), images) for _ in candidate.detections] for candidate in candidates]
    breakdowns = [
        tuple(break_down_verdict(matched_run, dt) for dt, matched_run in zip(candidate.detections, own, strict=True))
        for candidate, own in zip(candidates, matched_runs, strict=True)
    ]
    told = _images_of_categories(ground_truth, matched_runs[0][0].asked) >= FEWEST_OF_CATEGORY
    measured = tuple(
        _measured(candidate, own, parts, told)
        for candidate, own, parts in zip(candidates, drawn, breakdowns, strict=True)
    )
    at = names.index(baseline)
    vs_baseline = [
        _against(candidate, drawn[n], breakdowns[n], base, drawn[at], breakdowns[at], told)
        for n, candidate in enumerate(candidates)
        if n != at
    ]
    return Comparison(
        settings=settings,
        baseline=baseline,
        numbers=drawn[0][0].numbers,
        images=images,
        resamples=resamples,
        seed=seed,
        candidates=measured,
        vs_baseline=tuple(_corrected(vs_baseline)),
        family=_family(len(vs_baseline), len(drawn[0][0].numbers)),
        cautions=tuple(_cautions(ground_truth, images, candidates)),
    )


def enough(tests: int) -> int:
    """Resamples for so many tests: 1,000, or more where the smallest p would not survive the correction.

    >>> enough(10), enough(40)
    (1000, 1599)
    """
    return max(1000, 40 * tests - 1)  # the smallest p, 1 / (R + 1), times the tests is 0.025 then


def _check(names: Sequence[str], baseline: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two runs are called {name!r}; name them: NAME=FILE")
    if baseline not in names:
        raise BadInput(f"baseline {baseline!r} is none of the runs; choose one of {', '.join(names)}")


def _images_of_categories(ground_truth: GroundTruth, asked: Bools) -> Ints:
    """i64[K] the images in which a category has an object that counts."""
    images, categories = len(ground_truth.image_id), len(ground_truth.category_id)
    pairs = np.unique(ground_truth.category[asked] * images + ground_truth.image[asked])
    return np.bincount(pairs // images, minlength=categories)


def _or_nothing(drawn: Resampled, images: int) -> Resampled:
    """A single image is drawn again as itself, which tells nothing."""
    if images > 1:
        return drawn
    return replace(
        drawn,
        drawn=np.full_like(drawn.drawn, np.nan),
        category_drawn=np.full_like(drawn.category_drawn, np.nan),
    )


def _measured(
    candidate: Candidate, drawn: Sequence[Resampled], breakdowns: tuple[Breakdown, ...], told: Bools
) -> Measured:
    values = np.array([one.value for one in drawn])
    numbers, first_error = {}, drawn[0].numbers.index(ERRORS[0])
    for row, name in enumerate(drawn[0].numbers):
        each = np.array([one.drawn[row] for one in drawn])
        found = interval(values[0, row], each[0]) if len(drawn) == 1 else over_seeds(values[:, row], each)
        numbers[name] = _possible(found) if row < first_error else found
    categories = {}
    for row, name in enumerate(drawn[0].numbers):
        value = np.mean([one.category_value[row] for one in drawn], axis=0)
        low, high = limits(np.mean([one.category_drawn[row] for one in drawn], axis=0).T)
        low, high = 2 * value - high, 2 * value - low  # as analysis.stats.intervals.interval does
        if row < first_error:
            low, high = low.clip(0, 100), high.clip(0, 100)
        categories[name] = CategoryIntervals(value, np.where(told, low, np.nan), np.where(told, high, np.nan))
    return Measured(candidate.name, candidate.seeds, numbers, categories, breakdowns)


def _possible(found: Interval) -> Interval:
    """An AP lies between 0 and 100."""
    if math.isnan(found.low):
        return found
    return replace(found, low=min(max(found.low, 0.0), 100.0), high=min(max(found.high, 0.0), 100.0))


def _against(
    candidate: Candidate,
    drawn: Sequence[Resampled],
    breakdowns: Sequence[Breakdown],
    base: Candidate,
    base_drawn: Sequence[Resampled],
    base_breakdowns: Sequence[Breakdown],
    told: Bools,
) -> VsBaseline:
    seeds = tuple(seed for seed in candidate.seeds if seed in base.seeds)
    pairs = [(drawn[candidate.seeds.index(seed)], base_drawn[base.seeds.index(seed)]) for seed in seeds]
    differences, categories = {}, {}
    for row, name in enumerate(drawn[0].numbers):
        values = np.array([own.value[row] - theirs.value[row] for own, theirs in pairs])
        each = np.array([own.drawn[row] - theirs.drawn[row] for own, theirs in pairs])
        differences[name] = difference(values[0], each[0]) if len(pairs) == 1 else difference_over_seeds(values, each)
        value = np.mean([own.category_value[row] - theirs.category_value[row] for own, theirs in pairs], axis=0)
        low, high = limits(
            np.mean([own.category_drawn[row] - theirs.category_drawn[row] for own, theirs in pairs], axis=0).T
        )
        categories[name] = CategoryIntervals(value, np.where(told, low, np.nan), np.where(told, high, np.nan))
    transitions = None
    if len(candidate.seeds) == len(base.seeds) == 1:
        transitions = moves_between(base_breakdowns[0], breakdowns[0])
    return VsBaseline(candidate.name, seeds, differences, categories, transitions)


def moves_between(before: Breakdown, after: Breakdown) -> OutcomeTransitions:
    """How the fates of the objects differ from one run to another on the same ground truth."""
    outcomes = tuple(name for number, name in enumerate(OUTCOME_NAMES) if number != NOT_ASKED)
    first, second = object_outcomes(before.labels).outcome, object_outcomes(after.labels).outcome
    asked = first != NOT_ASKED
    pair = first[asked].astype(np.int64) * len(OUTCOME_NAMES) + second[asked]
    count = np.bincount(pair, minlength=len(OUTCOME_NAMES) ** 2).reshape(len(OUTCOME_NAMES), -1)
    return OutcomeTransitions(first, second, count[: len(outcomes), : len(outcomes)], outcomes)


def _corrected(vs_baseline: Sequence[VsBaseline]) -> list[VsBaseline]:
    corrected = iter(holm([one for candidate in vs_baseline for one in candidate.differences.values()]))
    return [
        VsBaseline(
            one.name, one.seeds, {name: next(corrected) for name in one.differences}, one.categories, one.transitions
        )
        for one in vs_baseline
    ]


def _family(others: int, numbers: int) -> str:
    runs = "1 run" if others == 1 else f"{others} runs"
    return f"{runs} against the baseline x {numbers} numbers = {others * numbers} tests"


def _cautions(ground_truth: GroundTruth, images: int, candidates: Sequence[Candidate]) -> list[str]:
    sentences = []
    if images == 1:
        sentences.append("there is a single image, so there is nothing to resample and no interval")
    elif images < FEWEST_IMAGES:
        sentences.append(
            f"{images} images are few: below {FEWEST_IMAGES}, differences of AP that are none pass for real more often "
            "than p says, and the AP of one model comes out much too high"
        )
    elif images < FEWEST_FOR_ONE:
        sentences.append(
            f"trust the differences: with fewer than {FEWEST_FOR_ONE:,} images the AP of one model comes out too high, "
            "and its own interval covers less than 95 %"
        )
    if not (~ground_truth.ignore).any():
        sentences.append("no object counts, so there is no AP")
    sentences += [
        f"{candidate.name} has no detection"
        for candidate in candidates
        if not all(len(dt) for dt in candidate.detections)
    ]
    return sentences
