"""The engine `detectron2`: its model, heads, losses, image pipeline, optimizer and schedule, from an exported config.

The run's LazyConfig file (`ablate.engines.lazyconfig`) is written into the run folder and loaded from there, so what is
trained is what detectron2's own tool would train from that file. The loop around it is the project's own
(`ablate.train.loop`): it stops and continues at any iteration, and accumulates gradients; a step is that of
detectron2's `SimpleTrainer` and `AMPTrainer`. Its checkpoints can be loaded by detectron2's `DetectionCheckpointer`.

What the probe measures of the engine `detectron2`.

The training loop around detectron2's model, optimizer and schedule.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from ablate.config.schema import Init, RunConfig
from ablate.data.sources import locate
from ablate.detector.inference import Record
from ablate.detector.training import (
    DetectorTrainer,
    Validate,
    initialise,
    locate_all,
    read_truths,
    train_and_predict,
    training_set,
)
from ablate.engines.base import BENCHMARK_IMAGES, Read
from ablate.engines.detectron2_data import Inputs, TestImages, TrainingImages, predict
from ablate.engines.environment import need_detectron2
from ablate.engines.lazyconfig import Facts, facts_from, has_batch_norm, lazyconfig_text
from ablate.runs.folder import RunFolder, Status, Workspace, replacing
from ablate.runs.manifest import git_state
from ablate.train.distributed import MODEL, WEIGHTS, Processes, derived, joined, lay_out
from ablate.train.logging import Say
from ablate.train.loop import TrainLoop
from ablate.train.memory import is_out_of_memory
from ablate.train.optim import autocast
from ablate.train.outcome import Diverged, RanOutOfMemory, RuntimeOptions
from analysis import read_ground_truth

# detectron2's names of the losses and ours, so that curves of both engines lie in one plot.
LOSSES = {
    "loss_rpn_cls": "rpn_objectness",
    "loss_rpn_loc": "rpn_box",
    "loss_cls": "box_class",
    "loss_box_reg": "box_delta",
    "loss_mask": "mask",
}


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

    def _forward_backward(self, batch: Any, number: int) -> dict[str, Tensor]:
        """Add the gradient of one forward pass -> its losses; as `SimpleTrainer` and `AMPTrainer` do."""
        # Of torch's generator detectron2 draws its samples, and the model its drop path.
        torch.manual_seed(derived(self.config.seed, MODEL, self.iteration, number, self.processes.rank))
        try:
            with self.meter.watching():
                with autocast(self.precision, self.device):
                    found = losses(self.model, batch)
                total = torch.stack(list(found.values())).sum() / self.passes
                self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        except FloatingPointError as error:
            raise self._diverged(str(error)) from None
        return {name: value.detach() for name, value in found.items()}

    def _diverged(self, reason: str) -> Diverged:
        place = f"iteration {self.iteration + 1} of {self.iterations}"
        message = f"{self.folder.path}: {reason.rstrip('.')} in {place}; {self.remedy}"
        if not self.processes.first:  # the first process may not see it, and is ended by torchrun
            self.folder.write_status(
                Status(state="diverged", message=message, iteration=self.iteration, iterations=self.iterations)
            )
        return Diverged(message)


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


class Detectron2Subject:
    """See `ablate.engines.base.BenchmarkTarget`.

    Args:
        config: of the run.
        cfg: its loaded LazyConfig.
        model: on its device.
    """

    def __init__(self, config: RunConfig, cfg: Any, model: nn.Module) -> None:
        self.config, self.cfg, self.module = config, cfg, model
        self.device = next(model.parameters()).device
        # The first image with an object to learn, as seed 0 shows it in the first epoch.
        data = TrainingImages(cfg, seed=0)
        samples = (data[0, index] for index in range(len(data)))
        self._batch = [next((one for one in samples if len(one["instances"])), data[0, 0])]

    @cached_property
    def _inputs(self) -> list[dict[str, Any]]:
        views = TestImages(self.cfg)
        return [views[number] for number in range(min(BENCHMARK_IMAGES, len(views)))]

    @property
    def images(self) -> int:
        """See `BenchmarkTarget.images`."""
        return len(self._inputs)

    def load(self, weights: Mapping[str, Any]) -> None:
        """See `BenchmarkTarget.load`."""
        self.module.load_state_dict(weights)

    def optimizer(self) -> torch.optim.Optimizer:
        """See `BenchmarkTarget.optimizer`."""
        return build_optimizer(self.cfg, self.module)

    def losses(self) -> dict[str, Tensor]:
        """See `BenchmarkTarget.losses`."""
        torch.manual_seed(0)  # of which detectron2 draws its samples
        with autocast(self.config.train.precision, self.device):  # type: ignore[arg-type]
            return losses(self.module, self._batch)

    def predict(self, number: int) -> None:
        """See `BenchmarkTarget.predict`; in 32-bit precision, as detectron2 does."""
        with torch.no_grad():
            self.module.inference([self._inputs[number]], do_postprocess=False)  # type: ignore[operator]


FILE = "lazyconfig.py"  # of the run folder


class Detectron2Engine:
    """Mask R-CNN of detectron2 with our backbones, on a CPU or GPUs, in one process or as many as torchrun starts."""

    def run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
        """See `Engine.run`.

        Raises:
            MissingEngine: detectron2 cannot be used here.
        """
        need_detectron2()
        try:
            with _quiet():
                self._run(folder, runtime)
        except RuntimeError as error:  # before or after training, which tells its own
            if not is_out_of_memory(error):
                raise
            raise RanOutOfMemory(f"{folder.path}: {str(error).splitlines()[0]}") from None

    def trainer(
        self, config: RunConfig, workspace: Workspace, folder: RunFolder, processes: Processes, runtime: RuntimeOptions
    ) -> TrainLoop:
        """See `Engine.trainer`."""
        from detectron2.config import instantiate

        training, validation = locate_all(config, workspace, processes)
        facts = facts_from(config, read_ground_truth(training.annotations), training, validation)
        cfg = load(write(config, facts, folder, processes), config, processes)
        data = TrainingImages(cfg, config.seed)
        return Detectron2Trainer(config, cfg, instantiate(cfg.model), data, folder, processes, runtime, dict)

    def benchmark_target(
        self, config: RunConfig, workspace: Workspace, device: torch.device, read: Read
    ) -> Detectron2Subject:
        """See `Engine.benchmark_target`."""
        from detectron2.config import instantiate

        training, validation = locate(config.data.train, workspace), locate(config.data.validation, workspace)
        facts = facts_from(config, read(training.annotations), training, validation)
        with TemporaryDirectory() as folder:
            cfg = load(_written(config, facts, Path(folder) / FILE), config, Processes(0, 1, device))
        return Detectron2Subject(config, cfg, instantiate(cfg.model).to(device))

    def _run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
        from detectron2.config import instantiate

        with joined(runtime.device) as processes:
            config = folder.read_config()
            training, validation = locate_all(config, folder.workspace, processes)
            truth, measured = read_truths(training, validation)
            training_set(config, truth, training)  # refuses damaged data in words
            facts = facts_from(config, truth, training, validation)
            cfg = load(write(config, facts, folder, processes), config, processes)
            if processes.first:
                folder.append_event("detectron2", **_version())
            torch.manual_seed(derived(config.seed, WEIGHTS))
            model: nn.Module = instantiate(cfg.model)
            if config.init != Init() and not folder.checkpoints_newest_first():
                initialise(model.backbone.net, config, folder, processes, runtime)  # type: ignore[arg-type, union-attr]
            data = TrainingImages(cfg, config.seed)

            def trainer(validate: Validate) -> Detectron2Trainer:
                return Detectron2Trainer(config, cfg, model, data, folder, processes, runtime, validate)

            def predictions(say: Say | None) -> list[Record]:
                return predict(model, cfg, processes, processes.workers(runtime.workers), say)

            train_and_predict(trainer, predictions, measured, folder, processes, runtime)


def _version() -> dict[str, object]:
    """Which detectron2 this is; where it is imported from its sources, also their commit."""
    import detectron2

    git = git_state(Path(detectron2.__file__).resolve().parent)
    return {"version": detectron2.__version__, "git": None if git is None else msgspec.to_builtins(git)}


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


def write(config: RunConfig, facts: Facts, folder: RunFolder, processes: Processes) -> Path:
    """The LazyConfig file of a run, in its folder; the first process writes it."""
    path = folder.path / FILE
    if processes.first:
        _written(config, facts, path)
    processes.wait()
    return path


def _written(config: RunConfig, facts: Facts, path: Path) -> Path:
    with replacing(path) as file:
        file.write(lazyconfig_text(config, facts, path.parent.name).encode())
    return path


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
