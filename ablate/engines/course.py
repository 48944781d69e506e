"""The course of a run, the same in every engine: its data, its first weights, training, predictions."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from torch import nn

from ablate.config import RunConfig
from ablate.data.coco import TrainingSet
from ablate.data.sources import Files, locate
from ablate.engines.base import Habits
from ablate.engines.initial import load_initial
from ablate.engines.loop import Loop
from ablate.engines.predict import Record
from ablate.engines.processes import Processes
from ablate.engines.progress import Say
from ablate.engines.trainer import Validate
from ablate.manifest import Manifest
from ablate.store import RunFolder, Status, read_json
from ablate.weights.report import summary_of
from analysis import GroundTruth, coco_metrics, read_detections, read_ground_truth
from analysis.refusal import BadInput


def locate_all(config: RunConfig, root: Path, processes: Processes) -> tuple[Files, Files]:
    """Training and validation files; the first process makes what has to be made."""
    if not processes.first:
        processes.wait()
    files = locate(config.data.train, root), locate(config.data.validation, root)
    if processes.first:
        processes.wait()
    return files


def read_truths(training: Files, validation: Files) -> tuple[GroundTruth, GroundTruth]:
    """Both ground truths.

    Raises:
        BadInput: they differ in their categories.
    """
    learned, measured = (read_ground_truth(files.annotations) for files in (training, validation))
    if measured.category_id != learned.category_id:
        raise BadInput(
            f"{validation.annotations}: its category ids differ from those of {training.annotations}, "
            "so what is learned on one cannot be measured on the other"
        )
    return learned, measured


def training_set(config: RunConfig, truth: GroundTruth, files: Files) -> TrainingSet:
    """The training images of a config."""
    return TrainingSet(
        truth=truth,
        folder=files.images,
        side=config.model.backbone.image_size,
        scale=config.train.jitter_scale,
        flip=config.train.flip,
        masks=config.model.detector.masks,
        seed=config.seed,
        keep_without_boxes=config.data.images_without_boxes == "keep",
    )


def initialise(backbone: nn.Module, config: RunConfig, folder: RunFolder, processes: Processes, habits: Habits) -> None:
    """Load the pre-trained weights that the run was named after, and write down what became of them."""
    planned = read_json(folder.manifest, Manifest).weights
    report = load_initial(backbone, config, planned or "", folder.root)
    if processes.first:
        folder.append_event("weights loaded", **summary_of(report))
        habits.say(f"starting from {report.facts.family} weights: {report.facts.file}")
        for note in report.notes:
            habits.say(f"careful: {note}")


def train_and_predict(
    trainer: Callable[[Validate], Loop],
    predictions: Callable[[Say | None], list[Record]],
    truth: GroundTruth,
    folder: RunFolder,
    processes: Processes,
    habits: Habits,
) -> None:
    """Train to the end, then write what the last weights find in the validation images.

    Args:
        trainer: makes the training, of what measures its curves.
        predictions: finds; takes progress lines, or shows no progress.
        truth: of the validation images.
        folder: of the run.
        processes: that share the work.
        habits: what changes no result.
    """

    def measure_curve() -> dict[str, float]:
        return box_ap(predictions(None), truth)  # the bar of the training stands meanwhile

    trained = trainer(measure_curve).train()
    if processes.first:
        folder.append_event("trained", **msgspec.to_builtins(trained))
        steps = trained.iterations
        folder.write_status(Status(state="running", phase="predicting", iteration=steps, iterations=steps))
    records = predictions(habits.say if processes.first else None)
    if processes.first:
        folder.write_predictions(records)
        folder.append_event("predicted", detections=len(records))


def box_ap(records: list[Record], truth: GroundTruth) -> dict[str, float]:
    """AP and AP50 of boxes, for the curves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.json"
        path.write_bytes(msgspec.json.encode(records))
        metrics = coco_metrics(truth, read_detections(path, truth))
    return {f"box_{name}": metrics[name] for name in ("AP", "AP50")}
