"""Find the files of a data set that a config or a command line names; the embedded set and subsets are created."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.config.foreign import NOTHING, AdoptedConfig, AnyConfig, validation_of
from ablate.config.schema import Coco, Data, Shapes
from ablate.config.yaml import anchor_data, load_config, parse, read_yaml
from ablate.data.subset import is_whole, subset_file
from ablate.runs.folder import Workspace
from analysis.exceptions import BadInput

ROBOFLOW_FILE = "_annotations.coco.json"  # beside the images of each split
ROBOFLOW_SPLITS = {"train": ("train",), "val": ("valid", "val")}
FORMS = "shapes, COCO_ROOT, FILE.yaml, or TRAIN.json TRAIN_IMAGES VALIDATION.json VALIDATION_IMAGES"


@dataclass(frozen=True)
class Files:
    """A data set on disk."""

    annotations: Path
    images: Path


def data_from(arguments: Sequence[str]) -> Data:
    """The data set that ``--data`` names: ``shapes``, a COCO root, a YAML file, or four paths.

    The file holds ``train`` and ``validation`` as in the ``data`` of a run's config, or is such a config.

    A COCO root holds ``annotations/instances_train2017.json`` (or ``instances_train.json``) and its ``val`` twin, and
    the images in ``train2017`` (or ``train``, ``images/train2017``, ``images/train``, ``images``). Or it is an export
    of Roboflow, with ``train/_annotations.coco.json`` and its ``valid`` twin beside the images.

    Raises:
        BadInput: the form is unknown or a file is missing.
    """
    if len(arguments) == 4:
        first, second, third, fourth = (str(Path(argument).expanduser()) for argument in arguments)
        return Data(
            train=_checked(Coco(annotations=first, images=second)),
            validation=_checked(Coco(annotations=third, images=fourth)),
        )
    if len(arguments) != 1:
        raise BadInput(f"--data takes {FORMS}; got {len(arguments)} values")
    (name,) = arguments
    path = Path(name).expanduser()
    if name == "shapes":
        return Data(train=Shapes(split="train"), validation=Shapes(split="validation"))
    if path.is_dir():
        return Data(train=_in_root(path, "train"), validation=_in_root(path, "val"))
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return _from_yaml(path)
    if path.is_file():
        raise BadInput(f"--data {name}: is not a YAML file; give annotations together with their images: {FORMS}")
    raise BadInput(f"--data {name}: no such folder or YAML file; give {FORMS}")


def files_of(arguments: Sequence[str], workspace: Workspace) -> dict[str, Files]:
    """The data sets that a command line names: those of ``data_from``, or one as ``ANNOTATIONS IMAGES``."""
    if len(arguments) == 2:
        path = Path(arguments[0]).expanduser()
        return {path.name: locate(Coco(annotations=str(path), images=str(Path(arguments[1]).expanduser())), workspace)}
    data = data_from(arguments)
    return {"train": locate(data.train, workspace), "validation": locate(data.validation, workspace)}


def shapes_folder(workspace: Workspace) -> Path:
    """The folder of the embedded data set in a workspace."""
    from ablate.data.shapes import REVISION  # draws and masks: not for those who only name data

    return workspace.results / "data" / f"shapes-{REVISION}"


def locate(source: Shapes | Coco, workspace: Workspace, *, subsets: Path | None = None) -> Files:
    """The files of a source; the embedded data set, and the annotations of a part, are made where they are missing.

    Args:
        source: of the data.
        workspace: above `results/`.
        subsets: the folder for the annotations of a subset; None: ``results/data``.

    Raises:
        BadInput: they are missing, have fewer images than are asked for, or cannot be written.
    """
    if isinstance(source, Coco):
        _checked(source)
        files = Files(Path(source.annotations), Path(source.images))
        own_folder, name = workspace.results / "data" / "subsets", _name_now(files.annotations)
    else:
        files = _made_shapes(source, workspace)
        own_folder, name = files.annotations.parent, files.annotations.stem
    if is_whole(source):
        return files
    folder = own_folder if subsets is None else subsets
    try:
        return Files(subset_file(files.annotations, source, folder, name), files.images)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); choose another --root") from None


def _made_shapes(source: Shapes, workspace: Workspace) -> Files:
    from ablate.data.shapes import write_shapes

    folder = shapes_folder(workspace)
    try:
        write_shapes(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); choose another --root") from None
    split = "train" if source.split == "train" else "val"
    return Files(folder / "annotations" / f"instances_{split}.json", folder / split)


def _name_now(annotations: Path) -> str:
    """A name for parts of a file; another one when the file changes."""
    found = annotations.stat()
    stamp = f"{annotations.resolve()} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    return f"{annotations.stem}-{hashlib.sha256(stamp.encode(errors='surrogateescape')).hexdigest()[:12]}"


def why_missing(source: Shapes | Coco, workspace: Workspace) -> str:
    """Why a data set cannot be read without writing anything, in a sentence; empty where it can be."""
    if isinstance(source, Shapes):
        made = shapes_folder(workspace).exists()
        return "" if made else "the embedded data set is created when the study is planned without --dry-run"
    try:
        _checked(source)
    except BadInput as error:
        return str(error)
    return ""


def annotations_of(config: AnyConfig, workspace: Workspace) -> Path:
    """The annotation file on which a run of any kind is evaluated.

    Raises:
        BadInput: they are missing.
    """
    if isinstance(config, AdoptedConfig):  # whose images need not be here
        return _existing_annotations(config.annotations)
    return locate(validation_of(config), workspace).annotations


def images_of(config: AnyConfig, workspace: Workspace) -> Path | None:
    """The folder of the images on which a run is evaluated; None if it is not known.

    Raises:
        BadInput: it is missing.
    """
    if isinstance(config, AdoptedConfig) and config.images == NOTHING:
        return None
    return locate(validation_of(config), workspace).images


def _in_root(root: Path, split: str) -> Coco:
    for folder in (root / name for name in ROBOFLOW_SPLITS[split]):
        if (folder / ROBOFLOW_FILE).is_file():
            return Coco(annotations=str(folder / ROBOFLOW_FILE), images=str(folder))
    tried = [root / "annotations" / f"instances_{split}{year}.json" for year in ("2017", "")]
    annotations = next((path for path in tried if path.is_file()), None)
    if annotations is None:
        other = other_format(root)
        if other:
            raise BadInput(f"{root}: is {other}; convert it to COCO's format first, and give {FORMS}")
        raise BadInput(f"{root}: is not a COCO root: {' or '.join(map(str, tried))} is missing; give {FORMS}")
    folders = [root / name for name in (f"{split}2017", split, f"images/{split}2017", f"images/{split}", "images")]
    images = next((path for path in folders if path.is_dir()), None)
    if images is None:
        names = ", ".join(os.path.relpath(path, root) for path in folders)
        raise BadInput(f"{root}: has no folder of {split} images (looked for {names})")
    return Coco(annotations=str(annotations), images=str(images))


def other_format(root: Path) -> str:
    """The probable format of a folder without COCO annotations; empty if unknown."""
    if (root / "train" / ROBOFLOW_FILE).is_file():
        return f"a Roboflow export without {ROBOFLOW_FILE} in {' or '.join(ROBOFLOW_SPLITS['val'])}"
    if any(next(root.glob(f"{place}*.xml"), None) for place in ("", "Annotations/", "*/Annotations/", "train/")):
        return "a data set in Pascal VOC's format (XML annotations)"
    if any(next(root.glob(f"{place}*.txt"), None) for place in ("labels/", "labels/*/", "*/labels/", "train/")):
        return "a data set in YOLO's format (a text file of labels for each image)"
    return ""


def _from_yaml(path: Path) -> Data:
    tree = read_yaml(path)
    if {"names", "nc"} & tree.keys() and "train" in tree and not isinstance(tree["train"], dict):
        raise BadInput(f"{path}: describes a data set in YOLO's format; convert it to COCO's format, and give {FORMS}")
    if tree.keys() & {"base", "data"}:  # a run's config
        return load_config(path).data
    anchor_data(tree, path.parent)
    data = parse(tree, Data, str(path))
    _checked(data.train)
    _checked(data.validation)
    return data


def _checked(source: Shapes | Coco) -> Shapes | Coco:
    """The source, after a check that its files exist."""
    if isinstance(source, Coco):
        _existing_annotations(source.annotations)
        if not Path(source.images).is_dir():
            raise BadInput(f"{source.images}: there is no such folder of images; give its location with --data")
    return source


def _existing_annotations(path: str) -> Path:
    if not Path(path).is_file():
        raise BadInput(f"{path}: annotation file not found; give its location with --data")
    return Path(path)
