"""The detections of a run that the cap leaves out, and the effect on its numbers."""

from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import Ints, distinct
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.matched_run import MatchedRun
from analysis.evaluation.settings import Settings
from analysis.evaluation.tide import match_and_label


@dataclass(frozen=True)
class OverCap:
    """The detections beyond the cap of an image, in the ``coco`` convention of an image and category."""

    detections: int
    images: int  # with some of them
    most: int  # detections of an image (and category): a cap of so many leaves none out
    most_objects: int  # likewise objects that count
    effect: "CapEffect | None" = None  # None: not measured


@dataclass(frozen=True)
class CapEffect:
    """The numbers of a run with and without the cap."""

    ap: float  # with the cap, in points
    ap_without: float
    missed_for_the_cap: int | None  # objects that are missed with it alone; None: not counted


def count_over_cap(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> OverCap | None:
    """Count the detections beyond the cap; None if there are none."""
    classes = len(ground_truth.category_id) if settings.cap_per_category else 1

    def group(of: GroundTruth | Detections) -> Ints:
        return of.image * classes + (of.category if classes > 1 else 0)

    kept = slice(None) if settings.min_score is None else detections.score >= settings.min_score
    found = np.bincount(group(detections)[kept], minlength=1)
    if found.max() <= settings.max_dets:
        return None
    beyond = np.maximum(found - settings.max_dets, 0)
    objects = np.bincount(group(ground_truth)[~ground_truth.ignore], minlength=1)
    images = len(distinct(np.flatnonzero(beyond) // classes))
    return OverCap(int(beyond.sum()), images, int(found.max()), int(objects.max()))


def cap_of_run(ground_truth: GroundTruth, detections: Detections, settings: Settings) -> OverCap | None:
    """The detections beyond the cap, with their effect; None if there are none."""
    over = count_over_cap(ground_truth, detections, settings)
    return over and measured_cap(over, ground_truth, detections, match_and_label(ground_truth, detections, settings))


def measured_cap(over: OverCap, ground_truth: GroundTruth, detections: Detections, capped: MatchedRun) -> OverCap:
    """The same with its effect, for which the run is matched again without a cap."""
    free = match_and_label(ground_truth, detections, replace(capped.settings, max_dets=over.most))
    ap, ap_without = (run.average_precision(run.base).mean for run in (capped, free))
    missed = int((capped.labels.missed & ~free.labels.missed).sum())
    return replace(over, effect=CapEffect(ap, ap_without, missed))
