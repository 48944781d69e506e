"""The memory that training a detector needs on a GPU, forecast without one.

The detector's own modules run forward and backward on fake tensors, which have shapes and no content, in the precision
of the run as CUDA's autocast casts (`_OnGpu`), while every storage that lives is counted (`_LiveBytes`). Counted are
backbone, pyramid, and the three heads at the number of RoIs that they are trained on. Not counted are what does not
grow with the model: the CUDA context, workspaces of cuDNN and cuBLAS, and gaps between blocks of the allocator; the
reserve of `MemoryForecast.images_that_fit` stands for them.
"""

import hashlib
import math
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ablate.config.schema import Model, RunConfig
from ablate.config.yaml import with_changes
from ablate.detector.batch_norm import (
    gather_over_group,
    has_fused_operators,
    sum_over_group,
    use_group_batch_norm,
)
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.detector.memory import MemoryForecast, largest_fitting, memory_limit
from ablate.detector.roi_heads import BOX_GRID, MASK_GRID, POSITIVE_FRACTION
from ablate.models import ViT
from ablate.models.attention import is_fused
from ablate.runs.folder import SCHEMA, Workspace, read_json, write_json
from ablate.train.memory import GIB
from ablate.train.optim import Precision, autocast
from analysis.exceptions import BadInput

REVISION = 2  # raised by hand when the same model is forecast otherwise; stored forecasts are made again
BLOCK = 512  # bytes: CUDA's allocator rounds up to it
STATE_BYTES = 16  # a parameter in fp32, its gradient and AdamW's two moments
AVERAGE_BYTES = 4  # and its place in the average of the weights, where a run keeps one


def forecast_memory(model: Model, classes: int, precision: Precision, gpus: int = 1) -> MemoryForecast:
    """The memory of training a detector by AdamW, at the image size of its config.

    Args:
        model: of a `RunConfig`.
        classes: foreground categories.
        precision: of the forward pass.
        gpus: that train it together; more than one share gradients and the statistics of BatchNorm.
    """
    shared = gpus > 1
    one, two = (_peak_bytes(model, classes, precision, images, shared) for images in (1, 2))
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in build_detector(model, classes).parameters())
    return MemoryForecast(
        state_gib=parameters * STATE_BYTES / GIB,
        first_gib=one / GIB,
        further_gib=max(two - one, 1) / GIB,
    )


class _Stored(msgspec.Struct, frozen=True):
    """A forecast on disk."""

    forecast: MemoryForecast
    schema: int = SCHEMA


def stored_forecast(
    workspace: Workspace,
    model: Model,
    classes: int,
    precision: Precision,
    gpus: int,
    *,
    average: bool = False,
    write: bool = True,
) -> MemoryForecast:
    """`forecast_memory`, kept under ``results/cache/memory`` by everything that it depends on; takes seconds once.

    With ``average``, an average of the weights lies beside them. Without ``write``, or a place for it, a forecast that
    is made is not kept.
    """
    key = msgspec.json.encode([REVISION, str(torch.__version__), model, classes, precision, gpus > 1])
    path = workspace.cache / "memory" / f"{hashlib.sha256(key).hexdigest()[:24]}.json"
    try:
        forecast = read_json(path, _Stored).forecast
    except BadInput:  # not made yet, or damaged
        forecast = forecast_memory(model, classes, precision, gpus)
        if write:
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, _Stored(forecast))
    if not average:
        return forecast
    share = AVERAGE_BYTES / STATE_BYTES
    return msgspec.structs.replace(forecast, state_gib=forecast.state_gib * (1 + share))


