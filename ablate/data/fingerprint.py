"""The content of image files: checked before anything is trained, and hashed to enter the identity of a run.

Every image of a data set is looked at: its file is hashed (SHA-256 of all bytes) and its header read
(`analysis.image_files`). The digest of the images is SHA-256 over name, size in bytes and hash of each, in the order of
the annotations. The files of the embedded data set, which another version of zlib compresses otherwise, are hashed by
their decoded pixels (width, height, RGB), and their size in bytes does not enter: so two machines agree.

Results are kept in ``results/cache/images-<id of the folder>.msgpack`` and reused while size, modification and
change time (ns) and inode of a file stay the same. A cache file is replaced as a whole, so several processes may look
at the same time; it begins with a hash of its content, and a damaged one is made anew. A file that changed within the
last two seconds is read again the next time, because its times may not tell another change; so is one that cannot be
used.
"""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple, TypeVar

import msgspec

from ablate.config.identity import data_digest
from ablate.config.schema import Coco, Shapes
from ablate.data.sources import Files, locate
from ablate.progress import progress
from ablate.runs.folder import Workspace, replacing
from analysis import GroundTruth, read_ground_truth
from analysis.exceptions import BadInput
from analysis.image_files import Header, Size, UnusableImage, header_of, open_image, read_rgb, wrong_size

CACHE_FORMAT = 1  # raise it also when `analysis.image_files` refuses what it took before, or reads headers otherwise
THREADS = min(32, 4 * (os.cpu_count() or 1))
WHOLE = 2**24  # bytes: a larger file is read in parts
NEW = 2 * 10**9  # ns in which the change time of a file may not tell one change from the next
SHOWN_FROM = 500  # files to read, from which progress is shown
SECONDS_BETWEEN_SAVES = 60.0
SHA256 = 32  # bytes

T = TypeVar("T")


class Stamp(NamedTuple):
    """File attributes that show, without reading, that a file has not changed."""

    size: int  # bytes
    modified: int  # ns
    changed: int  # ns
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """The stamp of a file."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class ImageFacts(NamedTuple):
    """One image file that can be used, judging by its header."""

    stamp: Stamp
    content: bytes  # SHA-256
    header: Header


Look = Callable[[Path], ImageFacts]
Found = dict[str, ImageFacts | UnusableImage]


class DataSet(NamedTuple):
    """A data set whose images have been looked at."""

    files: Files
    truth: GroundTruth
    images: str  # digest of the image files, 64 hex digits

    @property
    def digest(self) -> str:
        """The digest by which the data set enters an identity, 64 hex digits."""
        return data_digest(self.truth.digest, self.images)


def read_data_set(source: Shapes | Coco, workspace: Workspace, *, keep: bool = True) -> DataSet:
    """Read the annotations of a data set, and look at all its images.

    Args:
        source: of the data; the embedded data set is made where it is missing.
        workspace: above `results/`.
        keep: store the results for the images in the cache, and the annotations of a subset on disk.

    Raises:
        BadInput: annotations or images that cannot be used, with their number and the first of them.
    """
    with nullcontext() if keep else TemporaryDirectory(prefix="detablate-") as place:
        files = locate(source, workspace, subsets=None if place is None else Path(place))
        truth = read_ground_truth(files.annotations)
    if truth.federated:
        raise BadInput(federated_refusal(truth.path))
    names = image_names(truth)
    embedded = isinstance(source, Shapes)
    found = look(files.images, names, workspace, by_pixels=embedded, keep=keep)
    refuse(list(_troubles(truth, files.images, names, found)), len(names), f"{files.images}", f" of {truth.path}")
    return DataSet(files, truth, images_digest(names, found, by_pixels=embedded))


def federated_refusal(path: Path) -> str:
    """The sentence that refuses LVIS's annotations for training."""
    return (
        f"{path}: is an LVIS file: training needs annotations of all categories in every image (analyze can evaluate "
        "predictions on LVIS); use exhaustive annotations"
    )


def image_names(truth: GroundTruth) -> list[str]:
    """The file of each image.

    Raises:
        BadInput: an image has none.
    """
    for name, number in zip(truth.file_name, truth.image_id, strict=True):
        if not name:
            raise BadInput(f"{truth.path}: image id {number} has no file_name; add it")
    return [str(name) for name in truth.file_name]


def annotated_size(truth: GroundTruth, index: int) -> Size | None:
    """Width and height of image ``index`` in the annotations; none where they do not say."""
    height, width = truth.image_size[index].tolist()
    return None if height < 0 else (width, height)


def images_digest(names: Sequence[str], found: Found, *, by_pixels: bool = False) -> str:
    """SHA-256 (64 hex digits) over the images in this order; all of them can be used."""
    rows: list[tuple[object, ...]] = []
    for name in names:
        facts = found[name]
        assert isinstance(facts, ImageFacts)
        rows.append((name, facts.content) if by_pixels else (name, facts.stamp.size, facts.content))
    return hashlib.sha256(msgspec.msgpack.encode(rows)).hexdigest()


def refuse(troubles: Sequence[tuple[str, UnusableImage]], count: int, folder: str, of: str = "") -> None:
    """Raise an error if an image of a set cannot be used.

    Args:
        troubles: the name of the file, and what is wrong.
        count: images of the set.
        folder: of the images.
        of: whose images they are, for the sentence.

    Raises:
        BadInput: with the number of images that cannot be used, the causes, and the first image.
    """
    if not troubles:
        return
    words = {"missing": "missing", "damaged": "damaged", "unsupported": "not supported", "size": "of another size"}
    kinds = [error.kind for _, error in troubles]
    numbers = ", ".join(f"{kinds.count(kind):,} {word}" for kind, word in words.items() if kind in kinds)
    name, first = troubles[0]
    others = "; data check lists them all" if of and len(troubles) > 1 else ""
    raise BadInput(
        f"{folder}: {len(troubles):,} of {count:,} images{of} cannot be used ({numbers}); first {name}: {first.what}; "
        f"{first.remedy}{others}"
    )


