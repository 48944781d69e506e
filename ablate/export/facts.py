"""What a config for another framework must know of the data beside the run's config."""

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ablate.config import Coco, RunConfig, Shapes
from ablate.data.coco import usable
from ablate.data.sources import Files, locate
from analysis import GroundTruth, read_ground_truth
from analysis.refusal import BadInput

COCO_TRAIN = "instances_train2017.json"
COCO_IMAGES = {"drop": 117_266, "keep": 118_287}  # of train2017, by `data.images_without_boxes`
COCO_CLASSES = 80


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of the data of a run.

    Attributes:
        train: files of the training set.
        validation: files of the validation set.
        images: that are trained on.
        classes: foreground categories.
        masks_as: polygons, or bitmasks where an object that is no crowd is given as run lengths.
        read: whether the annotations were read; else these are COCO's known numbers.
    """

    train: Files
    validation: Files
    images: int
    classes: int
    masks_as: Literal["polygon", "bitmask"] = "polygon"
    read: bool = True


def facts_of(config: RunConfig, root: Path) -> Facts:
    """Read the training annotations of a config; COCO's need not be on this machine.

    Raises:
        BadInput: other data is not here.
    """
    train, validation = (_files(source, root) for source in (config.data.train, config.data.validation))
    if train.annotations.is_file():
        return facts_from(config, read_ground_truth(train.annotations), train, validation)
    if train.annotations.name != COCO_TRAIN:
        raise BadInput(
            f"{train.annotations}: no such file of annotations, and what is exported depends on its images and "
            "categories; name the data with --data"
        )
    images = COCO_IMAGES[config.data.images_without_boxes]
    return Facts(train=train, validation=validation, images=images, classes=COCO_CLASSES, read=False)


def facts_from(config: RunConfig, truth: GroundTruth, train: Files, validation: Files) -> Facts:
    """The facts of a training set that is read already."""
    rows = usable(truth)
    images = len(np.unique(truth.image[rows]))
    if config.data.images_without_boxes == "keep":
        images = len(truth.image_id)
    return Facts(
        train=train,
        validation=validation,
        images=images,
        classes=len(truth.category_id),
        masks_as="bitmask" if truth.masks.in_run_lengths[rows].any() else "polygon",
    )


def _files(source: Shapes | Coco, root: Path) -> Files:
    """The files of a source, whether they are here or not; the embedded data set is made."""
    if isinstance(source, Coco):
        return Files(Path(source.annotations), Path(source.images))
    return locate(source, root)
