"""Paired bootstrap over images: AP, AP50 and every error when the images are drawn again, exactly.

A resample draws as many images as there are, with replacement, the same for every run. Labels and matches belong to an
image, and whatever an image adds to an evaluation it adds as often as it is drawn. So nothing is matched again: orders
by score, made once, turn into precision and recall by running sums of the weights of images (:class:`WeightedAP`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import native
from analysis.arrays import Bools, Floats, Ints, inverse
from analysis.coco import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.average_precision import COCO_IOUS, COCO_RECALLS, EPSILON, Ranking
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.matched_run import Curve
from analysis.evaluation.settings import MEAN_AP, ap_name
from analysis.exceptions import BadInput
from analysis.stats.resampling import LANES, Grouped, Weights, measure_resamples

MOST_BLOCKS = 62  # that the compiled core takes: a curve has a bit for each
_NEXT_RECALLS: Floats = np.append(COCO_RECALLS[1:], np.inf)


@dataclass(frozen=True, eq=False)
class _Hits:
    """The true positives of curves that share them, category by category and by descending score.

    Only the last of those that follow each other without a wrong detection between can have the best precision from
    there on: the *peaks*, a third of them with usual detectors. For each block that counts in one of these curves,
    ``seen`` and ``before`` are the places in the running sum over all blocks that tell how many of its detections come
    up to and with each peak, and how many before its category.
    """

    image: NDArray[np.int32]  # [H] of the true positives
    peak: NDArray[np.int32]  # [P] in their running sum, up to and with each peak
    occupied: Ints  # [Q] categories with a peak
    first: Ints  # [Q + 1] where their peaks begin
    lift: Floats  # [Q] higher by 1 than in the category after it
    seen: dict[int, NDArray[np.int32]]  # block -> [P]
    before: dict[int, NDArray[np.int32]]  # block -> [Q]
    curves: tuple[tuple[int, int, tuple[int, ...]], ...]  # (which curve, which objects, the blocks that count)

    @cached_property
    def cells(self) -> tuple[Any, ...]:
        """Which curves [C, 1] and which categories [1, Q]: where their AP stands among those of all."""
        return np.ix_(np.array([number for number, _, _ in self.curves]), self.occupied)

    @cached_property
    def sets(self) -> list[int]:
        """Which sets of objects count in some of the curves."""
        return sorted({objects for _, objects, _ in self.curves})

    @cached_property
    def core_curves(self) -> Ints:
        """i64[C, 2] the place of each curve's objects in `sets`, and a bit for each block of `seen` that counts."""
        place = {block: number for number, block in enumerate(self.seen)}
        return np.array(
            [
                (self.sets.index(objects), sum(1 << place[block] for block in blocks))
                for _, objects, blocks in self.curves
            ]
        )


@dataclass(frozen=True, eq=False)
class WeightedAP:
    """Curves of one run in the ``coco`` convention, ready to be weighted by image; made by :func:`weighted_ap`.

    The detections are split into *blocks* by the curves in which they count, so that one running sum over all blocks
    gives, for every curve, the number of detections before each of its true positives.
    """

    curves: int
    categories: int
    integer: type[np.signedinteger[Any]]  # wide enough for the sums
    block_image: NDArray[np.int32]  # of the detections, block by block
    hits: tuple[_Hits, ...]
    objects: tuple[Grouped, ...]  # those that count in some curves, by category

    def average_precision(self, weights: Ints) -> Floats:
        """f64[L, curves, K] the AP of each category in points; NaN where no object counts in the first curve.

        ``weights`` i64[L, images] are how often each image counts in each of up to ``LANES`` resamples. The result is
        that of a data set in which the images are repeated, their detections ordered by score, then by their order
        here, then by copy.
        """
        core = native.core is not None and self.integer is np.int32
        if core and all(len(hits.seen) <= MOST_BLOCKS for hits in self.hits):
            return self._by_core(weights) * 100
        return np.array([self._alone(one) for one in weights.astype(self.integer)]) * 100

    def _by_core(self, weights: Ints) -> Floats:
        lanes = np.zeros((weights.shape[1], LANES), dtype=np.int32)
        lanes[:, : len(weights)] = weights.T
        found = np.zeros((LANES, self.curves, self.categories))
        counts = [np.zeros((LANES, self.categories), dtype=np.int64) for _ in self.objects]
        for count, objects in zip(counts, self.objects, strict=True):
            for lane, one in enumerate(weights):
                count[lane] = objects.sums(one)
        sums = _core_running(lanes, self.block_image)
        for hits in self.hits:
            found[:, *hits.cells] = _core_average(hits, sums, _core_running(lanes, hits.image), counts)
        found.swapaxes(1, 2)[counts[0] == 0] = np.nan
        return found[: len(weights)]

    def _alone(self, weights: Weights) -> Floats:
        """f64[curves, K] for one resample [images], by NumPy."""
        found = np.zeros((self.curves, self.categories))
        sums = _running(weights, self.block_image)
        counts = [one.sums(weights) for one in self.objects]
        for hits in self.hits:
            running = _running(weights, hits.image)
            place = np.repeat(np.arange(len(hits.occupied)), np.diff(hits.first))  # of the category of each peak
            start = np.append(0, hits.peak[hits.first[1:-1] - 1])  # the true positives before each category
            is_tp = (running[hits.peak] - running[start][place]).astype(np.float64)
            shares = {one: _shares(hits, is_tp, counts[one][hits.occupied][place]) for one in hits.sets}
            of_block = {block: sums[seen] - sums[hits.before[block]][place] for block, seen in hits.seen.items()}
            for curve, objects, blocks in hits.curves:
                total = reduce(np.add, [of_block[block] for block in blocks])
                precision = is_tp / (total + EPSILON)
                found[curve, hits.occupied] = _average(hits, precision, shares[objects], hits.lift[place])
        found[:, counts[0] == 0] = np.nan
        return found


