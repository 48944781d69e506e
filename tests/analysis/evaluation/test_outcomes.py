"""What became of every object and which category was taken for which: by hand, and from tidecv's own objects."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import break_down, read_detections, read_ground_truth
from analysis.evaluation.confusion import category_confusion
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.outcomes import CONFUSED, FOUND, IGNORED, MISLOCALISED, MISSED, OUTCOME_NAMES, object_outcomes
from analysis.evaluation.settings import CONVENTIONS
from tests.analysis import real_pairs
from tests.analysis.cases import found, most_confused, object_, read
from tests.analysis.peers import load, tidecv_tide
from tests.analysis.real_pairs import RealPair

PLACES = [(300 * i, 0, 100, 100) for i in range(6)]
both_conventions = pytest.mark.parametrize("convention", CONVENTIONS)


def part(box, share):
    """A box inside another that overlaps it by exactly this IoU."""
    return (box[0], box[1], box[2] * share, box[3])


@both_conventions
def test_every_fate(convention: str, tmp_path: Path) -> None:
    objects = [object_(1, box) for box in PLACES]
    objects[5] |= {"iscrowd": 1}
    results = [
        found(1, PLACES[0], 0.9),
        found(1, part(PLACES[1], 0.4), 0.8),  # loc wins against cls
        found(2, PLACES[1], 0.7),
        found(2, PLACES[2], 0.6),  # cls wins against loc
        found(1, part(PLACES[2], 0.4), 0.5),
        found(2, part(PLACES[3], 0.4), 0.4),  # both claims nothing
    ]
    gt, dt = read(tmp_path, objects, results)
    outcomes = object_outcomes(break_down(gt, dt, convention=convention).labels)
    assert outcomes.outcome.tolist() == [FOUND, MISLOCALISED, CONFUSED, MISSED, MISSED, IGNORED]
    assert outcomes.by.tolist() == [0, 1, 3, -1, -1, -1]
    assert outcomes.count == {"found": 1, "mislocalised": 1, "confused": 1, "missed": 2, "ignored": 1}


@both_conventions
def test_confusion_by_hand(convention: str, tmp_path: Path) -> None:
    objects = [object_(1, PLACES[0]), object_(1, PLACES[1]), object_(3, PLACES[2])]
    results = [
        found(2, PLACES[0], 0.9),  # takes 1 for 2, twice, and costs the object once
        found(2, part(PLACES[0], 0.8), 0.8),
        found(1, PLACES[1], 0.7),
        found(3, PLACES[1], 0.6),  # the object was found rightly all the same
        found(3, PLACES[2], 0.5),
        found(3, (0, 500, 10, 10), 0.5),  # background: takes nothing for anything
    ]
    gt, dt = read(tmp_path, objects, results, categories=3)
    confusion = category_confusion(gt, dt, break_down(gt, dt, convention=convention).labels)
    assert confusion.matrix.tolist() == [[1, 2, 1], [0, 0, 0], [0, 0, 1]]
    lost = replace(confusion, count=confusion.objects).matrix
    assert lost.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert most_confused(confusion) == [(0, 1, 2, 1), (0, 2, 1, 0)]
    assert most_confused(confusion, 1) == [(0, 1, 2, 1)]


def test_nothing_to_count(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [], [])
    labels = break_down(gt, dt).labels
    assert object_outcomes(labels).count == dict.fromkeys(OUTCOME_NAMES, 0)
    assert category_confusion(gt, dt, labels).matrix.tolist() == [[0, 0], [0, 0]]
    assert most_confused(category_confusion(gt, dt, labels)) == []


@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_against_tidecv(pair: RealPair) -> None:
    """Fate and confusion of every object and pair, counted from tidecv's error objects."""
    pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    dt = read_detections(results, gt)
    labels = break_down(gt, dt, convention="tidecv", iou_type=pair.iou_type).labels
    run = tidecv_tide(load(truth), load(results), iou_type=pair.iou_type).runs["dt"]

    expected = np.full(len(gt), IGNORED)
    matrix = np.zeros((len(gt.category_id), len(gt.category_id)), dtype=np.int64)
    index = {c: i for i, c in enumerate(gt.category_id)}
    for category, curve in run.ap_data.objs.items():
        for _, right, info in curve.data_points.values():
            if right:
                expected[info["matched_with"]] = FOUND
                matrix[index[category], index[category]] += 1
    by_kind = dict(zip(ERRORS, run.error_dict.values(), strict=True))
    for kind, outcome in (("loc", MISLOCALISED), ("cls", CONFUSED)):
        for error in by_kind[kind]:
            if error.fixed[1] is not None:
                expected[error.gt["_id"]] = outcome
    for error in by_kind["miss"]:
        expected[error.gt["_id"]] = MISSED
    for error in by_kind["cls"]:
        matrix[index[error.gt["class"]], index[error.pred["class"]]] += 1
    assert object_outcomes(labels).outcome.tolist() == expected.tolist()
    assert category_confusion(gt, dt, labels).matrix.tolist() == matrix.tolist()
    assert len(set(expected.tolist())) == len(OUTCOME_NAMES) - (not gt.ignore.any())
