"""How crowded objects stand: by hand, and against IoUs from pycocotools on real objects."""

from pathlib import Path

import numpy as np
import pytest

from analysis import break_down, read_detections, read_ground_truth
from analysis.evaluation.matched_run import DUP
from analysis.evaluation.outcomes import OUTCOME_NAMES, object_outcomes
from analysis.evaluation.slices import by_crowding, object_crowding
from tests.analysis import real_pairs
from tests.analysis.cases import found, object_, read

WHOLE = (0, 0, 100, 100)


def test_by_hand(tmp_path: Path) -> None:
    objects = [
        object_(1, WHOLE),
        object_(1, (0, 0, 80, 100)),  # IoU 0.8 with the first
        object_(1, (0, 0, 45, 100)),  # 0.5625 with the second, 0.45 with the first
        object_(2, (0, 0, 20, 100)),  # alone in its category, but for the crowd
        object_(1, WHOLE, image=2),  # alone in its image
        object_(2, (0, 0, 10, 100), iscrowd=1),  # no neighbour, but has one
        object_(3, (0, 0, 0, 0)),  # no area: overlaps nothing
        object_(3, (0, 0, 0, 0)),
    ]
    results = [found(1, WHOLE, 0.9), found(1, (0, 0, 95, 100), 0.8), found(1, (0, 0, 93, 100), 0.7)]
    gt, dt = read(tmp_path, objects, results, images=(1, 2), categories=3)
    crowding = object_crowding(gt)
    assert crowding.tolist() == [0.8, 0.8, 0.5625, 0, 0, 0.5, 0, 0]

    labels = break_down(gt, dt).labels
    bins = by_crowding(crowding, object_outcomes(labels), labels)
    assert bins.objects.tolist() == [4, 0, 0, 1, 2]
    rows = [dict(zip(OUTCOME_NAMES, row, strict=True)) for row in bins.outcome.tolist()]
    assert [row["found"] for row in rows] == [0, 0, 0, 0, 2]
    assert rows[2]["ignored"] == 1
    assert bins.recall.tolist() == [0, pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True), 0, 1]
    assert (labels.error == DUP).sum() == bins.duplicates[4] == 1
    assert bins.duplicate_rate[4] == 0.5
    assert bins.miss_rate[0] == 1


def test_edges_belong_to_the_lower_bin(tmp_path: Path) -> None:
    objects = [object_(1, WHOLE), object_(1, (0, 0, 50, 100)), object_(2, WHOLE), object_(2, (0, 0, 51, 100))]
    gt, dt = read(tmp_path, objects, [])
    labels = break_down(gt, dt).labels
    bins = by_crowding(object_crowding(gt), object_outcomes(labels), labels)
    assert bins.objects.tolist() == [0, 0, 2, 2, 0]


@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.VOC], ids=str)
def test_against_pycocotools(pair: real_pairs.RealPair) -> None:
    from pycocotools import mask

    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    crowding = object_crowding(gt)
    for image in range(min(len(gt.image_id), 400)):
        rows = np.flatnonzero(gt.image == image)
        if not len(rows):
            continue
        iou = np.array(mask.iou(gt.box[rows], gt.box[rows], [False] * len(rows)))
        np.fill_diagonal(iou, 0)
        iou[(gt.category[rows][:, None] != gt.category[rows]) | gt.crowd[rows]] = 0
        assert crowding[rows].tolist() == iou.max(axis=1).tolist()
    labels = break_down(gt, read_detections(results, gt)).labels
    bins = by_crowding(crowding, object_outcomes(labels), labels)
    assert bins.outcome.sum() == len(gt)
    assert bins.duplicates.sum() == (labels.error == DUP).sum()
    if pair is real_pairs.VOC:
        assert bins.recall[0] > bins.recall[-1]  # overlapping objects are harder