def _running(weights: Weights, image: NDArray[np.int32]) -> Weights:
    """[n + 1] the running sum of the weights of images [n], from 0; of the integer type of the weights."""
    total = np.zeros(len(image) + 1, dtype=weights.dtype)
    np.cumsum(weights[image], out=total[1:])
    return total


def _core_running(lanes: Weights, image: NDArray[np.int32]) -> Weights:
    """The same of each lane by the compiled core, [n + 1, LANES], for weights [images, LANES]."""
    return np.frombuffer(native.core.running_weights(lanes, image), dtype=np.int32)


def _shares(hits: _Hits, is_tp: Floats, objects: Ints) -> Floats:
    """f64[P] how many of the 101 recalls are first reached by each peak, for [P] objects that count in its category.

    The recall at a peak reaches as many as ``searchsorted(recalls, recall, "right")`` says, with its rounding.
    """
    recall = is_tp / np.maximum(objects, 1)
    guess = (recall * 100).astype(np.int64)
    reached = guess + 1 + (recall >= _NEXT_RECALLS[guess]) - (recall < COCO_RECALLS[guess])
    share = np.diff(reached, prepend=0).astype(np.float64)
    share[hits.first[:-1]] = reached[hits.first[:-1]]
    return share


def _average(hits: _Hits, precision: Floats, share: Floats, lift: Floats) -> Floats:
    """f64[Q] the mean over recalls of the best precision at that recall or a higher one.

    A peak whose image does not count cannot be the best: at its place precision is that of one before it, or less.
    The best from each hit on comes from one running maximum over all categories, each lifted above the one after it.
    """
    lifted = (precision + lift).view(np.int64)  # in the order of the numbers, as none is negative, and faster
    best = np.maximum.accumulate(lifted[::-1])[::-1].view(np.float64)
    mean: Floats = np.add.reduceat((best - lift) * share, hits.first[:-1]) / len(COCO_RECALLS)
    return mean


def _core_average(hits: _Hits, sums: Weights, running: Weights, counts: Sequence[Ints]) -> Floats:
    """f64[LANES, C, Q] the same of all curves by the compiled core, but for the last sum, whose order is NumPy's."""
    sets = tuple(counts[one] for one in hits.sets)
    seen, before = tuple(hits.seen.values()), tuple(hits.before.values())
    columns = (hits.peak, hits.first, hits.occupied, hits.lift, hits.core_curves, sets, seen, before)
    found = native.core.weigh_peaks(sums, running, *columns, COCO_RECALLS, _NEXT_RECALLS, EPSILON)
    terms = np.frombuffer(found, dtype=np.float64).reshape(LANES, len(hits.curves), -1)
    mean: Floats = np.add.reduceat(terms, hits.first[:-1], axis=2) / len(COCO_RECALLS)
    return mean


