"""ResNet-50 and ResNet-101, torchvision's, as a backbone of four maps."""

from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet50, resnet101


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
