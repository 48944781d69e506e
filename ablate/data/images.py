"""Images without annotations, to pre-train on: a folder of them, its digest, and random crops by seed and place."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ablate.config.schema import Folder, Shapes
from ablate.data.coco import Key
from ablate.data.fingerprint import images_digest, look, read_data_set, refuse
from ablate.data.sources import shapes_folder
from ablate.data.subset import chosen
from ablate.runs.folder import Workspace
from analysis.exceptions import BadInput
from analysis.image_files import SUFFIXES, UnusableImage, read_rgb

KNOWN_SUFFIXES = tuple(sorted(suffix for suffixes in SUFFIXES.values() for suffix in suffixes))
CROP, NOISE = 3, 4  # the first number of a seed, for each kind of draw; see `ablate.data.coco`
RATIO = (3 / 4, 4 / 3)  # width / height of a crop
Box = tuple[int, int, int, int]  # left, top, width, height in pixels
ROOM = 2**28  # bytes: small sets stay in memory


@dataclass(frozen=True)
class ImageFolder:
    """The files of a source, by name, and the digest by which it enters an identity."""

    folder: Path
    names: tuple[str, ...]  # relative to the folder
    digest: str


def find_images(source: Shapes | Folder, workspace: Workspace, *, keep: bool = True) -> ImageFolder:
    """The images of a source, all looked at (`ablate.data.fingerprint`).

    The digest of a folder is of names, sizes in bytes and contents of its images; that of the embedded data set is the
    one by which it enters every identity.

    Args:
        source: of the images; the embedded data set is made where it is missing.
        workspace: above `results/`.
        keep: store the results for the images in the cache.

    Raises:
        BadInput: there is no such folder, no image in it, or one that cannot be used.
    """
    if isinstance(source, Shapes):
        data = read_data_set(source, workspace, keep=keep)
        return ImageFolder(data.files.images, tuple(map(str, data.truth.file_name)), data.digest)
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such folder of images")
    listed = sorted(_listed(folder))
    if not listed:
        raise BadInput(
            f"{folder}: contains no image, and neither do its subfolders; known types are {', '.join(KNOWN_SUFFIXES)}"
        )
    listed = [listed[index] for index in chosen(listed, (), source, folder)]
    found = look(folder, listed, workspace, keep=keep)
    refuse(
        [(name, facts) for name, facts in found.items() if isinstance(facts, UnusableImage)], len(listed), str(folder)
    )
    return ImageFolder(folder, tuple(listed), images_digest(listed, found))


def is_available(source: Shapes | Folder, workspace: Workspace) -> bool:
    """Whether a source can be read without making anything."""
    return isinstance(source, Folder) or shapes_folder(workspace).exists()


def _listed(folder: Path) -> list[str]:
    """Names, with slashes, of all images below a folder."""
    found: list[str] = []
    visited: set[str] = set()

    def refuse_folder(error: OSError) -> None:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); repair or remove it") from None

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse_folder):
        place = os.path.realpath(parent)
        if place in visited:  # links may lead round in a circle
            folders.clear()
            continue
        visited.add(place)
        found += [
            Path(parent, name).relative_to(folder).as_posix()
            for name in names
            if name.lower().endswith(KNOWN_SUFFIXES) and not name.startswith(".")
        ]
    return found


@dataclass
class Crop:
    """One training crop."""

    image: Tensor  # u8[3, side, side] RGB
    noise: Tensor  # f32[n], uniform; the patches with the smallest values are visible


@dataclass
class Crops:
    """The crops of one forward pass of one process."""

    images: Tensor  # u8[B, 3, side, side]
    noise: Tensor  # f32[B, n]

    def to(self, device: torch.device) -> "Crops":
        """The batch on a device; from pinned memory without waiting."""
        return Crops(self.images.to(device, non_blocking=True), self.noise.to(device, non_blocking=True))

    def pin_memory(self) -> "Crops":
        """For torch's loader."""
        return Crops(self.images.pin_memory(), self.noise.pin_memory())


def stacked(crops: Sequence[Crop]) -> Crops:
    """A batch."""
    return Crops(torch.stack([crop.image for crop in crops]), torch.stack([crop.noise for crop in crops]))


@dataclass
class CropSet(Dataset[Crop]):
    """Random crops of images; indexed by (epoch, index), which with the seed determine the crop and its noise."""

    files: ImageFolder
    side: int  # of the crops, pixels
    patches: int  # of a crop
    scale: tuple[float, float]  # part of the area
    flip: float  # probability
    seed: int
    room: int = ROOM  # bytes left for decoded images, which are not decoded again
    _decoded: dict[int, Image.Image] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.files.names)

    def __getitem__(self, key: Key) -> Crop:
        epoch, index = key
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = self._decode(index)
        rng = np.random.default_rng([CROP, self.seed, epoch, index])
        box = random_box((image.width, image.height), self.scale, rng)
        return self._crop(image, box, flip=rng.uniform() < self.flip, noise_seed=[NOISE, self.seed, epoch, index])

    def _decode(self, index: int) -> Image.Image:
        if index in self._decoded:
            return self._decoded[index]
        try:
            image, _ = read_rgb(self.files.folder / self.files.names[index])
        except UnusableImage as error:
            raise BadInput(str(error)) from None  # of a class that torch can carry out of a worker
        size = 3 * image.width * image.height
        if size <= self.room:
            self.room -= size
            self._decoded[index] = image
        return image

    def whole(self, index: int) -> Crop:
        """The largest centred square of an image, with the same noise every time, for the gallery."""
        image = self._decode(index)
        short = min(image.size)
        box = (image.width - short) // 2, (image.height - short) // 2, short, short
        return self._crop(image, box, flip=False, noise_seed=[NOISE, self.seed, index])

    def _crop(self, image: Image.Image, box: Box, *, flip: bool, noise_seed: list[int]) -> Crop:
        left, top, width, height = box
        image = image.crop((left, top, left + width, top + height))
        pixels = np.asarray(image.resize((self.side, self.side), Image.Resampling.BICUBIC))
        if flip:
            pixels = pixels[:, ::-1]
        noise = np.random.default_rng(noise_seed).random(self.patches, dtype=np.float32)
        return Crop(torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous(), torch.from_numpy(noise))


def random_box(size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """The box of a random crop of an image of size (width, height).

    As torchvision's ``RandomResizedCrop`` draws it: a part of the area, uniform in ``scale``, and a ratio of the sides,
    log-uniform in ``RATIO``; after ten that do not fit, the middle with the nearest ratio.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return int(rng.integers(width - wide + 1)), int(rng.integers(height - tall + 1)), wide, tall
    wide, tall = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - wide) // 2, (height - tall) // 2, wide, tall