def weighted_ap(
    curves: Sequence[Curve], image: Ints, object_image: Ints, object_category: Ints, images: int, categories: int
) -> WeightedAP:
    """Prepare curves of one run for weights of images.

    Args:
        curves: they may differ in their true positives, and in which detections and objects count. A curve may move
            true positives to other categories; all else is in the order of the first one's ranking.
        image: i64[n] of the detection at each position.
        object_image: i64[M] of each object.
        object_category: i64[M] of each object.
        images: how many there are.
        categories: K.
    """
    rankings = {id(curve.ranking): curve.ranking for curve in curves}
    reference = curves[0].ranking
    category = {key: one.category[inverse(one.rows, len(image))] for key, one in rankings.items()}
    moved = {key: own != category[id(reference)] for key, own in category.items()}
    signature = np.zeros(len(image), dtype=np.int64)
    for number, curve in enumerate(curves):
        signature |= (curve.not_ignored & ~moved[id(curve.ranking)]).astype(np.int64) << number
    signature[~_needed(curves)] = 0
    kinds, kind = np.unique(signature, return_inverse=True)
    blocks = [
        reference.rows[kind[reference.rows] == block] if bits else reference.rows[:0]
        for block, bits in enumerate(kinds)
    ]
    # Detections in another category than in the first ranking: a block for each ranking that moves some.
    own = {key: len(blocks) + n for n, key in enumerate(key for key in rankings if moved[key].any())}
    blocks += [rankings[key].rows[moved[key][rankings[key].rows]] for key in own]
    offset = np.cumsum([0, *map(len, blocks)])

    valid: dict[bytes, int] = {}  # each set of objects that count in some curve -> its number
    groups: dict[tuple[int, bytes], list[tuple[int, int, tuple[int, ...]]]] = {}
    for number, curve in enumerate(curves):
        key = id(curve.ranking)
        counting = tuple(block for block, bits in enumerate(kinds.tolist()) if bits >> number & 1)
        if key in own:
            counting += (own[key],)
        hit = np.flatnonzero((curve.is_tp & curve.not_ignored)[curve.ranking.rows])
        objects = valid.setdefault(curve.gt_valid.tobytes(), len(valid))
        if len(hit):  # else its AP is 0, whatever the weights
            groups.setdefault((key, hit.tobytes()), []).append((number, objects, counting))

    hits = []
    for (key, content), members in groups.items():
        ranking = rankings[key]
        hit = np.frombuffer(content, dtype=np.int64)
        not_ignored = np.any([curves[number].not_ignored for number, _, _ in members], axis=0)[ranking.rows]
        place_of_peak = _peaks(ranking, hit, not_ignored)
        peak = hit[place_of_peak]
        block_of = np.where(moved[key], own.get(key, -1), kind)[ranking.rows]
        occupied, first = np.unique(ranking.category[peak], return_index=True)
        seen, before = {}, {}
        for block in sorted({block for _, _, counting in members for block in counting}):
            running = (np.concatenate([[0], np.cumsum(block_of == block)]) + offset[block]).astype(np.int32)
            seen[block], before[block] = running[peak + 1], running[ranking.start[occupied]]
        hits.append(
            _Hits(
                image=image[ranking.rows[hit]].astype(np.int32),
                peak=(place_of_peak + 1).astype(np.int32),
                occupied=occupied,
                first=np.append(first, len(peak)),
                lift=(categories - 1 - occupied).astype(np.float64),
                seen=seen,
                before=before,
                curves=tuple(members),
            )
        )

    def objects_of(flags: bytes) -> Grouped:
        rows = np.flatnonzero(np.frombuffer(flags, dtype=np.bool_))
        return Grouped.of(object_category[rows], object_image[rows], categories)

    block_image = image[np.concatenate(blocks)] if blocks else image
    most = max(int(np.bincount(of, minlength=1).max()) for of in (block_image, object_image)) * images
    return WeightedAP(
        curves=len(curves),
        categories=categories,
        integer=np.int32 if most < 2**31 else np.int64,
        block_image=block_image.astype(np.int32),
        hits=tuple(hits),
        objects=tuple(objects_of(flags) for flags in valid),
    )


def _peaks(ranking: Ranking, hit: Ints, not_ignored: Bools) -> Ints:
    """The hits i64[P] (of places i64[H] in the ranking) after which a wrong detection counts or the category ends."""
    wrong = not_ignored.copy()
    wrong[hit] = False
    before = np.concatenate([[0], np.cumsum(wrong)])[hit]  # wrong ones before each hit
    return np.flatnonzero((np.diff(before, append=np.inf) > 0) | (np.diff(ranking.category[hit], append=np.inf) > 0))


