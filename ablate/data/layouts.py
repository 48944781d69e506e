"""Find the data sets of a data YAML in a folder with COCO annotations, in the layouts that common tools write.

Annotations are found where tools put them: COCO and CVAT in ``annotations/``, Roboflow as ``_annotations.coco.json``
beside the images of each split, FiftyOne as ``labels.json`` beside ``data/``, Label Studio as ``result.json`` beside
``images/``. What a set is for is read from its path (train; val, valid, validation, dev; test). The folder of its
images is the one that has the files it names. Where two answers are possible, none is taken: the sentence names both.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ablate.config.yaml import scalar
from ablate.data.sources import ROBOFLOW_FILE, Files, other_format
from ablate.data.subset import AnnotationRecords, order_drawn
from analysis.exceptions import BadInput
from analysis.io import read_bytes

DEEPEST = 3  # folders below the one that is named
OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")  # of COCO's own annotations
SPLITS = {
    "train": re.compile(r"(?<![a-z])train(ing)?(?![a-z])"),
    "validation": re.compile(r"(?<![a-z])(val(id|idation)?|dev)(?![a-z])"),
    "test": re.compile(r"(?<![a-z])test(-dev|ing)?(?![a-z])"),
}
UNNAMED = "unnamed"
SAMPLED = 50  # files of a set that are looked for
MOST_NAMED = 3  # files in a sentence
FORMS = "TRAIN.json TRAIN_IMAGES VALIDATION.json VALIDATION_IMAGES, or one set with --hold-out"


class _Image(msgspec.Struct):
    file_name: Any = ""


class _Document(msgspec.Struct):
    images: list[_Image]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


@dataclass(frozen=True)
class FoundSet:
    """A set of annotated images, and the split that its path names."""

    split: str  # train, validation, test or unnamed
    annotations: Path
    names: list[str]  # of the files of its images


def find_sets(root: Path) -> list[FoundSet]:
    """The data sets in a folder.

    Raises:
        BadInput: there is no such folder, or no COCO annotations in it.
    """
    if not root.is_dir():
        raise BadInput(f"{root}: there is no such folder; give the folder of a data set")
    if not any(root.iterdir()):
        raise BadInput(f"{root}: is empty; give the folder of a data set")
    found = [FoundSet(_split_of(path, root), path, names) for path, names in _candidates(root)]
    if found:
        return found
    other = other_format(root)
    if other:
        raise BadInput(f"{root}: is {other}; convert it to COCO's format first")
    raise BadInput(
        f"{root}: has no COCO annotations: no JSON file with images, annotations and categories in it or its "
        f"subfolders (up to {DEEPEST} levels)"
    )


def chosen_sets(root: Path, sets: Sequence[FoundSet], validation: str = "") -> dict[str, Files]:
    """The training set and, if there is one, the validation set.

    Args:
        root: the folder, for sentences.
        sets: that are in it.
        validation: the split to validate on; empty for the one named validation.

    Raises:
        BadInput: two sets may be meant, there is none to train on, or the images of one cannot be found.
    """
    by_split: dict[str, list[FoundSet]] = {}
    for one in sets:
        by_split.setdefault(one.split, []).append(one)
    for split, several in by_split.items():
        if len(several) > 1:
            what = (
                "files whose paths do not contain train, val or test"
                if split == UNNAMED
                else f"sets that may be {split}"
            )
            named = " and ".join(str(one.annotations) for one in several[:MOST_NAMED])
            more = f" and {len(several) - MOST_NAMED} more" if len(several) > MOST_NAMED else ""
            raise BadInput(f"{root}: has {len(several)} {what}: {named}{more}; give the files instead: {FORMS}")
    if "train" not in by_split and list(by_split) == [UNNAMED]:
        by_split = {"train": by_split[UNNAMED]}
    if "train" not in by_split:
        there = ", ".join(f"{_called(split)} ({found[0].annotations})" for split, found in by_split.items())
        raise BadInput(f"{root}: has no training set; there is {there}; give the files instead")
    wanted = validation or "validation"
    if validation and (validation not in by_split or validation == "train"):
        there = ", ".join(split for split in by_split if split != "train") or "none beside train"
        raise BadInput(f"--validation {validation}: there is no such set in {root}; there is {there}")
    used = {"train": by_split["train"]} | ({"validation": by_split[wanted]} if wanted in by_split else {})
    return {name: _with_images(one, root) for name, (one,) in used.items()}


def hold_out_lists(files: Files, share: float, seed: int) -> tuple[str, str]:
    """Two lists of images, for training and validation; the draw depends only on their ids and the seed.

    Args:
        files: of the set.
        share: of its images that is held out, between 0 and 1.
        seed: of the drawing.

    Raises:
        BadInput: damaged annotations, or no image is left on one side.
    """
    whole = AnnotationRecords.read(files.annotations)
    unique = len(set(whole.names)) == len(whole.names) and all(whole.names)
    entries = whole.names if unique else whole.ids
    held = set(order_drawn(whole.ids, seed)[: round(share * len(whole.ids))])
    if not held or len(held) == len(whole.ids):
        raise BadInput(
            f"{files.annotations}: a share of {share:g} of its {len(whole.ids):,} images leaves one of the two sets "
            "empty; choose another share"
        )
    first, second = (
        "".join(f"{entry}\n" for entry, id_ in zip(entries, whole.ids, strict=True) if (id_ in held) == out)
        for out in (False, True)
    )
    return first, second


def data_yaml(sets: Mapping[str, Files], lists: Mapping[str, Path], target: Path, origin: str) -> str:
    """The text of a data YAML; paths below its folder are relative to it.

    Args:
        sets: train and validation.
        lists: of images, by the name of the set; empty for whole sets.
        target: path of the YAML file.
        origin: where the sets come from, for the first line.
    """
    lines = [
        f"# Data of {origin}; paths are relative to this file. Use it: --data {shlex.quote(target.name)}",
        "# Fewer images: limit: 500 (the first 500), with limit_seed: 0 (random), or limit_list: FILE (one name per "
        "line).",
    ]
    for name, files in sets.items():
        lines += [f"{name}:", "  type: coco"]
        pairs = {"annotations": files.annotations, "images": files.images}
        pairs |= {"limit_list": lists[name]} if name in lists else {}
        lines += [f"  {key}: {scalar(_from(path, target.parent))}" for key, path in pairs.items()]
    return "".join(line + "\n" for line in lines)


def _from(path: Path, folder: Path) -> str:
    """A path as it is found from a folder: relative where it lies below, else absolute."""
    whole, place = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return whole.relative_to(place).as_posix() if whole.is_relative_to(place) else str(whole)


def _called(split: str) -> str:
    return "a set without a name" if split == UNNAMED else split


def _candidates(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The files that hold COCO annotations, and the names of their images."""
    for folder, folders, names in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEEPEST else []
        found = sorted(name for name in names if name.lower().endswith(".json") and not name.startswith("."))
        found = [name for name in found if not name.startswith(OTHER_TASKS)]
        for name in found:
            path = Path(folder, name)
            content = b""
            try:
                content = read_bytes(path)
                document = msgspec.json.decode(content, type=_Document)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadInput):
                is_list = content.lstrip().startswith(b"[")  # of results
                if not is_list and (name == ROBOFLOW_FILE or name.startswith("instances_")):
                    raise BadInput(f"{path}: is not a JSON document with images, annotations and categories") from None
                continue
            yield path, [str(image.file_name or "").replace("\\", "/") for image in document.images]


