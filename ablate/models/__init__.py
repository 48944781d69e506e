"""Plain ViT backbones and feature pyramids in pure torch; imports nothing of the project.

``ViT`` turns images into maps of one stride, a pyramid turns those maps into the levels that a detector reads.
"""

from ablate.models.pyramid import FPN, LastMap, MultiScale, Pyramid, SimplePyramid, SingleScale
from ablate.models.vit import ViT

__all__ = ["FPN", "LastMap", "MultiScale", "Pyramid", "SimplePyramid", "SingleScale", "ViT"]
