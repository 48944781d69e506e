"""On crowd-free data without tied IoUs the `coco` convention equals hotcoco: AP, eight deltas, six counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import break_down, read_detections, read_ground_truth
from tests.analysis import real_pairs
from tests.analysis.peers import hotcoco_numbers, largest_difference, load, ours
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
