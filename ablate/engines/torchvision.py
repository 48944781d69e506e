"""The engine `vision`: torchvision's parts and our backbones in pure PyTorch."""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from ablate.config.schema import RunConfig, ViT
from ablate.data.coco import EvalSample, EvaluationSet, Sample
from ablate.data.loader import Batch, collate
from ablate.detector.inference import Record, predict
from ablate.detector.mask_rcnn import build_detector, join_group, use_channels_last
from ablate.engines.base import Engine, RunInputs, training_set
from ablate.models import ViT as Backbone
from ablate.models.compiled import check_compiler
from ablate.models.finetuning import freeze
from ablate.train.distributed import Processes
from ablate.train.optim import autocast, build_optimizer, lr_factor
from analysis.exceptions import BadInput


class VisionEngine(Engine):
    """Mask R-CNN in pure PyTorch, on a CPU or GPUs, in one process or as many as torchrun starts."""

    collate = staticmethod(collate)

    def __init__(self, config: RunConfig, data: RunInputs, processes: Processes) -> None:
        super().__init__(config, data, processes)
        self.training_images = training_set(config, data.training_truth, data.training)
        self.iterations = config.train.total_iterations(len(self.training_images))
        self.clip_norm = None if config.train.clip_norm == "none" else config.train.clip_norm
        self.module = self.detector = build_detector(
            config.model, len(data.training_truth.category_id), config.init.scheme
        )
        self.backbone = self.detector.backbone
        if isinstance(config.model.backbone, ViT):
            freeze(self.detector.backbone, **msgspec.structs.asdict(config.train.freeze))  # type: ignore[arg-type]
        if config.train.channels_last:
            use_channels_last(self.detector)
        if config.train.compile:
            self._compile()
        join_group(self.detector, processes.norm_group(self.layout))
        self.validation_images = EvaluationSet(
            truth=data.validation_truth,
            folder=data.validation.images,
            side=config.model.backbone.image_size,
            multiple=None if config.evaluate.padding == "full" else self.detector.heads.box_pooler.strides[-1],
        )

    def _compile(self) -> None:
        assert isinstance(self.backbone, Backbone)
        try:
            check_compiler(self.processes.device)
        except RuntimeError as error:
            raise BadInput(
                f"train.compile: torch.compile does not work on this machine ({error}); install what is missing (a C++ "
                "compiler; for a GPU a C compiler, Python's headers and Triton), or set train.compile=false"
            ) from error
        self.backbone.compile_blocks()

    def optimizer(self) -> torch.optim.Optimizer:
        """See `Engine.optimizer`."""
        backbone = self.config.model.backbone
        return build_optimizer(self.module, self.config.train, backbone.depth if isinstance(backbone, ViT) else 0)

    def lr(self, iteration: int) -> float:
        """See `Engine.lr`."""
        settings = self.config.train
        return settings.lr * lr_factor(
            iteration,
            iterations=self.iterations,
            warmup=settings.warmup_iterations(len(self.training_images)),
            schedule=settings.schedule,
            milestones=settings.step_milestones,
        )

    def losses(self, model: nn.Module, batch: Batch, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """See `Engine.losses`."""
        return model(batch.images, batch.sizes, batch.targets, generators)  # type: ignore[no-any-return]

    def has_objects(self, sample: Sample) -> bool:
        """See `Engine.has_objects`."""
        return len(sample.target.boxes) > 0

    def as_input(self, sample: EvalSample) -> tuple[Tensor, Tensor]:
        """See `Engine.as_input`; on the device."""
        device = self.processes.device
        return sample.image[None].to(device), torch.tensor([sample.crop.kept], device=device)

    def detect(self, image: tuple[Tensor, Tensor]) -> None:
        """See `Engine.detect`."""
        with autocast(self.precision, self.processes.device):
            self.detector.predict(*image, self.config.evaluate)

    def predict(self, workers: int, *, show_progress: bool = True) -> list[Record]:
        """See `Engine.predict`."""
        return predict(
            self.detector,
            self.validation_images,
            settings=self.config.evaluate,
            precision=self.precision,
            processes=self.processes,
            workers=workers,
            show_progress=show_progress,
        )