def visible_memory_gib() -> float | None:
    """The memory of the smallest GPU that is visible, in GiB; none without a GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return min((torch.cuda.get_device_properties(index).total_memory / GIB for index in range(count)), default=None)


def with_images_per_norm(
    config: RunConfig, classes: int, workspace: Workspace, device: str, gpus: int = 1
) -> RunConfig:
    """A single run whose ``train.images_per_norm`` is no longer ``auto``: as many as fit the visible GPUs.

    On a CPU it is the whole batch.

    Args:
        config: of the run, whose precision is resolved.
        classes: foreground categories.
        workspace: above `results/`.
        device: cpu or cuda.
        gpus: that train it together.
    """
    train, gib = config.train, visible_memory_gib() if device == "cuda" else None
    if train.images_per_norm != "auto":
        return config
    images = train.batch_size
    if gib is not None:
        assert train.precision != "auto"
        forecast = stored_forecast(workspace, config.model, classes, train.precision, gpus, average=train.ema != "none")
        found = largest_fitting([(forecast, memory_limit(config, gib))], images, gpus)
        images = found or math.gcd(images, gpus)  # where not one image fits, running out of memory is the result
    return with_changes(config, {"train.images_per_norm": images})


def _peak_bytes(model: Model, classes: int, precision: Precision, images: int, shared: bool) -> int:
    """The most bytes alive at once in a forward and backward pass, besides weights, gradients and optimizer state."""
    with FakeTensorMode():
        detector = build_detector(model, classes).train()
        state = [*detector.parameters(), *detector.buffers()]
        for weight in detector.parameters():  # as with gradient accumulation: there before the pass begins
            weight.grad = torch.zeros_like(weight)
            state.append(weight.grad)
        others = _Others()
        if shared:
            use_group_batch_norm(detector, others)  # type: ignore[arg-type]
        gpu = _OnGpu()
        gpu.follow_into_recomputation(detector)
        with _LiveBytes(state) as live:
            with gpu, autocast(precision, torch.device("cpu")):
                loss = _loss(detector, model, images)
            loss.backward()  # type: ignore[no-untyped-call]
        peak: int = live.peak
    return peak


def _loss(detector: Detector, model: Model, images: int) -> Tensor:
    """A sum over everything that the losses read; RoIs are sampled in full, a quarter of them with a mask."""
    side, channels = model.backbone.image_size, model.pyramid.channels
    levels = list(detector.pyramid(detector.backbone(torch.empty(images, 3, side, side))).values())
    logits, deltas = detector.rpn.head(levels)
    rois = images * model.detector.rois_per_image
    pooled = torch.empty(rois, channels, BOX_GRID, BOX_GRID, requires_grad=True)
    read = [*logits, *deltas, *detector.heads.box_head(pooled), *levels]
    if detector.heads.mask_head is not None:
        positive = int(rois * POSITIVE_FRACTION)
        pooled = torch.empty(positive, channels, MASK_GRID, MASK_GRID, requires_grad=True)
        read.append(detector.heads.mask_head(pooled))
    return torch.stack([part.float().sum() for part in read]).sum()


class _Others:
    """Stands for the processes that train together."""


class _OnGpu(TorchFunctionMode):
    """Computes with fake CPU tensors in the dtypes and with the kernels that CUDA's autocast would use.

    A backward pass over fake tensors of a GPU needs a GPU. The CPU's autocast casts the same layers to the lower
    precision; besides, CUDA's takes these functions in fp32, and has its own kernels of fused attention.
    """

    FP32 = (F.layer_norm, F.group_norm, F.softmax, Tensor.softmax, torch.softmax)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is is_fused:
            return True
        if func is has_fused_operators:
            return True
        if func is sum_over_group:
            return args[0].clone()
        if func is gather_over_group:
            return args[0][None].clone()
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if func in self.FP32:
            args = tree_map_only(Tensor, Tensor.float, args)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _fused(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None) -> Tensor:
        """By the kernels that CUDA has: flash without a bias, memory-efficient with one."""
        ops = torch.ops.aten
        if attn_mask is None:
            return ops._scaled_dot_product_flash_attention(q, k, v)[0]  # type: ignore[no-any-return]
        bias = attn_mask.expand(*q.shape[:3], k.shape[-2])
        return ops._scaled_dot_product_efficient_attention(q, k, v, bias, True)[0]  # type: ignore[no-any-return]

    def follow_into_recomputation(self, detector: Detector) -> None:
        """Hold also where activation checkpointing runs a block again, inside the backward pass."""
        backbone = detector.backbone
        for block in [backbone.blocks[index] for index in backbone.recomputed] if isinstance(backbone, ViT) else ():
            block.register_forward_pre_hook(self._enter)
            block.register_forward_hook(self._leave, always_call=True)

    def _enter(self, *_: object) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]

    def _leave(self, *_: object) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are alive, each once, but for those that are there already."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._there = [tensor.untyped_storage() for tensor in there]
        self._known: dict[int, object] = {storage._cdata: storage for storage in self._there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, result)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if key not in self._known:
            self._known[key] = weakref.ref(storage, lambda _: self._release(key, size))
            self.bytes += size
            self.peak = max(self.peak, self.bytes)

    def _release(self, key: int, size: int) -> None:
        del self._known[key]
        self.bytes -= size
