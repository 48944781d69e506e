"""Region proposals: torchvision's RPN head with detectron2's rules around it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from ablate.data.coco import Target
from ablate.detector.boxes import (
    Matching,
    best_of_groups,
    cell_anchors,
    clip,
    decode,
    encode,
    grid_anchors,
    match,
    sample,
)

DELTA_WEIGHTS = (1.0, 1.0)
MATCHING = Matching(positive=0.7, negative=0.3, best_of_each=True)
POSITIVE_FRACTION = 0.5


class ProposalCounts(NamedTuple):
    """How many proposals survive: `before` NMS on each level, `after` NMS in the whole image."""

    before: int
    after: int


class RegionProposals(nn.Module):
    """Anchors on every level, scored and shifted by a small convolutional head that the levels share.

    Args:
        channels: of every feature map.
        strides: of the feature maps, in pixels.
        anchor_sizes: of each level: the sides of its square anchors, in pixels.
        ratios: height / width of the anchors of every place.
        convs: hidden 3x3 convolutions, with ReLU and without norm (the paper has 2, the plain head 1).
        training_counts: proposals kept in training.
        nms_threshold: IoU above which the worse of two proposals of a level is dropped.
        sample_size: anchors of an image that the losses see.

    Attributes:
        few_waits: the host waits for the device as seldom as it can: other anchors are drawn (`boxes.sample`), and NMS
            is done at once (`boxes.best_of_groups`). None: on a GPU.
    """

    few_waits: bool | None = None

    def __init__(
        self,
        *,
        channels: int,
        strides: Sequence[int],
        anchor_sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
        convs: int,
        training_counts: ProposalCounts,
        nms_threshold: float,
        sample_size: int,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.head = RPNHead(channels, len(anchor_sizes[0]) * len(ratios), conv_depth=convs)
        self.training_counts = training_counts
        self.nms_threshold = nms_threshold
        self.sample_size = sample_size
        self.anchor_sizes = tuple(anchor_sizes)
        self.ratios = tuple(ratios)
        self._anchors: tuple[tuple[object, ...], list[Tensor]] | None = None

    def anchors(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors f32[h * w * a, 4] of each feature map; kept from call to call while the maps keep their shape."""
        key = (features[0].device, *((f.shape[2], f.shape[3]) for f in features))
        if self._anchors is None or self._anchors[0] != key:
            self._anchors = (
                key,
                [
                    grid_anchors(cell_anchors(sizes, self.ratios).to(f.device), (f.shape[2], f.shape[3]), stride)
                    for f, sizes, stride in zip(features, self.anchor_sizes, self.strides, strict=True)
                ],
            )
        return self._anchors[1]

    def forward(
        self,
        features: Sequence[Tensor],
        sizes: Tensor,
        targets: Sequence[Target] | None = None,
        generators: Sequence[torch.Generator] = (),
        counts: ProposalCounts | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Propose boxes, and with targets also the two losses.

        Args:
            features: f[B, channels, h, w] of each level.
            sizes: i64[B, 2], height and width of each image without its padding, on the device.
            targets: one an image, for training.
            generators: one an image, for the random sample of anchors.
            counts: proposals kept; none: as many as in training.

        Returns:
            Proposals f32[n, 4] of each image, best first; losses `rpn_objectness` and `rpn_box`.
        """
        anchors = self.anchors(features)
        logits, deltas = self.head(list(features))
        # [B, a, h, w] -> [B, h * w * a] and [B, a * 4, h, w] -> [B, h * w * a, 4], in the order of the anchors.
        logits = [x.permute(0, 2, 3, 1).flatten(1).float() for x in logits]
        deltas = [x.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3).float() for x in deltas]
        with torch.no_grad():
            proposals = self._proposals(anchors, logits, deltas, sizes, counts or self.training_counts)
        if targets is None:
            return proposals, {}
        every = (torch.cat(anchors), torch.cat(logits, 1), torch.cat(deltas, 1))
        return proposals, self._losses(*every, targets, generators)

    def _proposals(
        self,
        anchors: Sequence[Tensor],
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        sizes: Tensor,
        counts: ProposalCounts,
    ) -> list[Tensor]:
        boxes, scores, levels = [], [], []
        for level, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
            score, order = logit.topk(min(counts.before, logit.shape[1]), dim=1)  # [B, k]
            boxes.append(decode(delta.gather(1, order[..., None].expand(-1, -1, 4)), anchor[order], DELTA_WEIGHTS))
            scores.append(score)
            levels.append(torch.full_like(order, level))
        box, score, level_of = clip(torch.cat(boxes, 1), sizes[:, None]), torch.cat(scores, 1), torch.cat(levels, 1)
        # A diverged head gives NaN boxes: left out here, the trainer stops at the NaN loss that comes with them.
        usable = (box[..., 2:] > box[..., :2]).all(dim=2) & score.isfinite()
        rows, images = usable.flatten().nonzero()[:, 0], usable.sum(dim=1).tolist()
        found = (torch.split(each.flatten(0, 1)[rows], images) for each in (box, score, level_of))
        at_once = box.is_cuda if self.few_waits is None else self.few_waits
        return [
            box[best_of_groups(box, score, level, self.nms_threshold, at_once=at_once)[: counts.after]]
            for box, score, level in zip(*found, strict=True)
        ]

    def _losses(
        self,
        anchors: Tensor,
        logits: Tensor,
        deltas: Tensor,
        targets: Sequence[Target],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        objectness, box = logits.new_zeros(()), logits.new_zeros(())
        few_waits = logits.is_cuda if self.few_waits is None else self.few_waits
        for logit, delta, target, generator in zip(logits, deltas, targets, generators, strict=True):
            matched, label = match(target.boxes, anchors, MATCHING)
            drawn = sample(label, self.sample_size, POSITIVE_FRACTION, generator, by_keys=few_waits)
            positive, negative = drawn.positive, drawn.negative
            goal = logit.new_zeros(len(positive) + len(negative))
            goal[: len(positive)] = 1
            used = None
            if drawn.positive_used is not None and drawn.negative_used is not None:
                used = torch.cat([drawn.positive_used, drawn.negative_used]).to(logit.dtype)
            chosen = logit[torch.cat([positive, negative])]
            objectness = objectness + F.binary_cross_entropy_with_logits(chosen, goal, weight=used, reduction="sum")
            truths = target.boxes if len(target.boxes) else anchors[:1]  # where nothing is positive, any will do
            wanted = encode(truths[matched[positive]], anchors[positive], DELTA_WEIGHTS)
            away = F.l1_loss(delta[positive], wanted, reduction="sum" if used is None else "none")
            box = box + (away if used is None else (away.sum(dim=1) * used[: len(positive)]).sum())
        # detectron2 divides by the size of the full sample, however many anchors there were.
        count = self.sample_size * len(targets)
        return {"rpn_objectness": objectness / count, "rpn_box": box / count}
