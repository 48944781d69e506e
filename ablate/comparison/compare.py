"""Every variant of a study against its baseline: what differs beyond the noise of images and of seeds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ablate.data.sources import locate
from ablate.evaluation import IOU
from ablate.newest import is_finished
from ablate.store import run_folder
from ablate.studies.study import Study, StudyRun
from ablate.summary.summarise import IouType, Summary, summarise
from analysis.comparison.compare import Comparison, Entrant, compare
from analysis.detections import read_detections
from analysis.error_types import Settings
from analysis.ground_truth import GroundTruth, read_ground_truth
from analysis.refusal import BadInput


def compare_study(
    root: Path,
    study: Study,
    iou_type: IouType = "bbox",
    *,
    resamples: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[Summary, GroundTruth, Comparison]:
    """Compare what is finished, from files alone; differences are taken between runs of the same seed.

    Raises:
        BadInput: the baseline or everything else is not finished, or the runs cannot be compared (other data, other
            settings).
    """
    summary = summarise(root, study, iou_type)  # refuses what would compare numbers of different exams
    finished: dict[str, list[StudyRun]] = {variant: [] for variant in study.variants}
    for run in study.runs:
        if run.blocked is None and is_finished(run_folder(root, run.identity)):
            finished[run.variant].append(run)
    if not finished[study.baseline]:
        raise BadInput(
            f"study {study.name!r}: no run of the baseline {study.baseline} is finished, so there is nothing to "
            "compare with; ablate launch runs it"
        )
    seeds = {run.seed for run in finished[study.baseline]}
    paired = {
        variant: [run for run in runs if run.seed in seeds]
        for variant, runs in finished.items()
        if any(run.seed in seeds for run in runs)
    }
    if len(paired) < 2:
        raise BadInput(
            f"study {study.name!r}: no variant but the baseline {study.baseline} has a finished run under one of its "
            "seeds; ablate launch runs what is not done"
        )
    ground_truth = read_validation(root, study, paired[study.baseline][0])
    entrants = [
        Entrant(
            variant,
            tuple(read_detections(run_folder(root, run.identity).predictions, ground_truth) for run in runs),
            tuple(run.seed for run in runs),
        )
        for variant, runs in paired.items()
    ]
    comparison = compare(
        ground_truth,
        entrants,
        Settings(iou_type, IOU),
        baseline=study.baseline,
        resamples=resamples,
        seed=seed,
        progress=progress,
    )
    return summary, ground_truth, replace(comparison, cautions=(*_cautions(study, paired), *comparison.cautions))


def read_validation(root: Path, study: Study, run: StudyRun) -> GroundTruth:
    """What the runs of a study were measured on.

    Raises:
        BadInput: it is another than when the study was planned, or cannot be read.
    """
    assert run.config is not None  # only blocked runs have none
    ground_truth = read_ground_truth(locate(run.config.data.validation, root).annotations)
    if ground_truth.digest != study.validation_data:
        raise BadInput(
            f"{ground_truth.path}: has changed since study {study.name!r} was planned (digest "
            f"{ground_truth.digest[:12]}, then {study.validation_data[:12]}); restore it to compare what was measured"
        )
    return ground_truth


def _cautions(study: Study, paired: dict[str, list[StudyRun]]) -> list[str]:
    sentences = []
    if study.synthetic:
        sentences.append("synthetic data: shows the tool, is no evidence")
    for variant in study.variants:
        runs = paired.get(variant, [])
        if not runs:
            sentences.append(f"{variant} is left out: no run of it is finished under a seed of the baseline")
        elif len(runs) < len(study.seeds):
            theirs = "" if variant == study.baseline else " here and in the baseline"
            sentences.append(f"{variant}: {len(runs)} of {len(study.seeds)} seeds are finished{theirs}")
        keys = dict.fromkeys(key for run in runs for key in run.uncontrolled)
        if keys:
            sentences.append(f"{variant} is not controlled: it differs in {', '.join(keys)} too")
    return sentences
