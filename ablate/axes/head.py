"""Detector heads: with the paper's changes to Mask R-CNN, with ViTDet's, or plain."""

from ablate.axes.base import Axis, variants_from

AXIS = Axis(
    name="head",
    title="Heads of Mask R-CNN",
    source="arXiv 2111.11429, section 2; arXiv 2203.16527",
    allowed_keys=frozenset({"model.detector.head"}),
    variants=lambda _base, _options: variants_from(
        "model.detector",
        [
            ("paper", {"head": "paper"}, "BN after convolutions, 2 RPN and 4 box convolutions"),
            ("vitdet", {"head": "vitdet"}, "as paper, with LayerNorm in the place of BN"),
            ("plain", {"head": "plain"}, "1 RPN convolution, 2-layer box head, no norm"),
        ],
    ),
)
