"""Cross-fitting against plain loops, and intervals against data sets in which the images are repeated."""

from dataclasses import replace

import numpy as np
import pytest

from analysis import Criterion, Settings, load, read_detections, read_ground_truth
from analysis.coco.synthetic import write_example
from analysis.evaluation.operating_point import Counts, ScoredRun, mean_over_classes
from analysis.evaluation.tide import match_and_label
from analysis.stats.operating_point import FOLDS, _folds, _Measured, f1_differences, measure, operating_points
from tests.analysis import cases

CRITERIA = (Criterion(), Criterion("precision", 0.6), Criterion("recall", 0.5))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, ScoredRun]]:
    truth, predictions = write_example(tmp_path_factory.mktemp("example"), images=40, categories=4)
    gt = read_ground_truth(truth)
    found = {name: read_detections(path, gt) for name, path in predictions.items()}
    return [(name, ScoredRun.of(match_and_label(gt, dt, Settings()), gt)) for name, dt in found.items()]


def part(run: ScoredRun, times: np.ndarray) -> ScoredRun:
    """The run on images that stand there so many times each, i64[images]; their copies are no images of their own."""
    rows, objects = (np.repeat(np.arange(len(one)), times[one]) for one in (run.image, run.object_image))
    columns = {name: getattr(run, name)[rows] for name in ("score", "right", "category", "image")}
    of_objects = {name: getattr(run, name)[objects] for name in ("object_category", "object_image")}
    return replace(run, **columns, **of_objects)


def by_loop(run: ScoredRun, criterion: Criterion, folds: np.ndarray, times: np.ndarray) -> dict[str, float]:
    """Each fold judged at the thresholds chosen on the others: the counts added up."""
    one, own = np.zeros((2, 3, run.categories), dtype=np.int64)
    for fold in range(FOLDS):
        others, held = part(run, times * (folds != fold)), part(run, times * (folds == fold))
        threshold, each = others.threshold(criterion), others.class_thresholds(criterion)
        if criterion.kind == "recall":  # what the others never reach shows everything
            threshold = -np.inf if threshold is None else threshold
            each = np.where(np.isnan(each), -np.inf, each)
        for store, limit in ((one, threshold), (own, each)):
            counts = held.counts(limit)
            store += np.array([counts.right, counts.shown, counts.objects])
    whole, classes = Counts(*one.sum(axis=1)), (Counts(*own), Counts(*one))
    macro = [float(mean_over_classes(counts.f1, counts.objects)) for counts in classes]
    return {
        "precision": float(whole.precision),
        "recall": float(whole.recall),
        "f1": float(whole.f1),
        "gain f1": float(classes[0].total().f1 - whole.f1),
        "gain mean_f1": macro[0] - macro[1],
    }


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_cross_fitting_and_draws_by_loops(runs: list[tuple[str, ScoredRun]], criterion: Criterion, monkeypatch) -> None:
    for name in ("CANDIDATES", "CLASS_CANDIDATES"):  # all: nothing is approximated
        monkeypatch.setattr(f"analysis.stats.operating_point.{name}", 10_000)
    rng = np.random.default_rng(3)
    for _, run in runs:
        folds = _folds(run.images, 0)
        measured = _Measured(run, criterion, folds, per_class=True)
        for times in (np.ones(run.images, np.int64), np.bincount(rng.integers(0, 40, 40), minlength=40)):
            found = measured.measure(times)
            for name, value in by_loop(run, criterion, folds, times).items():
                assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_fewer_candidates_choose_nearly_as_well(runs: list[tuple[str, ScoredRun]], monkeypatch) -> None:
    (exact,) = measure(runs[:1], Criterion(), resamples=0)
    monkeypatch.setattr("analysis.stats.operating_point.CANDIDATES", 32)
    (coarse,) = measure(runs[:1], Criterion(), resamples=0)
    assert coarse.rates["f1"].value == pytest.approx(exact.rates["f1"].value, abs=0.02)


def test_the_same_seed_gives_the_same_digits(runs: list[tuple[str, ScoredRun]]) -> None:
    first, again, other = (measure(runs, Criterion(), resamples=50, seed=seed)[0].rates["f1"] for seed in (0, 0, 1))
    assert first == again
    assert other.low != first.low


def test_intervals_hold_the_value_and_differences_are_paired(runs: list[tuple[str, ScoredRun]]) -> None:
    points = measure(runs, Criterion(), resamples=200)
    for one in points:
        assert one.rates["f1"].low < one.rates["f1"].value < one.rates["f1"].high
    (difference,) = f1_differences(points).values()
    assert difference.value == points[1].rates["f1"].value - points[0].rates["f1"].value
    assert difference.p_adjusted == difference.p
    same = measure([("a", runs[0][1]), ("b", runs[0][1])], Criterion(), resamples=50)
    assert f1_differences(same)["b"].high == 0


BOX = [10.0, 10.0, 40.0, 40.0]
FAR = [120.0, 120.0, 30.0, 30.0]


def test_a_single_image_has_no_interval_and_nothing_to_cross_fit() -> None:
    gt, dt = load(cases.document([cases.object_(1, BOX)]), [cases.found(1, BOX, 0.9), cases.found(1, FAR, 0.5)])
    (one,) = operating_points(gt, [("run", dt)], resamples=20, per_class=True)
    assert one.point.threshold == 0.9
    assert one.point.fold_thresholds == ()
    assert one.point.rates["f1"].value == 1
    assert np.isnan(one.point.rates["f1"].low)


def test_no_detection_no_object_and_nothing_right() -> None:
    gt, dt = load(cases.document([cases.object_(1, BOX)]), [])
    (one,) = operating_points(gt, [("run", dt)], resamples=20, per_class=True)
    assert (one.point.threshold, one.point.rates) == (None, {})
    gt, dt = load(cases.document([], (1, 2)), [cases.found(1, BOX, 0.9)])
    for criterion in CRITERIA:
        (one,) = operating_points(gt, [("run", dt)], criterion=criterion, resamples=20)
        assert one.point.threshold is None
    gt, dt = load(cases.document([cases.object_(1, BOX)], (1, 2)), [cases.found(1, FAR, 0.9)])
    (one,) = operating_points(gt, [("run", dt)], resamples=20)
    assert one.point.threshold is None


def test_equal_scores_stand_or_fall_together() -> None:
    results = [cases.found(1, BOX, 0.5, 1), cases.found(1, FAR, 0.5, 1), cases.found(1, BOX, 0.5, 2)]
    gt, dt = load(cases.document([cases.object_(1, BOX, 1), cases.object_(1, BOX, 2)], (1, 2)), results)
    (one,) = operating_points(gt, [("run", dt)], resamples=20)
    assert (one.point.threshold, int(one.point.in_sample.right), int(one.point.in_sample.wrong)) == (0.5, 2, 1)
    (kept,) = operating_points(gt, [("run", dt)], criterion=Criterion("precision", 0.7), resamples=20)
    assert kept.point.threshold is None
