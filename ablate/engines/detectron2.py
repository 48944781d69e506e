"""The engine `detectron2`: its model, heads, losses, image pipeline, optimizer and schedule, from an exported config.

The run's LazyConfig file (`ablate.engines.lazyconfig`) is written into the run folder and loaded from there, so what is
trained is what detectron2's own tool would train from that file. The loop around it is the project's own
(`ablate.train.loop`): it stops and continues at any iteration, and accumulates gradients; a step is that of
detectron2's `SimpleTrainer` and `AMPTrainer`. Its checkpoints can be loaded by detectron2's `DetectionCheckpointer`.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from ablate.config.schema import RunConfig
from ablate.detector.inference import Record, predict_all
from ablate.detector.training import DetectorTrainer, Validate, training_set
from ablate.engines.base import BenchmarkTarget, Engine, RunData, first_with_objects
from ablate.engines.detectron2_data import Inputs, TestImages, TrainingImages, categories, results
from ablate.engines.lazyconfig import facts_from, has_batch_norm, lazyconfig_text
from ablate.runs.folder import RunFolder, Status, replacing
from ablate.runs.manifest import git_state
from ablate.train.distributed import MODEL, Processes, derived, lay_out
from ablate.train.loop import TrainStats
from ablate.train.optim import autocast
from ablate.train.outcome import Diverged, RuntimeOptions

FILE = "lazyconfig.py"  # of the run folder
# detectron2's names of the losses and ours, so that curves of both engines lie in one plot.
LOSSES = {
    "loss_rpn_cls": "rpn_objectness",
    "loss_rpn_loc": "rpn_box",
    "loss_cls": "box_class",
    "loss_box_reg": "box_delta",
    "loss_mask": "mask",
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of detectron2's old packages, and what it says of every data set that is not COCO."""
    loggers = [logging.getLogger(name) for name in ("detectron2.data.datasets.coco", "torch.fx._symbolic_trace")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Detectron2Trainer(DetectorTrainer):
    """The steps of the engine `detectron2`.

    Args:
        config: of the run; precision is resolved.
        cfg: its loaded LazyConfig.
        model: with its initial weights; is moved to the device.
        data: the training images.
        folder, processes, runtime, validate: see `DetectorTrainer`.
    """

    def __init__(
        self,
        config: RunConfig,
        cfg: Any,
        model: nn.Module,
        data: TrainingImages,
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        validate: Validate,
    ) -> None:
        from detectron2.config import instantiate

        self.cfg, self.multiplier = cfg, instantiate(cfg.lr_multiplier)
        model = model.to(processes.device)
        super().__init__(
            config,
            model,
            build_optimizer(cfg, model),  # which clips, where gradients are to be clipped
            data,
            Inputs,
            folder,
            processes,
            runtime,
            validate,
            iterations=int(cfg.train.max_iter),
        )

    def _lr(self, iteration: int) -> float:
        return float(self.cfg.optimizer.lr * self.multiplier(iteration / self.iterations))

    def _forward(self, batch: Any, number: int) -> dict[str, Tensor]:
        # Of torch's generator detectron2 draws its samples, and the model its drop path.
        torch.manual_seed(derived(self.seed, MODEL, self.iteration, number, self.processes.rank))
        try:
            return losses(self.model, batch)
        except FloatingPointError as error:
            raise self._diverged(str(error)) from None

    @_quiet()
    def train(self) -> TrainStats:
        """See `TrainLoop.train`."""
        return super().train()

    def _diverged(self, reason: str) -> Diverged:
        place = f"iteration {self.iteration + 1} of {self.iterations}"
        message = f"{self.folder.path}: {reason.rstrip('.')} in {place}; {self.remedy}"
        if not self.processes.first:  # the first process may not see it, and is ended by torchrun
            self.folder.write_status(
                Status(state="diverged", message=message, iteration=self.iteration, iterations=self.iterations)
            )
        return Diverged(message)


class Detectron2Engine(Engine):
    """Mask R-CNN of detectron2 with our backbones, on a CPU or GPUs, in one process or as many as torchrun starts.

    The first process writes the LazyConfig file into the folder.
    """

    @_quiet()
    def __init__(self, config: RunConfig, data: RunData, folder: Path, processes: Processes) -> None:
        from detectron2.config import instantiate

        super().__init__(config, data, folder, processes)
        training_set(config, data.training_truth, data.training)  # refuses damaged data in words
        path = folder / FILE
        if processes.first:
            facts = facts_from(config, data.training_truth, data.training, data.validation)
            with replacing(path) as file:
                file.write(lazyconfig_text(config, facts, folder.name).encode())
        processes.wait()
        self.cfg = load(path, config, processes)
        self.module: nn.Module = instantiate(self.cfg.model)
        self.backbone = getattr(self.module.backbone, "net", self.module.backbone)  # a ViT lies in a `PlainBackbone`
        self.training_images = TrainingImages(self.cfg, config.seed)
        self.version = _version()

    def trainer(self, folder: RunFolder, runtime: RuntimeOptions, validate: Validate) -> Detectron2Trainer:
        """See `Engine.trainer`."""
        return Detectron2Trainer(
            self.config, self.cfg, self.module, self.training_images, folder, self.processes, runtime, validate
        )

    @_quiet()
    def predict(self, workers: int, *, show_progress: bool = True) -> list[Record]:
        """See `Engine.predict`; in 32-bit precision, as detectron2's tools do."""
        images = TestImages(self.cfg)
        category = categories(self.cfg)
        return predict_all(
            self.module,
            images,
            lambda inputs: results(self.module, inputs, category),
            self.processes,
            workers,
            show_progress=show_progress,
        )

    def benchmark_target(self) -> "Detectron2BenchmarkTarget":
        """See `Engine.benchmark_target`."""
        return Detectron2BenchmarkTarget(self)


class Detectron2BenchmarkTarget(BenchmarkTarget):
    """See `ablate.engines.base.BenchmarkTarget`.

    Args:
        engine: whose detector and images are taken.
    """

    def __init__(self, engine: Detectron2Engine) -> None:
        super().__init__(engine, TestImages(engine.cfg))
        self.cfg = engine.cfg
        self.batch = [first_with_objects(engine.training_images, lambda sample: sample["instances"])]

    def optimizer(self) -> torch.optim.Optimizer:
        """See `BenchmarkTarget.optimizer`."""
        return build_optimizer(self.cfg, self.module)

    def losses(self) -> dict[str, Tensor]:
        """See `BenchmarkTarget.losses`."""
        torch.manual_seed(0)  # of which detectron2 draws its samples
        with autocast(self.precision, self.device):
            return losses(self.module, self.batch)

    def detect(self, sample: Any) -> None:
        """See `BenchmarkTarget.detect`; in 32-bit precision, as detectron2 does."""
        with torch.no_grad():
            self.module.inference([sample], do_postprocess=False)  # type: ignore[operator]


def losses(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """The forward pass, under our names of the losses."""
    from detectron2.utils.events import EventStorage

    with EventStorage():  # the heads insist on one to write their accuracies to
        found: dict[str, Tensor] = model(batch)
    return {LOSSES.get(name, name): value for name, value in found.items()}


def build_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a LazyConfig."""
    from detectron2.config import instantiate

    cfg.optimizer.params.model = model
    optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
    cfg.optimizer.params.model = None
    return optimizer


def _version() -> dict[str, object]:
    """Which detectron2 this is; where it is imported from its sources, also their commit."""
    import detectron2

    git = git_state(Path(detectron2.__file__).resolve().parent)
    return {"version": detectron2.__version__, "git": None if git is None else msgspec.to_builtins(git)}


def load(path: Path, config: RunConfig, processes: Processes) -> Any:
    """A LazyConfig file, fitted to the processes that share the work."""
    from detectron2.config import LazyConfig
    from detectron2.utils import comm

    from ablate.engines.detectron2_norm import set_norms

    cfg = LazyConfig.load(str(path))
    cfg.train.device = processes.device.type
    if processes.count > 1 and comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(processes.on_this_machine)
    if has_batch_norm(config):
        layout = lay_out(config.train.batch_size, config.train.images_per_norm, processes.count)
        set_norms(cfg, layout, processes)
    return cfg
