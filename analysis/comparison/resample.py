"""Paired bootstrap over images: what AP, AP50 and every error come to when the images are drawn again.

A resample draws as many images as there are, with replacement, the same for every run. Labels and matches belong to an
image, so they are made once; a resample is exact nevertheless (see :mod:`analysis.comparison.weighting`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.average_precision import COCO_IOUS
from analysis.comparison.weighting import WeightedCurves, weigh
from analysis.detections import Detections
from analysis.error_types import ERRORS, SPECIAL, ap_name
from analysis.ground_truth import GroundTruth
from analysis.judging import judge_at
from analysis.refusal import BadInput
from analysis.verdict import Curve, Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AT_ONCE = 64  # resamples drawn at a time, which bounds the memory
MEAN_AP = "AP"  # COCO's, over ten IoUs


@dataclass(frozen=True, eq=False)
class Resampled:
    """What the numbers of one run are, and what they come to in every resample; in points.

    NaN: the category has no object (in that resample), so that it takes no part in the mean.
    """

    numbers: tuple[str, ...]  # AP (where asked for), AP50, cls, loc, both, dup, bg, miss, fp, fn
    value: Floats  # [numbers] on the images as they are
    drawn: Floats  # [numbers, R]
    category_value: Floats  # [numbers, K]
    category_drawn: NDArray[np.float32]  # [numbers, R, K]


def draw_weights(images: int, resamples: int, seed: int) -> Iterator[Ints]:
    """How often each image counts, i64[images], in one resample after another: as many draws as there are images."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, images, images), minlength=images)


def resample(
    ground_truth: GroundTruth,
    runs: Sequence[tuple[Detections, Verdict]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    mean_ap: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[Resampled]:
    """Draw the images again and again and measure every run on each draw.

    Args:
        ground_truth: of all runs.
        runs: detections of each and what :func:`analysis.judging.judge` says of them, in the ``coco`` convention.
        resamples: how many draws, R.
        seed: of the draws; the same seed and number of images give the same draws whatever the runs.
        mean_ap: also COCO's AP over ten IoUs, which takes about as long as everything else.
        progress: called with the number of resamples that are done.

    Raises:
        BadInput: another convention, no image, or a number of resamples below 1.
    """
    images = len(ground_truth.image_id)
    if any(verdict.settings.convention != "coco" for _, verdict in runs):
        raise BadInput("intervals are made in the coco convention only; leave out --convention tidecv")
    if not images:
        raise BadInput(f"{ground_truth.path}: has no image, so there is nothing to resample")
    if resamples < 1:
        raise BadInput(f"{resamples} resamples: at least 1 is needed, 1,000 for a 95 % interval")
    measured = [_Measured(ground_truth, detections, verdict, mean_ap) for detections, verdict in runs]
    shape = (len(measured[0].numbers), resamples, len(ground_truth.category_id)) if runs else (0, 0, 0)
    drawn = [np.empty(shape[:2]) for _ in runs]
    category_drawn = [np.empty(shape, dtype=np.float32) for _ in runs]

    def one(number: int, weights: Ints) -> None:
        for run, numbers in enumerate(measured):
            found = numbers.of(weights)
            drawn[run][:, number] = _mean(found)
            category_drawn[run][:, number] = found

    weights = draw_weights(images, resamples, seed)
    with ThreadPoolExecutor(_threads()) as pool:
        for start in range(0, resamples, AT_ONCE):
            part = range(start, min(start + AT_ONCE, resamples))
            list(pool.map(one, part, [next(weights) for _ in part]))
            if progress:
                progress(part.stop)
    return [
        Resampled(numbers.numbers, _mean(value), drawn[run], value, category_drawn[run])
        for run, numbers in enumerate(measured)
        for value in [numbers.of(np.ones(images, dtype=np.int64))]
    ]


class _Measured:
    """The curves of one run, ready for weights."""

    def __init__(self, ground_truth: GroundTruth, detections: Detections, verdict: Verdict, mean_ap: bool) -> None:
        fixes = (*ERRORS, *SPECIAL)
        self.numbers = (*((MEAN_AP,) if mean_ap else ()), ap_name(verdict.settings.iou), *fixes)

        def ready(curves: Sequence[Curve]) -> WeightedCurves:
            images, categories = len(ground_truth.image_id), len(ground_truth.category_id)
            return weigh(curves, verdict.image, ground_truth.image, ground_truth.category, images, categories)

        self._fixed = ready([verdict.base, *(verdict.fixed(error) for error in fixes)])
        self._at_ious = ready(_at_ious(ground_truth, detections, verdict)) if mean_ap else None

    def of(self, weights: Ints) -> Floats:
        """f64[numbers, K] in points."""
        fixed = self._fixed.average_precision(weights)
        fixed[1:] -= fixed[0]
        if self._at_ious is None:
            return fixed
        return np.concatenate([self._at_ious.average_precision(weights).mean(axis=0, keepdims=True), fixed])


def _at_ious(ground_truth: GroundTruth, detections: Detections, verdict: Verdict) -> list[Curve]:
    """The run as it is at COCO's ten IoUs."""
    background = min(verdict.settings.background_iou, float(COCO_IOUS[0]))
    settings = replace(verdict.settings, iou=float(COCO_IOUS[0]), background_iou=background)
    return [one.base for one in judge_at(ground_truth, detections, settings, COCO_IOUS.tolist())]


def _mean(found: Floats) -> Floats:
    """f64[numbers] the mean over the categories that have objects; NaN where none has."""
    known = ~np.isnan(found[0])
    return found[:, known].mean(axis=1) if known.any() else np.full(len(found), np.nan)


def _threads() -> int:
    return max(min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8), 1)