def _split_of(path: Path, root: Path) -> str:
    """The split that the path of a file names; the part of the path nearest to the file counts."""
    for part in reversed(path.relative_to(root).with_suffix("").parts):
        said = [split for split, pattern in SPLITS.items() if pattern.search(part.lower())]
        if len(said) == 1:
            return said[0]
    return UNNAMED


def _with_images(found: FoundSet, root: Path) -> Files:
    """A file of annotations and the folder that contains its images.

    Raises:
        BadInput: the images are in none of the usual folders.
    """
    path, parent = found.annotations, found.annotations.parent
    if not found.names:
        raise BadInput(f"{path}: names no image; remove the file from the folder")
    sampled = found.names[:: max(1, len(found.names) // SAMPLED)]
    hint = path.stem.partition("_")[2]  # of instances_train2017
    parts = [hint, found.split, *(["val", "valid"] if found.split == "validation" else []), parent.name]
    folders = [parent, parent / "data", parent / "images", root, root / "images", root / "data"]
    folders += [base / part for part in parts if part for base in (root / "images", root, root / "data")]
    folders += [parent.parent / "images", parent.parent] if parent != root else []
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    counts = [sum((folder / name).is_file() for name in sampled) for folder in there]
    most = max(counts, default=0)
    having = {os.path.realpath(folder): folder for folder, count in zip(there, counts, strict=True) if count == most}
    if most and len(having) > 1:
        places = " and ".join(str(folder) for folder in having.values())
        raise BadInput(f"{path}: its images may be those in {places}; give the files instead: {FORMS}")
    if most:  # missing images are reported by the check
        return Files(path, next(iter(having.values())))
    looked = ", ".join(os.path.relpath(folder, root) for folder in there)
    raise BadInput(f"{path}: its images are not here: {sampled[0]!r} is in none of these folders of {root}: {looked}")
