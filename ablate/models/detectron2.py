"""The models as a backbone of detectron2. The only file here that imports detectron2.

Generated configs (``ablate export --format lazyconfig``) import it beside ``ablate.models``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ablate.models.finetuning import freeze
from ablate.models.pyramid import Pyramid
from ablate.models.vit import ViT


class PlainBackbone(Backbone):  # type: ignore[misc]
    """A plain ViT and a pyramid on it as a detectron2 ``Backbone``.

    Args:
        net: images to maps.
        pyramid: those maps to levels.
        norm: what takes the place of the pyramid's BatchNorm, as detectron2's ``get_norm`` takes it; a pyramid of
            LayerNorms, or without norm, stays as it is.
        square_pad: side in pixels to which training images are padded, below and on the right, with zeros after
            normalisation.
        square_pad_at_test: the same at test; 0 pads to a multiple of the coarsest stride that RoIs are pooled from.
        frozen: what of the ViT is not trained, see `freeze`.
    """

    def __init__(
        self,
        net: ViT,
        pyramid: Pyramid,
        *,
        norm: str | Callable[[int], nn.Module] = "SyncBN",
        square_pad: int = 0,
        square_pad_at_test: int = 0,
        frozen: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.pyramid = pyramid
        _replace_batch_norm(pyramid, norm)
        freeze(net, **(frozen or {}))
        self._square_pad = {True: square_pad, False: square_pad_at_test}
        strides = list(pyramid.strides.values())
        self._size_divisibility = strides[-2] if len(strides) > 1 else strides[-1]

    @property
    def size_divisibility(self) -> int:
        """Sides of the images are padded to multiples of this."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> Mapping[str, int]:
        """As ``detectron2.structures.ImageList.from_tensors`` takes them."""
        return {"square_size": self._square_pad[self.training]}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level."""
        return {
            name: ShapeSpec(channels=self.pyramid.channels, stride=stride)
            for name, stride in self.pyramid.strides.items()
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images f[B, 3, H, W], normalised and padded -> levels f[B, channels, h, w] by name."""
        return self.pyramid(self.net(images))  # type: ignore[no-any-return]


def _replace_batch_norm(module: nn.Module, norm: str | Callable[[int], nn.Module]) -> None:
    """Put another norm, with its fresh weights, in the place of every BatchNorm2d inside a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, get_norm(norm, child.num_features))
        else:
            _replace_batch_norm(child, norm)


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that first scales all gradients together to a largest norm.

    Args:
        params: as AdamW takes them.
        clip_norm: the largest L2 norm of all gradients as one vector.
        settings: of AdamW.
    """

    def __init__(self, params: Any, *, clip_norm: float, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.clip_norm = clip_norm

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; a gradient scaler has divided its factor out before it comes here."""
        torch.nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], self.clip_norm)
        return super().step(closure)
