"""What of image files enters an identity, what the cache believes, and which data sets are refused before training."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from ablate.config.schema import Coco, Shapes
from ablate.data import fingerprint
from ablate.data.fingerprint import DataSet, ImageFacts, look, read_data_set
from ablate.data.sources import Files, locate
from ablate.runs.folder import Workspace
from analysis.exceptions import BadInput
from analysis.image_files import UnusableImage

Writer = Callable[..., Files]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "root")


@pytest.fixture
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been written long ago."""
    monkeypatch.setattr(fingerprint, "NEW", -1)


def data_set(files: Files, workspace: Workspace) -> DataSet:
    return read_data_set(Coco(annotations=str(files.annotations), images=str(files.images)), workspace)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    seen: list[str] = []
    before = fingerprint.open_image

    def noting(path: Path) -> Any:
        seen.append(path.name)
        return before(path)

    monkeypatch.setattr(fingerprint, "open_image", noting)
    return seen


def test_the_digest_is_of_names_sizes_and_contents(small: Writer, workspace: Workspace) -> None:
    files = small()
    rows = []
    for name in ("3.png", "7.png", "11.png"):  # by their ids
        content = (files.images / name).read_bytes()
        rows.append([name, len(content), hashlib.sha256(content).digest()])
    expected = hashlib.sha256(msgspec.msgpack.encode(rows)).hexdigest()
    assert data_set(files, workspace).images == expected


def test_a_moved_copy_is_the_same_and_a_changed_pixel_is_not(small: Writer, workspace: Workspace) -> None:
    files = small()
    found = data_set(files, workspace)
    moved = Files(files.annotations, workspace.root / "moved")
    shutil.copytree(files.images, moved.images)
    assert data_set(moved, workspace).digest == found.digest
    pixels = np.array(Image.open(moved.images / "7.png"))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(moved.images / "7.png")
    changed = data_set(moved, workspace)
    assert changed.truth.digest == found.truth.digest
    assert changed.digest != found.digest


