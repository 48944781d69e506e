"""On several threads every number has the bits that it has on one."""

import os

import pytest

import analysis.parallel
from analysis import break_down, read_detections, read_ground_truth
from analysis.evaluation.ap_evaluation import evaluate
from tests.analysis.real_pairs import MASKS


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("convention", ["coco", "tidecv"])
def test_the_same_bits(iou_type: str, convention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = MASKS.paths()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)

    def measured(few: int) -> list[bytes]:
        monkeypatch.setattr(analysis.parallel, "FEW_ROWS", few)
        assert analysis.parallel.threads(9) == (4 if few < 0 else 1)
        ground_truth = read_ground_truth(truth)
        detections = read_detections(predictions, ground_truth)
        found = break_down(ground_truth, detections, iou_type=iou_type, convention=convention)
        curves = evaluate(ground_truth, detections, iou_type=iou_type)
        numbers = str([found.ap, *found.raw.values()]).encode()
        return [numbers, *(one.tobytes() for one in (found.labels.error, curves.precision, curves.recall))]

    assert measured(-1) == measured(1 << 40)
