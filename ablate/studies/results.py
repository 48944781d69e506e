"""The answer of a study, read from the folders of its runs alone.

:func:`summarise` makes a row a variant: AP, errors and cost over its seeds, and what was published about it.
:func:`compare_study` compares every variant with the baseline and shows what differs beyond the noise of images and of
seeds. Both refuse to put numbers side by side that were not measured alike.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from ablate.axes.base import is_within
from ablate.data.sources import annotations_of
from ablate.execute.evaluation import COCO_CAP, IOU, Evaluation, Measured, read_evaluation
from ablate.execute.finished import find_fault, is_finished
from ablate.execute.outside import read_outside
from ablate.runs.folder import SCHEMA, Status, Workspace, read_json
from ablate.runs.manifest import Manifest, older_rule
from ablate.studies.cost import Range, RowCost, study_costs
from ablate.studies.published import Finding, Findings, Kind, PublishedCost, is_of, matches, published_of
from ablate.studies.study import DetectorSize, Study, StudyRun, finished_runs, launch_command, state_in_words
from analysis.coco.detections import read_detections
from analysis.coco.ground_truth import GroundTruth, read_ground_truth
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.settings import Settings
from analysis.exceptions import BadInput
from analysis.stats.compare import Candidate, Comparison, compare
from analysis.stats.intervals import Estimate, estimate

IouType = Literal["bbox", "segm"]
METRICS = ("AP", "AP50", "AP75")


def kinds_of(iou_type: IouType) -> tuple[Kind, Kind]:
    """The kind of the AP, boxes or masks, and the other kind."""
    return ("box", "mask") if iou_type == "bbox" else ("mask", "box")


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of the commands of a variant, measured from outside, over its seeds."""

    seconds: Estimate  # wall-clock
    peak_gpu_gib: float | None  # the most memory in use on one GPU; none: no GPU, or not known
    places: tuple[str, ...]  # where they ran


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One variant. AP and its differences in points; what was not measured is none."""

    variant: str
    levels: tuple[str, ...]
    number: float | None
    baseline: bool
    state: str  # finished, 2 of 3 finished, out of memory, not started ...
    message: str  # why it is not finished, for a person
    confounders: tuple[str, ...] = msgspec.field(name="uncontrolled")
    n: int  # finished seeds
    metrics: dict[str, Estimate]  # AP, AP50, AP75 of the kind asked for
    other_ap: Estimate | None  # AP of the other kind: of masks beside boxes
    difference: Estimate | None  # AP against the baseline, seed by seed
    errors: dict[str, Estimate]  # AP to gain by fixing one type alone
    peak_gib: float | None
    seconds_per_iteration: float | None  # a training step of one image; none: also where it is unreliable
    seconds_per_image: float | None  # a prediction, likewise
    cost_message: str
    size: DetectorSize | None
    published: Finding | None  # of the same data, size, initialisation and schedule
    iteration_range: Range | None = None  # the lowest and the highest median of a round
    image_range: Range | None = None
    iteration_ratio: float | None = None  # to the baseline; none where the rounds of the two overlap: noise
    image_ratio: float | None = None
    seeds: tuple[int, ...] = ()  # that are finished, in the order of the values of each estimate
    outside: Outside | None = None  # of a command: what it took as a whole
    facts: dict[str, Any] = {}  # of adopted runs: as given by the user


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A published number that no run may stand beside, and its difference to the same source's baseline."""

    finding: Finding
    box_difference: float | None
    mask_difference: float | None

    def difference(self, kind: Kind) -> float | None:
        """The difference of the AP of boxes or of masks, in points."""
        return self.box_difference if kind == "box" else self.mask_difference


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """``table --json``."""

    study: str
    title: str
    source: str
    axis: str
    product: str | None
    unit: str
    base: str
    baseline: str
    seeds: tuple[int, ...]
    synthetic: bool
    iou_type: IouType
    iou: float | None  # of the errors; none while nothing is finished
    max_dets: int  # detections of an image and category that are measured at most
    images: int | None
    objects: int | None
    validation_data: str
    cost_place: str  # where the cost was measured; empty where it was not, or not in one place
    cost_memory: str  # what the memory is of
    cost_others: float | None  # cores that other processes used at most meanwhile; none: not known
    rows: tuple[Row, ...]
    published: tuple[Published, ...]
    notes: tuple[str, ...]
    published_costs: tuple[PublishedCost, ...] = ()
    published_cautions: tuple[str, ...] = ()  # what a reader of the published numbers must know
    kind: Literal["detector", "command", "adopted"] = "detector"  # what was run
    schema: int = SCHEMA

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """The kind of the AP, boxes or masks, and that of the AP beside it."""
        return kinds_of(self.iou_type)

    @property
    def percent(self) -> int:
        """The IoU of the errors, as in AP50."""
        return round((self.iou or 0) * 100)

    @property
    def of_single_seeds(self) -> bool:
        """Whether every variant with results has one seed, which gives no interval over seeds."""
        return max(row.n for row in self.rows) == 1

    @property
    def several(self) -> bool:
        """Whether a number is the mean of several runs."""
        return any(row.n > 1 for row in self.rows)


