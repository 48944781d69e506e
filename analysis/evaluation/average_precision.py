"""Precision-recall and 101-point average precision from flags."""

from collections.abc import Sequence
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
    rows = order[order_by_index(category[order], categories)]
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
        counts: bool[n] detections that count, likewise.
        steps: i64[K, R] from :func:`recall_steps`.
        epsilon: added to the denominator.
    """
    anywhere = np.zeros(len(ranking.rows), dtype=np.int64)
    return precision_and_hits(ranking, is_tp, counts, anywhere, [1], steps, epsilon)[0]


def precision_and_hits(
    ranking: Ranking,
    is_tp: Bools,
    counts: Bools,
    place: Ints,
    caps: Sequence[int],
    steps: Ints,
    epsilon: float = EPSILON,
) -> tuple[Floats, Ints]:
    """The same under the last of several caps, and the true positives i64[M, K] of each category under each.

    Only true positives matter: right after one, precision only falls until the next, so the envelope (the best
    precision at this recall or a higher one) is decided by them.

    Args:
        ranking: the order of the detections.
        is_tp: bool[n] true positives, by position.
        counts: bool[n] detections that count, likewise.
        place: i64[N] in the order of the ranking: how many detections of the group that is capped come before.
        caps: M, ascending.
        steps: i64[K, R] from :func:`recall_steps`.
        epsilon: added to the denominator.
    """
    categories = len(ranking.start) - 1
    if native.core is not None:
        columns = map(np.ascontiguousarray, (ranking.start, ranking.rows, is_tp, counts, place, np.array(caps), steps))
        values, hits = native.core.interpolate(categories, *columns, epsilon)
        under = np.frombuffer(hits, dtype=np.int64).reshape(len(caps), categories)
        return np.frombuffer(values, dtype=np.float64).reshape(steps.shape), under
    counting = counts[ranking.rows] & (place < caps[-1])
    hit = np.flatnonzero(is_tp[ranking.rows] & counting)
    seen = np.cumsum(counting)
    before = np.concatenate([[0], seen])[ranking.start[:-1]]
    first = np.searchsorted(hit, ranking.start)  # where each category's true positives begin
    category = ranking.category[hit]
    number = np.arange(1, len(hit) + 1) - first[category]  # 1, 2, ... within the category
    precision = number / ((seen[hit] - before[category] - number).astype(np.float64) + number + epsilon)
    hits = np.diff(first)
    found = np.flatnonzero(hits)  # the categories that have any; all others stay at 0
    for low, high in zip(first[found].tolist(), first[found + 1].tolist(), strict=True):
        precision[low:high] = best_from_here(precision[low:high])
    reached = steps[found] <= hits[found, None]
    interpolated = np.zeros(steps.shape)
    interpolated[found] = np.where(reached, precision[np.where(reached, first[found, None] + steps[found] - 1, 0)], 0.0)
    each = [np.bincount(category[place[hit] < cap], minlength=categories) for cap in caps]
    return interpolated, np.array(each, dtype=np.int64)


def best_from_here(values: Floats) -> Floats:
    """f64[N] the highest of each value and all after it: precision -> its envelope."""
    best: Floats = np.maximum.accumulate(values[::-1])[::-1]
    return best
