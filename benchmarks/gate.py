"""How often `analyze gate` is right, by simulation: models that are equal, and one that is worse by a known drop.

    python benchmarks/gate.py --trials 400 --images 300

Each trial draws new images and new detections of two simulated detectors. *Equal*: both err alike, and the gate with
--max-drop 0 should pass. *Worse*: one misses more objects; the allowed drop is then the true one less twice the half
width of the interval, and the gate should fail. Both should hold in 95 % of the trials and more.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from analysis import Detections, read_ground_truth
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.evaluation.settings import Settings
from analysis.stats.compare import Candidate, compare
from analysis.stats.gate import Gate

EQUAL = Flaws(background=1.0, tail=1.0)
WORSE = Flaws(missed=0.6, background=1.0, tail=1.0)
CATEGORIES, OBJECTS_PER_IMAGE = 2, 2.0


@dataclass(frozen=True)
class Rates:
    """What a simulation has found; rates of trials from 0 to 1, differences in points of AP50."""

    equal_passed: float
    worse_failed: float
    drop: float  # of the worse model, in the mean over all trials
    half: float  # of the interval, in the mean

    def __str__(self) -> str:
        return (
            f"equal models passed: {self.equal_passed:.1%}; a drop of {self.drop:.2f} points, where "
            f"{self.drop - 2 * self.half:.2f} (2 half widths of {self.half:.2f} less) are allowed, failed: "
            f"{self.worse_failed:.1%}"
        )


def simulate(trials: int, images: int, resamples: int, seed: int = 0) -> Rates:
    """Run the gate on so many pairs of models."""
    equal, worse = [], []
    for trial in range(trials):
        base, same, other = _gates(images, resamples, 1000 * (seed + 1) + 10 * trial)
        equal.append(Gate("new", "AP50", 0.0, same, base))
        worse.append(Gate("new", "AP50", 0.0, other, base))
    drop = -float(np.mean([one.difference.value for one in worse]))
    half = float(np.mean([(one.difference.high - one.difference.low) / 2 for one in worse]))
    allowed = [Gate(one.new, one.metric, max(0.0, drop - 2 * half), one.difference, one.comparison) for one in worse]
    return Rates(
        float(np.mean([one.passed for one in equal])), float(np.mean([not one.passed for one in allowed])), drop, half
    )


def _gates(images: int, resamples: int, seed: int):  # type: ignore[no-untyped-def]
    """A comparison, and the differences of an equal and of a worse model to the base."""
    scene = simulate_scene(images, CATEGORIES, seed, OBJECTS_PER_IMAGE)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "gt.json"
        path.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
        truth = read_ground_truth(path)
    models = {
        name: Candidate(name, (Detections.from_records(simulate_detector(scene, flaws, seed + place), truth),))
        for place, (name, flaws) in enumerate((("base", EQUAL), ("same", EQUAL), ("other", WORSE)), 1)
    }
    found = compare(
        truth, list(models.values()), Settings(), baseline="base", resamples=resamples, seed=seed, mean_ap=False,
        designs=True,
    )  # fmt: skip
    same, other = (one.differences["AP50"] for one in found.vs_baseline)
    return found, same, other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(simulate(options.trials, options.images, options.resamples, options.seed))


if __name__ == "__main__":
    main()
