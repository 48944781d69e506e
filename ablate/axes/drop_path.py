"""Drop path: the rate at which the branches of the last block are left out in training; it rises linearly with depth.

The paper (arXiv 2111.11429) tunes it from 0, 0.1, 0.2 and 0.3 for each size, and takes 0.1 for ViT-B and 0.3 for ViT-L;
ViTDet (arXiv 2203.16527) takes 0.1, 0.4 and 0.5 for ViT-B, ViT-L and ViT-H.
"""

from ablate.axes.base import Axis, AxisOptions, Variant, own_and
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig

KEY = "model.backbone.drop_path"
RATES = (0.0, 0.1, 0.2, 0.3, 0.4)


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    own = vit_of(base, "drop-path").drop_path
    return tuple(Variant(name=f"{rate:g}", changes={KEY: rate}, number=rate) for rate in sorted(own_and(own, RATES)))


AXIS = Axis(
    name="drop-path",
    title="Drop path rate",
    source="arXiv 2111.11429, appendix; arXiv 2203.16527",
    allowed_keys=frozenset({KEY}),
    variants=_variants,
    unit="drop path rate",
)