class _Run(msgspec.Struct, frozen=True):
    run: StudyRun
    state: str
    message: str = ""
    evaluation: Evaluation | None = None
    manifest: Manifest | None = None

    def measured(self, kind: Kind) -> Measured | None:
        """Results of boxes or of masks."""
        found = self.evaluation
        return None if found is None else found.box if kind == "box" else found.mask

    def ap(self, kind: Kind) -> float | None:
        """AP in points."""
        measured = self.measured(kind)
        return None if measured is None else measured.metrics["AP"]


def summarise(workspace: Workspace, study: Study, iou_type: IouType = "bbox") -> Summary:
    """The table of a study, from files alone.

    Raises:
        BadInput: its finished runs were trained or measured on different data, or measured under different settings.
    """
    runs = [_read(workspace, run) for run in study.runs]
    finished = [run for run in runs if run.evaluation is not None]
    _check_comparable(study, finished)
    if iou_type == "segm" and finished and all(run.measured("mask") is None for run in finished):
        raise BadInput(f"study {study.name!r} has no masks to compare; leave out --iou-type")
    costs, notes = study_costs(workspace, study)
    first = finished[0].evaluation if finished else None
    known = published_of(study.axis)
    max_dets = first.max_dets if first else COCO_CAP
    if known.findings and max_dets != COCO_CAP:
        known = Findings()
        notes.append(
            f"published AP is left out: it is measured with at most {COCO_CAP} detections, this study with {max_dets}"
        )
    findings = known.findings
    rows = tuple(_row(study, variant, runs, iou_type, costs.get(variant), findings) for variant in study.variants)
    place = next((cost.measured for cost in costs.values()), None)
    on_gpu = place is not None and place.device == "cuda"  # where processor time does not tell what else ran
    others = [None if on_gpu else cost.measured.other_cores for cost in costs.values()]
    return Summary(
        study=study.name,
        title=study.title,
        source=study.source,
        axis=study.axis,
        product=study.product,
        unit=study.unit,
        base=study.base,
        baseline=study.baseline,
        seeds=study.seeds,
        synthetic=study.synthetic,
        iou_type=iou_type,
        iou=first.iou if first else None,
        max_dets=max_dets,
        images=first.images if first else None,
        objects=first.objects if first else None,
        validation_data=study.validation_data,
        cost_place=place.place if place else "",
        cost_memory=("" if place is None else "allocated" if place.device == "cuda" else "kept for the backward pass"),
        cost_others=max((cores for cores in others if cores is not None), default=None) if None not in others else None,
        rows=rows if not study.is_foreign else foreign_rows(workspace, study, rows),
        kind="adopted" if study.is_adopted else "command" if study.is_foreign else "detector",
        published=_published(study, findings, [row.published for row in rows if row.published is not None]),
        notes=(
            *notes,
            *_cautions(study, rows),
            *_older(workspace, [run.run for run in finished]),
            *_foreign_cautions(workspace, study, finished),
        ),
        published_costs=known.costs,
        published_cautions=(*known.cautions, *_cautions_of_levels(study)),
    )


def _read(workspace: Workspace, run: StudyRun) -> _Run:
    if run.blocked is not None:
        return _Run(run, "blocked", run.blocked)
    folder = workspace.run(run.run_id)
    status = folder.read_status() if run.run_id else None
    if status is None or status.state != "finished":
        return _Run(run, state_in_words(status), "" if status is None else status.message)
    fault = find_fault(folder)
    if fault is not None:
        return _Run(run, "damaged", fault.sentence)
    try:
        return _Run(run, "finished", "", read_evaluation(folder.evaluation), read_json(folder.manifest, Manifest))
    except BadInput as error:
        return _Run(run, "damaged", str(error))


