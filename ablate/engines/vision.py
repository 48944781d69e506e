"""The project's own engine: torchvision's parts, our backbones, one loop."""

import tempfile
from pathlib import Path

import msgspec
import torch
from torch import nn

from ablate.config import Init, RunConfig
from ablate.data.coco import EvaluationSet, TrainingSet
from ablate.data.sources import Files, locate
from ablate.engines.base import Habits, RanOutOfMemory, Read
from ablate.engines.detector import Detector, build_detector
from ablate.engines.initial import load_initial
from ablate.engines.memory import is_out_of_memory
from ablate.engines.predict import Record, predict
from ablate.engines.processes import Processes, joined
from ablate.engines.progress import Say
from ablate.engines.randomness import WEIGHTS, derived
from ablate.engines.subject import VisionSubject
from ablate.engines.trainer import Trainer
from ablate.manifest import Manifest
from ablate.store import RunFolder, Status, read_json
from ablate.weights.report import summary_of
from analysis import GroundTruth, coco_metrics, read_detections, read_ground_truth
from analysis.refusal import BadInput


class VisionEngine:
    """Mask R-CNN in pure PyTorch, on a CPU or GPUs, in one process or as many as torchrun starts."""

    def run(self, folder: RunFolder, habits: Habits) -> None:
        """See `Engine.run`."""
        try:
            self._run(folder, habits)
        except RuntimeError as error:  # before or after training, which tells its own
            if not is_out_of_memory(error):
                raise
            raise RanOutOfMemory(f"{folder.path}: {str(error).splitlines()[0]}") from None

    def _run(self, folder: RunFolder, habits: Habits) -> None:
        with joined(habits.device) as processes:
            config = folder.read_config()
            training, validation = locate_all(config, folder.root, processes)
            data = training_set(config, read_ground_truth(training.annotations), training)
            torch.manual_seed(derived(config.seed, WEIGHTS))
            detector = build_detector(config.model, len(data.truth.category_id))
            if config.init != Init() and not folder.checkpoints_newest_first():
                initialise(detector.backbone, config, folder, processes, habits)
            views = _views(config, read_ground_truth(validation.annotations), validation, detector)
            if views.truth.category_id != data.truth.category_id:
                raise BadInput(
                    f"{validation.annotations}: its category ids differ from those of {training.annotations}, "
                    "so what is learned on one cannot be measured on the other"
                )

            def predictions(say: Say | None) -> list[Record]:
                return _predict(config, detector, views, processes, habits, say)

            def measure_curve() -> dict[str, float]:
                return box_ap(predictions(None), views.truth)  # the bar of the training stands meanwhile

            trained = Trainer(config, detector, data, folder, processes, habits, measure_curve).train()
            if processes.first:
                folder.append_event("trained", **msgspec.to_builtins(trained))
                steps = trained.iterations
                folder.write_status(Status(state="running", phase="predicting", iteration=steps, iterations=steps))
            records = predictions(habits.say if processes.first else None)
            if processes.first:
                folder.write_predictions(records)
                folder.append_event("predicted", detections=len(records))

    def trainer(
        self, config: RunConfig, root: Path, folder: RunFolder, processes: Processes, habits: Habits
    ) -> Trainer:
        """See `Engine.trainer`."""
        files = locate(config.data.train, root)
        data = training_set(config, read_ground_truth(files.annotations), files)
        detector = build_detector(config.model, len(data.truth.category_id))
        return Trainer(config, detector, data, folder, processes, habits, dict)

    def subject(self, config: RunConfig, root: Path, device: torch.device, read: Read) -> VisionSubject:
        """See `Engine.subject`."""
        training, validation = locate(config.data.train, root), locate(config.data.validation, root)
        truth = read(training.annotations)
        detector = build_detector(config.model, len(truth.category_id)).to(device)
        data = training_set(msgspec.structs.replace(config, seed=0), truth, training)
        return VisionSubject(config, detector, data, _views(config, read(validation.annotations), validation, detector))


def initialise(backbone: nn.Module, config: RunConfig, folder: RunFolder, processes: Processes, habits: Habits) -> None:
    """Load the pre-trained weights that the run was named after, and write down what became of them."""
    planned = read_json(folder.manifest, Manifest).weights
    report = load_initial(backbone, config, planned or "", folder.root)
    if processes.first:
        folder.append_event("weights loaded", **summary_of(report))
        habits.say(f"starting from {report.facts.family} weights: {report.facts.file}")
        for note in report.notes:
            habits.say(f"careful: {note}")


def locate_all(config: RunConfig, root: Path, processes: Processes) -> tuple[Files, Files]:
    """Training and validation files; the first process makes what has to be made."""
    if not processes.first:
        processes.wait()
    files = locate(config.data.train, root), locate(config.data.validation, root)
    if processes.first:
        processes.wait()
    return files


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


def _views(config: RunConfig, truth: GroundTruth, files: Files, detector: Detector) -> EvaluationSet:
    full = config.evaluate.padding == "full"
    multiple = None if full else detector.heads.box_pooler.strides[-1]
    return EvaluationSet(truth=truth, folder=files.images, side=config.model.backbone.image_size, multiple=multiple)


def _predict(
    config: RunConfig,
    detector: Detector,
    views: EvaluationSet,
    processes: Processes,
    habits: Habits,
    say: Say | None,
) -> list[Record]:
    assert config.train.precision != "auto"
    return predict(
        detector,
        views,
        settings=config.evaluate,
        precision=config.train.precision,
        processes=processes,
        workers=processes.workers(habits.workers),
        say=say,
    )


def box_ap(records: list[Record], truth: GroundTruth) -> dict[str, float]:
    """AP and AP50 of boxes, for the curves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.json"
        path.write_bytes(msgspec.json.encode(records))
        metrics = coco_metrics(truth, read_detections(path, truth))
    return {f"box_{name}": metrics[name] for name in ("AP", "AP50")}
