"""One prediction file analysed: matched once, and from that one matching everything that a caller asks for.

Also the names by which prediction files given side by side are called.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.arrays import Bools, Floats
from analysis.coco import Detections, GroundTruth
from analysis.evaluation.ap_evaluation import coco_metrics
from analysis.evaluation.cap import OverCap, count_over_cap, measured_cap
from analysis.evaluation.confusion import Confusion, category_confusion, with_costly, with_costs
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.matched_run import Curve, MatchedRun
from analysis.evaluation.matching import pair_detections
from analysis.evaluation.outcomes import ObjectOutcomes, object_outcomes
from analysis.evaluation.selection import LowScores, low_scores
from analysis.evaluation.settings import Settings
from analysis.evaluation.single_error_cost import SingleErrorCosts, costly, single_error_costs
from analysis.evaluation.slices import (
    COCO_SIZES,
    ClassErrors,
    CrowdingBins,
    IouErrors,
    Size,
    SizeErrors,
    along_iou,
    by_class,
    by_crowding,
    by_size,
    object_crowding,
    thresholds,
)
from analysis.evaluation.tide import Breakdown, break_down_matched, match_and_label_at
from analysis.exceptions import BadInput
from analysis.presentation import Presentable


@dataclass(frozen=True, eq=False)
class Run:
    """One prediction file and its breakdown."""

    name: str
    detections: Detections
    breakdown: Breakdown


def name_runs(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    """``[NAME=]PATH`` arguments -> names and paths.

    A file or folder without a name is named by the shortest part of its path that distinguishes it from the others.

    Raises:
        BadInput: two runs would bear one name.

    >>> [name for name, _ in name_runs(["out/a/coco_instances_results.json", "out/b/coco_instances_results.json"])]
    ['a', 'b']
    >>> [name for name, _ in name_runs(["yolo=x/dt.json", "y/vit.json.gz"])]
    ['yolo', 'vit']
    """
    given: list[tuple[str, Path]] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        named = equals and name and "/" not in name and not Path(argument).exists()
        given.append((_legible(name), Path(path)) if named else ("", Path(argument)))
    unnamed = [path for name, path in given if not name]
    found = dict(zip(unnamed, _tell_apart([_bearing_a_name(path) for path in unnamed]), strict=True))
    names = [name or _legible(found[path]) for name, path in given]
    for name in names:
        if names.count(name) > 1:
            clashing = " and ".join(str(path) for n, (_, path) in zip(names, given, strict=True) if n == name)
            raise BadInput(
                f"{clashing} would have the same name {name!r}; give names: NAME={given[names.index(name)][1]}"
            )
    return [(name, path) for name, (_, path) in zip(names, given, strict=True)]


def _legible(name: str) -> str:
    r"""A name that can be written as UTF-8, whatever bytes the name of a file is made of.

    >>> _legible("y\udcff")
    'y\\udcff'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def _bearing_a_name(path: Path) -> Path:
    """A folder by its own name, however it is written (``.``); detectron2's ``inference`` by that of its run."""
    if not path.is_dir():
        return path
    folder = path.resolve()
    return folder.parent if folder.name == "inference" else folder


def _tell_apart(paths: list[Path]) -> list[str]:
    """One part of each path, the nearest to the end that differs everywhere; else as many of the last as it takes."""
    parts = [_parts(path) for path in paths]
    lengths = [len(p) for p in parts]
    ways = [[p[-level] for p in parts] for level in range(1, min(lengths, default=0) + 1)]
    ways += [["/".join(p[-level:]) for p in parts] for level in range(2, max(lengths, default=0) + 1)]
    return next((names for names in ways if len(set(names)) == len(names)), [p[-1] for p in parts])


def _parts(path: Path) -> list[str]:
    folders = [part for part in path.parent.parts if part not in ("/", ".", "..")]
    return [*folders, path.name.removesuffix(".gz").removesuffix(".json") or path.name]


PARTS = ("class", "size", "iou", "crowding", "confusion")


@dataclass(frozen=True, eq=False)
class AtStake:
    """The costs of single errors and of confused pairs of a run, which rank sentences, tables and pictures."""

    costs: SingleErrorCosts
    costly: dict[str, Bools]  # by error type, bool[N] of detections or bool[M] of objects: see `single_error_cost`
    confusion: Confusion  # with its costs, the costliest pair first
    over_cap: OverCap | None  # with its effect
    low_scores: LowScores | None


@dataclass(frozen=True, eq=False, repr=False)
class RunAnalysis(Presentable, Run):
    """A run matched once: its breakdown, the outcome of every object, and the requested parts.

    Shown by error, class, detection or object, and by the parts size, iou, crowding and confusion.
    """

    matched_run: MatchedRun  # at the IoU of the settings
    curves: dict[float, Curve]  # the run as it is, at each IoU that was asked for
    outcomes: ObjectOutcomes
    metrics: dict[str, float]  # COCO's 12 numbers in points, -1: nothing to average; empty: not asked for
    classes: ClassErrors | None
    sizes: SizeErrors | None
    ious: IouErrors | None
    crowding: CrowdingBins | None
    confusion: Confusion | None
    at_stake: AtStake | None  # None: not asked for


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
        raise BadInput(f"{unknown[0]!r} is not a way to split the errors; choose from {', '.join(PARTS)}, or all")
    return tuple(part for part in PARTS if part in wanted or "all" in wanted)


