"""`analyze compare`: differences, moves between fates, files, and input at the edges."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import BadInput, break_down, read_detections, read_ground_truth
from analysis.coco.ground_truth import GroundTruth
from analysis.coco.synthetic import ground_truth_document, simulate_scene, write_example
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.outcomes import object_outcomes
from analysis.render.takeaways import comparison_takeaways
from analysis.stats.compare import Candidate, Comparison, compare
from tests.analysis.cases import document, found, object_, read, write
from tests.command_line import run

NUMBERS = ("AP", "AP50", *ERRORS, *SPECIAL)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    return write_example(tmp_path_factory.mktemp("example"), images=80)


@pytest.fixture(scope="module")
def compared(example: tuple[Path, dict[str, Path]]) -> tuple[GroundTruth, Comparison]:
    truth, files = example
    gt = read_ground_truth(truth)
    candidates = [Candidate(name, (read_detections(path, gt),)) for name, path in files.items()]
    return gt, compare(gt, candidates, resamples=400, seed=3)


def test_differences_are_those_of_the_breakdowns(example: Any, compared: tuple[GroundTruth, Comparison]) -> None:
    gt, result = compared
    files = example[1]
    first, second = (break_down(gt, read_detections(path, gt)) for path in files.values())
    (vs_baseline,) = result.vs_baseline
    assert tuple(vs_baseline.differences) == result.numbers == NUMBERS
    assert vs_baseline.differences["AP50"].value == pytest.approx(second.ap - first.ap, abs=1e-9)
    for error in (*ERRORS, *SPECIAL):
        assert vs_baseline.differences[error].value == pytest.approx(second.raw[error] - first.raw[error], abs=1e-9)
        by_category = second.category_raw[error] - first.category_raw[error]
        np.testing.assert_allclose(vs_baseline.categories[error].value, by_category, atol=1e-9)
    assert result.candidates[0].numbers["AP50"].value == pytest.approx(first.ap, abs=1e-9)


def test_pairing_is_sharper_than_two_intervals(example: Any, tmp_path: Path) -> None:
    truth, files = example
    gt = read_ground_truth(truth)
    records = json.loads(files["sloppy-boxes"].read_bytes())
    nearly = read_detections(write(tmp_path / "nearly.json", records[: len(records) * 9 // 10]), gt)
    result = compare(
        gt, [Candidate("a", (read_detections(files["sloppy-boxes"], gt),)), Candidate("b", (nearly,))], resamples=400
    )
    own, theirs = (candidate.numbers["AP"].images for candidate in result.candidates)
    assert result.vs_baseline[0].differences["AP"].images < 0.8 * (own**2 + theirs**2) ** 0.5


def test_flaws_are_found_and_said(compared: tuple[GroundTruth, Comparison]) -> None:
    _, result = compared
    differences = result.vs_baseline[0].differences
    assert differences["cls"].significant
    assert differences["cls"].low > 5
    assert differences["loc"].significant
    assert differences["loc"].high < -5
    (sentence,) = comparison_takeaways(result)
    assert "less to localisation" in sentence
    assert "more to classification" in sentence
    assert "for these two models" in sentence
    assert result.family == "1 run against the baseline x 10 numbers = 10 tests"


def test_moves_count_every_object_once(example: Any, compared: tuple[GroundTruth, Comparison]) -> None:
    gt, result = compared
    files = example[1]
    transitions = result.vs_baseline[0].transitions
    assert transitions is not None
    outcomes = [object_outcomes(break_down(gt, read_detections(path, gt)).labels).outcome for path in files.values()]
    for before, name in enumerate(transitions.outcomes):
        for after in range(len(transitions.outcomes)):
            assert transitions.count[before, after] == ((outcomes[0] == before) & (outcomes[1] == after)).sum(), name
    assert transitions.count.sum() == (~gt.ignore).sum()
    (image, count), *_ = transitions.images(gt.image, 1, 0)
    assert count == ((outcomes[0] == 1) & (outcomes[1] == 0) & (gt.image == image)).sum()
    assert count == np.bincount(gt.image[(outcomes[0] == 1) & (outcomes[1] == 0)]).max()


def test_the_same_run_twice_does_not_differ(example: Any) -> None:
    truth, files = example
    gt = read_ground_truth(truth)
    dt = read_detections(files["sloppy-boxes"], gt)
    result = compare(gt, [Candidate("a", (dt,)), Candidate("b", (dt,))], resamples=400)
    for difference in result.vs_baseline[0].differences.values():
        assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)
    assert comparison_takeaways(result) == [
        "b and a: no difference is significant, for these two models; AP +0.0 [+0.0, +0.0]."
    ]


def test_the_seed_decides_and_threads_do_not(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, files = example
    gt = read_ground_truth(truth)
    candidates = [Candidate(name, (read_detections(path, gt),)) for name, path in files.items()]

    def low(seed: int) -> float:
        return compare(gt, candidates, resamples=400, seed=seed).vs_baseline[0].differences["AP"].low

    first = low(1)
    assert low(2) != first
    monkeypatch.setattr("analysis.stats.resampling.threads", lambda: 1)
    assert low(1) == first


EDGES = {
    "nothing detected": ([], [found(1, (10, 10, 50, 50), 0.9)]),
    "both perfect": ([found(1, (10, 10, 50, 50), 0.9), found(2, (100, 100, 50, 50), 0.8, image=2)],) * 2,
    "both all wrong": ([found(2, (150, 10, 20, 20), 0.9)], [found(1, (150, 150, 20, 20), 0.5, image=2)]),
    "a category never detected": ([found(1, (10, 10, 50, 50), 0.9)], [found(1, (12, 10, 50, 50), 0.9)]),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("images", [(1, 2, 3), (1,)])
def test_edges_end_in_numbers_or_a_sentence(
    edge: str, images: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    objects = [object_(1, (10, 10, 50, 50)), object_(2, (100, 100, 50, 50), image=images[-1])]
    truth = write(tmp_path / "gt.json", document(objects, images))
    files = []
    for name, records in zip("ab", EDGES[edge], strict=True):
        kept = [record for record in records if record["image_id"] in images]
        files.append(write(tmp_path / f"{name}.json", kept))
    command = ("analyze", "compare", *files, "--gt", truth, "--resamples", 400)
    assert run(monkeypatch, *command, "--out", tmp_path / "out") == 0
    screen = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.csv",
        "categories.csv",
        "comparison.md",
        "comparison.tex",
        "comparison.json",
        "comparison.png",
        "comparison.pdf",
        "comparison_figures.tex",
    }
    assert run(monkeypatch, *command, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    if edge == "nothing detected":
        assert "a has no detection" in screen
    if len(images) == 1:
        assert "there is a single image, so there is nothing to resample and no interval" in screen
        assert result["against_baseline"][0]["differences"]["AP"]["low"] is None
    else:
        assert "with only 3 images" in screen
        assert result["against_baseline"][0]["differences"]["AP"]["low"] is not None


def test_without_any_object(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [], [found(1, (10, 10, 50, 50), 0.9)], images=(1, 2))
    result = compare(gt, [Candidate("a", (dt,)), Candidate("b", (dt,))], resamples=400)
    assert "no object counts, so there is no AP" in result.cautions
    assert np.isnan(result.vs_baseline[0].differences["AP"].p)
    assert comparison_takeaways(result) == [
        "b and a: no interval can be computed, so it is not known whether the difference is significant."
    ]


def test_refusals(example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    truth, files = example
    one, two = files.values()

    def refused(*arguments: object) -> str:
        assert run(monkeypatch, "analyze", "compare", *arguments) == 4
        error: str = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "sloppy-boxes is the only run; give at least two" in refused(one, "--gt", truth)
    assert "baseline 'x' is not one of the runs; choose from" in refused(one, two, "--gt", truth, "--baseline", "x")
    assert "10 resamples are too few for 10 tests" in refused(one, two, "--gt", truth, "--resamples", 10)
    other = write(tmp_path / "other.json", ground_truth_document(simulate_scene(20, 12, 9)))
    assert "sloppy-boxes.json" in refused(one, two, "--gt", other)
    gt = read_ground_truth(truth)
    candidates = [Candidate("a", (read_detections(one, gt),), (0,)), Candidate("b", (read_detections(two, gt),), (1,))]
    with pytest.raises(BadInput, match="b and the baseline a have no seed in common"):
        compare(gt, candidates)


def test_tables_hold_the_numbers(example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    truth, files = example
    one, two = files.values()
    out = tmp_path / "out"
    command = ("analyze", "compare", f"a_|%={one}", f"b={two}", "--gt", truth, "--resamples", 400, "--out", out)
    assert run(monkeypatch, *command) == 0
    capsys.readouterr()
    result = json.loads((out / "comparison.json").read_bytes())
    rows = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert [(row["run"], row["number"]) for row in rows] == [(name, n) for name in ("a_|%", "b") for n in NUMBERS]
    loc = next(row for row in rows if (row["run"], row["number"]) == ("b", "loc"))
    expected = result["against_baseline"][0]["differences"]["loc"]
    assert float(loc["difference_low (points)"]) == expected["low"]
    assert loc["difference_stands"] == str(expected["stands"])
    categories = list(csv.DictReader((out / "categories.csv").read_text().splitlines()))
    assert len(categories) == 2 * 10 * 12
    markdown = (out / "comparison.md").read_text()
    value = f"{expected['value']:+.1f} [{expected['low']:+.1f}, {expected['high']:+.1f}]"
    assert f"**{value}**" in markdown
    assert r"| a\_\|% (baseline) |" in markdown
    latex = (out / "comparison.tex").read_text()
    assert r"a\_|\%" in latex
    limits = f"$[{expected['low']:+.1f}, {expected['high']:+.1f}]$"
    assert rf"\bfseries {expected['value']:+.1f}{{{{}}*}} & {limits}" in latex
    assert latex.count(r" \\") == 13  # heads, ten numbers, two headings


def test_errors_with_intervals(example: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    truth, files = example
    monkeypatch.setattr("analysis.stats.compare.enough", lambda tests: 400)  # sooner done
    command = ("analyze", "errors", *files.values(), "--gt", truth, "--intervals")
    assert run(monkeypatch, *command) == 0
    screen = capsys.readouterr().out
    assert "95 % intervals: 80 images drawn 400 times with replacement" in screen
    assert run(monkeypatch, *command, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["resampling"] == {"unit": "images", "resamples": 400, "seed": 0, "confidence": 0.95}
    for entry in result["runs"]:
        assert entry["intervals"]["AP50"]["value"] == pytest.approx(entry["ap"], abs=1e-9)
        for error in (*ERRORS, *SPECIAL):
            found = entry["intervals"][error]
            assert found["value"] == pytest.approx(entry["raw_delta_ap"][error], abs=1e-9)
            assert found["low"] < found["high"]
    assert run(monkeypatch, *command, "--convention", "tidecv") == 2
    assert "cannot be used together" in capsys.readouterr().err


def test_categories_of_few_images_have_no_interval(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, files = example
    gt = read_ground_truth(truth)
    monkeypatch.setattr("analysis.stats.compare.FEWEST_OF_CATEGORY", 32)
    result = compare(gt, [Candidate(name, (read_detections(path, gt),)) for name, path in files.items()], resamples=400)
    images = [len(set(gt.image[gt.category == category].tolist())) for category in range(len(gt.category_id))]
    assert min(images) < 32
    assert max(images) > 32
    for of in (result.candidates[0].categories["AP50"], result.vs_baseline[0].categories["loc"]):
        for category, count in enumerate(images):
            assert np.isnan(of.low[category]) == np.isnan(of.high[category]) == (count < 32)
            assert not np.isnan(of.value[category])
