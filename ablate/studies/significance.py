"""Which means of a column are the best: the first, and all that do not differ from it significantly over the seeds."""

from collections.abc import Sequence

import numpy as np

from analysis.stats.intervals import Estimate, holm, paired_over_seeds

SENTENCE = (
    "Bold: the best mean of a column and all values that do not differ significantly from it (paired t-test over the "
    "seeds, 5 %, Holm-corrected within the column)."
)


def best_over_seeds(
    found: Sequence[Estimate | None], seeds: Sequence[Sequence[int]], *, low: bool = False
) -> frozenset[int]:
    """The places of the best mean and of those that do not differ from it; empty where it has one seed.

    Variants of one seed are left out: one run does not predict the next. Two with fewer than two seeds in common
    cannot be distinguished.

    Args:
        found: of each variant; none without a result.
        seeds: of each variant, in the order of the values of its estimate.
        low: whether the smallest is the best.

    >>> from analysis.stats.intervals import estimate
    >>> high, near, far = (estimate(values) for values in ([31.0, 32, 33], [31.0, 33, 32], [20.0, 21, 22]))
    >>> sorted(best_over_seeds([high, near, far], [(0, 1, 2)] * 3))
    [0, 1]
    """
    known = {place: one for place, one in enumerate(found) if one is not None and one.n == len(seeds[place])}
    if len(known) < 2:
        return frozenset()
    first = (min if low else max)(known, key=lambda place: known[place].mean)
    if known[first].n < 2:
        return frozenset()
    others = [place for place, one in known.items() if place != first and one.n > 1]
    if not others:
        return frozenset()
    tests, untested = {}, []
    values = {place: dict(zip(seeds[place], known[place].each, strict=True)) for place in (first, *others)}
    for place in others:
        shared = [seed for seed in values[first] if seed in values[place]]
        if len(shared) < 2:
            untested.append(place)
        else:
            tests[place] = paired_over_seeds(np.array([values[first][seed] - values[place][seed] for seed in shared]))
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    return frozenset({first, *untested, *(place for place, one in corrected.items() if not one.significant)})
