"""How often intervals cover what they are about: simulated detectors on fresh images, against a population of images.

``docs/uncertainty.md`` holds the outcome of ``pytest -m campaign tests/analysis/test_coverage.py -s``.
"""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from analysis import Detections, GroundTruth, Settings, read_detections, read_ground_truth
from analysis.errors import Verdict, judge
from analysis.intervals import Interval, difference, interval, limits
from analysis.resample import resample
from analysis.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene

CATEGORIES = 80
DETECTORS = (Flaws(tail=6.0), Flaws(tail=6.0, box_noise=0.085, confused=0.08, missed=0.2))


def simulated(images: int, seed: int) -> tuple[GroundTruth, list[tuple[Detections, Verdict]]]:
    """A set of fresh images and what the two detectors find on them."""
    scene = simulate_scene(images, CATEGORIES, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
        truth = read_ground_truth(path)
        runs = []
        for number, flaws in enumerate(DETECTORS):
            path.write_bytes(msgspec.json.encode(simulate_detector(scene, flaws, 10 * seed + number)))
            detections = read_detections(path, truth)
            runs.append((detections, judge(truth, detections, Settings())))
    return truth, runs


@cache
def population() -> Any:
    """f64[2, numbers] on 60,000 images: what both detectors score on images without end, as nearly as matters."""
    found = [resample(*simulated(20_000, 10**6 + part), resamples=1) for part in range(3)]
    return np.mean([[one.value for one in part] for part in found], axis=0)


def trials(images: int, count: int, resamples: int) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(names, values f64[2, numbers], draws f64[2, numbers, R]) of each of ``count`` fresh sets of images."""
    for seed in range(count):
        found = resample(*simulated(images, seed + 1), resamples=resamples, seed=seed)
        yield found[0].numbers, np.array([one.value for one in found]), np.array([one.drawn for one in found])


def covers(intervals: Sequence[Interval], truth: Any) -> Any:
    return np.array([one.low <= t <= one.high for one, t in zip(intervals, truth, strict=True)])


@pytest.mark.campaign
@pytest.mark.parametrize(("images", "count", "resamples"), [(200, 100, 160), (1000, 60, 160), (5000, 30, 160)])
def test_coverage(images: int, count: int, resamples: int) -> None:
    truth = population()
    covered: dict[str, Any] = {}
    for names, value, drawn in trials(images, count, resamples):  # noqa: B007 (names are the same in all)
        low, high = limits(drawn)
        shown = [[interval(v, d) for v, d in zip(*run, strict=True)] for run in zip(value, drawn, strict=True)]
        paired = [difference(v, d) for v, d in zip(value[1] - value[0], drawn[1] - drawn[0], strict=True)]
        part = {
            "one run, percentiles": ((low <= truth) & (truth <= high)).mean(axis=0),
            "one run, as shown": np.mean([covers(run, t) for run, t in zip(shown, truth, strict=True)], axis=0),
            "difference": covers(paired, truth[1] - truth[0]),
            "bias": (value - truth).mean(axis=0),
            "bias of the resamples": (drawn.mean(axis=-1) - value).mean(axis=0),
        }
        for name, each in part.items():
            covered.setdefault(name, []).append(each)
    print(f"\n{images:,} images, {count} trials, {resamples} resamples")
    print("| | " + " | ".join(names) + " | all |")
    for name, each in covered.items():
        mean = np.mean(each, axis=0)
        shape = ".1%" if "bias" not in name else "+.2f"
        print(f"| {name} | " + " | ".join(format(one, shape) for one in (*mean, mean.mean())) + " |", flush=True)
    assert np.mean(covered["difference"]) > 0.9
