"""Reading and writing files: only regular files are opened, and a written file appears whole or not at all."""

import errno
import os
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from analysis.exceptions import BadInput

try:
    import fcntl
except ModuleNotFoundError:  # Windows: no locks, so nothing is swept
    fcntl = None  # type: ignore[assignment]

NO_WAIT = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
LONGEST_NAME = 40  # characters of a file's name in that of its part
PART = ".part"
SETTLED = 20_000_000  # nanoseconds after its last change from which a file counts as written


def kind_of_file(mode: int) -> str:
    """What a path leads to, by the mode that ``stat`` gives: a file, a folder, a FIFO, a device or a socket."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a file")


class NotAFile(OSError):
    """There is a FIFO, a device, a socket or a folder in the place of a file."""


def open_regular(path: Path, flags: int = os.O_RDONLY) -> IO[bytes]:
    """A file, unbuffered; a FIFO, a device or a folder in its place is not opened.

    Args:
        path: of the file.
        flags: of ``os.open``.

    Raises:
        NotAFile: it is no regular file.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, flags | NO_WAIT, 0o666)  # a FIFO would wait for its other end
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a null character", str(path)) from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise NotAFile(errno.EINVAL, f"is {kind_of_file(mode)}, not a file", str(path))
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        return open(handle, ("ab+" if flags & os.O_RDWR else "ab") if writes else "rb", buffering=0)
    except OSError:
        os.close(handle)
        raise


class ChangedWhileRead(OSError):
    """A file was written to, or cut, while it was read: what was read is neither the old content nor the new."""


@contextmanager
def unchanging(path: Path) -> Iterator[BufferedReader]:
    """A regular file that must stay as it is until the block ends.

    It is the same open file from the beginning to the end, so one that is replaced meanwhile is still the old one. One
    that was written to a moment ago is watched for a moment: clocks of file systems tick, and writers pause.

    Raises:
        ChangedWhileRead: its size or time of change is another one in the end, whatever else the block raised: a
            decoder that stumbles over a half-written file has not found a damaged one.
        NotAFile: it is no regular file.
        OSError: it cannot be opened or read.
    """
    with BufferedReader(open_regular(path)) as file:  # type: ignore[type-var]
        before = size, time_of_change = _size_and_time(file)
        age = time.time_ns() - time_of_change
        if size and 0 <= age < SETTLED:
            time.sleep((SETTLED - age) / 1e9)
        try:
            yield file  # type: ignore[misc]
        except Exception:
            _refuse_changed(path, file, before)
            raise
        _refuse_changed(path, file, before)


def _size_and_time(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _refuse_changed(path: Path, file: IO[bytes], before: tuple[int, int]) -> None:
    if _size_and_time(file) != before:
        what = "it was changed while it was read; wait until it is written, then run the command again"
        raise ChangedWhileRead(errno.EBUSY, what, str(path))


def read_whole(path: Path, most: int = -1) -> bytes:
    """The content of a regular file that does not change meanwhile, or so many of its first bytes.

    Raises:
        OSError: as `unchanging`, or the file has no content to give now (some of those in ``/proc``).
    """
    with unchanging(path) as file:
        content: bytes | None = file.read(most)
        if content is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        return content


def fault_of_archive(file: IO[bytes]) -> str:
    """What is wrong with a file that torch.save wrote, read once through; empty where nothing is.

    torch.load does not compare the check sums that torch.save wrote, and would unpack a compressed part, which
    torch.save never writes, to any size.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            return "its content is compressed, which torch.save never does"
        broken = archive.testzip()
    return f"{broken} does not match its check sum" if broken is not None else ""


def check_target(path: Path, inputs: Iterable[Path] = ()) -> Path:
    """The file that a write to ``path`` replaces: symbolic links are followed, and stay.

    Args:
        path: to be written; need not exist.
        inputs: files that the same command reads.

    Raises:
        BadInput: there is a folder, a FIFO, a device or a socket, or the file is one of the inputs.
    """
    try:
        target = Path(os.path.realpath(path, strict=True))
        found = target.stat()
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); name another file") from None
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path}: is {kind_of_file(found.st_mode)}, which is not replaced; name a file to write")
    for other in inputs:
        if os.path.exists(other) and os.path.samestat(os.stat(other), found):
            raise BadInput(f"{path}: is an input of this command, which is not replaced; name another file to write")
    return target


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well, and vanishes when it does not.

    The content is on the disk before the name changes, so after a kill or a power cut ``path`` is the old file or the
    new one. What such a kill left beside it is removed by the next write. The folder must exist.

    Raises:
        BadInput: see `check_target`.
        OSError: the disk is full, or the like.
    """
    target = check_target(path)
    sweep_parts(target.parent, target.name)
    with _new_part(target) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)  # else 0600, which hides results from the rest of a lab
            os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _part_prefix(name: str) -> str:
    return f".{name[:LONGEST_NAME]}."