class Analysis:
    """The analysis of several runs on one ground truth; results that depend only on the ground truth are computed once.

    Args:
        ground_truth: of all runs.
        settings: of the matching.
        parts: some of :data:`PARTS`.
        sizes: for the part ``size``.
        ious: IoU thresholds at which the precision curve of each run is kept, for intervals and plots.
        metrics: also compute COCO's 12 numbers.
        at_stake: also compute the cost of each single error.

    >>> from analysis import read_detections, read_ground_truth
    >>> from analysis.coco.synthetic import write_example
    >>> truth, predictions = write_example(getfixture("tmp_path"), images=50)
    >>> gt = read_ground_truth(truth)
    >>> analysis = Analysis(gt, Settings(), parts=("class", "size"))
    >>> run = analysis.of("sloppy", read_detections(predictions["sloppy-boxes"], gt))
    >>> max(run.breakdown.delta_ap, key=run.breakdown.delta_ap.get), run.sizes.found.shape
    ('loc', (3,))
    """

    def __init__(
        self,
        ground_truth: GroundTruth,
        settings: Settings,
        parts: Collection[str] = (),
        sizes: Sequence[Size] = COCO_SIZES,
        *,
        ious: Iterable[float] = (),
        metrics: bool = False,
        at_stake: bool = False,
    ) -> None:
        self._ground_truth, self._settings, self._parts, self._sizes = ground_truth, settings, parts, sizes
        self._ious, self._metrics = frozenset(map(float, ious)), metrics
        self._at_stake = at_stake

    @cached_property
    def crowding(self) -> Floats:
        """f64[M] the crowding of every object; see `analysis.evaluation.slices`."""
        return object_crowding(self._ground_truth)

    def of(self, name: str, detections: Detections) -> RunAnalysis:
        """Pair the detections with the objects once, match them once at each IoU, and compute the parts.

        Raises:
            BadInput: masks are compared and a record has none, or the background IoU is above all IoU thresholds.
        """
        gt, settings, parts = self._ground_truth, self._settings, self._parts
        paired = pair_detections(gt, detections, settings)
        shown = thresholds(settings) if "iou" in parts else []
        # The curve of a run as it is does not depend on the background's IoU, which must not lie above the other.
        each = [
            settings,
            *(
                replace(settings, iou=iou, background_iou=min(settings.background_iou, iou))
                for iou in sorted(self._ious.union(shown) - {settings.iou})
            ),
        ]
        curves, breakdowns, matched_run = {}, {}, None
        for at_iou in match_and_label_at(gt, detections, each, paired):
            matched_run = matched_run or at_iou
            iou = at_iou.settings.iou
            if iou in self._ious:
                curves[iou] = at_iou.base
            if at_iou is matched_run or iou in shown:
                breakdowns[iou] = break_down_matched(at_iou, detections)
        assert matched_run is not None
        breakdown = breakdowns[settings.iou]
        labels = breakdown.labels
        outcomes = object_outcomes(labels)
        as_coco = paired if settings.convention == "coco" else None
        at_stake = self._stakes(detections, matched_run, breakdown) if self._at_stake else None
        return RunAnalysis(
            name=name,
            detections=detections,
            breakdown=breakdown,
            matched_run=matched_run,
            curves=curves,
            outcomes=outcomes,
            metrics=coco_metrics(
                gt,
                detections,
                iou_type=settings.iou_type,
                max_dets=settings.caps,
                min_score=settings.min_score,
                paired=as_coco,
            )
            if self._metrics
            else {},
            classes=by_class(gt, detections, matched_run, breakdown) if "class" in parts else None,
            sizes=by_size(gt, detections, matched_run, self._sizes) if "size" in parts else None,
            ious=along_iou((breakdowns[iou] for iou in shown), settings) if "iou" in parts else None,
            crowding=by_crowding(self.crowding, outcomes, labels) if "crowding" in parts else None,
            confusion=(at_stake or self._stakes(detections, matched_run, breakdown)).confusion
            if "confusion" in parts
            else None,
            at_stake=at_stake,
        )

    def _stakes(self, detections: Detections, matched_run: MatchedRun, breakdown: Breakdown) -> AtStake:
        gt, labels = self._ground_truth, breakdown.labels
        as_coco = matched_run.settings.convention == "coco"  # tidecv takes the images in another order
        by_score = matched_run.row[matched_run.by_score_fixed] if as_coco else None
        costs = single_error_costs(gt, detections, breakdown, by_score)
        costly_of = {
            name: costly(np.where(ERROR_TYPES[name].occurs(labels), costs.detection, 0.0))
            for name in ERRORS
            if not ERROR_TYPES[name].of_object
        }
        # Of many missed objects of a class, one alone often costs nothing: its AP is read at 101 recalls.
        misses = np.bincount(gt.category[labels.missed], minlength=len(gt.category_id))
        each = np.nan_to_num(breakdown.category_raw["miss"]) / np.maximum(misses, 1)
        costly_of["miss"] = costly(np.where(labels.missed, each[gt.category], 0.0))
        pairs = with_costs(category_confusion(gt, detections, labels), matched_run)
        over = count_over_cap(gt, detections, self._settings)
        return AtStake(
            costs,
            costly_of,
            with_costly(pairs, gt.category, detections, labels, costly_of["cls"]),
            measured_cap(over, gt, detections, matched_run) if over else None,
            low_scores(gt, detections, matched_run),
        )
