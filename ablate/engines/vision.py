"""The project's own engine: torchvision's parts, our backbones, one loop."""

from pathlib import Path

import msgspec
import torch

from ablate.config import Init, RunConfig
from ablate.data.coco import EvaluationSet
from ablate.data.sources import Files, locate
from ablate.engines.base import Habits, RanOutOfMemory, Read
from ablate.engines.course import initialise, locate_all, read_truths, train_and_predict, training_set
from ablate.engines.detector import Detector, build_detector
from ablate.engines.memory import is_out_of_memory
from ablate.engines.predict import Record, predict
from ablate.engines.processes import Processes, joined
from ablate.engines.progress import Say
from ablate.engines.randomness import WEIGHTS, derived
from ablate.engines.subject import VisionSubject
from ablate.engines.trainer import Trainer, Validate
from ablate.store import RunFolder
from analysis import GroundTruth, read_ground_truth


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
            learned, measured = read_truths(training, validation)
            data = training_set(config, learned, training)
            torch.manual_seed(derived(config.seed, WEIGHTS))
            detector = build_detector(config.model, len(learned.category_id))
            if config.init != Init() and not folder.checkpoints_newest_first():
                initialise(detector.backbone, config, folder, processes, habits)
            views = _views(config, measured, validation, detector)

            def trainer(validate: Validate) -> Trainer:
                return Trainer(config, detector, data, folder, processes, habits, validate)

            def predictions(say: Say | None) -> list[Record]:
                return _predict(config, detector, views, processes, habits, say)

            train_and_predict(trainer, predictions, measured, folder, processes, habits)

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
