"""Run folders as a finished study leaves them, made by hand: no training, numbers that a test chooses."""

from pathlib import Path

import msgspec

from ablate.config.identity import EVALUATION_REVISION, TRAINING_REVISION
from ablate.execute.evaluation import Evaluation, Measured
from ablate.runs.folder import RunFolder, Status, Workspace, write_json
from ablate.runs.manifest import Hardware, Manifest
from ablate.studies.cost import COST_FILE, MeasuredCost
from ablate.studies.study import Study, StudyRun
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS

MACHINE = Hardware(system="Linux", processor="Test CPU", cores=2, memory_gib=8.0, gpus=())


def measured(ap: float, shift: float = 0.0) -> Measured:
    """Box or mask results around an AP."""
    gains = {name: round(1.0 + place + shift, 4) for place, name in enumerate(ERROR_TYPES)}
    return Measured(
        metrics={"AP": ap, "AP50": ap + 20, "AP75": ap + 5, "APs": -1.0, "APm": ap, "APl": ap, "AR100": ap + 10},
        ap=ap + 20,
        delta_ap=gains,
        raw_delta_ap=gains,
        count=dict.fromkeys(ERRORS, 10),
    )


def finish(
    root: Path, study: Study, run: StudyRun, ap: float, *, images: int = 240, objects: int = 900, shift: float = 0.0
) -> RunFolder:
    """A finished run with this box AP; the mask AP is 2 points lower."""
    folder = begin(root, study, run, Status(state="finished", iteration=10, iterations=10))
    write_results(folder, ap, images=images, objects=objects, shift=shift)
    return folder


def end(folder: RunFolder, iterations: int = 10) -> None:
    """Finish a run that may not have begun."""
    folder.path.mkdir(parents=True, exist_ok=True)
    write_manifest(folder)
    write_results(folder)
    folder.write_status(Status(state="finished", iteration=iterations, iterations=iterations))


def write_results(
    folder: RunFolder, ap: float = 30.0, *, images: int = 240, objects: int = 900, shift: float = 0.0
) -> None:
    """What a finished run leaves: predictions, none, and an evaluation."""
    evaluation = Evaluation(
        detections=1234,
        images=images,
        objects=objects,
        iou=0.5,
        convention="coco",
        box=measured(ap, shift),
        mask=measured(ap - 2, shift),
    )
    write_json(folder.evaluation, evaluation)
    folder.predictions.write_text("[]")


def begin(root: Path, study: Study, run: StudyRun, status: Status) -> RunFolder:
    """A run folder in some state."""
    folder = Workspace(root).run(run.run_id)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, run.training, run.evaluation, run.seed, data=(study.training_data, study.validation_data))
    folder.write_status(status)
    return folder


def write_manifest(
    folder: RunFolder, training: str = "", evaluation: str = "", seed: int = 0, data: tuple[str, str] = ("", "")
) -> None:
    """What a run ran on, as the first process writes it."""
    manifest = Manifest(
        training=training,
        evaluation=evaluation,
        seed=seed,
        training_data=data[0],
        validation_data=data[1],
        training_images="c" * 64,
        validation_images="d" * 64,
        training_revision=TRAINING_REVISION,
        evaluation_revision=EVALUATION_REVISION,
        weights=None,
        git=None,
        packages={},
        python="3.11",
        hardware=MACHINE,
        argv=(),
        started="2026-01-01T00:00:00.000+00:00",
    )
    write_json(folder.manifest, manifest)


def probed(folder: RunFolder, *, peak_gib: float | None = 0.5, name: str = "Test CPU", seconds: float = 0.1) -> None:
    """A cost as the probe would have written it."""
    cost = MeasuredCost(
        device="cpu",
        device_name=name,
        threads=2,
        hardware=MACHINE,
        torch="2.11.0",
        precision="fp32",
        peak_gib=peak_gib,
        seconds_per_iteration=None if peak_gib is None else seconds,
        seconds_per_image=None if peak_gib is None else seconds / 4,
        iterations=10,
        images=16,
        message="" if peak_gib is not None else "the device is full",
        measured="2026-01-01T00:00:00.000+00:00",
    )
    write_json(folder.path / COST_FILE, cost)


def altered(path: Path, into: type[msgspec.Struct], **fields: object) -> None:
    """Change fields of a JSON file of a run."""
    value = msgspec.json.decode(path.read_bytes(), type=into)
    write_json(path, msgspec.structs.replace(value, **fields))
