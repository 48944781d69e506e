"""AP from the ranks of true positives, against the curve read at its recalls, detection by detection."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import native
from analysis.arrays import Floats, Ints
from analysis.evaluation.average_precision import COCO_RECALLS, recall_steps
from analysis.evaluation.hit_ranks import HitRanks
from tests.analysis.test_native import without_core

FLAGS = st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=4)  # of each category's detections


def average(flags: list[bool], objects: int, recalls: Floats = COCO_RECALLS) -> float:
    """The mean over recalls of the best precision at that recall or a higher one, from its definition."""
    right = np.cumsum(flags)
    precision, recall = right / np.arange(1, len(flags) + 1), right / max(objects, 1)
    return float(np.mean([max(precision[recall >= r], default=0.0) for r in recalls]))


def curves_of(flags: list[list[bool]], objects: Ints, recalls: Floats = COCO_RECALLS) -> HitRanks:
    start = np.cumsum([0, *map(len, flags)])
    is_tp = np.array([one for category in flags for one in category], dtype=np.bool_)
    return HitRanks.of_ranking(is_tp, start, recall_steps(objects, recalls))


def more(flags: list[list[bool]], seed: int) -> Ints:
    """As many objects as are found, or a few more, and at least one."""
    rng = np.random.default_rng(seed)
    return np.array([max(sum(one) + int(rng.integers(0, 4)), 1) for one in flags])


def both_ways(curves: HitRanks, ask: str, *arguments: object, **options: object) -> Floats:
    """By the compiled core and without it: the same bits."""
    found: Floats = getattr(curves, ask)(*arguments, **options)
    if native.core is not None:
        with without_core():
            assert getattr(curves, ask)(*arguments, **options).tobytes() == found.tobytes()
    return found


@given(FLAGS, st.integers(0, 99))
def test_as_it_is_and_without_a_wrong_detection(flags: list[list[bool]], seed: int) -> None:
    objects = more(flags, seed)
    curves = curves_of(flags, objects)
    expected = [average(one, count) for one, count in zip(flags, objects.tolist(), strict=True)]
    np.testing.assert_allclose(both_ways(curves, "ap"), expected, atol=1e-12)
    without = both_ways(curves, "ap_without")
    for c, (one, count) in enumerate(zip(flags, objects.tolist(), strict=True)):
        for place in np.flatnonzero(~np.array(one, dtype=np.bool_)).tolist():
            dropped = average(one[:place] + one[place + 1 :], count)
            assert abs(without[curves.start[c] + c + sum(one[:place])] - dropped) < 1e-12


@given(FLAGS, st.integers(0, 99))
def test_with_one_more_that_is_right(flags: list[list[bool]], seed: int) -> None:
    objects = more(flags, seed) + 1
    curves = curves_of(flags, objects)
    wrong = [(c, place) for c, one in enumerate(flags) for place, hit in enumerate(one) if not hit]
    comes = [(c, place) for c, one in enumerate(flags) for place in range(len(one) + 1)]
    for shift, cases in ((0, wrong), (1, comes)):
        category, place = np.array(cases, dtype=np.int64).reshape(-1, 2).T
        found = both_ways(curves, "ap_with_one", category, place + 1, shift=shift)
        for (c, at), value in zip(cases, found.tolist(), strict=True):
            one = flags[c]
            changed = [*one[:at], True, *one[at + 1 - shift :]]
            assert abs(value - average(changed, int(objects[c]))) < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from((0, 1)))
def test_with_many_true_positives_between_two_recalls(seed: int, few: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    flags = [(rng.random(length) < rng.random()).tolist() for length in (60, 0, 150)]
    objects = np.array(list(map(sum, flags))) + rng.integers(1, 50, 3)
    recalls = np.sort(rng.choice(COCO_RECALLS, few, replace=False))
    curves = curves_of(flags, objects, recalls)
    cases = [(c, at) for c, one in enumerate(flags) for at in range(len(one) + shift) if shift or not one[at]]
    cases = [cases[one] for one in rng.permutation(len(cases))[:20]]
    category, place = np.array(cases, dtype=np.int64).reshape(-1, 2).T
    found = both_ways(curves, "ap_with_one", category, place + 1, shift=shift)
    for (c, at), value in zip(cases, found.tolist(), strict=True):
        changed = [*flags[c][:at], True, *flags[c][at + 1 - shift :]]
        assert abs(value - average(changed, int(objects[c]), recalls)) < 1e-12


@given(FLAGS, st.integers(0, 99), st.booleans())
def test_when_some_leave_or_join(flags: list[list[bool]], seed: int, join: bool) -> None:
    rng = np.random.default_rng(seed)
    objects = more(flags, seed) + 3
    curves = curves_of(flags, objects)
    category = rng.integers(0, len(flags), 5)
    each = [
        sorted(rng.integers(0, len(flags[c]) + 1, 3).tolist())
        if join
        else (np.flatnonzero(~np.array(flags[c], dtype=np.bool_) & (rng.random(len(flags[c])) < 0.5)) + 1).tolist()
        for c in category.tolist()
    ]
    start = np.cumsum([0, *map(len, each)])
    moved = np.array([place for places in each for place in places], dtype=np.int64)
    found = both_ways(curves, "ap_moved", category, moved, start, join=join)
    for c, places, value in zip(category.tolist(), each, found.tolist(), strict=True):
        if join:
            parts = [flags[c][low:high] for low, high in pairwise([0, *places, len(flags[c])])]
            changed = parts[0] + [one for part in parts[1:] for one in [True, *part]]
        else:
            changed = [hit for place, hit in enumerate(flags[c], start=1) if place not in places]
        assert abs(value - average(changed, int(objects[c]))) < 1e-12
