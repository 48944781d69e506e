"""detectron2's norms for the processes that share the work."""

from functools import partial
from typing import Any

import torch
from detectron2.layers import NaiveSyncBatchNorm
from torch import Tensor

from ablate.train.distributed import Layout, Processes
from analysis.exceptions import BadInput


class PreciseSyncBatchNorm(NaiveSyncBatchNorm):  # type: ignore[misc]
    """`NaiveSyncBatchNorm`, which widens fp16 for its sums, for bf16 too: its E[x^2] - E[x]^2 of 8 bits is noise."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name is torch's)
        """Normalise f[n, C, h, w]; n may be 0."""
        if input.dtype != torch.bfloat16:
            return super().forward(input)  # type: ignore[no-any-return]
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(torch.bfloat16)  # type: ignore[no-any-return]


def set_norms(cfg: Any, layout: Layout, processes: Processes) -> None:
    """Let statistics cover all processes, or each its own; detectron2's norms know nothing between.

    Args:
        cfg: a loaded LazyConfig, changed in place.
        layout: how the batch is cut up.
        processes: that train together.

    Raises:
        BadInput: groups of some of the processes are asked for.
    """
    if layout.group not in (1, processes.count):
        raise BadInput(
            f"{processes.count} processes of which {layout.group} share a BatchNorm statistic: detectron2's norms "
            "share statistics with all processes or none; start "
            f"{layout.group} processes, or change train.images_per_norm"
        )
    backbone, heads = cfg.model.backbone, cfg.model.roi_heads
    # torch's SyncBatchNorm knows no CPU, and nowhere a batch without RoIs
    cuda = processes.device.type == "cuda"
    maps: Any = "BN" if layout.group == 1 else "SyncBN" if cuda else PreciseSyncBatchNorm
    rois: Any = "BN" if layout.group == 1 else partial(PreciseSyncBatchNorm, stats_mode="N")
    places = [(backbone, "norm", maps)]
    if "bottom_up" in backbone:
        places += [(backbone.bottom_up.stem, "norm", maps), (backbone.bottom_up.stages, "norm", maps)]
    places += [(heads[name], "conv_norm", rois) for name in ("box_head", "mask_head") if name in heads]
    for part, key, norm in places:
        if part[key]:
            part[key] = norm
