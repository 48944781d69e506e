"""A part of a training set that is held out of training, to choose settings on: two files of annotations."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from ablate.config.schema import Coco
from ablate.data.sources import Files
from ablate.runs.folder import replacing
from analysis import read_ground_truth
from analysis.exceptions import BadInput


class _Id(msgspec.Struct):
    id: int | str


class _OfImage(msgspec.Struct):
    image_id: int | str


def hold_out(files: Files, share: float, folder: Path) -> tuple[Coco, Coco]:
    """The training set without the images that are held out, and those images; which they are follows from their ids.

    Args:
        files: of the training set.
        share: of its images that is held out, between 0 and 1.
        folder: above the folder that is made for the two files.

    Raises:
        BadInput: damaged annotations, nothing left on one side, or the folder cannot be written.
    """
    truth = read_ground_truth(files.annotations)
    place = folder / f"held-out-{truth.digest[:12]}-{share:g}"
    parts = place / "train.json", place / "held-out.json"
    if not all(part.exists() for part in parts):
        document = msgspec.json.decode(files.annotations.read_bytes(), type=dict[str, msgspec.Raw])
        images = msgspec.json.decode(document["images"], type=list[msgspec.Raw])
        annotations = msgspec.json.decode(document["annotations"], type=list[msgspec.Raw])
        image_ids = [msgspec.json.decode(image, type=_Id).id for image in images]
        owners = [msgspec.json.decode(one, type=_OfImage).image_id for one in annotations]
        held = set(sorted(image_ids, key=_drawn)[: round(share * len(images))])
        if not held or len(held) == len(images) or not held.intersection(owners) or held.issuperset(owners):
            raise BadInput(
                f"{files.annotations}: a share of {share:g} of its {len(images):,} images leaves no image with an "
                "object on one side; choose another share"
            )
        try:
            place.mkdir(parents=True, exist_ok=True)
            for part, out in zip(parts, (False, True), strict=True):
                kept: dict[str, Any] = {
                    **document,
                    "images": [image for image, id_ in zip(images, image_ids, strict=True) if (id_ in held) == out],
                    "annotations": [one for one, id_ in zip(annotations, owners, strict=True) if (id_ in held) == out],
                }
                with replacing(part) as file:
                    file.write(msgspec.json.encode(kept))
        except OSError as error:
            raise BadInput(f"{place}: cannot be written ({error.strerror}); choose another --root") from None
    train, held_out = (Coco(annotations=str(part.absolute()), images=str(files.images.absolute())) for part in parts)
    return train, held_out


def _drawn(image_id: int | str) -> bytes:
    """A random order of images that their place in the file does not change."""
    return hashlib.sha256(f"held out {image_id}".encode()).digest()
