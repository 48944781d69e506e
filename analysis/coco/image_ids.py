"""Which image of the ground truth each detection is on, by all that a prediction file says of its images.

Two readings of an image id compete: it is the id of an image in the ground truth, or it names the image's file (its
path, name or stem; or the number that the stem is, as Ultralytics writes). A detection may carry a file name besides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from analysis.arrays import Floats, Ints, best_in_group, distinct, group_starts, index_of, order_by_index
from analysis.coco.ground_truth import GroundTruth
from analysis.exceptions import BadInput

UNKNOWN, AMBIGUOUS = -1, -2
PATHS, NAMES, STEMS, NUMBERS = "file_name paths", "file names", "file_name stems", "numbers in the file names"
LONGEST_NUMBER = 19  # digits
SAMPLE = 500  # images on which two readings are compared by their boxes


@dataclass(frozen=True)
class ImageIndex:
    """The images of detections.

    Attributes:
        index: i64[N] into the ground truth's images, -1 where it has no such image.
        notes: what was decided, where the ids are not simply the ground truth's.
        other: i64[N] by the other reading, -1 for unknown images, where that contradicts the first.
    """

    index: Ints
    notes: list[str]
    other: Ints | None = None


class FileNames:
    r"""The files of a ground truth, to be found by any end of their paths, with and without the file's ending.

    A name is found by its longest part from the right that is also such a part of one file alone, in the same case or,
    where that finds nothing, in any case and form of Unicode; ``/`` and ``\\`` both separate folders.
    """

    def __init__(self, ground_truth: GroundTruth) -> None:
        self._names = [
            (index, parts)
            for names in (ground_truth.file_name, ground_truth.earlier_name)
            for index, name in enumerate(names)
            if name is not None and (parts := _parts(name))
        ]

    @cached_property
    def number(self) -> dict[int, int]:
        """The index of each stem that is a number."""
        found: dict[int, int] = {}
        for index, parts in self._names:
            number = _number(_stem(parts[-1]))
            if number is not None:
                found[number] = index if found.get(number, index) == index else AMBIGUOUS
        return found

    @cached_property
    def _tables(self) -> tuple[dict[str, int], dict[str, int]]:
        """The index of each end of a path, with and without the file's ending."""
        whole: dict[str, int] = {}
        stems: dict[str, int] = {}
        for index, parts in self._names:
            for table, last in ((whole, parts[-1]), (stems, _stem(parts[-1]))):
                tail = ""
                for part in (last, *parts[-2::-1]):
                    tail = f"{part}/{tail}" if tail else part
                    for key in {tail, _folded(tail)}:
                        table[key] = index if table.get(key, index) == index else AMBIGUOUS
        return whole, stems

    def find(self, name: str) -> tuple[int, str]:
        """The index of an image (negative: none, or several) and what of its file name was found."""
        parts = _parts(name)
        whole, stems = self._tables
        for table, folded in ((whole, False), (stems, False), (whole, True), (stems, True)):
            for first in range(len(parts)):
                tail = "/".join(parts[first:])
                index = table.get(_folded(tail) if folded else tail)
                if index is not None:
                    return index, STEMS if table is stems else PATHS if first < len(parts) - 1 else NAMES
        return UNKNOWN, NAMES


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _stem(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def _number(text: str) -> int | None:
    """The number that a text is; none for other texts, and for those that no counter writes."""
    return int(text) if text.isdecimal() and len(text) < LONGEST_NUMBER else None


def _folded(tail: str) -> str:
    return "\0" + normalize("NFC", tail).casefold()  # no name on disk, so that it clashes with none


def usual_index(path: Path, ids: Sequence[Any] | Ints, ground_truth: GroundTruth) -> tuple[Ints, Ints | None] | None:
    """The index i64[N] of each id, and that by the other reading where it contradicts the first.

    None: some are no ids of the ground truth. Where all are, they are read as ids whatever the files are called. Of
    millions of detections only the different ids are looked at, of which there are at most as many as images.
    """
    if ground_truth.image_id and not isinstance(ground_truth.image_id[0], int):
        return None
    try:
        ids, theirs = np.array(ids, dtype=np.int64), np.array(ground_truth.image_id, dtype=np.int64)
    except OverflowError:
        return None
    index = index_of(ids, theirs)
    if (index < 0).any():
        return None
    if not _other_numbers(ground_truth):
        return index, None
    used = distinct(ids)
    other = image_index(path, used.tolist(), None, ground_truth).other
    return index, None if other is None else other[np.searchsorted(used, ids)]


def image_index(
    path: Path, ids: Sequence[int | str], names: Sequence[str | None] | None, ground_truth: GroundTruth
) -> ImageIndex:
    """Decide how the image ids of detections are to be read.

    Args:
        path: of the predictions, for messages.
        ids: N image ids.
        names: N file names that the detections carry; none where no detection does.
        ground_truth: whose images they are on.

    Raises:
        BadInput: what the file says is contradictory.
    """
    files = FileNames(ground_truth)
    by_id, by_name, kinds = _both_readings(ids, files, ground_truth)
    if names is not None:
        decided = _by_file_names(path, ids, names, by_id, files, ground_truth)
        if decided is not None:
            return decided
    found = _by_ids(path, ids, by_id, by_name, kinds, ground_truth)
    strange = _strange_names(names or (), files, ground_truth)
    return replace(found, notes=[*found.notes, strange]) if strange else found


def _strange_names(names: Sequence[str | None], files: FileNames, ground_truth: GroundTruth) -> str:
    """A note where detections carry file names and the ground truth has others only."""
    theirs = next((name for name in ground_truth.file_name if name), None)
    given = [name for name in dict.fromkeys(names) if name is not None]
    if theirs is None or not given or any(files.find(name)[0] != UNKNOWN for name in given):
        return ""
    return (
        f"file names differ from those of the ground truth (first {given[0]!r}; there {theirs!r}): matched by image id"
    )


def _other_numbers(ground_truth: GroundTruth) -> bool:
    """Whether an image's file is named by a number that is not its id: then a number could mean either."""
    for identity, name in zip(ground_truth.image_id, ground_truth.file_name, strict=True):
        if name is not None:
            number = _number(_stem(name.replace("\\", "/").rpartition("/")[2]))
            if number is not None and number != identity:
                return True
    return False


def _both_readings(
    ids: Sequence[int | str], files: FileNames, ground_truth: GroundTruth
) -> tuple[dict[int | str, int], dict[int | str, int], dict[int | str, str]]:
    """The index of each different id as an id and as a name, and what of the file name was found."""
    position: dict[Any, int] = {str(value): index for index, value in enumerate(ground_truth.image_id)}
    by_id, by_name, kinds = {}, {}, {}
    for value in dict.fromkeys(ids):
        by_id[value] = position.get(str(value), UNKNOWN)
        found, kind = files.find(value) if isinstance(value, str) else (UNKNOWN, NAMES)
        number = _number(str(value))
        if found == UNKNOWN and number is not None:
            found, kind = files.number.get(number, UNKNOWN), NUMBERS
        by_name[value], kinds[value] = found, kind
    return by_id, by_name, kinds


def _by_file_names(
    path: Path,
    ids: Sequence[int | str],
    names: Sequence[str | None],
    by_id: dict[int | str, int],
    files: FileNames,
    ground_truth: GroundTruth,
) -> ImageIndex | None:
    """Images by the file names that the detections carry; none where those say nothing, or the same as the ids."""
    found = {name: files.find(name)[0] for name in dict.fromkeys(names) if name is not None}
    if not any(index >= 0 for index in found.values()):
        return None
    pairs = dict.fromkeys(zip(ids, names, strict=True))
    wrong = [(value, name) for value, name in pairs if name is not None and found[name] != by_id[value]]
    if not any(found[name] >= 0 or by_id[value] >= 0 for value, name in wrong):  # ... or unknown in both ways
        return None
    value, name = wrong[0]
    told = (
        f"image_id {value!r} comes with file_name {name!r}; in the ground truth that file is "
        f"{_told(found[name], ground_truth)} and that id is {_told(by_id[value], ground_truth)}"
    )
    images_of: dict[int | str, set[str | None]] = {}
    for one, its_name in pairs:
        images_of.setdefault(one, set()).add(its_name)
    used = [index for index in found.values() if index >= 0]
    ids_of_name = {its_name: one for one, its_name in pairs}
    consistent = (
        None not in names
        and all(len(its_names) == 1 for its_names in images_of.values())
        and len(ids_of_name) == len(pairs)
        and len(set(used)) == len(used)
    )
    if not consistent:
        raise BadInput(
            f"{path}: file names and image ids contradict each other and the ground truth: {told}; write the ground "
            "truth's image ids, or leave file_name out"
        )
    index = np.array([max(found[name], UNKNOWN) for name in names if name is not None], dtype=np.int64)
    note = (
        f"image ids differ from those of the ground truth ({told}): all {len(index):,} detections were matched by "
        "file_name"
    )
    return ImageIndex(index, [note])


def _told(index: int, ground_truth: GroundTruth) -> str:
    """An image of the ground truth in a message."""
    if index < 0:
        return "unknown"
    return f"{ground_truth.file_name[index] or 'an image'} (id {ground_truth.image_id[index]!r})"


def _by_ids(
    path: Path,
    ids: Sequence[int | str],
    by_id: dict[int | str, int],
    by_name: dict[int | str, int],
    kinds: dict[int | str, str],
    ground_truth: GroundTruth,
) -> ImageIndex:
    """Images by the ids alone: as the reading under which more of them are known."""
    known_ids, known_names = (sum(index >= 0 for index in reading.values()) for reading in (by_id, by_name))
    differing = [value for value in by_id if 0 <= by_id[value] != by_name[value] >= 0]
    texts = any(isinstance(value, str) for value in by_id)
    theirs = {type(value) for value in ground_truth.image_id}
    if differing and ((texts and known_ids == known_names) or known_ids < known_names < min(len(by_id), 2 * known_ids)):
        value = differing[0]
        raise BadInput(
            f"{path}: image_id {value!r} is the id of {_told(by_id[value], ground_truth)} and the file name of "
            f"{_told(by_name[value], ground_truth)}; write the ground truth's image ids"
        )
    unclear = next((value for value in by_id if by_id[value] < 0 and by_name[value] == AMBIGUOUS), None)
    if unclear is not None and known_ids <= known_names:
        raise BadInput(
            f"{path}: image_id {unclear!r} is not an id of the ground truth, and matches the file names of several of "
            "its images; write the ground truth's image ids"
        )
    of = _applied(ids)
    if known_ids >= known_names:
        foreign = known_ids and {type(value) for value in by_id} != theirs
        kind = "strings" if texts else "numbers"
        notes = [f"image ids are {kind}: read as the ground truth's ids"] if foreign else []
        return ImageIndex(of(by_id), notes, of(by_name) if differing else None)
    used = dict.fromkeys(kinds[value] for value in by_name if by_name[value] >= 0)
    kind = "strings" if texts else "not the ground truth's"
    how_many = "all " if known_names == len(by_name) else ""
    index = of(by_name)
    note = (
        f"image ids are {kind}: {how_many}{int((index >= 0).sum()):,} were matched to the {' and '.join(used)} of the "
        "ground truth's images"
    )
    return ImageIndex(index, [note])


def _applied(ids: Sequence[int | str]) -> Callable[[dict[int | str, int]], Ints]:
    return lambda reading: np.array([max(reading[value], UNKNOWN) for value in ids], dtype=np.int64)


def compare_readings(box: Floats, score: Floats, image: Ints, other: Ints, ground_truth: GroundTruth) -> str:
    """A warning where the best detection of an image lies on an object far more often under another reading of the ids.

    Args:
        box: f64[N, 4] xywh.
        score: f64[N].
        image: i64[N] as the ids were read.
        other: i64[N] as they could be read too, -1 for unknown images.
        ground_truth: whose images they are.
    """
    order = order_by_index(image, len(ground_truth.image_id))
    best = order[best_in_group(image[order], score[order])[1]][:SAMPLE]
    as_read, as_other = (_on_objects(box[best], index[best], ground_truth) for index in (image, other))
    if as_other <= max(0.3, 2 * as_read):
        return ""
    return (
        "image ids look like the numbers in the file names: the best detection of an image lies on an object in "
        f"{100 * as_read:.0f} % of the images as the ids are read, but in {100 * as_other:.0f} % if they are those "
        "numbers; write the ground truth's image ids"
    )


def _on_objects(box: Floats, image: Ints, ground_truth: GroundTruth) -> float:
    """The share of boxes f64[n, 4] xywh that overlap an object of their image, IoU at least 0.5."""
    rows = order_by_index(ground_truth.image, len(ground_truth.image_id))
    start = group_starts(ground_truth.image, len(ground_truth.image_id))
    hits = 0
    for (x, y, w, h), index in zip(box.tolist(), image.tolist(), strict=True):
        objects = ground_truth.box[rows[start[index] : start[index + 1]] if index >= 0 else []]
        across = np.minimum(objects[:, 0] + objects[:, 2], x + w) - np.maximum(objects[:, 0], x)
        down = np.minimum(objects[:, 1] + objects[:, 3], y + h) - np.maximum(objects[:, 1], y)
        overlap = np.maximum(across, 0) * np.maximum(down, 0)
        union = objects[:, 2] * objects[:, 3] + w * h - overlap
        hits += bool(((overlap > 0) & (overlap >= 0.5 * union)).any())
    return hits / max(1, len(box))