def _check_comparable(study: Study, finished: Sequence[_Run]) -> None:
    exams = [(run.run.variant, _exam(run, frozenset(study.allowed_keys))) for run in finished]
    for what in exams[0][1] if exams else ():
        variants: dict[bytes, str] = {}
        for variant, exam in exams:
            variants.setdefault(msgspec.json.encode(exam.get(what)), variant)
        if len(variants) > 1:
            raise BadInput(
                f"study {study.name!r}: {' and '.join(list(variants.values())[:2])} differ in {what}, so their "
                "numbers cannot be shown in one table"
            )


def _exam(run: _Run, allowed_keys: frozenset[str]) -> dict[str, object]:
    """The settings that must be equal for all runs in a table, without the keys that the axis may change."""
    assert run.manifest is not None
    assert run.evaluation is not None
    settings = {} if run.run.config is None else msgspec.structs.asdict(run.run.config.evaluate)
    varies_data = any(
        is_within("data.train", frozenset({key})) or is_within(key, frozenset({"data.train"})) for key in allowed_keys
    )
    exam = {
        "their validation data": run.manifest.validation_data,
        "their validation images": run.manifest.validation_images,
        "their training data": None if varies_data else run.manifest.training_data,
        "their training images": None if varies_data else run.manifest.training_images,
        "the IoU of the errors": run.evaluation.iou,
        "the convention of the errors": run.evaluation.convention,
        "the cap of the evaluation": run.evaluation.max_dets,
        **{f"evaluate.{name}": value for name, value in settings.items()},
    }
    return {key: value for key, value in exam.items() if not is_within(key, allowed_keys)}


def _row(
    study: Study,
    variant: str,
    all_runs: Sequence[_Run],
    iou_type: IouType,
    cost: RowCost | None,
    findings: Sequence[Finding],
) -> Row:
    kind, other = kinds_of(iou_type)
    runs = [run for run in all_runs if run.run.variant == variant]
    base_ap = {run.run.seed: run.ap(kind) for run in all_runs if run.run.variant == study.baseline}
    differences = [
        own - base
        for run in runs
        if (own := run.ap(kind)) is not None and (base := base_ap.get(run.run.seed)) is not None
    ]
    measured_runs = [(run.run.seed, measured) for run in runs if (measured := run.measured(kind)) is not None]
    found = [measured for _, measured in measured_runs]
    first = runs[0].run
    return Row(
        variant=variant,
        levels=first.levels,
        number=first.number,
        baseline=variant == study.baseline,
        state=_state([run.state for run in runs]),
        message="; ".join(dict.fromkeys(run.message for run in runs if run.message)),
        confounders=first.confounders,
        n=sum(run.evaluation is not None for run in runs),
        metrics={name: mean for name in METRICS if (mean := estimate([one.metrics[name] for one in found]))},
        other_ap=estimate([ap for run in runs if (ap := run.ap(other)) is not None]),
        difference=None if variant == study.baseline else estimate(differences),
        errors={name: mean for name in ERROR_TYPES if (mean := estimate([one.delta_ap[name] for one in found]))},
        peak_gib=cost.measured.peak_gib if cost else None,
        seconds_per_iteration=cost.seconds_per_iteration if cost else None,
        seconds_per_image=cost.seconds_per_image if cost else None,
        cost_message=cost.measured.message if cost else "",
        size=first.size,
        published=_published_of(study, runs, all_runs, findings),
        iteration_range=cost.measured.iteration_range if cost and cost.seconds_per_iteration else None,
        image_range=cost.measured.image_range if cost and cost.seconds_per_image else None,
        iteration_ratio=cost.iteration_ratio if cost else None,
        image_ratio=cost.image_ratio if cost else None,
        seeds=tuple(seed for seed, _ in measured_runs),
    )


def _published_of(
    study: Study, runs: Sequence[_Run], all_runs: Sequence[_Run], findings: Sequence[Finding]
) -> Finding | None:
    """The published number that the runs of a variant may stand beside."""
    first = runs[0].run
    if first.config is None:
        return None
    # What a run starts from and for how long it is trained is held against a finding by `matches`; crossed with either
    # of them, a variant is that of its first axis.
    name = first.levels[0] if study.product in ("init", "schedule") and first.levels else first.variant
    evaluations = (run.evaluation for run in all_runs if run.evaluation is not None)
    validation = next(((one.images, one.objects) for one in evaluations), (0, 0))
    start = next((run.manifest.initialisation for run in runs if run.manifest is not None), "random")

    def matching(one: Finding) -> bool:
        assert first.config is not None
        return is_of(one, name) and matches(one, first.config, validation, start, study.allowed_keys)

    return next(filter(matching, findings), None)


