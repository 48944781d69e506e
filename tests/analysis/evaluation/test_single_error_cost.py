"""The cost of one error against a literal evaluation of the repaired files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis import Analysis, Settings, break_down
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.single_error_cost import costliest, single_error_costs
from tests.analysis.cases import found, object_, read
from tests.analysis.scenes import SceneFiles, clustered_boxes, scenes


def costs_of(files: SceneFiles, most: int = 1000) -> tuple[Any, Any, Any, Any]:
    gt, dt = files.read()
    breakdown = break_down(gt, dt)
    return gt, dt, breakdown, costliest(gt, dt, breakdown, most)


def ap_of(truth: dict[str, Any], results: list[dict[str, Any]]) -> float:
    return break_down(*SceneFiles(truth, results).read()).ap


@settings(max_examples=60, deadline=None)
@given(scenes(clustered_boxes(), st.floats(0.01, 1, allow_subnormal=False), scales=(1,), max_detections=18))
def test_the_cost_is_the_gain_of_a_repaired_file(files: SceneFiles) -> None:
    scores = [record["score"] for record in files.results]
    assume(len(set(scores)) == len(scores))
    gt, dt, breakdown, found = costs_of(files)
    annotations = files.truth["annotations"]
    for example in (one for examples in found.values() for one in examples):
        truth, results = dict(files.truth), list(files.results)
        if example.error == "miss":
            if sum(gt.category[~gt.ignore] == gt.category[example.truth]) == 1:
                continue  # the repaired file would lose a category
            truth["annotations"] = [a for n, a in enumerate(annotations) if n != example.truth]
        elif breakdown.labels.recovers_gt[example.detection]:
            target = annotations[example.truth]
            row = int(dt.row[example.detection])
            results[row] = results[row] | {"bbox": target["bbox"], "category_id": target["category_id"]}
        else:
            del results[int(dt.row[example.detection])]
        assert ap_of(truth, results) - breakdown.ap == pytest.approx(example.cost, abs=1e-9), example


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(1, 3))
def test_every_error_is_found_and_few_of_them_cost_as_much_as_all(files: SceneFiles, most: int) -> None:
    _, _, breakdown, found = costs_of(files)
    assert {name: len(examples) for name, examples in found.items()} == breakdown.count
    for name in ERRORS:
        if breakdown.count[name] == 1:
            assert found[name][0].cost == pytest.approx(breakdown.raw[name], abs=1e-9)
    few = costs_of(files, most)[3]
    for name in ERRORS:
        costs = sorted((one.cost for one in found[name]), reverse=True)
        assert len(few[name]) == min(most, len(costs))
        if costs:
            assert few[name][0].cost == costs[0]


def test_the_costliest_of_every_category_comes_first(tmp_path: Path) -> None:
    boxes = [[60 * n, 0, 40, 40] for n in range(3)]
    gt, dt = read(
        tmp_path,
        [object_(1, boxes[0]), object_(1, boxes[1]), object_(2, boxes[2])],
        [
            found(1, boxes[0], 0.5), found(1, [0, 100, 30, 30], 0.9), found(1, [60, 100, 30, 30], 0.8),
            found(2, boxes[2], 0.5), found(2, [100, 100, 30, 30], 0.7), found(1, [0, 100, 30, 30], 0.1),
        ],
    )  # fmt: skip
    examples = costliest(gt, dt, break_down(gt, dt), 4)["bg"]
    assert [one.detection for one in examples] == [4, 1, 2, 5]
    assert [round(one.cost, 3) for one in examples] == [25.0, 4.208, 4.208, 0.0]  # class 1: 51/101 (1/2 - 1/3) / 2


def test_missed_objects_are_shown_by_size(tmp_path: Path) -> None:
    objects = [object_(1, [0, 0, side, side]) for side in (10, 40, 20)]
    gt, dt = read(tmp_path, objects, [])
    examples = costliest(gt, dt, break_down(gt, dt), 2)["miss"]
    assert [one.truth for one in examples] == [1, 2]
    assert {one.cost for one in examples} == {0.0}
    assert np.array_equal(gt.area[[1, 2]], [1600, 400])


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from(("coco", "tidecv")))
def test_an_order_that_is_known_costs_nothing_else(files: SceneFiles, convention: str) -> None:
    gt, dt = files.read()
    run = Analysis(gt, Settings(convention=convention), at_stake=True).of("one", dt)
    assert run.at_stake is not None
    assert run.at_stake.costs.detection.tolist() == single_error_costs(gt, dt, run.breakdown).detection.tolist()
