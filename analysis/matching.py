"""Greedy matching of detections to objects, as COCO does it, over candidate pairs in rounds instead of a loop."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.pairs import Pairs

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs that may match (same category, IoU high enough), each detection's in the order of its preference.

    Detections count in order of priority within their image and category: the better score first.
    """

    detection: Ints  # [P] ascending
    truth: Ints  # [P]
    iou: NDArray[np.float64]  # [P]


def candidates(pairs: Pairs, same_category: Bools, iou: float, prefer_last: bool) -> Candidates:
    """Candidate pairs with IoU >= ``iou``, sorted for matching.

    ``prefer_last``: of equal IoUs the last object wins (COCOeval's loop keeps going), else the first (tidecv).
    """
    keep = np.flatnonzero(same_category & (pairs.iou >= iou))
    detection, truth, overlap = pairs.detection[keep], pairs.truth[keep], pairs.iou[keep]
    # Most detections have one candidate; only the others need sorting, and each of them stays where it is.
    again = detection[1:] == detection[:-1]
    several = np.flatnonzero(np.append(again, False) | np.append(False, again))
    d, g, iou_ = detection[several], truth[several], overlap[several]
    order = np.lexsort((-g if prefer_last else g, -iou_, d))
    truth[several], overlap[several] = g[order], iou_[order]
    return Candidates(detection, truth, overlap)


def match_greedily(pairs: Candidates, usable: Bools, detections: int, truths: int, shared: Bools | None = None) -> Ints:
    """The object i64[detections] that each detection takes, -1 for none.

    In order of priority every detection takes the free object that it overlaps most. In a round, each detection names
    its best free object and gets it if no earlier unserved detection could still take it; a few rounds settle all.

    Args:
        pairs: the candidates; detections of other images or categories do not share objects.
        usable: bool[P] which pairs take part.
        detections: how many detections there are.
        truths: how many objects there are.
        shared: bool[truths] objects that any number of detections may take (crowds).
    """
    matched = np.full(detections, -1, dtype=np.int64)
    first_claim = np.full(truths, -1, dtype=np.int64)
    free = np.ones(truths, dtype=np.bool_)
    d, g = pairs.detection[usable], pairs.truth[usable]
    while len(d):
        best = np.empty(len(d), dtype=np.bool_)
        best[0] = True
        np.not_equal(d[1:], d[:-1], out=best[1:])
        first_claim[g[::-1]] = d[::-1]  # the last write stays: the earliest detection with an edge to the object
        served = best & (first_claim[g] == d)
        if shared is not None:
            served |= best & shared[g]
        matched[d[served]] = g[served]
        free[g[served]] = False
        if shared is not None:
            free |= shared
        alive = free[g] & (matched[d] < 0)
        d, g = d[alive], g[alive]
    return matched
