"""Mask R-CNN as the paper changes it: backbone, pyramid, region proposals and RoI heads in one module.

`build_detector` makes it from a config; the backbone is a plain ViT, torchvision's ResNet-50 or ResNet-101, or one of
another package.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchvision.models import resnet50, resnet101

from ablate.config import schema as cfg
from ablate.data.coco import Target
from ablate.data.loader import normalise
from ablate.detector.batch_norm import reference_to, use_group_batch_norm
from ablate.detector.plugin import build_plugin
from ablate.detector.roi_heads import BoxHead, DetectedInstances, MaskHead, RoIHeads
from ablate.detector.rpn import ProposalCounts, RegionProposals
from ablate.models import FPN, LastMap, MultiScale, Pyramid, SimplePyramid, SingleScale, ViT
from ablate.models.pyramid import Norm
from ablate.weights.build import build_vit


class ResNet(nn.Module):
    """The stages C2 to C5 of a residual network with BatchNorm, randomly initialised.

    Args:
        depth: 50 or 101 layers.

    Attributes:
        strides: of the maps, in pixels.
        channels: of the maps.
    """

    strides = (4, 8, 16, 32)
    channels = (256, 512, 1024, 2048)

    def __init__(self, depth: Literal[50, 101]) -> None:
        super().__init__()
        whole = {50: resnet50, 101: resnet101}[depth](weights=None)
        self.stem = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool)
        self.stages = nn.ModuleList([whole.layer1, whole.layer2, whole.layer3, whole.layer4])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images f[B, 3, H, W], normalised and padded -> four maps f[B, C, H / stride, W / stride], fine to coarse."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


PYRAMIDS: dict[str, type[MultiScale | SimplePyramid | SingleScale]] = {
    "multi_scale": MultiScale,
    "last_map": LastMap,
    "simple": SimplePyramid,
    "single_scale": SingleScale,
}
BOX_CONVS = 4
MASK_CONVS = 4
RPN_CONVS = 2
NORM_OF_HEAD: dict[str, Norm] = {"paper": "batch", "vitdet": "layer", "plain": "none"}


class Detector(nn.Module):
    """Images to losses (training) or detections.

    Args:
        backbone: normalised images -> list of maps.
        pyramid: those maps -> levels by name.
        rpn: reads all levels.
        heads: read the levels up to stride 32; the level beyond is for proposals alone.
        pixel_mean, pixel_std: RGB, 0 to 1.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        pyramid: Pyramid,
        rpn: RegionProposals,
        heads: RoIHeads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.rpn = rpn
        self.heads = heads
        self.pixel_mean = tuple(pixel_mean)
        self.pixel_std = tuple(pixel_std)

    def forward(
        self, images: Tensor, sizes: Tensor, targets: Sequence[Target], generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        """The losses of a batch: `rpn_objectness`, `rpn_box`, `box_class`, `box_delta` and, with masks, `mask`.

        Args:
            images: u8[B, 3, side, side], RGB.
            sizes: i64[B, 2], height and width of each image without its padding.
            targets: one an image.
            generators: one an image, on the device of the images: they draw which anchors and RoIs are trained on,
                so that an image's sample does not depend on what it is batched with.
        """
        levels = self._levels(images, sizes)
        proposals, losses = self.rpn(levels, sizes, targets, generators)
        return {**losses, **self.heads.losses(self._pooled(levels), proposals, targets, generators)}

    @torch.no_grad()
    def predict(self, images: Tensor, sizes: Tensor, settings: cfg.Evaluate) -> list[DetectedInstances]:
        """Detections in u8[B, 3, H, W] images whose content has sizes i64[B, 2], in pixels of the input."""
        levels = self._levels(images, sizes)
        counts = ProposalCounts(settings.proposals_before_nms, settings.proposals_after_nms)
        proposals, _ = self.rpn(levels, sizes, counts=counts)
        return self.heads.detect(
            self._pooled(levels),
            proposals,
            sizes,
            score_threshold=settings.score_threshold,
            nms_threshold=settings.nms_threshold,
            max_detections=settings.max_detections,
        )

    def _levels(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        batch = normalise(images, sizes, self.pixel_mean, self.pixel_std)
        return list(self.pyramid(self.backbone(batch)).values())

    def _pooled(self, levels: list[Tensor]) -> list[Tensor]:
        return levels[: len(self.heads.box_pooler.strides)]


def build_detector(model: cfg.Model, classes: int, scheme: Literal["random", "truncated"] = "random") -> Detector:
    """The detector of a config, with random weights drawn from torch's global generator.

    Args:
        model: of a `RunConfig`.
        classes: foreground categories.
        scheme: by which those of a ViT are drawn.
    """
    convolved, norm = model.detector.head != "plain", NORM_OF_HEAD[model.detector.head]
    if isinstance(model.backbone, cfg.ResNet):
        backbone: nn.Module = ResNet(model.backbone.depth)
        pyramid: Pyramid = FPN(ResNet.channels, ResNet.strides, model.pyramid.channels, norm=norm)
    elif isinstance(model.backbone, cfg.PluginBackbone):
        backbone = outside = build_plugin(model.backbone)
        pyramid = FPN(outside.channels, outside.strides, model.pyramid.channels, norm=norm)
    else:
        options: dict[str, Any] = {} if model.pyramid.type == "simple" else {"norm": norm}
        shape = (model.backbone.width, model.backbone.patch_size, model.pyramid.channels)
        pyramid = PYRAMIDS[model.pyramid.type](*shape, **options)
        backbone = build_vit(model.backbone, pyramid.taps, scheme)
    strides = list(pyramid.strides.values())
    settings = model.detector
    one_level = model.pyramid.type == "single_scale"
    rpn = RegionProposals(
        channels=pyramid.channels,
        strides=strides,
        anchor_sizes=[settings.anchors.sizes] if one_level else [(size,) for size in settings.anchors.sizes],
        ratios=settings.anchors.aspect_ratios,
        convs=RPN_CONVS if convolved else 1,
        training_counts=ProposalCounts(settings.proposals.train_before_nms, settings.proposals.train_after_nms),
        nms_threshold=settings.proposals.nms_threshold,
        sample_size=settings.rpn_anchors_per_image,
    )
    mask_convs = [settings.mask_conv_channels] * MASK_CONVS
    mask_head = MaskHead(pyramid.channels, classes, mask_convs, norm=norm) if settings.masks else None
    heads = RoIHeads(
        strides=strides if one_level else strides[:-1],
        box_head=BoxHead(
            pyramid.channels,
            classes,
            [settings.box_conv_channels] * BOX_CONVS if convolved else [],
            settings.box_fc,
            norm=norm,
        ),
        mask_head=mask_head,
        classes=classes,
        sample_size=settings.rois_per_image,
    )
    detector = Detector(
        backbone=backbone,
        pyramid=pyramid,
        rpn=rpn,
        heads=heads,
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
    )
    use_group_batch_norm(detector, None)
    return detector


def use_channels_last(detector: Detector) -> None:
    """Have the convolutions after a ViT, or all of a detector with a ResNet, read and write the layout channels_last.

    Weights keep their names and values; a pooled RoI is brought into the layout by the first convolution of its head.
    """
    if isinstance(detector.backbone, ViT):
        detector.backbone.channels_last = True
    else:
        detector.backbone.to(memory_format=torch.channels_last)
    for part in (detector.pyramid, detector.rpn, detector.heads):
        part.to(memory_format=torch.channels_last)


def join_group(detector: Detector, group: dist.ProcessGroup | None) -> None:
    """Share the statistics of BatchNorm and the counts that losses are divided by among the processes of a group."""
    use_group_batch_norm(detector, group)
    detector.heads.group = reference_to(group)
    detector.heads.group_size = 1 if group is None else group.size()
