"""Matching in rounds, one detection after another and by the compiled core are the same."""

import numpy as np
import pytest

from analysis import native
from analysis.evaluation import matching
from analysis.evaluation.matching import Pairs, match_greedily


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("crowds", [False, True])
def test_the_number_of_rounds_changes_nothing(monkeypatch: pytest.MonkeyPatch, seed: int, crowds: bool) -> None:
    rng = np.random.default_rng(seed)
    detections, truths = 40, 15
    edges = [(d, g) for d in range(detections) for g in rng.permutation(truths)[: rng.integers(0, truths)]]
    d, g = np.array(edges).reshape(-1, 2).T
    usable = rng.random(len(d)) < 0.9
    shared = rng.random(truths) < 0.2 if crowds else None
    pairs = Pairs(d, g, np.ones(len(d)))
    expected, free = np.full(detections, -1), np.ones(truths, dtype=np.bool_)
    for one in range(detections):  # as the definition says
        for object_ in g[usable & (d == one)]:
            if free[object_]:
                expected[one] = object_
                free[object_] = shared is not None and shared[object_]
                break
    assert match_greedily(pairs, usable, detections, truths, shared).tolist() == expected.tolist()
    monkeypatch.setattr(native, "core", None)
    for rounds in (0, 1, 3, 1000):
        monkeypatch.setattr(matching, "MOST_ROUNDS", rounds)
        assert match_greedily(pairs, usable, detections, truths, shared).tolist() == expected.tolist()
