"""How often intervals cover what they are about: simulated detectors on fresh images, against a population of images.

``docs/uncertainty.md`` holds the outcome of ``pytest -m campaign tests/analysis/stats/test_coverage.py -s``.
"""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from analysis import Detections, GroundTruth, Settings, read_ground_truth
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.evaluation.analysis import Analysis, RunAnalysis
from analysis.stats.bootstrap import resample
from analysis.stats.intervals import Interval, difference, difference_over_seeds, interval, limits

CATEGORIES = 80
RESAMPLES = 160
# Two that differ, and one that is like the first but for its random numbers.
DETECTORS = (Flaws(tail=6.0), Flaws(tail=6.0, box_noise=0.085, confused=0.08, missed=0.2), Flaws(tail=6.0))


def simulated(images: int, seed: int) -> tuple[GroundTruth, list[RunAnalysis]]:
    """A set of fresh images and what the detectors find on them."""
    scene = simulate_scene(images, CATEGORIES, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
        truth = read_ground_truth(path)
    records = (simulate_detector(scene, flaws, 10 * seed + number) for number, flaws in enumerate(DETECTORS))
    analysis = Analysis(truth, Settings())
    return truth, [analysis.of("", Detections.from_records(one, truth)) for one in records]


@cache
def population() -> Any:
    """f64[3, numbers] on 60,000 images: what the detectors score on images without end, nearly."""
    found = [resample(*simulated(20_000, 10**6 + part), resamples=1, mean_ap=False) for part in range(3)]
    return np.mean([[one.value for one in part] for part in found], axis=0)


def trials(images: int, count: int, resamples: int) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(names, values f64[3, numbers], draws f64[3, numbers, R]) of each of ``count`` fresh sets of images."""
    for seed in range(count):
        found = resample(*simulated(images, seed + 1), resamples=resamples, seed=seed, mean_ap=False)
        yield found[0].numbers, np.array([one.value for one in found]), np.array([one.drawn for one in found])


def covers(intervals: Sequence[Interval], truth: Any) -> Any:
    return np.array([one.low <= t <= one.high for one, t in zip(intervals, truth, strict=True)])


@pytest.mark.proof
@pytest.mark.parametrize(
    ("images", "count"), [(10, 89), (25, 80), (50, 80), (100, 80), (200, 120), (1000, 60), (5000, 30)]
)
def test_coverage(images: int, count: int) -> None:
    truth = population()
    covered: dict[str, Any] = {}
    for names, value, drawn in trials(images, count, RESAMPLES):  # noqa: B007 (names are the same in all)
        low, high = limits(drawn)
        shown = [[interval(v, d) for v, d in zip(*run, strict=True)] for run in zip(value, drawn, strict=True)]
        paired, equal = (
            [difference(v, d) for v, d in zip(value[n] - value[0], drawn[n] - drawn[0], strict=True)] for n in (1, 2)
        )
        apart = [interval(v, d) for v, d in zip(value[1] - value[0], drawn[1] - drawn[0], strict=True)]
        part = {
            "one run, percentiles": ((low <= truth) & (truth <= high)).mean(axis=0),
            "one run, basic": np.mean([covers(run, t) for run, t in zip(shown, truth, strict=True)], axis=0),
            "difference, percentiles": covers(paired, truth[1] - truth[0]),
            "difference, basic": covers(apart, truth[1] - truth[0]),
            "p of equal ones at most 0.05": np.array([one.p <= 0.05 for one in equal]),
            "bias": (value - truth).mean(axis=0),
            "bias of the resamples": (drawn.mean(axis=-1) - value).mean(axis=0),
        }
        for name, each in part.items():
            covered.setdefault(name, []).append(each)
    print(f"\n{images:,} images, {count} trials, {RESAMPLES} resamples")
    print("| | " + " | ".join(names) + " | all |")
    for name, each in covered.items():
        mean = np.mean(each, axis=0)
        shape = ".1%" if "bias" not in name else "+.2f"
        print(f"| {name} | " + " | ".join(format(one, shape) for one in (*mean, mean.mean())) + " |", flush=True)
    if images >= 50:
        assert np.mean(covered["difference, percentiles"]) > 0.9
    if images >= 200:
        assert np.mean(covered["p of equal ones at most 0.05"]) < 0.08


def nested(values: Any, drawn: Any, rng: np.random.Generator) -> Interval:
    """The plain alternative: seeds drawn outside, images inside, percentiles."""
    n, resamples = drawn.shape
    chosen = rng.integers(0, n, (resamples, n))
    low, high = limits(drawn[chosen, np.arange(resamples)[:, None]].mean(axis=1))
    return Interval(float(values.mean()), float(low), float(high), 0.0)


def covered_over_seeds(n: int, ratio: float, count: int) -> tuple[float, float]:
    """How often the interval over n seeds, and plain percentiles, cover a difference of 0.

    ``ratio`` is the standard deviation between seeds over the standard error from images.
    """
    rng = np.random.default_rng([n, round(10 * ratio)])
    inside = np.zeros((count, 2))
    for trial in range(count):
        values = rng.normal(0, 1) + rng.normal(0, ratio, n)  # the images are the same for all seeds
        drawn = values[:, None] + rng.normal(0, 1, 200)
        for way, found in enumerate((difference_over_seeds(values, drawn), nested(values, drawn, rng))):
            inside[trial, way] = found.low <= 0 <= found.high
    return inside[:, 0].mean(), inside[:, 1].mean()


@pytest.mark.proof
def test_coverage_over_seeds() -> None:
    print("\n| seeds | 0.5 | 1 | 3 | plain: 0.5 | 1 | 3 |")
    for n in (2, 3, 5, 10):
        found = [covered_over_seeds(n, ratio, 1500) for ratio in (0.5, 1.0, 3.0)]
        cells = [f"{100 * one[way]:.1f}" for way in (0, 1) for one in found]
        print(f"| {n} | " + " | ".join(cells) + " |", flush=True)
        assert min(one[0] for one in found) > 0.93


def test_intervals_over_seeds_cover() -> None:
    ours, plain = covered_over_seeds(3, 1.0, 400)
    assert ours > 0.93
    assert plain < ours
