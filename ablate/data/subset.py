"""A subset of a data set: the first N images, N images drawn with a seed, or the images of a list.

Which images are drawn follows from the seed and from their ids (or names, where there are no ids) alone, not from their
order in the file, and a smaller number is a part of a larger one. The order of the images in the file stays.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ablate.config.schema import Coco, Folder, Shapes
from ablate.runs.folder import replacing
from analysis.exceptions import BadInput
from analysis.files import read_whole
from analysis.io import read_bytes

Id = int | float | str
MOST_BYTES = 2**28  # of a list


class _Image(msgspec.Struct):
    id: Id
    file_name: Any = ""


class _Annotation(msgspec.Struct):
    image_id: Id


def is_whole(source: Shapes | Coco | Folder) -> bool:
    """Whether all images of a data set are used."""
    return source.limit == "all" and source.limit_list == "none"


def chosen(names: Sequence[str], ids: Sequence[str], source: Shapes | Coco | Folder, where: Path) -> list[int]:
    """The indices of the images that are used, in rising order.

    Args:
        names: of the files of all images.
        ids: of the images; empty where they have none.
        source: the data set with its limits.
        where: the file or folder that has them, for a sentence.

    Raises:
        BadInput: there are too few images, or the list cannot be read, is empty or names an image that is not there.
    """
    found = list(range(len(names))) if source.limit_list == "none" else _listed(names, ids, source, where)
    if source.limit == "all":
        return found
    if source.limit > len(found):
        there = "has" if source.limit_list == "none" else f"and the list {source.limit_list} have"
        raise BadInput(
            f"{where}: {there} {len(found):,} images, not {source.limit:,}; set limit to all, or to at most "
            f"{len(found):,}"
        )
    if source.limit_seed == "none":
        return found[: source.limit]
    keys = ids or names
    place = {keys[index]: index for index in found}
    return sorted(place[key] for key in order_drawn(list(place), source.limit_seed)[: source.limit])


def subset_file(annotations: Path, source: Shapes | Coco, folder: Path, name: str) -> Path:
    """A file with the annotations of the images that are used; made where it is missing.

    Args:
        annotations: of all images.
        source: the data set with its limits.
        folder: of the file that is made.
        name: of the file, without its ending and without the label of the subset.

    Raises:
        BadInput: the annotations are damaged, or see `chosen`.
        OSError: the file cannot be written.
    """
    part = folder / f"{name}_{_label(source)}.json"
    if not part.exists():
        whole = AnnotationRecords.read(annotations)
        content = whole.part(chosen(whole.names, whole.ids, source, annotations))
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(part) as file:
            file.write(content)
    return part


class AnnotationRecords(NamedTuple):
    """A file of annotations, record by record and as it is written, to make parts of it."""

    document: dict[str, msgspec.Raw]
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    ids: list[str]  # of the images
    names: list[str]  # of their files; empty where there is none
    owners: list[str]  # of the annotations: ids of images

    @classmethod
    def read(cls, path: Path) -> "AnnotationRecords":
        """Read the records of a file.

        Raises:
            BadInput: it cannot be read, or is damaged.
        """
        from analysis import read_ground_truth  # the command line reads configs without NumPy

        read_ground_truth(path)  # which refuses damaged ones in words
        document = msgspec.json.decode(read_bytes(path), type=dict[str, msgspec.Raw])
        images = msgspec.json.decode(document["images"], type=list[msgspec.Raw])
        annotations = msgspec.json.decode(document["annotations"], type=list[msgspec.Raw])
        heads = [msgspec.json.decode(image, type=_Image) for image in images]
        return cls(
            document,
            images,
            annotations,
            ids=[_text(head.id) for head in heads],
            names=[str(head.file_name).replace("\\", "/") if head.file_name else "" for head in heads],
            owners=[_text(msgspec.json.decode(one, type=_Annotation).image_id) for one in annotations],
        )

    def part(self, indices: Iterable[int]) -> bytes:
        """The content of the file with only these images and their annotations."""
        images = list(indices)
        kept = {self.ids[index] for index in images}
        annotations = [one for one, owner in zip(self.annotations, self.owners, strict=True) if owner in kept]
        changed = {"images": [self.images[index] for index in images], "annotations": annotations}
        return msgspec.json.encode(self.document | changed)


def _text(image_id: Id) -> str:
    """An id as one text, however it is written."""
    return str(int(image_id)) if isinstance(image_id, float) and image_id.is_integer() else str(image_id)


def _listed(names: Sequence[str], ids: Sequence[str], source: Shapes | Coco | Folder, where: Path) -> list[int]:
    """The indices of the images that a list names, in rising order."""
    path = Path(source.limit_list).expanduser()
    place = {key: index for index, key in enumerate(ids)} | {name: index for index, name in enumerate(names)}
    found = set()
    for number, line in enumerate(_read_list(path).splitlines(), 1):
        entry = line.strip().replace("\\", "/")
        if entry and entry not in place:
            raise BadInput(
                f"{path}: line {number}: {where} has no image {entry!r}; write a file_name or an id of that file in "
                "each line"
            )
        if entry:
            found.add(place[entry])
    if not found:
        raise BadInput(f"{path}: lists no image; write a file_name or an id in each line, or set limit_list to none")
    return sorted(found)


def _read_list(path: Path) -> str:
    try:
        return read_whole(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(
            f"{path}: is not UTF-8 text; the list must have the name or the id of an image in each line"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: the list of images cannot be read ({error.strerror or error})") from None


def _label(source: Shapes | Coco) -> str:
    """A label that tells the subsets of a data set apart."""
    parts = []
    if source.limit_list != "none":
        text = _read_list(Path(source.limit_list).expanduser())
        parts.append(f"list_{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    if source.limit != "all":
        drawn = source.limit_seed != "none"
        parts.append(f"{source.limit}_by_{source.limit_seed}" if drawn else f"first_{source.limit}")
    return "_".join(parts)


def order_drawn(images: Sequence[str], seed: int) -> list[str]:
    """Ids or names of images in a random order that does not depend on their order in the file."""
    return sorted(images, key=lambda image: hashlib.sha256(f"limit {seed} {image}".encode()).digest())
