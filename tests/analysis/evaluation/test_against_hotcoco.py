"""On crowd-free data without tied IoUs the `coco` convention equals hotcoco: AP, eight deltas, six counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import Settings, break_down, read_detections, read_ground_truth
from analysis.coco.synthetic import write_example
from analysis.evaluation.analysis import Analysis
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import CONVENTIONS
from analysis.stats.bootstrap import resample
from analysis.stats.intervals import Difference, difference
from analysis.stats.resampling import draw_weights
from tests.analysis import cases, real_pairs
from tests.analysis.peers import hotcoco_numbers, largest_difference, load, ours, tidecv_numbers
from tests.analysis.real_pairs import RealPair

pytest.importorskip("hotcoco", reason="the peer to compare with; installed by the extra `verify`")


def write(folder: Path, truth: Any, results: Any) -> tuple[Path, Path]:
    paths = folder / "gt.json", folder / "dt.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return paths


@pytest.mark.parametrize("decimals", [None, 2, 1], ids=lambda d: "scores" if d is None else f"{d}-decimals")
@pytest.mark.parametrize("pair", real_pairs.ALL, ids=str)
def test_every_number_on_real_predictions(pair: RealPair, decimals: int | None, tmp_path: Path) -> None:
    """With rounded scores many detections tie, across classes of one image too."""
    truth, results = (load(path) for path in pair.paths())
    truth["annotations"] = [a for a in truth["annotations"] if not a.get("iscrowd")]
    if decimals is not None:
        results = [{**record, "score": round(record["score"], decimals)} for record in results]
    truth_path, results_path = write(tmp_path, truth, results)
    gt = read_ground_truth(truth_path)
    found = ours(break_down(gt, read_detections(results_path, gt), iou_type=pair.iou_type))
    expected = hotcoco_numbers(truth_path, results_path, iou_type=pair.iou_type)
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9


@pytest.mark.parametrize(("iou", "background_iou"), [(0.75, 0.1), (0.5, 0.05), (0.5, 0.2), (0.75, 0.2)])
def test_other_thresholds(iou: float, background_iou: float, tmp_path: Path) -> None:
    truth, results = (load(path) for path in real_pairs.EFFICIENTDET.paths())
    truth["annotations"] = [a for a in truth["annotations"] if not a.get("iscrowd")]
    truth_path, results_path = write(tmp_path, truth, results)
    gt = read_ground_truth(truth_path)
    found = ours(break_down(gt, read_detections(results_path, gt), iou=iou, background_iou=background_iou))
    expected = hotcoco_numbers(truth_path, results_path, iou=iou, background_iou=background_iou)
    assert found.count == expected.count
    assert largest_difference(found, expected) < 1e-9


def test_paired_intervals_of_ap_agree_where_copies_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hotcoco 1.3 draws images with replacement and then counts each of them once; made to do so, ours agree.

    That is not a bootstrap: its intervals come out a quarter too narrow. Counted as often as they are drawn, ours are
    as wide as those of data sets in which the images are repeated (test_resample.py).
    """
    from hotcoco import COCO, COCOeval, compare

    truth, predictions = write_example(tmp_path, images=60, categories=4)
    theirs = COCO(str(truth))
    evaluations = [COCOeval(theirs, theirs.loadRes(str(file)), "bbox") for file in predictions.values()]
    for evaluation in evaluations:
        evaluation.evaluate()
    resamples = 500
    expected = compare(*evaluations, n_bootstrap=resamples, seed=1)
    gt = read_ground_truth(truth)
    analysis = Analysis(gt, Settings(), ious=COCO_IOUS)
    runs = [analysis.of(name, read_detections(file, gt)) for name, file in predictions.items()]

    def differences() -> dict[str, Difference]:
        first, second = resample(gt, runs, resamples=resamples)
        return {
            name: difference(second.value[row] - first.value[row], second.drawn[row] - first.drawn[row])
            for row, name in enumerate(("AP", "AP50"))
        }

    exact = differences()
    drawn = draw_weights
    monkeypatch.setattr(
        "analysis.stats.resampling.draw_weights",
        lambda *arguments: (np.minimum(one, 1) for one in drawn(*arguments)),
    )
    for name, found in differences().items():
        interval = expected["ci"][name]
        deviation = interval["std_err"] * 100
        assert found.value == pytest.approx(expected["deltas"][name] * 100, abs=1e-9)
        # Four standard errors of the difference of two such estimates: of a deviation, and of a 2.5 % percentile.
        assert found.images == pytest.approx(deviation, rel=4 / resamples**0.5)
        error = 4 * 2**0.5 * 2.67 / resamples**0.5 * deviation
        assert found.low == pytest.approx(interval["lower"] * 100, abs=error)
        assert found.high == pytest.approx(interval["upper"] * 100, abs=error)
        assert 1.15 < exact[name].images / found.images < 1.5  # of a mean it would be sqrt(e - 1) = 1.31


def test_the_crowd_rule_in_which_hotcoco_differs(tmp_path: Path) -> None:
    """A detection that lies 30 % inside a crowd of its class, too little to be left out: loc there, bg here.

    tidecv says bg too: a crowd is no object that a detection could be moved to.
    """
    right, beside = [200, 200, 50, 50], [88, 10, 40, 40]  # 12 of 40 columns in the crowd
    objects = [cases.object_(1, right), cases.object_(1, [0, 0, 100, 100], iscrowd=1)]
    results = [cases.found(1, right, 0.5), cases.found(1, beside, 0.9)]
    truth_path, results_path = write(tmp_path, cases.document(objects), results)
    gt = read_ground_truth(truth_path)
    assert hotcoco_numbers(truth_path, results_path).count == dict.fromkeys(ERRORS, 0) | {"loc": 1}
    for convention in CONVENTIONS:
        here = break_down(gt, read_detections(results_path, gt), convention=convention)
        assert here.count == dict.fromkeys(ERRORS, 0) | {"bg": 1}
    pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")
    assert tidecv_numbers(cases.document(objects), results).count == here.count