def _cautions(study: Study, rows: Sequence[Row]) -> list[str]:
    """Notes that keep a reader from reading more into the numbers than they show."""
    baseline = next(row for row in rows if row.baseline)
    fewer = [
        f"{row.variant} {row.difference.n} of {row.n}" for row in rows if row.difference and row.difference.n < row.n
    ]
    full = [row.variant for row in rows if "out of memory" in row.state and row.peak_gib is not None]
    cautions = (
        (
            not baseline.n and any(row.n for row in rows),
            f"The baseline {study.baseline} has no result ({baseline.state}), so there are no differences.",
        ),
        (fewer, f"Differences use only the seeds that the baseline has finished too: {' / '.join(fewer)}."),
        (full, f"Out of memory in training; the cost is that of a single image: {' / '.join(full)}."),
        (
            study.product is not None and {"init", "schedule"} == {study.axis, study.product},
            "Every length is a separate schedule. The best length of each initialisation is chosen on the images that "
            "it is measured on, so its AP is optimistic; and the best lengths differ between initialisations.",
        ),
        (
            max(row.n for row in rows) == 1,
            "n = 1: one run per variant, so no interval over seeds; another seed may reverse any difference.",
        ),
    )
    return [sentence for holds, sentence in cautions if holds]


def _cautions_of_levels(study: Study) -> Iterator[str]:
    """Notes on the variants of the second axis, whose own published numbers are not shown."""
    levels = {level for run in study.runs if run.blocked is None for level in run.levels}
    for caution in published_of(study.product).cautions if study.product else ():
        if caution.partition(":")[0] in levels:
            yield caution


