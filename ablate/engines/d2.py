"""The engine `detectron2`: its model, heads, losses, image pipeline, optimizer and schedule, from an exported config.

The run's LazyConfig file (`ablate.export.lazyconfig`) is written into the run folder and loaded from there, so what is
trained is what detectron2's own tool would train from that file. The loop around it is the project's own
(`ablate.engines.loop`): it stops and continues at any iteration, and accumulates gradients; a step is that of
detectron2's `SimpleTrainer` and `AMPTrainer`. Its checkpoints can be loaded by detectron2's `DetectionCheckpointer`.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import torch
from torch import nn

from ablate.config import Init, RunConfig
from ablate.data.sources import locate
from ablate.engines.availability import need_detectron2
from ablate.engines.base import Habits, RanOutOfMemory, Read
from ablate.engines.course import initialise, locate_all, read_truths, train_and_predict, training_set
from ablate.engines.d2_data import TrainingImages, predict
from ablate.engines.d2_subject import Detectron2Subject
from ablate.engines.d2_trainer import Detectron2Trainer
from ablate.engines.loop import Loop
from ablate.engines.memory import is_out_of_memory
from ablate.engines.predict import Record
from ablate.engines.processes import Processes, joined, lay_out
from ablate.engines.progress import Say
from ablate.engines.randomness import WEIGHTS, derived
from ablate.engines.trainer import Validate
from ablate.export.facts import Facts, facts_from
from ablate.export.lazyconfig import has_batch_norm, lazyconfig_text
from ablate.manifest import git_state
from ablate.store import RunFolder, replacing
from analysis import read_ground_truth

FILE = "lazyconfig.py"  # of the run folder


class Detectron2Engine:
    """Mask R-CNN of detectron2 with our backbones, on a CPU or GPUs, in one process or as many as torchrun starts."""

    def run(self, folder: RunFolder, habits: Habits) -> None:
        """See `Engine.run`.

        Raises:
            MissingEngine: detectron2 cannot be used here.
        """
        need_detectron2()
        try:
            with _quiet():
                self._run(folder, habits)
        except RuntimeError as error:  # before or after training, which tells its own
            if not is_out_of_memory(error):
                raise
            raise RanOutOfMemory(f"{folder.path}: {str(error).splitlines()[0]}") from None

    def trainer(self, config: RunConfig, root: Path, folder: RunFolder, processes: Processes, habits: Habits) -> Loop:
        """See `Engine.trainer`."""
        from detectron2.config import instantiate

        training, validation = locate_all(config, root, processes)
        facts = facts_from(config, read_ground_truth(training.annotations), training, validation)
        cfg = load(write(config, facts, folder, processes), config, processes)
        data = TrainingImages(cfg, config.seed)
        return Detectron2Trainer(config, cfg, instantiate(cfg.model), data, folder, processes, habits, dict)

    def subject(self, config: RunConfig, root: Path, device: torch.device, read: Read) -> Detectron2Subject:
        """See `Engine.subject`."""
        from detectron2.config import instantiate

        training, validation = locate(config.data.train, root), locate(config.data.validation, root)
        facts = facts_from(config, read(training.annotations), training, validation)
        with TemporaryDirectory() as folder:
            cfg = load(_written(config, facts, Path(folder) / FILE), config, Processes(0, 1, device))
        return Detectron2Subject(config, cfg, instantiate(cfg.model).to(device))

    def _run(self, folder: RunFolder, habits: Habits) -> None:
        from detectron2.config import instantiate

        with joined(habits.device) as processes:
            config = folder.read_config()
            training, validation = locate_all(config, folder.root, processes)
            truth, measured = read_truths(training, validation)
            training_set(config, truth, training)  # refuses damaged data in words
            facts = facts_from(config, truth, training, validation)
            cfg = load(write(config, facts, folder, processes), config, processes)
            if processes.first:
                folder.append_event("detectron2", **_version())
            torch.manual_seed(derived(config.seed, WEIGHTS))
            model: nn.Module = instantiate(cfg.model)
            if config.init != Init() and not folder.checkpoints_newest_first():
                initialise(model.backbone.net, config, folder, processes, habits)  # type: ignore[arg-type, union-attr]
            data = TrainingImages(cfg, config.seed)

            def trainer(validate: Validate) -> Detectron2Trainer:
                return Detectron2Trainer(config, cfg, model, data, folder, processes, habits, validate)

            def predictions(say: Say | None) -> list[Record]:
                return predict(model, cfg, processes, processes.workers(habits.workers), say)

            train_and_predict(trainer, predictions, measured, folder, processes, habits)


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

    from ablate.engines.d2_norm import set_norms

    cfg = LazyConfig.load(str(path))
    cfg.train.device = processes.device.type
    if processes.count > 1 and comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(processes.on_this_machine)
    if has_batch_norm(config):
        layout = lay_out(config.train.batch_size, config.train.images_per_norm, processes.count)
        set_norms(cfg, layout, processes)
    return cfg
