"""Compare runs with a baseline on the same images: differences beyond noise, by class, and outcomes of objects."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Bools, Floats, Ints, distinct
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.analysis import Analysis, RunAnalysis
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.outcomes import IGNORED, OUTCOME_NAMES, ObjectOutcomes
from analysis.evaluation.settings import Settings
from analysis.evaluation.tide import Breakdown
from analysis.exceptions import BadInput
from analysis.presentation import Presentable
from analysis.stats.bootstrap import Resampled, resample
from analysis.stats.intervals import (
    FEWEST_OF_CATEGORY,
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


@dataclass(frozen=True, eq=False)
class Candidate:
    """One model, or a design with one model per seed.

    Attributes:
        name: in tables and figures.
        detections: one for each seed, all on the same ground truth.
        seeds: of the trainings; the differences of two candidates are taken seed by seed.
        analyses: of the same detections, with curves at COCO's IoUs, if they are matched already.
    """

    name: str
    detections: tuple[Detections, ...]
    seeds: tuple[int, ...] = (0,)
    analyses: tuple[RunAnalysis, ...] = ()

    @classmethod
    def of(cls, analysis: RunAnalysis) -> "Candidate":
        """One model that is matched already."""
        return cls(analysis.name, (analysis.detections,), analyses=(analysis,))


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
class CandidateNumbers:
    """The numbers of one candidate. Keys: AP, AP50 (or as the IoU is), cls, loc, both, dup, bg, miss, fp, fn."""

    name: str
    seeds: tuple[int, ...]
    numbers: dict[str, Interval]
    categories: dict[str, CategoryIntervals]
    breakdowns: tuple[Breakdown, ...]  # one a seed


@dataclass(frozen=True, eq=False)
class OutcomeTransitions:
    """How the outcomes of objects (:mod:`analysis.evaluation.outcomes`, but ignored) differ between two models."""

    before: NDArray[np.int8]  # [M] outcome in the baseline
    after: NDArray[np.int8]  # [M] outcome in the other
    count: Ints  # [4, 4] objects by outcome in the baseline (row) and in the other (column)
    outcomes: tuple[str, ...]

    def images(self, image: Ints, before: int, after: int, most: int = 3) -> list[tuple[int, int]]:
        """The images (indices) in which most objects (i64[M] their images) moved so, each with how many."""
        where, count = np.unique(image[(self.before == before) & (self.after == after)], return_counts=True)
        return [(int(where[at]), int(count[at])) for at in np.lexsort((where, -count))[:most]]


@dataclass(frozen=True, eq=False)
class VsBaseline:
    """One candidate against the baseline; differences are the candidate minus the baseline, in points."""

    name: str
    seeds: tuple[int, ...]  # those that both have: differences are taken seed by seed
    differences: dict[str, Difference]
    categories: dict[str, CategoryIntervals]
    transitions: OutcomeTransitions | None  # none over several seeds, where an object has no single outcome


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Presentable):
    """The result of comparing runs with a baseline; shown by number or by class."""

    settings: Settings
    baseline: str
    numbers: tuple[str, ...]
    images: int
    resamples: int
    seed: int
    candidates: tuple[CandidateNumbers, ...]  # in the order given, the baseline among them
    vs_baseline: tuple[VsBaseline, ...]  # the others
    family: str  # of tests, over which p-values are corrected; empty: nothing is tested
    cautions: tuple[str, ...]  # sentences on what the numbers do not show
    category_names: tuple[str, ...]  # [K]
    designs: bool = False  # the question is about designs, not about these trained models

    @property
    def of_designs(self) -> bool:
        """Whether every difference is over at least two seeds, so that it is about designs."""
        return all(len(one.seeds) > 1 for one in self.vs_baseline)

    @property
    def of_single_seeds(self) -> bool:
        """Whether it compares designs with one seed each, so that intervals cover the choice of images only."""
        return self.designs and all(len(one.seeds) == 1 for one in self.vs_baseline)

    @property
    def tested(self) -> bool:
        """Whether any difference has a p-value."""
        return any(not math.isnan(number.p) for one in self.vs_baseline for number in one.differences.values())


def compare(
    ground_truth: GroundTruth,
    candidates: Sequence[Candidate],
    settings: Settings | None = None,
    *,
    baseline: str = "",
    resamples: int = 0,
    seed: int = 0,
    mean_ap: bool = True,
    designs: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Compare models or designs on the same images: every number and its difference to the baseline, with intervals.

    The images are resampled (bootstrap); all candidates are measured on the same resamples.

    Args:
        ground_truth: of all candidates.
        candidates: with detections on this ground truth; runs that are already matched are not matched again.
        settings: as for :func:`analysis.evaluation.tide.match_and_label`; the ``coco`` convention.
        baseline: name of a candidate; empty: the first.
        resamples: number of resamples; 0: 1,000, or more if the correction for multiple tests needs more.
        seed: random seed for resampling.
        mean_ap: also compute COCO's AP over ten IoUs.
        designs: compare designs, not these trained models: a difference with a single seed has an interval over images
            and is not tested, because the images do not show the effect of another seed.
        progress: called with the number of finished resamples.

    Raises:
        BadInput: names are not unique, the baseline is not one of them, there is no common seed, or there are too few
            resamples for any difference to be significant after the correction.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=200)
    >>> gt = read_ground_truth(truth)
    >>> comparison = compare(gt, [Candidate(name, (read_detections(path, gt),)) for name, path in predictions.items()])
    >>> (confused,) = comparison.vs_baseline  # minus the baseline, the first one
    >>> cls = confused.differences["cls"]  # in points of AP50
    >>> cls.significant, 0 < cls.low < cls.value < cls.high
    (True, True)
    """
    settings = settings or Settings.on(ground_truth)
    names = [candidate.name for candidate in candidates]
    baseline = baseline or names[0]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two runs have the name {name!r}; give names with NAME=FILE")
    if baseline not in names:
        raise BadInput(f"baseline {baseline!r} is not one of the runs; choose from {', '.join(names)}")
    at, images = names.index(baseline), len(ground_truth.image_id)
    base = candidates[at]
    for candidate in candidates:
        if not set(candidate.seeds) & set(base.seeds):
            raise BadInput(
                f"{candidate.name} and the baseline {baseline} have no seed in common; run both under the same seeds"
            )
    paired = {one.name: tuple(s for s in one.seeds if s in base.seeds) for one in candidates if one is not base}
    tested = [name for name, seeds in paired.items() if not designs or len(seeds) > 1]
    count = (len(ERROR_TYPES) + 1 + mean_ap) * len(tested)
    counted = count * any(len(paired[name]) == 1 for name in tested)  # over seeds, p does not count resamples
    resamples = resamples or enough(counted)
    if 2 * counted > SIGNIFICANCE * (resamples + 1):
        raise BadInput(
            f"{resamples:,} resamples are too few for {count} tests: no p-value is below 2/{resamples + 1:,}, so no "
            f"difference could be significant after correction; use {math.ceil(2 * count / SIGNIFICANCE):,} or more"
        )
    analysis = Analysis(ground_truth, settings, ious=COCO_IOUS if mean_ap else ())
    runs = [one.analyses or tuple(analysis.of(one.name, dt) for dt in one.detections) for one in candidates]
    flat = resample(ground_truth, [*chain(*runs)], resamples=resamples, seed=seed, mean_ap=mean_ap, progress=progress)
    if images == 1:  # every resample equals it
        for one in flat:
            one.drawn.fill(np.nan)
            one.category_drawn.fill(np.nan)
    numbers, remaining = flat[0].numbers, iter(flat)
    drawn = [list(islice(remaining, len(own))) for own in runs]
    told = _images_of_categories(ground_truth, runs[0][0].matched_run.gt_valid) >= FEWEST_OF_CATEGORY
    vs_baseline = []
    for number, candidate in enumerate(candidates):
        if number == at:
            continue
        seeds = paired[candidate.name]
        pairs = [(drawn[number][candidate.seeds.index(one)], drawn[at][base.seeds.index(one)]) for one in seeds]
        differences, categories = _summarised(
            numbers, partial(_differences_of, pairs), difference, difference_over_seeds, told
        )
        if candidate.name not in tested:
            differences = {name: replace(one, p=math.nan) for name, one in differences.items()}
        single = len(candidate.seeds) == len(base.seeds) == 1
        transitions = transitions_between(runs[at][0].outcomes, runs[number][0].outcomes) if single else None
        vs_baseline.append(VsBaseline(candidate.name, seeds, differences, categories, transitions))
    return Comparison(
        settings=settings,
        baseline=baseline,
        numbers=numbers,
        images=images,
        resamples=resamples,
        seed=seed,
        candidates=tuple(
            CandidateNumbers(one.name, one.seeds, *_of_one(parts, told), tuple(run.breakdown for run in own))
            for one, own, parts in zip(candidates, runs, drawn, strict=True)
        ),
        vs_baseline=tuple(_corrected(vs_baseline)),
        family=f"{'1 run' if len(tested) == 1 else f'{len(tested)} runs'} against the baseline x {len(numbers)} "
        f"numbers = {count} tests"
        if tested
        else "",
        cautions=tuple(_cautions(ground_truth, images, candidates)),
        designs=designs,
        category_names=tuple(ground_truth.category_name),
    )