def _new_part(target: Path) -> IO[bytes]:
    """A new file beside ``target``, locked while it is open, by which `sweep_parts` sees that its writer lives."""
    while True:
        file: IO[bytes] = NamedTemporaryFile(  # noqa: SIM115 (the caller closes it)
            dir=target.parent, prefix=_part_prefix(target.name), suffix=PART, delete=False
        )
        with suppress(OSError):  # a file system without locks: then no process can lock it to sweep
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):  # else another process swept it before it was locked
            return file
        file.close()


@contextmanager
def part_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, to be filled and renamed to it; what is still there in the end is removed.

    The folder above must exist. What killed processes left beside it is removed before.
    """
    sweep_parts(target.parent, target.name)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=_part_prefix(target.name), suffix=PART))
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def sweep_parts(folder: Path, name: str = "") -> None:
    """Remove the files and folders that killed writers left in a folder, never those of living ones.

    Args:
        folder: where they wrote.
        name: of the file they were writing; empty for any.
    """
    prefix = _part_prefix(name) if name else "."
    try:
        found = [
            Path(one.path) for one in os.scandir(folder) if one.name.startswith(prefix) and one.name.endswith(PART)
        ]
    except OSError:
        return
    for path in found:
        with suppress(OSError):  # another sweeper was faster, or its writer lives
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; makes the folder.

    Raises:
        BadInput: there is what cannot be replaced (see `check_target`), or the folder or the file cannot be written;
            the sentence names it and the system's reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path.parent}: cannot write here ({error.strerror}); name another folder") from None
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        where = path.parent if isinstance(error, PermissionError) else path
        raise BadInput(f"{where}: cannot be written ({error.strerror}); free space or name another folder") from None


def write_all(folder: Path, contents: Mapping[str, bytes], inputs: Iterable[Path] = ()) -> None:
    """Write several files of a folder, each whole; what cannot be replaced is refused before the first is written.

    Args:
        folder: is made where it is missing.
        contents: file name -> content.
        inputs: files that the same command reads.

    Raises:
        BadInput: as `write_bytes`, or one of the files is an input.
    """
    check_targets(folder, contents, inputs)
    for name, content in contents.items():
        write_bytes(folder / name, content)


def fill_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write many files of a folder, each whole, after all are on the disk; one that is there with its content stays.

    Args:
        folder: is made where it is missing.
        contents: file name -> content.

    Raises:
        BadInput: as `write_all`.
    """
    check_targets(folder, contents)
    target = Path(os.path.realpath(folder))
    try:
        target.mkdir(parents=True, exist_ok=True)
        umask = os.umask(0)
        os.umask(umask)
        with part_folder(target) as part:
            new = [name for name, content in contents.items() if not _holds(target / name, content)]
            for name in new:
                with open(part / name, "wb") as file:
                    file.write(contents[name])
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o666 & ~umask)
            for name in new:
                os.replace(part / name, os.path.realpath(target / name))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); free space or name another folder") from None


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and read_whole(path) == content
    except FileNotFoundError:
        return False


def check_targets(folder: Path, names: Iterable[str], inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder, before the work whose results go there, in which a file could not be written.

    Args:
        folder: need not exist.
        names: of the files to write.
        inputs: files that the same command reads.

    Raises:
        BadInput: a file is in the place of the folder, or see `check_target`.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        kind = kind_of_file(folder.stat().st_mode)
        raise BadInput(f"{folder}: is {kind}, not a folder; give another name for the folder")
    inputs = list(inputs)
    for name in names:
        check_target(folder / name, inputs)
