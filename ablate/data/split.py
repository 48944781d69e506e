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
from analysis.io import read_bytes

Id = int | float | str


class _Image(msgspec.Struct):
    id: Id


class _Annotation(msgspec.Struct):
    image_id: Id


def hold_out(files: Files, share: float, folder: Path, *, write: bool = True) -> tuple[Coco, ...]:
    """The training set without the images that are held out, and those images; which they are follows from their ids.

    Args:
        files: of the training set.
        share: of its images that is held out, between 0 and 1.
        folder: above the folder that is made for the two files.
        write: make them where they are missing; without it, nothing is returned then.

    Raises:
        BadInput: damaged annotations, nothing left on one side, or the folder cannot be written.
    """
    read_ground_truth(files.annotations)  # which refuses damaged ones in words
    content = read_bytes(files.annotations)
    place = folder / f"held-out-{hashlib.sha256(content).hexdigest()[:12]}-{share:g}"
    parts = place / "train.json", place / "held-out.json"
    if not all(part.exists() for part in parts):
        if not write:
            return ()
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        records = msgspec.json.decode(document["images"], type=list[msgspec.Raw])
        annotations = msgspec.json.decode(document["annotations"], type=list[msgspec.Raw])
        image_ids = [_text(msgspec.json.decode(image, type=_Image).id) for image in records]
        owners = [_text(msgspec.json.decode(one, type=_Annotation).image_id) for one in annotations]
        held = set(sorted(image_ids, key=_drawn)[: round(share * len(records))])
        if not held or len(held) == len(records) or not held.intersection(owners) or held.issuperset(owners):
            raise BadInput(
                f"{files.annotations}: a share of {share:g} of its {len(records):,} images leaves no image with an "
                "object on one side; choose another share"
            )
        try:
            place.mkdir(parents=True, exist_ok=True)
            for part, out in zip(parts, (False, True), strict=True):
                kept: dict[str, Any] = {
                    **document,
                    "images": [image for image, id_ in zip(records, image_ids, strict=True) if (id_ in held) == out],
                    "annotations": [one for one, id_ in zip(annotations, owners, strict=True) if (id_ in held) == out],
                }
                with replacing(part) as file:
                    file.write(msgspec.json.encode(kept))
        except OSError as error:
            raise BadInput(f"{place}: cannot be written ({error.strerror}); choose another --root") from None
    images = str(files.images.absolute())
    return tuple(Coco(annotations=str(part.absolute()), images=images) for part in parts)


def _text(image_id: Id) -> str:
    """An id as one text, however it is written."""
    return str(int(image_id)) if isinstance(image_id, float) and image_id.is_integer() else str(image_id)


def _drawn(image_id: str) -> bytes:
    """A random order of images that their place in the file does not change."""
    return hashlib.sha256(f"held out {image_id}".encode()).digest()
