"""COCO-style data sets for training and for prediction, over the ground truth that the analysis reads."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ablate.data.fingerprint import annotated_size
from ablate.data.transforms import ResizeCrop, box_of_polygons, boxes_of_masks, fit, jitter, large_enough
from analysis import GroundTruth
from analysis.coco.masks import run_lengths
from analysis.exceptions import BadInput
from analysis.image_files import UnusableImage, read_annotated

Key = tuple[int, int]  # epoch, index of a training image
# The first number of a seed, for each kind of draw: NumPy's seeds [s, e] and [s, e, 0] are the same.
ORDER, JITTER = 1, 2


@dataclass
class Target:
    """The objects of one training image, in pixels of the square."""

    boxes: Tensor  # f32[n, 4] xyxy
    labels: Tensor  # i64[n], index into GroundTruth.category_id, from 0: no background here
    masks: Tensor | None  # u8[n, side, side], 0 or 1
    image_id: int | str


@dataclass
class Sample:
    """One training image at the top left of the square, zeros elsewhere."""

    image: Tensor  # u8[3, side, side] RGB
    size: tuple[int, int]  # height, width of the content
    target: Target


@dataclass
class EvalSample:
    """One image to predict on."""

    image: Tensor  # u8[3, H, W] RGB, content at the top left, zeros elsewhere
    crop: ResizeCrop  # for the way back to the original image
    image_id: int | str

    def pin_memory(self) -> "EvalSample":
        """For torch's loader."""
        return EvalSample(self.image.pin_memory(), self.crop, self.image_id)


