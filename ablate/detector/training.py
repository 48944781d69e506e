"""The training of a detector: its batches and curves in every engine, its steps in the engine `vision`.

The course of a run, the same in every engine: its data, its first weights, training, predictions.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ablate.config.schema import RunConfig
from ablate.data.coco import TrainingSet
from ablate.data.loader import Batch, collate
from ablate.data.sources import Files, locate
from ablate.detector.inference import Record
from ablate.detector.init_weights import load_initial
from ablate.detector.mask_rcnn import Detector, join_group
from ablate.runs.folder import RunFolder, Status, Workspace, read_json
from ablate.runs.manifest import Manifest
from ablate.train.distributed import MODEL, SAMPLES, Processes, derived, generator, lay_out
from ablate.train.logging import Curves, Say
from ablate.train.loop import TrainLoop
from ablate.train.optim import autocast, build_optimizer, lr_factor
from ablate.train.outcome import RuntimeOptions
from ablate.weights.inspect import report_fields
from analysis import GroundTruth, coco_metrics, read_detections, read_ground_truth
from analysis.exceptions import BadInput

Validate = Callable[[], dict[str, float]]


class DetectorTrainer(TrainLoop):
    """What the training of a detector is in every engine.

    Args:
        config: of the run; precision is resolved.
        module: the detector with its initial weights, on the device.
        optimizer: of its parameters.
        data: the training images.
        collate: several of them to a batch.
        folder: of the run.
        processes: that train together.
        runtime: what changes no result.
        validate: measures the validation set for the curves.
        iterations: optimizer steps of the whole run.
        clip: largest gradient norm, unless the optimizer clips.
    """

    def __init__(
        self,
        config: RunConfig,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        validate: Validate,
        *,
        iterations: int,
        clip: float | None = None,
    ) -> None:
        settings = config.train
        self.config, self.data, self.collate, self.validate = config, data, collate, validate
        self.layout = lay_out(settings.batch_size, settings.images_per_norm, processes.count)
        assert settings.precision != "auto"
        super().__init__(
            module,
            optimizer,
            settings.precision,
            folder,
            processes,
            runtime,
            passes=self.layout.passes,
            iterations=iterations,
            epoch=max(1, len(data) // settings.batch_size),  # type: ignore[arg-type]
            cap=None if settings.memory_cap_gib == "none" else settings.memory_cap_gib,
            clip=clip,
        )

    def _loader(self) -> DataLoader[Any]:
        return self._batches(
            self.data,
            self.collate,
            batch_size=self.config.train.batch_size,
            per_pass=self.layout.images,
            seed=self.config.seed,
        )

    def after_step(self, iteration: int, curves: Curves) -> None:
        """Measure the validation set where its curve is asked for."""
        every = self.runtime.curve_iterations
        if every and iteration % every == 0 and iteration < self.iterations:
            curves.add(iteration, self.validate())


class Trainer(DetectorTrainer):
    """The steps of the engine `vision`.

    Args:
        config: of the run; precision is resolved.
        detector: with its initial weights; is moved to the device.
        data: the training images.
        folder, processes, runtime, validate: see `DetectorTrainer`.
    """

    def __init__(
        self,
        config: RunConfig,
        detector: Detector,
        data: TrainingSet,
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        validate: Validate,
    ) -> None:
        settings = config.train
        self.settings, self.detector = settings, detector.to(processes.device)
        super().__init__(
            config,
            self.detector,
            build_optimizer(self.detector, settings),
            data,
            collate,
            folder,
            processes,
            runtime,
            validate,
            iterations=settings.total_iterations(len(data)),
            clip=None if settings.clip_norm == "none" else settings.clip_norm,
        )
        join_group(self.detector, processes.norm_group(self.layout))
        self.warmup = settings.warmup_iterations(len(data))

    def _forward_backward(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Add the gradient of one forward pass -> its losses."""
        seed, rank, images = self.config.seed, self.processes.rank, len(batch.targets)
        # What the model draws (drop path) depends on the place in the run alone, so a resumed run draws the same.
        torch.manual_seed(derived(seed, MODEL, self.iteration, number, rank))
        start = (number * self.processes.count + rank) * images
        generators = [generator(self.device, seed, SAMPLES, self.iteration, start + row) for row in range(images)]
        with self.meter.watching():
            with autocast(self.precision, self.device):
                losses: dict[str, Tensor] = self.model(batch.images, batch.sizes, batch.targets, generators)
            total = torch.stack(list(losses.values())).sum() / self.passes
            self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _lr(self, iteration: int) -> float:
        settings = self.settings
        return settings.lr * lr_factor(
            iteration,
            iterations=self.iterations,
            warmup=self.warmup,
            schedule=settings.schedule,
            milestones=settings.step_milestones,
        )


def locate_all(config: RunConfig, workspace: Workspace, processes: Processes) -> tuple[Files, Files]:
    """Training and validation files; the first process makes what has to be made."""
    if not processes.first:
        processes.wait()
    files = locate(config.data.train, workspace), locate(config.data.validation, workspace)
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


def initialise(
    backbone: nn.Module, config: RunConfig, folder: RunFolder, processes: Processes, runtime: RuntimeOptions
) -> None:
    """Load the pre-trained weights that the run was named after, and write down what became of them."""
    planned = read_json(folder.manifest, Manifest).weights
    report = load_initial(backbone, config, planned or "", folder.workspace)
    if processes.first:
        folder.append_event("weights loaded", **report_fields(report))
        runtime.say(f"starting from {report.facts.family} weights: {report.facts.file}")
        for note in report.notes:
            runtime.say(f"careful: {note}")


def train_and_predict(
    trainer: Callable[[Validate], TrainLoop],
    predictions: Callable[[Say | None], list[Record]],
    truth: GroundTruth,
    folder: RunFolder,
    processes: Processes,
    runtime: RuntimeOptions,
) -> None:
    """Train to the end, then write what the last weights find in the validation images.

    Args:
        trainer: makes the training, of what measures its curves.
        predictions: finds; takes progress lines, or shows no progress.
        truth: of the validation images.
        folder: of the run.
        processes: that share the work.
        runtime: what changes no result.
    """

    def measure_curve() -> dict[str, float]:
        return box_ap(predictions(None), truth)  # the bar of the training stands meanwhile

    trained = trainer(measure_curve).train()
    if processes.first:
        folder.append_event("trained", **msgspec.to_builtins(trained))
        steps = trained.iterations
        folder.write_status(Status(state="running", phase="predicting", iteration=steps, iterations=steps))
    records = predictions(runtime.say if processes.first else None)
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