def test_another_compression_is_another_file_but_the_same_embedded_data(
    shapes_data: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """What another version of zlib would do to them."""
    source = Shapes(split="validation", images=4)
    workspace.results.mkdir(parents=True)
    shutil.copytree(shapes_data, workspace.results / "data")
    files = locate(source, workspace)
    coco = Coco(annotations=str(files.annotations), images=str(files.images))
    before = read_data_set(source, workspace), read_data_set(coco, workspace)
    for path in sorted(files.images.iterdir())[:4]:
        pixels, size = np.asarray(Image.open(path)), path.stat().st_size
        Image.fromarray(pixels).save(path, compress_level=9)
        assert path.stat().st_size != size
    after = read_data_set(source, workspace), read_data_set(coco, workspace)
    assert after[0].digest == before[0].digest
    assert after[1].digest != before[1].digest
    Image.fromarray(255 - pixels).save(path)
    assert read_data_set(source, workspace).digest != before[0].digest


@pytest.mark.usefixtures("old_files")
def test_the_second_look_reads_only_what_changed(
    small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, seen = small(), reads(monkeypatch)
    first = data_set(files, workspace)
    assert sorted(seen) == ["11.png", "3.png", "7.png"]
    seen.clear()
    assert data_set(files, workspace).digest == first.digest
    assert seen == []
    path = files.images / "7.png"
    found, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1  # the same size, and the modification time is put back
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert data_set(files, workspace).digest != first.digest
    assert seen == ["7.png"]


def test_a_file_of_this_moment_is_not_believed_again(
    small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, seen = small(), reads(monkeypatch)
    data_set(files, workspace)
    data_set(files, workspace)
    assert len(seen) == 6


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[:40], lambda c: c[:-9] + b"x" + c[-8:], lambda c: b"x" * 99]
)
def test_a_damaged_cache_is_made_anew(
    damage: Callable[[bytes], bytes], small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small()
    digest = data_set(files, workspace).digest
    (cache,) = workspace.cache.iterdir()
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    seen = reads(monkeypatch)
    assert data_set(files, workspace).digest == digest
    assert len(seen) == 3
    assert cache.read_bytes() == whole


@pytest.mark.usefixtures("old_files")
def test_looks_at_the_same_time_keep_what_each_found(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    names = [f"{number}.png" for number in range(24)]
    for number, name in enumerate(names):
        Image.new("L", (4, 4), number).save(folder / name)
    looks = [threading.Thread(target=look, args=(folder, names[start::4], workspace)) for start in range(4)]
    for thread in looks:
        thread.start()
    for thread in looks:
        thread.join()
    found = look(folder, names, workspace)
    hashes = {facts.content for facts in found.values() if isinstance(facts, ImageFacts)}
    assert hashes == {hashlib.sha256((folder / name).read_bytes()).digest() for name in names}
    assert len(list(workspace.cache.iterdir())) == 1


def test_nothing_is_written_where_that_was_not_asked_for_or_is_impossible(small: Writer, workspace: Workspace) -> None:
    files = small()
    source = Coco(annotations=str(files.annotations), images=str(files.images))
    digest = read_data_set(source, workspace, keep=False).digest
    assert not workspace.root.exists()
    workspace.root.write_text("a file in the way")
    assert read_data_set(source, workspace).digest == digest


@pytest.mark.usefixtures("old_files")
def test_a_stopped_look_keeps_what_it_has(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    names = [f"{number:03d}.png" for number in range(40)]
    for name in names:
        Image.new("L", (4, 4)).save(folder / name)
    before = fingerprint._by_bytes

    def stopped(path: Path) -> ImageFacts:
        if path.name == names[-1]:
            raise KeyboardInterrupt
        return before(path)

    monkeypatch.setattr(fingerprint, "_by_bytes", stopped)
    with pytest.raises(KeyboardInterrupt):
        look(folder, names, workspace)
    monkeypatch.setattr(fingerprint, "_by_bytes", before)
    seen = reads(monkeypatch)
    assert len(look(folder, names, workspace)) == 40
    assert len(seen) == 8  # the last task


def test_progress_is_shown_for_many_files(small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, bool]] = []
    before = fingerprint.progress

    def noting(what: str, unit: str, total: int, *, shown: bool = True, _list: list[Any] = shown) -> Any:
        _list.append((total, shown))
        return before(what, unit, total, shown=shown)

    monkeypatch.setattr(fingerprint, "progress", noting)
    data_set(small(), workspace)
    monkeypatch.setattr(fingerprint, "SHOWN_FROM", 3)
    data_set(small(), workspace)
    assert shown == [(3, False), (3, True)]


def spoil(folder: Path) -> None:
    """Each file another trouble."""
    (folder / "3.png").write_bytes(b"damaged")
    (folder / "7.png").unlink()
    Image.fromarray(np.zeros((20, 20), dtype=np.uint16)).save(folder / "11.png")


def test_all_troubles_are_counted_and_the_first_is_named(small: Writer, workspace: Workspace) -> None:
    files = small()
    spoil(files.images)
    with pytest.raises(BadInput) as refusal:
        data_set(files, workspace)
    assert str(refusal.value) == (
        f"{files.images}: 3 of 3 images of {files.annotations} cannot be used (1 missing, 1 damaged, 1 not supported); "
        "first 3.png: cannot be decoded (not an image of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP); replace it; data "
        "check lists them all"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda d: d["images"][0].update(height=31),
            r"1 of another size\); first 3.png: is 40 x 30 pixels, annotated as",
        ),
        (lambda d: d["images"][0].update(file_name="7.png"), r"first 7.png: is 30 x 40 pixels, annotated as 40 x 30"),
        (lambda d: d["images"][0].pop("file_name"), r"image id 3 has no file_name; add it"),
        (lambda d: d["images"][0].update(file_name="."), r"first .: is a folder, not a file; replace it"),
        (lambda d: d["images"][0].update(file_name="a\0"), r"first a\x00: cannot be read"),
    ],
)
def test_records_that_do_not_fit_their_files_are_refused(
    change: Callable[[dict[str, Any]], None], sentence: str, small: Writer, workspace: Workspace
) -> None:
    with pytest.raises(BadInput, match=sentence):
        data_set(small(change), workspace)


def test_one_file_of_several_images_is_read_once(
    small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small(lambda d: d["images"][2].update(file_name="7.png", height=40, width=30))
    seen = reads(monkeypatch)
    data_set(files, workspace)
    assert sorted(seen) == ["3.png", "7.png"]


def test_an_image_without_a_stated_size_is_taken_as_it_is(small: Writer, workspace: Workspace) -> None:
    files = small(lambda d: [d["images"][0].pop(side) for side in ("width", "height")])
    assert len(data_set(files, workspace).truth.image_id) == 3


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png"])
def test_turned_images_have_the_size_that_their_orientation_gives(
    name: str, small: Writer, workspace: Workspace
) -> None:
    files = small(lambda d: d["images"][0].update(file_name=name))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(files.images / name, exif=exif)
    assert data_set(files, workspace).images
    Image.new("RGB", (30, 40)).save(files.images / name)
    with pytest.raises(BadInput, match="is 30 x 40 pixels, annotated as 40 x 30"):
        data_set(files, workspace)


def test_a_file_that_grows_while_it_is_read_is_refused(
    small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, before = small(), fingerprint.header_of

    def growing(file: Any, path: Path) -> Any:
        with path.open("ab") as end:
            end.write(b"x")
        return before(file, path)

    monkeypatch.setattr(fingerprint, "header_of", growing)
    with pytest.raises(BadInput, match="was changed while it was read; wait until it is written"):
        data_set(files, workspace)


def test_a_large_file_is_read_in_parts_to_the_same_end(
    small: Writer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small()
    whole = data_set(files, workspace)
    monkeypatch.setattr(fingerprint, "WHOLE", 10)
    assert data_set(files, workspace).digest == whole.digest


@pytest.mark.usefixtures("old_files")
def test_trouble_is_looked_at_anew(small: Writer, workspace: Workspace) -> None:
    files = small()
    whole = (files.images / "3.png").read_bytes()
    (files.images / "3.png").write_bytes(b"")
    found = look(files.images, ["3.png"], workspace)
    assert isinstance(found["3.png"], UnusableImage)
    (files.images / "3.png").write_bytes(whole)
    assert isinstance(look(files.images, ["3.png"], workspace)["3.png"], ImageFacts)
