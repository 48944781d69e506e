"""Average precision when every image counts a whole number of times: what one resample of the images comes to, exactly.

Whatever an image adds to an evaluation, it adds as often as it counts. So nothing is matched again: orders by score,
made once, turn into precision and recall by running sums of the weights of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import COCO_RECALLS, EPSILON, recall_steps
from analysis.errors import Curve
from analysis.grouping import order_by_index

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Asked:
    """The objects that curves ask for, category by category."""

    image: Ints  # [m]
    start: Ints  # [K + 1] where each category begins


@dataclass(frozen=True, eq=False)
class _Hits:
    """The true positives of curves that share them, category by category and by descending score.

    For each block that counts in one of these curves, the places in the running sum over all blocks that tell how many
    of its detections come up to and with each hit, and how many before the category.
    """

    image: Ints  # [H]
    category: Ints  # [H]
    start: Ints  # [K + 1] where each category begins
    seen: dict[int, Ints]  # block -> [H]
    before: dict[int, Ints]  # block -> [K]
    curves: tuple[tuple[int, int, tuple[int, ...]], ...]  # (which curve, which objects, the blocks that count)


@dataclass(frozen=True, eq=False)
class WeightedCurves:
    """Curves of one run in the ``coco`` convention, ready to be weighted by image; made by :func:`weigh`.

    The detections are split into *blocks* by the curves in which they count, so that one running sum over all blocks
    tells, for every curve, how many detections come before any of its true positives.
    """

    curves: int
    categories: int
    integer: type[np.signedinteger[Any]]  # wide enough for the sums
    block_image: Ints  # of the detections, block by block
    hits: tuple[_Hits, ...]
    asked: tuple[_Asked, ...]

    def average_precision(self, weights: Ints) -> Floats:
        """f64[curves, K] the AP of each category in points; NaN where the first curve asks for no object.

        ``weights`` i64[images] are how often each image counts. The result is that of a data set in which the images
        are repeated, their detections ordered by score, then by their order here, then by copy.
        """
        weights = weights.astype(self.integer)
        found = np.zeros((self.curves, self.categories))
        sums = _running(weights, self.block_image)
        counts = [np.diff(_running(weights, asked.image)[asked.start]) for asked in self.asked]
        steps = [recall_steps(count, COCO_RECALLS) for count in counts]
        for hits in self.hits:
            if not len(hits.image):
                continue
            running = _running(weights, hits.image)
            start = running[hits.start[:-1]]
            right = running[1:] - start[hits.category]
            up_to = np.cumsum(np.bincount(running[1:]))  # [v] hits by which at most v true positives were counted
            place: dict[int, tuple[Ints, Bools]] = {}
            seen = {block: sums[index] for block, index in hits.seen.items()}
            before = {block: sums[index] for block, index in hits.before.items()}
            for curve, asked, blocks in hits.curves:
                if asked not in place:
                    place[asked] = _reached(start, steps[asked], up_to, hits.start[1:])
                total = _total(seen, blocks) - _total(before, blocks)[hits.category]
                found[curve] = _average(right, total, *place[asked])
        found[:, counts[0] == 0] = np.nan
        return found * 100


def _running(weights: Ints, image: Ints) -> Ints:
    """[n + 1] the running sum of the weights of images i64[n], from 0; of the integer type of the weights."""
    total = np.empty(len(image) + 1, dtype=weights.dtype)
    total[0] = 0
    np.cumsum(weights[image], out=total[1:])
    return total


def _reached(start: Ints, steps: Ints, up_to: Ints, end: Ints) -> tuple[Ints, Bools]:
    """The hit i64[K, R] at which each recall is first reached, the category's end where none is, and whether one is."""
    place = up_to[np.minimum(start[:, None] + steps - 1, len(up_to) - 1)]
    reached = place < end[:, None]
    return np.where(reached, place, end[:, None]), reached


