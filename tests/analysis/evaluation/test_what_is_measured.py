"""Caps, categories taken as one, and low scores left out, against pycocotools and tidecv on the same files."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import BadInput, Detections, Settings, coco_metrics, read_detections, read_ground_truth
from analysis.evaluation.analysis import Analysis
from analysis.evaluation.matched_run import LOW_SCORE
from analysis.evaluation.selection import class_agnostic
from analysis.evaluation.tide import break_down_matched, match_and_label
from analysis.evaluation.verify import compare_breakdown
from tests.analysis import real_pairs
from tests.analysis.cases import found, object_, read
from tests.analysis.peers import _evaluate, largest_difference, ours, tidecv_numbers
from tests.analysis.scenes import SceneFiles, scenes
from tests.shared_data import shared_data

caps = st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True)


def theirs(truth: Path, results: Path, **parameters: Any) -> dict[str, float]:
    """What pycocotools averages, in points, under any caps: its summarize() knows three caps, one of them 100."""
    evaluation = _evaluate(truth, results, "bbox", **parameters)
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]

    def mean(values: np.ndarray) -> float:
        known = values[values > -1]
        return float(np.mean(known)) * 100 if known.size else -1.0

    areas = {"s": 1, "m": 2, "l": 3}
    return {
        "AP": mean(precision[..., 0, -1]),
        "AP50": mean(precision[:1, ..., 0, -1]),
        "AP75": mean(precision[5:6, ..., 0, -1]),
        **{f"AP{name}": mean(precision[..., area, -1]) for name, area in areas.items()},
        **{f"AR{cap}": mean(recall[..., 0, m]) for m, cap in enumerate(evaluation.params.maxDets)},
        **{f"AR{name}": mean(recall[..., area, -1]) for name, area in areas.items()},
    }


def written(files: SceneFiles, folder: str) -> tuple[Path, Path]:
    paths = Path(folder, "gt.json"), Path(folder, "dt.json")
    for path, content in zip(paths, (files.truth, files.results), strict=True):
        path.write_text(json.dumps(content))
    return paths


@settings(max_examples=20, deadline=None)
@given(scenes(max_detections=20), caps)
def test_numbers_under_any_caps(files: SceneFiles, max_dets: list[int]) -> None:
    with TemporaryDirectory() as folder:
        truth, results = written(files, folder)
        expected = theirs(truth, results, maxDets=list(max_dets))
    gt, dt = files.read()
    assert coco_metrics(gt, dt, max_dets=max_dets) == pytest.approx(expected, rel=0, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(scenes(max_categories=4, max_objects=12, max_detections=20))
def test_categories_taken_as_one(files: SceneFiles) -> None:
    """Scores are coarse: ties between categories are settled as pycocotools settles them."""
    with TemporaryDirectory() as folder:
        truth, results = written(files, folder)
        expected = theirs(truth, results, useCats=0)
    gt, ((_, dt),) = class_agnostic(*named(files))
    found_ = coco_metrics(gt, dt)
    assert found_ == pytest.approx(expected, rel=0, abs=1e-12)
    run = match_and_label(gt, dt, Settings(class_agnostic=True))
    if run.positives.any():
        assert run.average_precision(run.base).mean == pytest.approx(found_["AP50"], rel=0, abs=1e-12)


def named(files: SceneFiles) -> tuple[Any, list[tuple[str, Detections]]]:
    gt, dt = files.read()
    return gt, [("run", dt)]


def test_errors_of_categories_taken_as_one_are_those_of_tidecv_on_one_category() -> None:
    truth, results = real_pairs.FAKE_BOXES.paths()
    gt = read_ground_truth(truth)
    gt, ((_, dt),) = class_agnostic(gt, [("run", read_detections(results, gt))], "tidecv")
    found_ = break_down_matched(match_and_label(gt, dt, Settings(convention="tidecv", class_agnostic=True)), dt)
    of_one = [json.loads(path.read_text()) for path in (truth, results)]
    for record in (*of_one[0]["annotations"], *of_one[1]):
        record["category_id"] = 1
    expected = tidecv_numbers(of_one[0], of_one[1])
    assert found_.count == expected.count
    assert largest_difference(ours(found_), expected) < 1e-9
    assert found_.count["cls"] == found_.count["both"] == 0


def test_several_categories_are_not_taken_as_one_in_silence(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, [0, 0, 9, 9])], [])
    with pytest.raises(BadInput, match="class_agnostic needs merged categories"):
        match_and_label(gt, dt, Settings(class_agnostic=True))


def test_the_case_without_categories() -> None:
    folder = shared_data().parent / "cases" / "e02-class-agnostic"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    gt = read_ground_truth(folder / "gt.json")
    gt, ((_, dt),) = class_agnostic(gt, [("run", read_detections(folder / "dt_all_1.json", gt))])
    metrics = coco_metrics(gt, dt)
    assert (round(metrics["AP"], 2), round(metrics["AP50"], 2)) == (58.76, 86.63)


@settings(max_examples=20, deadline=None)
@given(scenes(max_detections=20), st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from(["coco", "tidecv"]))
def test_low_scores_left_out_are_as_if_they_were_not_there(files: SceneFiles, least: float, convention: str) -> None:
    gt, dt = files.read()
    one = Analysis(gt, Settings(convention=convention, min_score=least), at_stake=True, metrics=True).of("run", dt)
    kept = SceneFiles(files.truth, [record for record in files.results if record["score"] >= least])
    alone = Analysis(gt, Settings(convention=convention), at_stake=True, metrics=True).of("run", kept.read()[1])
    assert one.breakdown.raw == alone.breakdown.raw
    assert (one.breakdown.ap, one.breakdown.count, one.metrics) == (
        alone.breakdown.ap,
        alone.breakdown.count,
        alone.metrics,
    )
    assert one.at_stake is not None
    low = one.at_stake.low_scores
    assert low is not None
    assert (
        low.detections == len(files.results) - len(kept.results) == int((one.breakdown.labels.error == LOW_SCORE).sum())
    )
    everything = match_and_label(gt, dt, Settings(convention=convention))
    assert (low.ap, low.ap_with) == (alone.breakdown.ap, everything.average_precision(everything.base).mean)


@pytest.mark.parametrize(("convention", "over", "most"), [("coco", 2, 5), ("tidecv", 4, 7)])
def test_what_falls_to_the_cap_is_counted_and_its_effect_measured(
    convention: str, over: int, most: int, tmp_path: Path
) -> None:
    """A perfect detector of five objects of one class and two of another, under a cap of three."""
    boxes = [[25 * n, 0, 20, 20] for n in range(7)]
    category = [1] * 5 + [2] * 2
    gt, dt = read(
        tmp_path,
        [object_(c, box) for c, box in zip(category, boxes, strict=True)],
        [found(c, box, 0.9 - 0.1 * n) for n, (c, box) in enumerate(zip(category, boxes, strict=True))],
    )
    one = Analysis(gt, Settings(max_dets=3, convention=convention), at_stake=True).of("run", dt)
    assert one.at_stake is not None
    cap = one.at_stake.over_cap
    assert cap is not None
    assert cap.effect is not None
    assert (cap.detections, cap.images, cap.most, cap.most_objects) == (over, 1, most, most)
    assert (cap.effect.ap, cap.effect.missed_for_the_cap) == (one.breakdown.ap, over)
    assert cap.effect.ap_without == pytest.approx(100)
    free = Analysis(gt, Settings(max_dets=most, convention=convention), at_stake=True).of("run", dt)
    assert free.at_stake is not None
    assert free.at_stake.over_cap is None


def test_verify_repeats_what_is_measured(tmp_path: Path) -> None:
    """The checks of --verify are fed what is measured: without low scores, and with ignored objects ignored."""
    gt, dt = read(
        tmp_path,
        [object_(1, [0, 0, 40, 40]), object_(1, [60, 0, 40, 40], ignore=1), object_(2, [120, 0, 40, 40])],
        [found(1, [0, 0, 40, 40], 0.5), found(1, [60, 0, 40, 40], 0.9), found(2, [0, 90, 30, 30], 0.2)],
        respect_ignore=True,
    )
    one = Analysis(gt, Settings(min_score=0.3), at_stake=True).of("run", dt)
    assert one.breakdown.ap == pytest.approx(50)
    checks = dict(compare_breakdown(gt, one))
    assert checks["pycocotools"] == "AP differs by 0.0e+00 points"
    assert "counts are equal" in checks.get("tidecv", "counts are equal")