@dataclass
class TrainingSet(Dataset[Sample]):
    """Images with usable objects, jittered; indexed by (epoch, index), which with the seed determine the sample.

    Crowds are no training targets; images without a usable box are left out unless ``keep_without_boxes``
    (detectron2's rule). A box is the annotated one; with ``masks``, one that the crop cuts shrinks to what is left of
    its mask, and an object of which no pixel is left is no target.
    """

    truth: GroundTruth
    folder: Path
    side: int  # of the square, pixels
    scale: tuple[float, float]  # large-scale jitter
    flip: float  # probability
    masks: bool
    seed: int
    keep_without_boxes: bool = False
    images: NDArray[np.int64] = field(init=False)  # [len] index into truth.image_id
    _rows: dict[int, NDArray[np.int64]] = field(init=False, repr=False)  # image -> its usable annotations

    def __post_init__(self) -> None:
        truth, targets = self.truth, usable(self.truth)
        if self.masks:
            check_training_masks(truth)
        if not len(targets):
            raise BadInput(f"{truth.path}: no image has an object for training (crowds and empty boxes do not count)")
        targets = targets[np.argsort(truth.image[targets], kind="stable")]
        images, starts = np.unique(truth.image[targets], return_index=True)
        self._rows = dict(zip(images.tolist(), np.split(targets, starts[1:]), strict=True))
        self.images = np.arange(len(truth.image_id)) if self.keep_without_boxes else images
        check_files(truth, self.folder, self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        number = int(self.images[index])
        rng = np.random.default_rng([JITTER, self.seed, epoch, index])
        image = read_image(self.truth, self.folder, number)
        crop = jitter((image.height, image.width), self.side, self.scale, self.flip, rng)
        rows = self._rows.get(number, np.zeros(0, dtype=np.int64))
        annotated = _clipped(self.truth, rows)
        boxes, masks = crop.boxes(annotated), None
        seen = large_enough(boxes)
        rows, boxes = rows[seen], boxes[seen]
        if self.masks:
            canvas = np.zeros((len(rows), self.side, self.side), dtype=np.uint8)
            occupied, boxes = draw_masks(self.truth, rows, boxes, crop, crop.cuts(annotated[seen]), canvas)
            seen = large_enough(boxes) & occupied
            rows, boxes = rows[seen], boxes[seen]
            masks = torch.from_numpy(canvas if seen.all() else canvas[seen])
        return Sample(
            image=_canvas(image, crop, (self.side, self.side)),
            size=crop.kept,
            target=Target(
                boxes=torch.from_numpy(boxes.astype(np.float32)),
                labels=torch.from_numpy(self.truth.category[rows]),
                masks=masks,
                image_id=self.truth.image_id[number],
            ),
        )


@dataclass
class EvaluationSet(Dataset[EvalSample]):
    """All images of a ground truth in order of their ids, resized and padded."""

    truth: GroundTruth
    folder: Path
    side: int  # of the longer side of the content, pixels
    multiple: int | None = None  # pad to the next multiple of this; None: to the square (the paper)

    def __post_init__(self) -> None:
        check_files(self.truth, self.folder, np.arange(len(self.truth.image_id)))

    def __len__(self) -> int:
        return len(self.truth.image_id)

    def __getitem__(self, index: int) -> EvalSample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = read_image(self.truth, self.folder, index)
        crop = fit((image.height, image.width), self.side)
        height, width = crop.kept
        room = (self.side, self.side)
        if self.multiple is not None:
            room = (-(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple)
        return EvalSample(_canvas(image, crop, room), crop, self.truth.image_id[index])


def read_image(truth: GroundTruth, folder: Path, index: int) -> Image.Image:
    """The RGB image ``index`` of a ground truth, in the orientation in which it was annotated.

    Which formats and pixels are read, and how, is the rule of `analysis.image_files`.

    Raises:
        BadInput: the file is missing, no image that is read, damaged, or of another size than the annotations say.
    """
    try:
        return read_annotated(folder / str(truth.file_name[index]), annotated_size(truth, index))
    except UnusableImage as error:
        which = f"image id {truth.image_id[index]} of {truth.path}"
        raise BadInput(f"{error} ({which})") from None  # of a class that torch can carry out of a worker


def check_training_masks(truth: GroundTruth) -> None:
    """Refuse a training set of which an object has no mask.

    Raises:
        BadInput: an object has no mask; the sentence names the option that trains boxes alone.
    """
    _refuse_without_masks(truth, usable(truth), "objects", "no masks can be learned")


def check_masks(truth: GroundTruth) -> None:
    """Refuse a validation set on which masks cannot be measured: some annotations have one, crowds counted, some not.

    A set without any mask is measured by its boxes alone.
    """
    present = truth.masks.present
    if present.any():
        _refuse_without_masks(truth, np.arange(len(present)), "annotations", "masks cannot be measured")


def _refuse_without_masks(truth: GroundTruth, rows: NDArray[np.int64], what: str, so: str) -> None:
    missing = rows[~truth.masks.present[rows]]
    if len(missing):
        raise BadInput(
            f"{truth.path}: {len(missing):,} of {len(rows):,} {what} have no segmentation (first: annotation "
            f"id {truth.annotation_id[missing[0]]}), so {so}; train boxes alone: --set model.detector.masks=false"
        )


def check_files(truth: GroundTruth, folder: Path, images: NDArray[np.int64]) -> None:
    """Refuse a data set whose image files are not all there, by listing folders instead of asking file by file."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such folder of images")
    present: dict[str, set[str]] = {}
    missing = []
    for index in images.tolist():
        name = truth.file_name[index]
        if not name:
            raise BadInput(f"{truth.path}: image id {truth.image_id[index]} has no file_name; add it")
        parent, base = os.path.split(os.path.join(folder, name))
        if parent not in present:
            present[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if base not in present[parent]:
            missing.append(name)
    if missing:
        raise BadInput(
            f"{folder}: {len(missing):,} of {len(images):,} images of {truth.path} are missing (first: {missing[0]}); "
            "check the images folder"
        )


def usable(truth: GroundTruth) -> NDArray[np.int64]:
    """The annotations that can be learned: no crowds, and boxes of at least a pixel inside their image."""
    return np.flatnonzero(~truth.crowd & large_enough(_clipped(truth)))


def _clipped(truth: GroundTruth, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
    """Boxes f64[n, 4] xyxy of annotations, clipped to their image where its size is known."""
    boxes = truth.box[rows].copy()
    boxes[:, 2:] += boxes[:, :2]
    size = truth.image_size[truth.image[rows]].astype(np.float64)
    size[size < 0] = np.inf
    return np.clip(boxes, 0, size[:, [1, 0, 1, 0]])


def draw_masks(
    truth: GroundTruth,
    rows: NDArray[np.int64],
    boxes: NDArray[np.float64],
    crop: ResizeCrop,
    cut: NDArray[np.bool_],
    canvas: NDArray[np.uint8],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Draw the masks of annotations, and tighten the boxes of those that the crop cuts.

    Polygons are rasterised in the square, with their sub-pixel corners; run lengths move by the nearest pixel.

    Args:
        truth: with the annotations.
        rows: i64[n] of the annotations.
        boxes: f64[n, 4] xyxy in the square.
        crop: how the image lands in the square.
        cut: bool[n], which of them the crop cuts.
        canvas: u8[n, height, width] of zeros, at least as large as what the crop keeps; is drawn on.

    Returns:
        bool[n], whether a pixel of the object is left, and f64[n, 4] its box.
    """
    occupied, boxes = np.zeros(len(rows), dtype=np.bool_), boxes.copy()
    for number, row in enumerate(rows.tolist()):
        written, mask = truth.masks.segmentation(row), canvas[number]
        if isinstance(written, dict):
            occupied[number] = crop.draw_mask(decode_rle(written), mask)
            left = boxes_of_masks(mask[None])[0] if cut[number] else None
        else:
            polygons = [crop.polygon(points) for points in written]
            occupied[number] = draw_polygons(polygons, crop.kept, mask)
            left = box_of_polygons(polygons, crop.kept) if cut[number] else None
        if left is not None:
            boxes[number, :2] = np.maximum(boxes[number, :2], left[:2])
            boxes[number, 2:] = np.minimum(boxes[number, 2:], left[2:])
    return occupied, boxes


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.uint8]:
    """COCO's compressed RLE -> u8[height, width], 0 or 1 (pycocotools' own decoder warns under NumPy 2)."""
    height, width = rle["size"]
    runs = run_lengths(rle["counts"].decode())
    return np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(width, height).T


def draw_polygons(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int], canvas: NDArray[np.uint8]) -> bool:
    """Draw the union of polygons by COCO's rule -> whether it has a pixel.

    Args:
        polygons: f64[corners, 2] x, y each; they may reach beyond ``size``.
        size: height and width of what is drawn.
        canvas: u8[height, width] of zeros, at least of that size; pixels of the union become 1.
    """
    from pycocotools import mask

    height, width = size
    rle = mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width)
    runs = run_lengths((rle[0] if len(rle) == 1 else mask.merge(rle))["counts"].decode())
    ends = runs.cumsum()
    if len(runs) < 2:
        return False
    # Pixels are counted column by column: only the columns that have some are unfolded.
    first = int(ends[0]) // height
    last = -(-int(ends[1::2][-1]) // height)
    within = np.diff(ends.clip(first * height, last * height), prepend=first * height)
    columns = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, within).reshape(last - first, height)
    canvas[:height, first:last] = columns.T
    return True


def _canvas(image: Image.Image, crop: ResizeCrop, room: tuple[int, int]) -> Tensor:
    """The part of an RGB image inside the crop -> u8[3, *room], at the top left."""
    canvas = np.zeros((3, *room), dtype=np.uint8)
    crop.draw_image(image, canvas)
    return torch.from_numpy(canvas)
