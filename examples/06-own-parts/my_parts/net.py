"""A backbone: four maps of strides 4, 8, 16 and 32, which the FPN reads."""

from itertools import pairwise

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Convolutions of stride 2.

    Args:
        width: channels of the finest map; each further one has twice as many.
        stem: plain or double.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, width: int, stem: str) -> None:
        super().__init__()
        self.channels = tuple(width * 2**level for level in range(4))
        first = [nn.Conv2d(3, width, 4, stride=4)]
        if stem == "double":
            first = [nn.Conv2d(3, width, 3, stride=2, padding=1), nn.Conv2d(width, width, 3, stride=2, padding=1)]
        self.stem = nn.Sequential(*first, nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 3, stride=2, padding=1), nn.BatchNorm2d(coarse), nn.ReLU())
            for fine, coarse in pairwise(self.channels)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images f[B, 3, H, W] -> four maps, fine to coarse."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def build(image_size: int, width: int = 16, stem: str = "plain") -> nn.Module:
    """What the entry point names; the arguments behind `image_size` are `model.backbone.options` of a config."""
    return SmallNet(width, stem)