def enough(tests: int) -> int:
    """Resamples for so many tests: 1,000, or more where the smallest p would not survive the correction.

    >>> enough(10), enough(40)
    (1000, 3199)
    """
    return max(1000, 80 * tests - 1)  # the smallest p, 2 / (R + 1), times the tests is 0.025 then


def _images_of_categories(ground_truth: GroundTruth, gt_valid: Bools) -> Ints:
    """i64[K] the images in which a category has an object that counts."""
    images = len(ground_truth.image_id)
    pairs = distinct(ground_truth.category[gt_valid] * images + ground_truth.image[gt_valid])
    return np.bincount(pairs // images, minlength=len(ground_truth.category_id))


_T = TypeVar("_T", bound=Interval)


def _summarised(
    names: Sequence[str],
    of_number: Callable[[int], list[Resampled]],
    of_one: Callable[[float, Floats], _T],
    of_seeds: Callable[[Floats, Floats], _T],
    told: Bools,
) -> tuple[dict[str, _T], dict[str, CategoryIntervals]]:
    """Each number with its interval, in all and by category, from the resamples of one seed or of several.

    ``of_number`` gives those of one number by its place, one a seed: of all numbers at once they would fill the memory.
    """
    numbers, categories = {}, {}
    for row, name in enumerate(names):
        drawn = of_number(row)
        values, each = np.array([one.value[0] for one in drawn]), np.array([one.drawn[0] for one in drawn])
        numbers[name] = of_one(values[0], each[0]) if len(drawn) == 1 else of_seeds(values, each)
        value = np.mean([one.category_value[0] for one in drawn], axis=0)
        low, high = limits(np.mean([one.category_drawn[0] for one in drawn], axis=0).T)
        categories[name] = CategoryIntervals(value, np.where(told, low, np.nan), np.where(told, high, np.nan))
    return numbers, categories


def _of_one(drawn: Sequence[Resampled], told: Bools) -> tuple[dict[str, Interval], dict[str, CategoryIntervals]]:
    """Likewise of one candidate: its intervals are basic ones (see :func:`interval`), those of an AP in 0..100."""
    numbers, categories = _summarised(
        drawn[0].numbers, lambda row: [_at(one, row) for one in drawn], interval, over_seeds, told
    )
    for name, one in categories.items():
        low, high = 2 * one.value - one.high, 2 * one.value - one.low
        if name not in ERROR_TYPES:
            low, high, found = low.clip(0, 100), high.clip(0, 100), numbers[name]
            numbers[name] = replace(
                found, low=float(np.clip(found.low, 0, 100)), high=float(np.clip(found.high, 0, 100))
            )
        categories[name] = CategoryIntervals(one.value, low, high)
    return numbers, categories


def _at(drawn: Resampled, row: int) -> Resampled:
    """One number of a run; nothing is copied."""
    one = slice(row, row + 1)
    return Resampled(
        drawn.numbers[one], drawn.value[one], drawn.drawn[one], drawn.category_value[one], drawn.category_drawn[one]
    )


def _differences_of(pairs: Sequence[tuple[Resampled, Resampled]], row: int) -> list[Resampled]:
    """The differences of one number, a pair of runs a seed."""
    return [_minus(_at(own, row), _at(theirs, row)) for own, theirs in pairs]


def _minus(own: Resampled, theirs: Resampled) -> Resampled:
    """The differences of two runs on the same resamples."""
    return Resampled(
        own.numbers,
        own.value - theirs.value,
        own.drawn - theirs.drawn,
        own.category_value - theirs.category_value,
        own.category_drawn - theirs.category_drawn,
    )


def transitions_between(before: ObjectOutcomes, after: ObjectOutcomes) -> OutcomeTransitions:
    """How the outcomes of the objects differ from one run to another on the same ground truth."""
    valid = before.outcome != IGNORED
    pair = before.outcome[valid].astype(np.int64) * len(OUTCOME_NAMES) + after.outcome[valid]
    count = np.bincount(pair, minlength=len(OUTCOME_NAMES) ** 2).reshape(len(OUTCOME_NAMES), -1)
    return OutcomeTransitions(before.outcome, after.outcome, count[:IGNORED, :IGNORED], OUTCOME_NAMES[:IGNORED])


def _corrected(vs_baseline: Sequence[VsBaseline]) -> list[VsBaseline]:
    corrected = iter(holm([one for candidate in vs_baseline for one in candidate.differences.values()]))
    return [replace(one, differences={name: next(corrected) for name in one.differences}) for one in vs_baseline]


def _cautions(ground_truth: GroundTruth, images: int, candidates: Sequence[Candidate]) -> list[str]:
    cases = [
        (images == 1, "there is a single image, so there is nothing to resample and no interval"),
        (
            1 < images < FEWEST_IMAGES,
            f"with only {images} images (fewer than {FEWEST_IMAGES}) models with equal AP appear different more often "
            "than p says, and the AP of one model is strongly biased upwards",
        ),
        (
            FEWEST_IMAGES <= images < FEWEST_FOR_ONE,
            f"with fewer than {FEWEST_FOR_ONE:,} images the AP of one model is biased upwards and its interval covers "
            "less than 95 %; intervals of differences are not affected",
        ),
        (ground_truth.ignore.all(), "no object counts, so there is no AP"),
        *((not all(map(len, one.detections)), f"{one.name} has no detection") for one in candidates),
    ]
    return [sentence for holds, sentence in cases if holds]
