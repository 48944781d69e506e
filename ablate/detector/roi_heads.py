"""The second stage of Mask R-CNN: RoIAlign, the box head, the mask head, their losses and detections."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import batched_nms, roi_align

from ablate.data.coco import Target
from ablate.detector.batch_norm import Group, sum_over_group
from ablate.detector.boxes import (
    Matching,
    clip,
    decode,
    encode,
    match,
    sample,
    without_unused,
)
from ablate.models.pyramid import ChannelNorm, Norm

DELTA_WEIGHTS = (10.0, 5.0)
MATCHING = Matching(positive=0.5, negative=0.5)
POSITIVE_FRACTION = 0.25
CANONICAL_SIZE = 224.0  # a RoI of this side in pixels is pooled from the level of stride 16
BOX_GRID = 7
MASK_GRID = 14
NORMS: dict[str, Callable[..., nn.Module] | None] = {
    "batch": nn.BatchNorm2d,
    "layer": partial(ChannelNorm, eps=1e-6),
    "none": None,
}


@dataclass(frozen=True, slots=True)
class DetectedInstances:
    """The detections of one image, best first.

    Attributes:
        boxes: f32[n, 4], xyxy in pixels of the network's input.
        scores: f32[n], 0 to 1.
        labels: i64[n], category indices from 0.
        masks: f32[n, 28, 28], probabilities inside the box, or none without a mask head.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None

    def to(self, device: torch.device) -> "DetectedInstances":
        """The same on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        return DetectedInstances(self.boxes.to(device), self.scores.to(device), self.labels.to(device), masks)


class RoIPooler(nn.Module):
    """Aligned RoIAlign on the pyramid level that fits the RoI (FPN, arXiv 1612.03144, equation 1).

    Args:
        strides: of the levels in pixels, rising by factors of 2.
        grid: side of the pooled map.
    """

    def __init__(self, strides: Sequence[int], grid: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.grid = grid

    def levels(self, boxes: Tensor) -> Tensor:
        """The index into strides for each of boxes f32[n, 4] (xyxy, pixels)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
        level = torch.floor(4 + torch.log2(side / CANONICAL_SIZE + 1e-8)).long()
        return (level - int(math.log2(self.strides[0]))).clamp(0, len(self.strides) - 1)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Pool f[B, C, h, w] maps inside each image's boxes f32[n, 4] -> f[sum of n, C, grid, grid]."""
        rois = torch.cat([F.pad(box, (1, 0), value=image) for image, box in enumerate(boxes)])
        # The RoIs of every level, found together: the host waits once.
        level, order = self.levels(rois[:, 1:]).sort(stable=True)
        counts = (level == torch.arange(len(self.strides), device=level.device)[:, None]).sum(dim=1).tolist()
        pooled = features[0].new_zeros((len(rois), features[0].shape[1], self.grid, self.grid))
        for rows, feature, stride in zip(torch.split(order, counts), features, self.strides, strict=True):
            # A level without RoIs is pooled too, so that its feature map has a gradient in every process.
            # RoIs stay float32: at 900 px a bfloat16 has steps of 4 px. Under autocast roi_align takes both dtypes.
            part = roi_align(feature, rois[rows], self.grid, 1 / stride, aligned=True).to(pooled.dtype)
            pooled = pooled.index_copy(0, rows, part)
        return pooled


