"""Prediction files given side by side: what they are called and what was found in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.detections import Detections
from analysis.errors import Breakdown
from analysis.refusal import BadInput


@dataclass(frozen=True, eq=False)
class Run:
    """One prediction file and its breakdown."""

    name: str
    detections: Detections
    breakdown: Breakdown


def name_runs(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    """``[NAME=]PATH`` arguments -> names and paths.

    A file or folder without a name is called by the shortest part of its path that tells it from the others.

    Raises:
        BadInput: two runs would bear one name.

    >>> [name for name, _ in name_runs(["out/a/coco_instances_results.json", "out/b/coco_instances_results.json"])]
    ['a', 'b']
    >>> [name for name, _ in name_runs(["yolo=x/dt.json", "y/vit.json.gz"])]
    ['yolo', 'vit']
    """
    given: list[tuple[str | None, Path]] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if equals and name and "/" not in name and not Path(argument).exists():
            given.append((name, Path(path)))
        else:
            given.append((None, Path(argument)))
    unnamed = [path for name, path in given if name is None]
    found = dict(zip(unnamed, _tell_apart([_bearing_a_name(path) for path in unnamed]), strict=True))
    names = [name if name is not None else found[path] for name, path in given]
    for name in names:
        if names.count(name) > 1:
            clashing = " and ".join(str(path) for n, (_, path) in zip(names, given, strict=True) if n == name)
            raise BadInput(f"{clashing} would both be called {name!r}; name them: NAME={given[names.index(name)][1]}")
    return [(name, path) for name, (_, path) in zip(names, given, strict=True)]


def _bearing_a_name(path: Path) -> Path:
    """A folder by its own name, however it is written (``.``); detectron2's ``inference`` by that of its run."""
    if not path.is_dir():
        return path
    folder = path.resolve()
    return folder.parent if folder.name == "inference" else folder


def _tell_apart(paths: list[Path]) -> list[str]:
    parts = [_parts(path) for path in paths]
    depth = min((len(p) for p in parts), default=0)
    for level in range(1, depth + 1):  # one part, the nearest to the end that differs everywhere
        names = [p[-level] for p in parts]
        if len(set(names)) == len(names):
            return names
    for level in range(2, max((len(p) for p in parts), default=0) + 1):  # else as many of the last parts as it takes
        names = ["/".join(p[-level:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [p[-1] for p in parts]


def _parts(path: Path) -> list[str]:
    stem = path.name.removesuffix(".gz").removesuffix(".json") or path.name
    return [*(part for part in path.parent.parts if part not in ("/", ".", "..")), stem]
