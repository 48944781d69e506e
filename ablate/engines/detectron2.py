"""The engine `detectron2`: its model, heads, losses, image pipeline, optimizer and schedule, from an exported config.

The run's LazyConfig file (`ablate.engines.lazyconfig`) is written into the run folder and loaded from there, so what is
trained is what detectron2's own tool would train from that file. The loop around it is the project's own
(`ablate.train.loop`): it stops and continues at any iteration, and accumulates gradients; a step is that of
detectron2's `SimpleTrainer` and `AMPTrainer`. Its checkpoints can be loaded by detectron2's `DetectionCheckpointer`.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from ablate.config.schema import RunConfig
from ablate.detector.inference import Afterwards, Record, predict_all
from ablate.engines.base import Engine, RunInputs, training_set
from ablate.engines.detectron2_data import MappedImages, SampleInputs, categories, results
from ablate.engines.lazyconfig import facts_from, has_batch_norm, lazyconfig_text
from ablate.runs.folder import replacing
from ablate.runs.manifest import git_state
from ablate.train.distributed import Processes
from ablate.train.optim import SCALE

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
    """Hide warnings of detectron2's old dependencies, and its messages about data sets other than COCO."""
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


class Detectron2Engine(Engine):
    """Mask R-CNN of detectron2 with our backbones, on a CPU or GPUs, in one process or as many as torchrun starts.

    The first process writes the LazyConfig file into the folder. Its optimizer clips, where gradients are to be
    clipped.
    """

    collate = SampleInputs

    @_quiet()
    def __init__(self, config: RunConfig, data: RunInputs, processes: Processes, folder: Path) -> None:
        from detectron2.config import instantiate

        super().__init__(config, data, processes)
        training_set(config, data.training_truth, data.training)  # refuses damaged data in words
        if processes.first:
            facts = facts_from(config, data.training_truth, data.training, data.validation)
            with replacing(folder / FILE) as file:
                file.write(lazyconfig_text(config, facts, folder.name).encode())
        processes.wait()
        self.cfg = self._load(folder / FILE)
        self.module: nn.Module = instantiate(self.cfg.model)
        self.backbone = getattr(self.module.backbone, "net", self.module.backbone)  # a ViT lies in a `PlainBackbone`
        self.training_images = MappedImages(self.cfg.dataloader.train, config.seed)
        self.validation_images = MappedImages(self.cfg.dataloader.test)
        self.iterations = int(self.cfg.train.max_iter)
        self.multiplier = instantiate(self.cfg.lr_multiplier)
        self.version = _version()

    def _load(self, path: Path) -> Any:
        """A LazyConfig file, fitted to the processes that share the work."""
        from detectron2.config import LazyConfig
        from detectron2.utils import comm

        from ablate.engines.detectron2_norm import set_norms

        cfg = LazyConfig.load(str(path))
        cfg.train.device = self.processes.device.type
        if self.processes.count > 1 and comm._LOCAL_PROCESS_GROUP is None:
            comm.create_local_process_group(self.processes.on_this_machine)
        if has_batch_norm(self.config):
            set_norms(cfg, self.layout, self.processes)
        return cfg

    def optimizer(self) -> torch.optim.Optimizer:
        """See `Engine.optimizer`."""
        optimizer = build_optimizer(self.cfg, self.module)
        if self.config.train.layer_decay != "none":  # detectron2's groups hold learning rates, ours their factors
            for group in optimizer.param_groups:
                group[SCALE] = group["lr"] / self.cfg.optimizer.lr
        return optimizer

    def lr(self, iteration: int) -> float:
        """See `Engine.lr`."""
        return float(self.cfg.optimizer.lr * self.multiplier(iteration / self.iterations))

    @staticmethod
    def losses(model: nn.Module, batch: Any, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """See `Engine.losses`; under our names of the losses. Samples are drawn from torch's generator."""
        from detectron2.utils.events import EventStorage

        with EventStorage():  # the heads insist on one to write their accuracies to
            return {LOSSES.get(name, name): value for name, value in model(batch).items()}

    def has_objects(self, sample: Any) -> bool:
        """See `Engine.has_objects`."""
        return len(sample["instances"]) > 0

    @torch.no_grad()
    def detect(self, image: Any) -> None:
        """See `Engine.detect`; in 32-bit precision, as detectron2 does."""
        self.module.inference([image], do_postprocess=False)  # type: ignore[operator]

    @_quiet()
    def predict(self, workers: int, *, show_progress: bool = True) -> list[Record]:
        """See `Engine.predict`; in 32-bit precision, as detectron2's tools do."""
        category = categories(self.cfg)
        at_once = Afterwards(lambda inputs: results(self.module, inputs, category), threads=0)
        return predict_all(
            self.module,
            self.validation_images,
            at_once,
            self.processes,
            workers,
            show_progress=show_progress,
        )

    def quiet(self) -> AbstractContextManager[None]:
        """See `Engine.quiet`."""
        return _quiet()


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