class BoxHead(nn.Module):
    """Features of a RoI -> class logits and one box of deltas a class.

    Args:
        channels: of the pooled features.
        classes: foreground categories.
        convs: channels of each 3x3 convolution; none of them makes the plain head of two layers.
        width: of the fully connected layers.
        norm: after each convolution.
    """

    def __init__(self, channels: int, classes: int, convs: Sequence[int], width: int, *, norm: Norm = "batch") -> None:
        super().__init__()
        self.layers: nn.Module = (
            FastRCNNConvFCHead((channels, BOX_GRID, BOX_GRID), list(convs), [width], NORMS[norm])
            if convs
            else TwoMLPHead(channels * BOX_GRID**2, width)
        )
        for layer in self.layers.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)
        self.score = nn.Linear(width, classes + 1)  # the last class is background, as in detectron2
        self.deltas = nn.Linear(width, classes * 4)
        for layer, std in ((self.score, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """f[n, channels, 7, 7] -> logits f32[n, classes + 1] and deltas f32[n, classes * 4]."""
        hidden = self.layers(pooled)
        return self.score(hidden).float(), self.deltas(hidden).float()


class MaskHead(nn.Module):
    """Features of a RoI -> one 28x28 mask of logits a class.

    Args:
        channels: of the pooled features.
        classes: foreground categories.
        convs: channels of each 3x3 convolution; the last is also the width of the upsampling.
        norm: after each convolution; BatchNorm is the paper's change, LayerNorm ViTDet's.
    """

    def __init__(self, channels: int, classes: int, convs: Sequence[int], *, norm: Norm) -> None:
        super().__init__()
        self.layers = MaskRCNNHeads(channels, list(convs), 1, NORMS[norm])
        self.up = nn.ConvTranspose2d(convs[-1], convs[-1], 2, 2)
        self.logits = nn.Conv2d(convs[-1], classes, 1)
        nn.init.kaiming_normal_(self.up.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor) -> Tensor:
        """f[n, channels, 14, 14] -> f32[n, classes, 28, 28]."""
        return self.logits(F.relu(self.up(self.layers(pooled)))).float()  # type: ignore[no-any-return]


def mask_targets(masks: Tensor, boxes: Tensor, mask_of: Tensor, side: int) -> Tensor:
    """The part of a mask inside each box, resampled to side x side and cut at one half.

    Args:
        masks: u8[m, height, width].
        boxes: f32[n, 4], xyxy in pixels.
        mask_of: i64[n], the mask that each box looks at.
        side: of the result.

    Returns:
        f32[n, side, side] of zeros and ones.
    """
    rois = torch.cat([mask_of[:, None].to(boxes.dtype), boxes], dim=1)
    return (roi_align(masks[:, None].float(), rois, side, aligned=True)[:, 0] >= 0.5).float()  # type: ignore[no-any-return]


class RoIHeads(nn.Module):
    """Train the heads on a sample of the proposals; turn proposals into detections.

    Args:
        strides: of the feature maps that RoIs are pooled from.
        box_head: see `BoxHead`.
        mask_head: see `MaskHead`; none makes a Faster R-CNN.
        classes: foreground categories.
        sample_size: RoIs of an image that train the box head.

    Attributes:
        few_waits: as in `RegionProposals`.
    """

    few_waits: bool | None = None

    def __init__(
        self,
        *,
        strides: Sequence[int],
        box_head: BoxHead,
        mask_head: MaskHead | None,
        classes: int,
        sample_size: int,
    ) -> None:
        super().__init__()
        self.box_pooler = RoIPooler(strides, BOX_GRID)
        self.mask_pooler = RoIPooler(strides, MASK_GRID)
        self.box_head = box_head
        self.mask_head = mask_head
        self.classes = classes
        self.sample_size = sample_size
        self.group: Group | None = None
        self.group_size = 1

    def losses(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        targets: Sequence[Target],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """Losses `box_class`, `box_delta` and, with a mask head, `mask`.

        Every loss is a sum over RoIs divided by their mean number over the processes of the normalisation group, so
        that how many processes share the work changes no gradient.
        """
        few_waits = features[0].is_cuda if self.few_waits is None else self.few_waits
        # True boxes join the proposals: the heads see good RoIs before the RPN can propose them.
        candidates = [torch.cat([proposal, t.boxes]) for proposal, t in zip(proposals, targets, strict=True)]
        matches = [match(t.boxes, boxes, MATCHING) for t, boxes in zip(targets, candidates, strict=True)]
        samples = [
            sample(state, self.sample_size, POSITIVE_FRACTION, generator, by_keys=few_waits)
            for (_, state), generator in zip(matches, generators, strict=True)
        ]
        rois, labels, deltas, positives, masks, foreground, begin = [], [], [], [], [], [], 0
        for boxes, (matched, _), target, (positive, negative) in zip(
            candidates, matches, targets, without_unused(samples), strict=True
        ):
            truth, end = matched[positive], begin + len(positive)
            foreground.append(torch.arange(begin, end, device=boxes.device))
            rois.append(boxes[torch.cat([positive, negative])])
            labels.append(F.pad(target.labels[truth], (0, len(negative)), value=self.classes))
            positives.append(rois[-1][: len(positive)])
            deltas.append(encode(target.boxes[truth], positives[-1], DELTA_WEIGHTS))
            if self.mask_head is not None:
                assert target.masks is not None
                masks.append((target.masks, positives[-1], truth))
            begin += len(rois[-1])
        label, seen = torch.cat(labels), torch.cat(foreground)
        logits, predicted = self.box_head(self.box_pooler(features, rois))
        category = label[seen]
        predicted = predicted.reshape(-1, self.classes, 4)[seen, category]
        rois_in_group = self._mean_count(label)
        losses = {
            "box_class": F.cross_entropy(logits, label, reduction="sum") / rois_in_group,
            "box_delta": F.l1_loss(predicted, torch.cat(deltas), reduction="sum") / rois_in_group,
        }
        if self.mask_head is not None:
            mask = self.mask_head(self.mask_pooler(features, positives))
            wanted = torch.cat([mask_targets(*each, mask.shape[-1]) for each in masks])
            chosen = mask[torch.arange(len(category), device=mask.device), category]
            total = F.binary_cross_entropy_with_logits(chosen, wanted, reduction="sum")
            losses["mask"] = total / (self._mean_count(category) * mask.shape[-1] ** 2)
        return losses

    def _mean_count(self, rows: Tensor) -> Tensor:
        """Rows of this process, averaged over the group, at least 1 / its size."""
        count = torch.full((), float(len(rows)), device=rows.device)
        return sum_over_group(count, self.group).clamp(min=1) / self.group_size

    def detect(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Tensor,
        *,
        score_threshold: float,
        nms_threshold: float,
        max_detections: int,
    ) -> list[DetectedInstances]:
        """Boxes above a score, after NMS within each class, at most max_detections an image; and their masks.

        Args:
            features: f[B, channels, h, w] of each level.
            proposals: f32[n, 4] of each image.
            sizes: i64[B, 2], height and width of each image, on the device.
            score_threshold: 0 to 1.
            nms_threshold: IoU.
            max_detections: of an image.
        """
        logits, deltas = self.box_head(self.box_pooler(features, proposals))
        scores = logits.softmax(dim=1)[:, :-1]
        boxes = decode(deltas, torch.cat(list(proposals)), DELTA_WEIGHTS).reshape(-1, self.classes, 4)
        counts = [len(p) for p in proposals]
        found = []
        for box, score, size in zip(torch.split(boxes, counts), torch.split(scores, counts), sizes, strict=True):
            row, label = torch.where(score > score_threshold)
            chosen, certainty = clip(box[row, label], size), score[row, label]
            kept = (chosen[:, 2:] > chosen[:, :2]).all(dim=1).nonzero()[:, 0]
            kept = kept[batched_nms(chosen[kept], certainty[kept], label[kept], nms_threshold)[:max_detections]]
            found.append((chosen[kept], certainty[kept], label[kept]))
        if self.mask_head is None:
            return [DetectedInstances(b, s, k, None) for b, s, k in found]
        mask = self.mask_head(self.mask_pooler(features, [b for b, _, _ in found]))
        label = torch.cat([k for _, _, k in found])
        mask = mask[torch.arange(len(label), device=mask.device), label].sigmoid()
        parts = mask.tensor_split(torch.tensor([len(k) for _, _, k in found]).cumsum(0)[:-1])
        return [DetectedInstances(b, s, k, m) for (b, s, k), m in zip(found, parts, strict=True)]
