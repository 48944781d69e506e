"""Precision-recall and 101-point average precision from flags."""

from dataclasses import dataclass

import numpy as np

from analysis import native
from analysis.arrays import Bools, Floats, Ints, group_starts, order_by_index

COCO_RECALLS: Floats = np.linspace(0.0, 1.00, 101)
COCO_IOUS: Floats = np.linspace(0.5, 0.95, 10)
MAX_DETS = (1, 10, 100)  # COCO's caps; all but AR1 and AR10 are measured under the last
EPSILON = np.spacing(1)  # COCOeval's guard in the denominator of the precision


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections in descending order of score within their category, categories one after another."""

    rows: Ints  # [N] positions in whatever the caller numbers
    category: Ints  # [N] of each, ascending
    start: Ints  # [K + 1] where each category begins


def rank(order: Ints, category: Ints, categories: int) -> Ranking:
    """Split an order by score ``i64[N]`` (positions) into categories, keeping it within each."""
    ranking = rank_ordered(category[order], categories)
    return Ranking(order[ranking.rows], ranking.category, ranking.start)


def rank_ordered(category: Ints, categories: int) -> Ranking:
    """The same of positions that stand by descending score, of categories i64[N]."""
    rows = order_by_index(category, categories)
    return Ranking(rows, category[rows], group_starts(category, categories))


def recall_steps(positives: Ints, recalls: Floats) -> Ints:
    """The number of true positives i64[K, R] at which each recall is first reached, for i64[K] objects a category.

    The same as ``searchsorted(arange(1, ...) / positives, recalls, "left") + 1``, with its rounding, for all at once;
    1 for a category without objects.
    """
    steps = np.ones((len(positives), len(recalls)), dtype=np.int64)
    known = np.flatnonzero(positives)  # of thousands of categories few may have objects
    total = positives[known].astype(np.float64)[:, None]
    step = np.maximum(np.ceil(recalls * total), 1)
    step = np.where((step > 1) & ((step - 1) / total >= recalls), step - 1, step)
    steps[known] = np.where(step / total < recalls, step + 1, step)
    return steps


def precision_at_recalls(
    ranking: Ranking, is_tp: Bools, counts: Bools, steps: Ints, epsilon: float = EPSILON
) -> Floats:
    """Interpolated precision f64[K, R] (0..1) of each category at the recalls of ``steps``.

    Args:
        ranking: the order of the detections.
        is_tp: bool[n] true positives, by position.
        counts: bool[n] detections that count, by position.
        steps: i64[K, R] from :func:`recall_steps`.
        epsilon: added to the denominator.
    """
    if native.core is not None:
        columns = map(np.ascontiguousarray, (ranking.start, ranking.rows, is_tp, counts, steps))
        found = native.core.interpolate(len(ranking.start) - 1, *columns, epsilon)
        return np.frombuffer(found, dtype=np.float64).reshape(steps.shape)
    counting = counts[ranking.rows]
    hit = np.flatnonzero(is_tp[ranking.rows] & counting)
    seen = np.cumsum(counting)
    before = np.concatenate([[0], seen])[ranking.start[:-1]]
    return interpolate_hits(
        np.searchsorted(hit, ranking.start), seen[hit] - before[ranking.category[hit]], steps, epsilon
    )


def interpolate_hits(first: Ints, seen: Ints, steps: Ints, epsilon: float = EPSILON) -> Floats:
    """The same from the true positives alone.

    Right after one, precision only falls until the next, so the envelope (the best precision at this recall or a higher
    one) is decided by them.

    Args:
        first: i64[K + 1] where the true positives of each category begin.
        seen: i64[H] of each, the detections of its category that count up to and with it.
        steps: i64[K, R] from :func:`recall_steps`.
        epsilon: added to the denominator.
    """
    if native.core is not None:
        columns = map(np.ascontiguousarray, (first, seen, steps))
        values = native.core.interpolate_hits(len(first) - 1, *columns, epsilon)
        return np.frombuffer(values, dtype=np.float64).reshape(steps.shape)
    hits = np.diff(first)
    number = np.arange(1, len(seen) + 1) - np.repeat(first[:-1], hits)  # 1, 2, ... within the category
    precision = number / ((seen - number).astype(np.float64) + number + epsilon)
    found = np.flatnonzero(hits)  # the categories that have any; all others stay at 0
    for low, high in zip(first[found].tolist(), first[found + 1].tolist(), strict=True):
        precision[low:high] = best_from_here(precision[low:high])
    reached = steps[found] <= hits[found, None]
    interpolated = np.zeros(steps.shape)
    interpolated[found] = np.where(reached, precision[np.where(reached, first[found, None] + steps[found] - 1, 0)], 0.0)
    return interpolated


def best_from_here(values: Floats) -> Floats:
    """f64[N] the highest of each value and all after it: precision -> its envelope."""
    best: Floats = np.maximum.accumulate(values[::-1])[::-1]
    return best
