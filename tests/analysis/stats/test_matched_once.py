"""A prediction file is paired with the ground truth once, and matched once at each IoU, whatever is asked of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analysis import GroundTruth, Settings, break_down, coco_metrics, read_detections, read_ground_truth
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.evaluation import analysis, matching, tide
from analysis.evaluation.analysis import PARTS, Analysis
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.report.report_data import CURVE_IOUS, collect
from analysis.stats.compare import Candidate, compare
from tests.analysis.cases import write
from tests.command_line import run

SCENE = simulate_scene(30, 4, seed=3)
NAMES = ("a", "b", "c")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[Path]]:
    truth = write(tmp_path / "gt.json", ground_truth_document(SCENE))
    return truth, [write(tmp_path / f"{n}.json", simulate_detector(SCENE, Flaws(), i)) for i, n in enumerate(NAMES)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each step was taken; matches count one for each prediction file and IoU."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        original = getattr(module, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, counting)

    count(matching, "build_pairs")  # of detections with objects; the crowding of objects has a reference of its own
    for module in (analysis, tide):
        count(module, "match_and_label_at")
    count(tide, "match_coco")
    return counted


@pytest.mark.parametrize("runs", [2, 3])
def test_a_report_with_intervals_matches_each_run_once(
    runs: int, files: tuple[Path, list[Path]], calls: Counter[str]
) -> None:
    gt = read_ground_truth(files[0])
    detections = [(name, read_detections(path, gt)) for name, path in zip(NAMES[:runs], files[1], strict=False)]
    data = collect(gt, detections, Settings(), pictures=20, resamples=800)
    assert data.comparison is not None
    assert all(one.metrics and one.intervals for one in data.runs)
    assert calls["match_and_label_at"] == runs
    assert calls["build_pairs"] == 2 * runs  # shared by COCO's 12 numbers; and of what is shown from the threshold on
    ious = {*COCO_IOUS.tolist(), *CURVE_IOUS}  # COCO's 0.9 is one ulp below
    assert calls["match_coco"] == runs * (len(ious) + 1)  # and what is shown from the score threshold on


def test_a_comparison_takes_runs_that_are_matched(files: tuple[Path, list[Path]], calls: Counter[str]) -> None:
    gt = read_ground_truth(files[0])
    found = Analysis(gt, Settings(), ious=COCO_IOUS)
    runs = [found.of(name, read_detections(path, gt)) for name, path in zip(NAMES, files[1], strict=True)]
    assert calls["match_and_label_at"] == 3
    matched = compare(gt, [Candidate(one.name, (one.detections,), analyses=(one,)) for one in runs], resamples=800)
    assert calls["match_and_label_at"] == 3
    anew = compare(gt, [Candidate(one.name, (one.detections,)) for one in runs], resamples=800)
    assert calls["match_and_label_at"] == calls["build_pairs"] == 6
    assert [one.numbers for one in matched.candidates] == [one.numbers for one in anew.candidates]
    assert [one.differences for one in matched.vs_baseline] == [one.differences for one in anew.vs_baseline]


def test_errors_with_every_part_and_intervals(
    files: tuple[Path, list[Path]],
    calls: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("errors", *files[1][:2], "--gt", files[0], "--by", "all", "--intervals", "--json")
    assert run(monkeypatch, "analyze", *arguments) == 0
    capsys.readouterr()
    assert calls["match_and_label_at"] == calls["build_pairs"] == 2


def test_parts_of_one_matching_agree_with_the_public_functions(files: tuple[Path, list[Path]]) -> None:
    gt: GroundTruth = read_ground_truth(files[0])
    dt = read_detections(files[1][0], gt)
    one = Analysis(gt, Settings(), PARTS, metrics=True).of("a", dt)
    assert one.metrics == coco_metrics(gt, dt)
    assert one.breakdown.raw == break_down(gt, dt).raw
    assert one.ious is not None
    assert one.ious.ap[5] == break_down(gt, dt, iou=COCO_IOUS[5]).ap
