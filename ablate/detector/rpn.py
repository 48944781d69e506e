"""Region proposals: torchvision's RPN head with detectron2's rules around it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms

from ablate.data.coco import Target
from ablate.detector.boxes import cell_anchors, clip, decode, encode, grid_anchors, match, sample

DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
POSITIVE_IOU = 0.7
NEGATIVE_IOU = 0.3
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
    """

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
        self.matcher = Matcher(POSITIVE_IOU, NEGATIVE_IOU, allow_low_quality_matches=True)
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
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Target] | None = None,
        generators: Sequence[torch.Generator] = (),
        counts: ProposalCounts | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Propose boxes, and with targets also the two losses.

        Args:
            features: f[B, channels, h, w] of each level.
            sizes: (height, width) of each image without its padding.
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
        sizes: Sequence[tuple[int, int]],
        counts: ProposalCounts,
    ) -> list[Tensor]:
        boxes, scores, levels = [], [], []
        for level, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
            score, order = logit.topk(min(counts.before, logit.shape[1]), dim=1)  # [B, k]
            boxes.append(decode(delta.gather(1, order[..., None].expand(-1, -1, 4)), anchor[order], DELTA_WEIGHTS))
            scores.append(score)
            levels.append(torch.full_like(order[0], level))
        level_of = torch.cat(levels)
        proposals = []
        for box, score, size in zip(torch.cat(boxes, 1), torch.cat(scores, 1), sizes, strict=True):
            box = clip(box, size)
            # A diverged head gives NaN boxes: left out here, the trainer stops at the NaN loss that comes with them.
            kept = ((box[:, 2:] > box[:, :2]).all(dim=1) & score.isfinite()).nonzero()[:, 0]
            kept = kept[batched_nms(box[kept], score[kept], level_of[kept], self.nms_threshold)[: counts.after]]
            proposals.append(box[kept])
        return proposals

    def _losses(
        self,
        anchors: Tensor,
        logits: Tensor,
        deltas: Tensor,
        targets: Sequence[Target],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        objectness, box = logits.new_zeros(()), logits.new_zeros(())
        for logit, delta, target, generator in zip(logits, deltas, targets, generators, strict=True):
            matched, label = match(target.boxes, anchors, self.matcher)
            positive, negative = sample(label, self.sample_size, POSITIVE_FRACTION, generator)
            goal = logit.new_zeros(len(positive) + len(negative))
            goal[: len(positive)] = 1
            chosen = logit[torch.cat([positive, negative])]
            objectness = objectness + F.binary_cross_entropy_with_logits(chosen, goal, reduction="sum")
            wanted = encode(target.boxes[matched[positive]], anchors[positive], DELTA_WEIGHTS)
            box = box + F.l1_loss(delta[positive], wanted, reduction="sum")
        # detectron2 divides by the size of the full sample, however many anchors there were.
        count = self.sample_size * len(targets)
        return {"rpn_objectness": objectness / count, "rpn_box": box / count}
