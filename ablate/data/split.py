"""A part of a training set that is held out of training, to choose settings on: two files of annotations."""

import hashlib
from pathlib import Path

from ablate.config.schema import Coco
from ablate.data.sources import Files
from ablate.data.subset import AnnotationRecords
from ablate.runs.folder import replacing
from analysis.exceptions import BadInput
from analysis.io import read_bytes


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
    content = read_bytes(files.annotations)
    place = folder / f"held-out-{hashlib.sha256(content).hexdigest()[:12]}-{share:g}"
    parts = place / "train.json", place / "held-out.json"
    if not all(part.exists() for part in parts):
        if not write:
            return ()
        whole = AnnotationRecords.read(files.annotations)
        held = set(sorted(whole.ids, key=_drawn)[: round(share * len(whole.ids))])
        if not held or len(held) == len(whole.ids) or not held.intersection(whole.owners) or held >= set(whole.owners):
            raise BadInput(
                f"{files.annotations}: a share of {share:g} of its {len(whole.ids):,} images leaves one of the two "
                "sets without an object; choose another share"
            )
        try:
            place.mkdir(parents=True, exist_ok=True)
            for part, out in zip(parts, (False, True), strict=True):
                with replacing(part) as file:
                    file.write(whole.part(index for index, id_ in enumerate(whole.ids) if (id_ in held) == out))
        except OSError as error:
            raise BadInput(f"{place}: cannot be written ({error.strerror}); choose another --root") from None
    images = str(files.images.absolute())
    return tuple(Coco(annotations=str(part.absolute()), images=images) for part in parts)


def _drawn(image_id: str) -> bytes:
    """A random order of images that does not depend on their order in the file."""
    return hashlib.sha256(f"held out {image_id}".encode()).digest()