def _troubles(
    truth: GroundTruth, folder: Path, names: Sequence[str], found: Found
) -> Iterator[tuple[str, UnusableImage]]:
    for index, name in enumerate(names):
        facts, annotated = found[name], annotated_size(truth, index)
        if isinstance(facts, UnusableImage):
            yield name, facts
        elif not facts.header.fits(annotated):
            header = facts.header
            if annotated == header.size[::-1]:  # turned by what a PNG says behind its pixels?
                try:
                    header = read_rgb(folder / name)[1]
                except UnusableImage as error:
                    yield name, error
                    continue
            if not header.fits(annotated):
                yield name, wrong_size(folder / name, header, annotated)


def look(
    folder: Path, names: Iterable[str], workspace: Workspace, *, by_pixels: bool = False, keep: bool = True
) -> Found:
    """Check and hash image files; unchanged files in the cache are not read again.

    Args:
        folder: of the images.
        names: of files, relative to it.
        workspace: above `results/`, where the cache lies.
        by_pixels: hash decoded pixels instead of files.
        keep: store the results in the cache.
    """
    different = list(dict.fromkeys(names))
    cache = _Cache(workspace.cache, folder, "pixels" if by_pixels else "files")
    examine = _by_pixels if by_pixels else _by_bytes
    with ThreadPoolExecutor(THREADS) as pool:
        stamps = _in_chunks(pool, partial(_stamp, folder), different, 512)
        found: Found = {name: facts for name, stamp in stamps if (facts := cache.get(name, stamp)) is not None}
        unknown = [name for name in different if name not in found]
        saved = time.monotonic()
        try:
            with progress("reading images", "image", len(unknown), shown=len(unknown) >= SHOWN_FROM) as advance:
                for name, result in _in_chunks(pool, partial(_tried, examine, folder), unknown, 16):
                    found[name] = result
                    if isinstance(result, ImageFacts):
                        cache.add(name, result)
                    advance()
                    if keep and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                        cache.save()
                        saved = time.monotonic()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if keep:
                cache.save()
    return found


def _in_chunks(
    pool: ThreadPoolExecutor, act: Callable[[str], T], names: Sequence[str], size: int
) -> Iterator[tuple[str, T]]:
    """Each name, in order, with the result of a function that reads the disk; a task handles ``size`` names."""
    chunks = [names[start : start + size] for start in range(0, len(names), size)]
    for results in pool.map(lambda chunk: [(name, act(name)) for name in chunk], chunks):
        yield from results


def _tried(examine: Look, folder: Path, name: str) -> ImageFacts | UnusableImage:
    try:
        return examine(folder / name)
    except UnusableImage as error:
        return error
    except OSError as error:  # of the disk
        what = f"cannot be read ({error.strerror or error})"
        return UnusableImage(folder / name, "damaged", what, "repair or remove it")


def _stamp(folder: Path, name: str) -> Stamp | None:
    try:
        return Stamp.of(os.stat(os.path.join(folder, name)))
    except (OSError, ValueError):
        return None  # reported when it is opened


def _by_bytes(path: Path) -> ImageFacts:
    """The hash of a file and its header, from one reading."""
    with open_image(path) as file:
        stamp = Stamp.of(os.fstat(file.fileno()))
        if stamp.size <= WHOLE:
            content = file.read()
            source: IO[bytes] = io.BytesIO(content)
            digest = hashlib.sha256(content).digest()
        else:
            digest, source = hashlib.file_digest(file, "sha256").digest(), file
            file.seek(0)
        return ImageFacts(stamp, digest, header_of(source, path))


def _by_pixels(path: Path) -> ImageFacts:
    """The hash of decoded pixels, and the header."""
    with open_image(path) as file:
        stamp = Stamp.of(os.fstat(file.fileno()))
        image, header = read_rgb(path)
        digest = hashlib.sha256(msgspec.msgpack.encode((image.width, image.height, image.tobytes()))).digest()
        return ImageFacts(stamp, digest, header)


class _Cache:
    """Stored results for the files of a folder."""

    def __init__(self, parent: Path, folder: Path, how: str) -> None:
        place = f"{CACHE_FORMAT} {how} {os.path.realpath(folder)}"
        digits = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]
        self._path, self._changed = parent / f"images-{digits}.msgpack", False
        self._facts = self._read()

    def get(self, name: str, stamp: Stamp | None) -> ImageFacts | None:
        """The stored result for a file with this stamp, if there is one."""
        facts = self._facts.get(name)
        return facts if facts is not None and facts.stamp == stamp else None

    def add(self, name: str, facts: ImageFacts) -> None:
        """Store the result for a file, unless the file may still change without a new stamp."""
        if time.time_ns() - facts.stamp.changed > NEW:
            self._facts[name], self._changed = facts, True

    def save(self) -> None:
        """Merge new results into the file on disk; do nothing if it cannot be written."""
        if not self._changed:
            return
        content = msgspec.msgpack.encode(self._read() | self._facts)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                file.write(hashlib.sha256(content).digest() + content)
            self._changed = False

    def _read(self) -> dict[str, ImageFacts]:
        with suppress(OSError, msgspec.DecodeError):
            whole = memoryview(self._path.read_bytes())
            if hashlib.sha256(whole[SHA256:]).digest() == whole[:SHA256]:
                return msgspec.msgpack.decode(whole[SHA256:], type=dict[str, ImageFacts])
        return {}
