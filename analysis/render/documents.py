"""The JSON documents of the command line: AP in points (0..100), unrounded, null where there is no number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.arrays import Floats, Ints
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import AtStake, RunAnalysis
from analysis.evaluation.cap import OverCap
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.matched_run import UNCHECKED
from analysis.evaluation.outcomes import IGNORED, OUTCOME_NAMES
from analysis.evaluation.selection import LowScores
from analysis.evaluation.settings import Settings
from analysis.evaluation.slices import ClassErrors, IouErrors, SizeErrors
from analysis.render.advice import error_takeaways
from analysis.render.takeaways import comparison_takeaways, moves
from analysis.stats.compare import CategoryIntervals, Comparison, OutcomeTransitions
from analysis.stats.intervals import Difference, Interval

SCHEMA = 1

Record = dict[str, Any]


def errors_document(ground_truth: GroundTruth, settings: Settings, analyses: Sequence[RunAnalysis]) -> Record:
    """The document of ``analyze errors --json``: each breakdown, and the slices that were computed."""
    runs = [
        run_record(
            one.name,
            one.detections,
            {
                "ap": one.breakdown.ap,
                "delta_ap": one.breakdown.delta_ap,
                "raw_delta_ap": one.breakdown.raw,
                "count": one.breakdown.count,
                "true_positives": one.breakdown.true_positives,
                "positives": one.breakdown.positives,
                "never_detected": [ground_truth.category_name[c] for c in one.breakdown.never_detected],
            },
        )
        | (_at_stake(ground_truth, one, one.at_stake) if one.at_stake else {})
        | {"fates": one.outcomes.count, "unchecked": int((one.breakdown.labels.error == UNCHECKED).sum())}
        | slice_records(ground_truth, one)
        | ({"mean_over_iou": {"ap": one.ious.mean_ap, "delta_ap": one.ious.mean_delta_ap}} if one.ious else {})
        for one in analyses
    ]
    return analysis_document(ground_truth, asdict(settings), runs)


def _at_stake(ground_truth: GroundTruth, one: RunAnalysis, at_stake: AtStake) -> Record:
    return {
        "costly": {error: int(which.sum()) for error, which in at_stake.costly.items()},
        "over_cap": maybe(at_stake.over_cap),
        "low_scores": maybe(at_stake.low_scores),
        "findings": error_takeaways(ground_truth, one),
    }


def maybe(found: OverCap | LowScores | None) -> Record | None:
    """What was left out, as a record."""
    return None if found is None else asdict(found)


def analysis_document(ground_truth: GroundTruth, settings: Record, runs: list[Record]) -> Record:
    """The beginning of every document, and the records of the runs."""
    return {
        "schema": SCHEMA,
        "ground_truth": _ground_truth(ground_truth),
        "settings": settings,
        "warnings": [*ground_truth.warnings, *ground_truth.masks.notes],
        "runs": runs,
    }


def _ground_truth(ground_truth: GroundTruth) -> Record:
    return {
        "path": str(ground_truth.path),
        "digest": ground_truth.digest,
        "images": len(ground_truth.image_id),
        "annotations": len(ground_truth),
        "crowd": int(ground_truth.crowd.sum()),
        "categories": len(ground_truth.category_id),
    }


def run_record(name: str, detections: Detections, numbers: Mapping[str, Any]) -> Record:
    """A run with its numbers, between what was read of it and the warnings."""
    return {
        "name": name,
        "path": str(detections.path),
        "detections": len(detections),
        **numbers,
        "warnings": [*detections.warnings, *detections.masks.notes],
    }


def error_records(runs: Sequence[RunAnalysis]) -> list[Record]:
    """A record a run and error type: AP, delta-AP in points, counts (none for fp and fn, which are not counted)."""
    return [
        {
            "run": run.name,
            "iou_type": run.breakdown.settings.iou_type,
            "iou": run.breakdown.settings.iou,
            "background_iou": run.breakdown.settings.background_iou,
            "max_dets": run.breakdown.settings.max_dets,
            "convention": run.breakdown.settings.convention,
            "ap": run.breakdown.ap,
            "error": error,
            "delta_ap": run.breakdown.delta_ap[error],
            "raw_delta_ap": run.breakdown.raw[error],
            "count": run.breakdown.count.get(error),
            "costly": int(run.at_stake.costly[error].sum()) if run.at_stake and error in ERRORS else None,
        }
        for run in runs
        for error in (*ERRORS, *SPECIAL)
    ]


def slice_records(ground_truth: GroundTruth, one: RunAnalysis) -> dict[str, list[Record]]:
    """A record a class, size, threshold ... for each slice that was computed, by the name of its file."""
    slices: dict[str, Record] = {}
    if classes := one.classes:
        slices["by_class"] = {
            "class": classes.names,
            "objects": classes.positives,
            "detections": classes.detections,
            "true_positives": classes.true_positives,
            "ap": classes.ap,
            **_by_error(classes, (*ERRORS, *SPECIAL)),
        }
    if sizes := one.sizes:
        slices["by_size"] = {
            "size": [size.name for size in sizes.sizes],
            "low": [size.low for size in sizes.sizes],
            "high": [size.high if math.isfinite(size.high) else None for size in sizes.sizes],
            "objects": sizes.objects,
            "found": sizes.found,
            **_by_error(sizes, ERRORS),
        }
    if ious := one.ious:
        slices["by_iou"] = {"iou": ious.ious.round(12), "ap": ious.ap, **_by_error(ious, (*ERRORS, *SPECIAL))}
    if bins := one.crowding:
        slices["by_crowding"] = {
            "crowding": bins.names,
            "low": bins.low,
            "high": bins.high,
            "objects": bins.objects,
            **{name: bins.outcome[:, i] for i, name in enumerate(OUTCOME_NAMES) if i != IGNORED},
            "duplicates": bins.duplicates,
            "recall": bins.recall,
            "miss_rate": bins.miss_rate,
            "duplicate_rate": bins.duplicate_rate,
        }
    if pairs := one.confusion:
        names = np.array(ground_truth.category_name, dtype=object)
        slices["confusion"] = {
            "true": names[pairs.true],
            "predicted": names[pairs.predicted],
            "detections": pairs.count,
            "objects": pairs.objects,
            "delta_ap": [None] * len(pairs.true) if pairs.cost is None else pairs.cost,
            "costly": [None] * len(pairs.true) if pairs.costly is None else pairs.costly,
        }
    return {name: _in_rows(columns) for name, columns in slices.items()}


def _by_error(part: ClassErrors | SizeErrors | IouErrors, errors: Sequence[str]) -> dict[str, list[Record]]:
    def rows(values: Mapping[str, Floats] | Mapping[str, Ints], names: Sequence[str]) -> list[Record]:
        return _in_rows({name: values[name] for name in names})

    return {
        "delta_ap": rows(part.delta_ap, errors),
        "raw_delta_ap": rows(part.raw, errors),
        "count": rows(part.count, ERRORS),
    }


def _in_rows(columns: Mapping[str, Any]) -> list[Record]:
    values = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def comparison_document(ground_truth: GroundTruth, comparison: Comparison) -> Record:
    """The document of ``analyze compare --json``."""
    return {
        "schema": SCHEMA,
        "ground_truth": _ground_truth(ground_truth),
        "settings": asdict(comparison.settings),
        "resampling": {**_resampling(comparison), "family": comparison.family},
        "baseline": comparison.baseline,
        "cautions": list(comparison.cautions),
        "runs": [
            {
                "name": one.name,
                "seeds": list(one.seeds),
                "numbers": {name: interval_record(number) for name, number in one.numbers.items()},
                "categories": _categories(ground_truth, one.categories),
            }
            for one in comparison.candidates
        ],
        "against_baseline": [
            {
                "name": one.name,
                "seeds": list(one.seeds),
                "differences": {name: interval_record(difference) for name, difference in one.differences.items()},
                "categories": _categories(ground_truth, one.categories),
                "fates": _transitions(ground_truth, one.transitions) if one.transitions else None,
                "finding": sentence,
            }
            for one, sentence in zip(comparison.vs_baseline, comparison_takeaways(comparison), strict=True)
        ],
    }


def add_intervals(document: Record, comparison: Comparison) -> None:
    """Add ``intervals`` to each run of a document, and what was resampled to the document."""
    for entry, one in zip(document["runs"], comparison.candidates, strict=True):
        entry["intervals"] = {name: interval_record(number) for name, number in one.numbers.items()}
    document |= {"resampling": _resampling(comparison), "cautions": list(comparison.cautions)}


def _resampling(comparison: Comparison) -> Record:
    return {"unit": "images", "resamples": comparison.resamples, "seed": comparison.seed, "confidence": 0.95}


def interval_record(number: Interval) -> Record:
    """A number with its interval, and with its p-values where it is a difference."""
    entry = {
        "value": number.value,
        "low": number.low,
        "high": number.high,
        "error_images": number.images,
        "error_seeds": number.seeds,
        "n": number.n,
    }
    if isinstance(number, Difference):
        entry |= {"p": number.p, "p_family": number.p_adjusted, "stands": number.significant}
    return entry


def _categories(ground_truth: GroundTruth, categories: Mapping[str, CategoryIntervals]) -> list[Record]:
    limits = {name: _in_rows(vars(of)) for name, of in categories.items()}
    return _in_rows({"id": ground_truth.category_id, "name": ground_truth.category_name, **limits})


def _transitions(ground_truth: GroundTruth, transitions: OutcomeTransitions) -> Record:
    return {
        "names": list(transitions.outcomes),
        "objects": transitions.count.tolist(),
        "images": [
            {
                "before": transitions.outcomes[before],
                "after": transitions.outcomes[after],
                "objects": int(transitions.count[before, after]),
                "most": [
                    {"id": ground_truth.image_id[image], "file_name": ground_truth.file_name[image], "objects": count}
                    for image, count in transitions.images(ground_truth.image, before, after)
                ],
            }
            for before, after in moves(transitions)
        ],
    }
