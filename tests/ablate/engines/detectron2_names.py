"""The weights of our detector under detectron2's names."""

import re
from collections.abc import Mapping

from torch import Tensor

RULES = (
    # plain ViT and its pyramid
    (r"backbone\.(patch_embed|pos_embed|window_bias|global_bias|block_bias|blocks|propagation)", r"backbone.net.\1"),
    (r"pyramid\.(scale|fpn|stage)", r"backbone.pyramid.\1"),
    # residual network and its pyramid
    (r"backbone\.stem\.0\.", "backbone.bottom_up.stem.conv1."),
    (r"backbone\.stem\.1\.", "backbone.bottom_up.stem.conv1.norm."),
    (
        r"backbone\.stages\.(\d)\.(\d+)\.conv(\d)\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 2}.{m[2]}.conv{m[3]}.",
    ),
    (
        r"backbone\.stages\.(\d)\.(\d+)\.bn(\d)\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 2}.{m[2]}.conv{m[3]}.norm.",
    ),
    (
        r"backbone\.stages\.(\d)\.(\d+)\.downsample\.0\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 2}.{m[2]}.shortcut.",
    ),
    (
        r"backbone\.stages\.(\d)\.(\d+)\.downsample\.1\.",
        lambda m: f"backbone.bottom_up.res{int(m[1]) + 2}.{m[2]}.shortcut.norm.",
    ),
    (r"pyramid\.(lateral|output)\.(\d)\.0\.", lambda m: f"backbone.fpn_{m[1]}{int(m[2]) + 2}."),
    (r"pyramid\.(lateral|output)\.(\d)\.1\.", lambda m: f"backbone.fpn_{m[1]}{int(m[2]) + 2}.norm."),
    # proposals
    (r"rpn\.head\.cls_logits", "proposal_generator.rpn_head.objectness_logits"),
    (r"rpn\.head\.bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
    (r"rpn\.head\.conv\.(\d)\.0\.", r"proposal_generator.rpn_head.conv.conv\1."),
    # heads
    (r"heads\.box_head\.score", "roi_heads.box_predictor.cls_score"),
    (r"heads\.box_head\.deltas", "roi_heads.box_predictor.bbox_pred"),
    (r"heads\.box_head\.layers\.fc6", "roi_heads.box_head.fc1"),
    (r"heads\.box_head\.layers\.fc7", "roi_heads.box_head.fc2"),
    (r"heads\.box_head\.layers\.(\d)\.0\.", lambda m: f"roi_heads.box_head.conv{int(m[1]) + 1}."),
    (r"heads\.box_head\.layers\.(\d)\.1\.", lambda m: f"roi_heads.box_head.conv{int(m[1]) + 1}.norm."),
    (r"heads\.box_head\.layers\.5\.", "roi_heads.box_head.fc1."),
    (r"heads\.mask_head\.layers\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}."),
    (r"heads\.mask_head\.layers\.(\d)\.1\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}.norm."),
    (r"heads\.mask_head\.up", "roi_heads.mask_head.deconv"),
    (r"heads\.mask_head\.logits", "roi_heads.mask_head.predictor"),
)


def renamed(weights: Mapping[str, Tensor], rpn_convs: int) -> dict[str, Tensor]:
    """A state of `ablate.detector.mask_rcnn.Detector` -> one of the `GeneralizedRCNN` of its exported config."""
    found = {}
    for name, value in weights.items():
        for pattern, replacement in RULES:
            other, hits = re.subn("^" + pattern, replacement, name)  # type: ignore[call-overload]
            if hits:
                break
        else:
            raise AssertionError(f"no rule for {name}")
        if rpn_convs == 1:  # detectron2 names a single convolution otherwise
            other = other.replace("rpn_head.conv.conv0.", "rpn_head.conv.")
        found[other] = value
    return found