def _needed(curves: Sequence[Curve]) -> Bools:
    """bool[n] which detections come before the last true positive of their category in some curve.

    Those after it change no precision that counts: with detectors that give many low scores, most of them.
    """
    needed = np.zeros(len(curves[0].is_tp), dtype=np.bool_)
    for curve in curves:
        rows, start = curve.ranking.rows, curve.ranking.start
        hits = np.concatenate([[0], np.cumsum((curve.is_tp & curve.not_ignored)[rows])])
        needed[rows] |= hits[:-1] < hits[start[1:]][curve.ranking.category]
    return needed


@dataclass(frozen=True, eq=False)
class Resampled:
    """The numbers of one run, and their values in every resample; in points.

    NaN: the category has no object (in that resample), so that it takes no part in the mean.
    """

    numbers: tuple[str, ...]  # AP (where asked for), AP50, cls, loc, both, dup, bg, miss, fp, fn
    value: Floats  # [numbers] on the images as they are
    drawn: Floats  # [numbers, R]
    category_value: Floats  # [numbers, K]
    category_drawn: NDArray[np.float32]  # [numbers, R, K]


def resample(
    ground_truth: GroundTruth,
    runs: Sequence[RunAnalysis],
    *,
    resamples: int = 1000,
    seed: int = 0,
    mean_ap: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[Resampled]:
    """Draw the images again and again and measure every run on each draw.

    Args:
        ground_truth: of all runs.
        runs: each analysed in the ``coco`` convention; for ``mean_ap`` with its curves at COCO's ten IoUs.
        resamples: how many draws, R.
        seed: of the draws; the same seed and number of images give the same draws whatever the runs.
        mean_ap: also COCO's AP over ten IoUs, which takes about as long as everything else.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: another convention, no image, or a number of resamples below 1.
    """
    images = len(ground_truth.image_id)
    if any(one.matched_run.settings.convention != "coco" for one in runs):
        raise BadInput("intervals exist in the coco convention only; leave out --convention tidecv")
    if not images:
        raise BadInput(f"{ground_truth.path}: contains no image, so nothing can be resampled; give a file with images")
    if resamples < 1:
        raise BadInput(f"{resamples} resamples: at least 1 is needed, 1,000 for a 95 % interval")
    measured = [_ReadyCurves(ground_truth, one, mean_ap) for one in runs]
    categories = len(ground_truth.category_id)
    drawn = [np.empty((len(one.numbers), resamples)) for one in measured]
    category_drawn = [np.empty((*one.shape, categories), dtype=np.float32) for one in drawn]

    def several(numbers: range, weights: Ints) -> None:
        for run, curves in enumerate(measured):
            for number, found in zip(numbers, curves.measure(weights), strict=True):
                drawn[run][:, number] = _mean(found)
                category_drawn[run][:, number] = found

    measure_resamples(several, images, resamples, seed, progress)
    values = [curves.measure(np.ones((1, images), dtype=np.int64))[0] for curves in measured]
    return [
        Resampled(curves.numbers, _mean(value), drawn[run], value, category_drawn[run])
        for run, (curves, value) in enumerate(zip(measured, values, strict=True))
    ]


class _ReadyCurves:
    """The curves of one run, ready for weights."""

    def __init__(self, ground_truth: GroundTruth, run: RunAnalysis, mean_ap: bool) -> None:
        matched_run = run.matched_run
        self.numbers = (*((MEAN_AP,) if mean_ap else ()), ap_name(matched_run.settings.iou), *ERROR_TYPES)

        of = (
            matched_run.image,
            ground_truth.image,
            ground_truth.category,
            len(ground_truth.image_id),
            len(ground_truth.category_id),
        )
        self._fixed = weighted_ap([matched_run.base, *(one.fix(matched_run) for one in ERROR_TYPES.values())], *of)
        self._at_ious = weighted_ap([run.curves[iou] for iou in COCO_IOUS.tolist()], *of) if mean_ap else None

    def measure(self, weights: Ints) -> Floats:
        """f64[L, numbers, K] in points, for weights of images i64[L, images]."""
        fixed = self._fixed.average_precision(weights)
        fixed[:, 1:] -= fixed[:, :1]
        if self._at_ious is None:
            return fixed
        return np.concatenate([self._at_ious.average_precision(weights).mean(axis=1, keepdims=True), fixed], axis=1)


def _mean(found: Floats) -> Floats:
    """f64[numbers] the mean over the categories that have objects; NaN where none has."""
    known = ~np.isnan(found[0])
    return found[:, known].mean(axis=1) if known.any() else np.full(len(found), np.nan)