def _average(right: Ints, seen: Ints, place: Ints, reached: Bools) -> Floats:
    """f64[K] the mean over recalls of the best precision at that recall or a higher one.

    A hit whose image does not count cannot be the best: at its place precision is that of the hit before it, or less.
    """
    precision = np.zeros(len(right) + 1)
    np.divide(right, seen + EPSILON, out=precision[:-1])
    bits = precision.view(np.int64)  # in the order of the numbers, as none is negative, and faster to compare
    best = np.maximum.reduceat(bits, place.ravel()).reshape(place.shape)  # between a recall and the next
    best[~reached] = 0
    envelope: Floats = np.maximum.accumulate(best[:, ::-1], axis=1).view(np.float64)
    mean: Floats = envelope.mean(axis=1)
    return mean


def _total(parts: dict[int, Ints], blocks: Sequence[int]) -> Ints:
    total = parts[blocks[0]].copy()
    for block in blocks[1:]:
        total += parts[block]
    return total


def weigh(
    curves: Sequence[Curve], image: Ints, object_image: Ints, object_category: Ints, images: int, categories: int
) -> WeightedCurves:
    """Prepare curves of one run for weighting.

    Args:
        curves: they may differ in what is right, counted and asked for. A curve may move true positives to other
            categories; all else stands in the order of the first one's ranking.
        image: i64[n] of the detection at each position.
        object_image: i64[M] of each object.
        object_category: i64[M] of each object.
        images: how many there are.
        categories: K.
    """
    first = curves[0].ranking
    place = np.empty(len(image), dtype=np.int64)
    place[first.rows] = np.arange(len(first.rows))
    category = first.category[place]
    moved = {id(c.ranking): c.ranking.category[np.argsort(c.ranking.rows)] != category for c in curves}
    signature = np.zeros(len(image), dtype=np.int64)
    for number, curve in enumerate(curves):
        signature |= (curve.counted & ~moved[id(curve.ranking)]).astype(np.int64) << number
    kinds, kind = np.unique(signature, return_inverse=True)
    blocks = [first.rows[kind[first.rows] == block] for block in range(len(kinds))]
    # Detections in another category than in the first ranking: a block for each ranking that moves some.
    rankings = {id(c.ranking): c.ranking for c in curves}
    own = {key: len(blocks) + n for n, key in enumerate(key for key in rankings if moved[key].any())}
    blocks += [rankings[key].rows[moved[key][rankings[key].rows]] for key in own]
    offset = np.concatenate([[0], np.cumsum([len(block) for block in blocks])])

    asked_index: dict[bytes, int] = {}
    asked: list[_Asked] = []
    groups: dict[tuple[int, bytes], list[tuple[int, int, tuple[int, ...]]]] = {}
    for number, curve in enumerate(curves):
        key = id(curve.ranking)
        flags = curve.asked.tobytes()
        if flags not in asked_index:
            asked_index[flags] = len(asked)
            objects = np.flatnonzero(curve.asked)
            objects = objects[order_by_index(object_category[objects], categories)]
            count = np.bincount(object_category[objects], minlength=categories)
            asked.append(_Asked(object_image[objects], np.concatenate([[0], np.cumsum(count)])))
        counting = tuple(block for block, bits in enumerate(kinds.tolist()) if bits >> number & 1)
        if key in own:
            counting += (own[key],)
        hit = np.flatnonzero((curve.right & curve.counted)[curve.ranking.rows])
        groups.setdefault((key, hit.tobytes()), []).append((number, asked_index[flags], counting))

    hits = []
    for (key, content), members in groups.items():
        ranking = rankings[key]
        hit = np.frombuffer(content, dtype=np.int64)
        used = sorted({block for _, _, counting in members for block in counting})
        block_of = np.where(moved[key], own.get(key, -1), kind)[ranking.rows]
        seen, before = {}, {}
        for block in used:
            running = np.concatenate([[0], np.cumsum(block_of == block)]) + offset[block]
            seen[block], before[block] = running[hit + 1], running[ranking.start[:-1]]
        start = np.searchsorted(hit, ranking.start)
        rows = ranking.rows[hit]
        hits.append(_Hits(image[rows], ranking.category[hit], start, seen, before, tuple(members)))
    block_image = image[np.concatenate(blocks)] if blocks else image
    most = int(np.bincount(block_image, minlength=1).max()) * images
    return WeightedCurves(
        curves=len(curves),
        categories=categories,
        integer=np.int32 if most < 2**31 else np.int64,
        block_image=block_image,
        hits=tuple(hits),
        asked=tuple(asked),
    )
