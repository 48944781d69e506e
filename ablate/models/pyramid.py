"""From the maps of a backbone to the levels that a detector reads."""

from collections.abc import Sequence
from math import gcd
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ablate.models.arguments import require
from ablate.models.vit import Taps

Norm = Literal["batch", "layer", "none"]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W], each position by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, kernel: int, norm: Norm) -> nn.Sequential:
    """A convolution that keeps the size, with its norm; it has a bias where no norm follows."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm == "none")
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
        return nn.Sequential(conv)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs) if norm == "batch" else ChannelNorm(outputs, eps=1e-6))


class Pyramid(nn.Module):
    """The base of all pyramids: backbone maps -> named levels, fine to coarse.

    Attributes:
        taps: which maps it reads, as the ViT's keyword.
        strides: of each level, in pixels.
        channels: of every level.
    """

    taps: Taps = "last"
    strides: dict[str, int]
    channels: int

    def _levels(self, strides: Sequence[int], channels: int, extra: bool, first: int = 2) -> None:
        self.extra = extra
        self.channels = channels
        every = [*strides, 2 * strides[-1]] if extra else strides
        self.strides = {f"p{number}": stride for number, stride in enumerate(every, start=first)}

    def _named(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Names the levels, and adds the one that only the RPN reads: every second position of the coarsest."""
        if self.extra:
            maps = [*maps, F.max_pool2d(maps[-1], kernel_size=1, stride=2)]
        return dict(zip(self.strides, maps, strict=True))


class FPN(Pyramid):
    """Feature pyramid network: a 1x1 convolution per map, sums from coarse to fine, a 3x3 convolution per level.

    Args:
        inputs: channels of each map, fine to coarse.
        strides: of each map in pixels, each twice the one before.
        channels: of every level.
        norm: after all convolutions; the paper's FPN has ``batch``, the plain one ``none``.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        strides: Sequence[int],
        channels: int = 256,
        *,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv(width, channels, 1, norm) for width in inputs)
        self.output = nn.ModuleList(_conv(channels, channels, 3, norm) for _ in inputs)
        self._levels(strides, channels, extra=True)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Maps [B, inputs[i], h_i, w_i], fine to coarse -> levels [B, channels, h, w] by name."""
        sums: list[Tensor] = []
        for conv, x in zip(reversed(self.lateral), reversed(maps), strict=True):
            own = conv(x)
            sums.append(own + F.interpolate(sums[-1], size=own.shape[-2:], mode="nearest") if sums else own)
        return self._named([conv(x) for conv, x in zip(self.output, reversed(sums), strict=True)])


def _scaled_strides(patch_size: int) -> list[int]:
    require(
        patch_size % 4 == 0,
        f"patch_size {patch_size} must be divisible by 4: the finest level has a quarter of its stride",
    )
    return [patch_size // 4, patch_size // 2, patch_size, 2 * patch_size]


class MultiScale(Pyramid):
    """The paper's pyramid: the map after each quarter of the ViT, scaled by its own module, then an FPN.

    Args:
        width: channels C of the maps.
        patch_size: their stride in pixels.
        channels: of every level.
        norm: of the FPN.
    """

    taps: Taps = "quarters"

    def __init__(self, width: int, patch_size: int = 16, channels: int = 256, *, norm: Norm = "batch") -> None:
        super().__init__()
        strides = _scaled_strides(patch_size)
        # By 4, 2, 1 and 1/2; the channels stay (paper, Appendix).
        self.scale = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, width, 2, stride=2),
                    nn.GroupNorm(gcd(32, width), width),
                    nn.GELU(),
                    nn.ConvTranspose2d(width, width, 2, stride=2),
                ),
                nn.ConvTranspose2d(width, width, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.fpn = FPN([width] * 4, strides, channels, norm=norm)
        self.strides, self.channels = self.fpn.strides, channels

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C, h, w] -> levels p2 to p6."""
        return self.fpn([module(x) for module, x in zip(self.scale, maps, strict=True)])  # type: ignore[no-any-return]


class LastMap(MultiScale):
    """As ``MultiScale``, but all four modules read the ViT's last map (ViTDet, Figure 2b)."""

    taps: Taps = "last"

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """One map [B, C, h, w] -> levels p2 to p6."""
        (last,) = maps
        return super().forward([last] * 4)


class SimplePyramid(Pyramid):
    """ViTDet's simple feature pyramid: each level made from the last map alone, with LayerNorms (its Figure 2c).

    Args:
        width: channels C of the map; divisible by 4.
        patch_size: its stride in pixels.
        channels: of every level.
    """

    def __init__(self, width: int, patch_size: int = 16, channels: int = 256) -> None:
        super().__init__()
        require(width % 4 == 0, f"the simple pyramid needs a width divisible by 4, but the width is {width}")
        half, quarter = width // 2, width // 4
        finest = [
            nn.ConvTranspose2d(width, half, 2, stride=2),
            ChannelNorm(half, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        ]
        scales: list[tuple[list[nn.Module], int]] = [
            (finest, quarter),
            ([nn.ConvTranspose2d(width, half, 2, stride=2)], half),
            ([], width),
            ([nn.MaxPool2d(2)], width),
        ]
        self.stages = nn.ModuleList(
            nn.Sequential(*scale, *_conv(inputs, channels, 1, "layer"), *_conv(channels, channels, 3, "layer"))
            for scale, inputs in scales
        )
        self._levels(_scaled_strides(patch_size), channels, extra=True)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """One map [B, C, h, w] -> levels p2 to p6."""
        (last,) = maps
        return self._named([stage(last) for stage in self.stages])


class SingleScale(Pyramid):
    """No pyramid: the last map at its own stride, brought to ``channels`` as an FPN of this one level would.

    The heads so stay the same size as with a pyramid, and a comparison moves the levels alone.

    Args:
        width: channels C of the map.
        patch_size: its stride in pixels.
        channels: of the level.
        norm: after both convolutions.
    """

    def __init__(self, width: int, patch_size: int = 16, channels: int = 256, *, norm: Norm = "batch") -> None:
        super().__init__()
        self.stage = nn.Sequential(*_conv(width, channels, 1, norm), *_conv(channels, channels, 3, norm))
        self._levels([patch_size], channels, extra=False, first=4)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """One map [B, C, h, w] -> the level p4."""
        (last,) = maps
        return self._named([self.stage(last)])