def foreign_rows(workspace: Workspace, study: Study, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of a study that was not trained here, with the costs of its commands and the facts given for them."""
    found = []
    for row in rows:
        costs = [
            cost
            for run in study.runs_of(row.variant)
            if (folder := workspace.run(run.run_id)) and is_finished(folder) and (cost := read_outside(folder))
        ]
        seconds = estimate([cost.seconds for cost in costs])
        outside = seconds and Outside(
            seconds=seconds,
            peak_gpu_gib=max((cost.peak_gpu_gib for cost in costs if cost.peak_gpu_gib is not None), default=None),
            places=tuple(dict.fromkeys(place for cost in costs for place in cost.places)),
        )
        found.append(msgspec.structs.replace(row, outside=outside, facts=study.facts.get(row.variant, {})))
    return tuple(found)


def _foreign_cautions(workspace: Workspace, study: Study, finished: Sequence[_Run]) -> list[str]:
    """Warnings about predictions of other programs: notes of the reader, and runs with equal predictions."""
    if not study.is_foreign:
        return []
    said: dict[str, list[str]] = {}
    same: dict[str, list[str]] = {}
    for run in finished:
        for note in run.evaluation.notes if run.evaluation else ():
            said.setdefault(note, []).append(run.run.label)
        predictions = workspace.run(run.run.run_id).predictions
        known = (workspace.run(run.run.run_id).read_status() or Status(state="prepared")).files.get(predictions.name)
        if known is not None:
            same.setdefault(known.sha256, []).append(run.run.label)
    return [
        *(
            f"Identical predictions of {' / '.join(labels)}: the parameter or seed in which they differ has no effect."
            for labels in same.values()
            if len(labels) > 1
        ),
        *(f"{' / '.join(labels)}: {note}." for note, labels in said.items()),
    ]


def _older(workspace: Workspace, finished: Sequence[StudyRun]) -> list[str]:
    """Which of the finished runs were made by an older rule."""
    rules = Counter(older_rule(workspace.run(run.run_id)) for run in finished)
    del rules[""]
    return [
        f"{count} of {len(finished)} runs were {rule}: their numbers are still valid, but new runs do not reuse them."
        for rule, count in rules.items()
    ]


def _state(states: Sequence[str]) -> str:
    counts = Counter(states)
    return (
        states[0]
        if len(counts) == 1
        else ", ".join(f"{count} of {len(states)} {state}" for state, count in counts.items())
    )


def _published(study: Study, findings: Sequence[Finding], beside: Sequence[Finding]) -> tuple[Published, ...]:
    """The findings that stand beside no run, with their difference to the baseline of the same source and size."""
    baseline = next((run.levels[0] for run in study.runs if run.variant == study.baseline and run.levels), "")

    def difference(finding: Finding, kind: Kind) -> float | None:
        others = (one for one in findings if one is not finding and one.column == finding.column)
        own, base = finding.ap(kind), next((one.ap(kind) for one in others if is_of(one, baseline)), None)
        return None if own is None or base is None else round(own - base, 6)

    return tuple(
        Published(finding=one, box_difference=difference(one, "box"), mask_difference=difference(one, "mask"))
        for one in findings
        if one not in beside
    )


def compare_study(
    workspace: Workspace,
    study: Study,
    iou_type: IouType = "bbox",
    *,
    resamples: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[Summary, GroundTruth, Comparison]:
    """Compare what is finished, from files alone; differences are taken between runs of the same seed.

    A variant with one seed has intervals over the choice of images and no p-value.

    Raises:
        BadInput: the baseline or everything else is not finished, or the runs cannot be compared (other data, other
            settings).
    """
    summary = summarise(workspace, study, iou_type)  # refuses runs that were not evaluated under the same conditions
    done = finished_runs(workspace, study)
    finished = {variant: [run for run in done if run.variant == variant] for variant in study.variants}
    if not finished[study.baseline]:
        raise BadInput(
            f"study {study.name!r}: no run of the baseline {study.baseline} is finished, so the variants cannot be "
            f"compared; run it: {launch_command(workspace, study)}"
        )
    seeds = {run.seed for run in finished[study.baseline]}
    paired = {variant: own for variant, runs in finished.items() if (own := [run for run in runs if run.seed in seeds])}
    if len(paired) < 2:
        raise BadInput(
            f"study {study.name!r}: no other variant has a finished run with a seed of the baseline {study.baseline}; "
            f"run the unfinished runs: {launch_command(workspace, study)}"
        )
    ground_truth = read_validation(workspace, study, paired[study.baseline][0])
    candidates = [
        Candidate(
            variant,
            tuple(read_detections(workspace.run(run.run_id).predictions, ground_truth) for run in runs),
            tuple(run.seed for run in runs),
        )
        for variant, runs in paired.items()
    ]
    comparison = compare(
        ground_truth,
        candidates,
        Settings(iou_type, IOU, max_dets=summary.max_dets),
        baseline=study.baseline,
        resamples=resamples,
        seed=seed,
        designs=True,
        progress=progress,
    )
    cautions = _comparison_cautions(study, paired) + _older(
        workspace, [run for runs in paired.values() for run in runs]
    )
    return summary, ground_truth, replace(comparison, cautions=(*cautions, *comparison.cautions))


def read_validation(workspace: Workspace, study: Study, run: StudyRun) -> GroundTruth:
    """The ground truth on which the runs of a study were evaluated.

    Raises:
        BadInput: it is another than when the study was planned, or cannot be read.
    """
    config = run.any_config
    assert config is not None  # only blocked runs have none
    ground_truth = read_ground_truth(annotations_of(config, workspace))
    if ground_truth.digest != study.validation_data:
        raise BadInput(
            f"{ground_truth.path}: has changed since study {study.name!r} was planned (digest "
            f"{ground_truth.digest[:12]}, then {study.validation_data[:12]}); restore it to compare these runs"
        )
    return ground_truth


def _comparison_cautions(study: Study, paired: dict[str, list[StudyRun]]) -> list[str]:
    sentences = ["synthetic data: demonstration only, not evidence"] * study.synthetic
    for variant in study.variants:
        runs = paired.get(variant, [])
        where = "" if variant == study.baseline else " here and in the baseline"
        keys = dict.fromkeys(key for run in runs for key in run.confounders)
        cautions = (
            (not runs, f"{variant} is left out: it has no finished run with a seed of the baseline"),
            (
                0 < len(runs) < len(study.seeds),
                f"{variant}: {len(runs)} of {len(study.seeds)} seeds are finished{where}",
            ),
            (keys, f"{variant} is not controlled: it also differs in {', '.join(keys)}"),
        )
        sentences += [sentence for holds, sentence in cautions if holds]
    return sentences
