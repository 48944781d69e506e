"""Where the AP of a run went: everything that one matching tells, of which a caller names the parts to compute.

Prediction files given side by side: what they are called and what was found in each.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.confusion import Confusion, category_confusion, with_costs
from analysis.evaluation.error_types import Settings
from analysis.evaluation.outcomes import ObjectOutcomes, object_outcomes
from analysis.evaluation.slices import (
    COCO_SIZES,
    ClassErrors,
    CrowdingBins,
    IouErrors,
    Size,
    SizeErrors,
    along_verdicts,
    by_class,
    by_crowding,
    by_size,
    object_crowding,
    thresholds,
)
from analysis.evaluation.tide import Breakdown, break_down_verdict, match_and_label_at
from analysis.exceptions import BadInput


@dataclass(frozen=True, eq=False)
class Run:
    """One prediction file and its breakdown."""

    name: str
    detections: Detections
    breakdown: Breakdown


def name_runs(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    """``[NAME=]PATH`` arguments -> names and paths.

    A file or folder without a name is called by the shortest part of its path that tells it from the others.

    Raises:
        BadInput: two runs would bear one name.

    >>> [name for name, _ in name_runs(["out/a/coco_instances_results.json", "out/b/coco_instances_results.json"])]
    ['a', 'b']
    >>> [name for name, _ in name_runs(["yolo=x/dt.json", "y/vit.json.gz"])]
    ['yolo', 'vit']
    """
    given: list[tuple[str | None, Path]] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if equals and name and "/" not in name and not Path(argument).exists():
            given.append((name, Path(path)))
        else:
            given.append((None, Path(argument)))
    unnamed = [path for name, path in given if name is None]
    found = dict(zip(unnamed, _tell_apart([_bearing_a_name(path) for path in unnamed]), strict=True))
    names = [name if name is not None else found[path] for name, path in given]
    for name in names:
        if names.count(name) > 1:
            clashing = " and ".join(str(path) for n, (_, path) in zip(names, given, strict=True) if n == name)
            raise BadInput(f"{clashing} would both be called {name!r}; name them: NAME={given[names.index(name)][1]}")
    return [(name, path) for name, (_, path) in zip(names, given, strict=True)]


def _bearing_a_name(path: Path) -> Path:
    """A folder by its own name, however it is written (``.``); detectron2's ``inference`` by that of its run."""
    if not path.is_dir():
        return path
    folder = path.resolve()
    return folder.parent if folder.name == "inference" else folder


def _tell_apart(paths: list[Path]) -> list[str]:
    parts = [_parts(path) for path in paths]
    depth = min((len(p) for p in parts), default=0)
    for level in range(1, depth + 1):  # one part, the nearest to the end that differs everywhere
        names = [p[-level] for p in parts]
        if len(set(names)) == len(names):
            return names
    for level in range(2, max((len(p) for p in parts), default=0) + 1):  # else as many of the last parts as it takes
        names = ["/".join(p[-level:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [p[-1] for p in parts]


def _parts(path: Path) -> list[str]:
    stem = path.name.removesuffix(".gz").removesuffix(".json") or path.name
    return [*(part for part in path.parent.parts if part not in ("/", ".", "..")), stem]


PARTS = ("class", "size", "iou", "crowding", "confusion")


@dataclass(frozen=True, eq=False)
class RunAnalysis:
    """A run, the fate of every object, and the parts that were asked for."""

    run: Run
    outcomes: ObjectOutcomes
    classes: ClassErrors | None = None
    sizes: SizeErrors | None = None
    ious: IouErrors | None = None
    crowding: CrowdingBins | None = None
    confusion: Confusion | None = None


def parse_parts(text: str) -> tuple[str, ...]:
    """``class,size`` or ``all`` -> parts, in the order of :data:`PARTS`.

    Raises:
        BadInput: a part is unknown; the sentence lists them.

    >>> parse_parts("size, class"), len(parse_parts("all")) == len(PARTS)
    (('class', 'size'), True)
    """
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(wanted - {*PARTS, "all"})
    if unknown:
        raise BadInput(f"{unknown[0]!r} is no way to split the errors; choose of {', '.join(PARTS)}, or all")
    return tuple(part for part in PARTS if part in wanted or "all" in wanted)


class Analysis:
    """The analysis of several runs on one ground truth: what depends on the ground truth alone is computed once."""

    def __init__(
        self,
        ground_truth: GroundTruth,
        settings: Settings,
        parts: Collection[str] = (),
        sizes: Sequence[Size] = COCO_SIZES,
    ) -> None:
        self._ground_truth, self._settings, self._parts, self._sizes = ground_truth, settings, parts, sizes
        self._crowding: NDArray[np.float64] | None = None

    @property
    def crowding(self) -> NDArray[np.float64]:
        """f64[M] how crowded every object stands."""
        if self._crowding is None:
            self._crowding = object_crowding(self._ground_truth)
        return self._crowding

    def of(self, name: str, detections: Detections) -> RunAnalysis:
        """Match a run once and compute the parts."""
        gt, parts = self._ground_truth, self._parts
        along = thresholds(self._settings) if "iou" in parts else []
        matched_runs = match_and_label_at(gt, detections, self._settings, [self._settings.iou, *along])
        matched_run = next(matched_runs)
        breakdown = break_down_verdict(matched_run, detections)
        labels = breakdown.labels
        outcomes = object_outcomes(labels)
        return RunAnalysis(
            run=Run(name, detections, breakdown),
            outcomes=outcomes,
            classes=by_class(gt, detections, matched_run, breakdown) if "class" in parts else None,
            sizes=by_size(gt, detections, matched_run, self._sizes) if "size" in parts else None,
            ious=along_verdicts(matched_runs, detections, self._settings) if "iou" in parts else None,
            crowding=by_crowding(self.crowding, outcomes, labels) if "crowding" in parts else None,
            confusion=with_costs(category_confusion(gt, detections, labels), matched_run)
            if "confusion" in parts
            else None,
        )
