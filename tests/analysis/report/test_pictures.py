"""Windows and pictures: where they lie, how large they get, what happens to files that are no pictures."""

import base64
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from analysis.report.pictures import (
    LONGEST_SIDE,
    MOST_BYTES,
    Album,
    PillowMissing,
    Wanted,
    Window,
    encode,
    window_around,
)

side = st.floats(0, 3000)


@given(st.lists(st.tuples(side, side, side, side), min_size=1, max_size=3), st.integers(1, 4000), st.integers(1, 4000))
def test_a_window_lies_in_the_image_and_shows_what_it_is_about(
    boxes: list[tuple[float, ...]], width: int, height: int
) -> None:
    window = window_around(np.array(boxes), (width, height))
    assert 0 <= window.x <= window.x + window.width <= width
    assert 0 <= window.y <= window.y + window.height <= height
    assert min(window.width, window.height) >= 1
    for x, y, w, h in boxes:
        if x + w < width and y + h < height:
            assert window.x - 1 <= x
            assert x + w <= window.x + window.width + 1
            assert window.y - 1 <= y
            assert y + h <= window.y + window.height + 1


def test_without_a_size_the_window_is_about_the_boxes() -> None:
    assert window_around(np.array([[100.0, 60.0, 20.0, 20.0]]), None) == Window(60, 35, 60, 45)


def opened(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head == "data:image/jpeg;base64"
    content = base64.b64decode(data)
    assert len(content) <= MOST_BYTES
    return Image.open(io.BytesIO(content))


def addresses(album: Album, image: int, windows: list[Window], size: tuple[int, int] | None) -> list[str | None]:
    """Of the windows of one image."""
    (found,) = album.pictures([Wanted(image, windows, size)])
    return found


def test_the_worst_picture_stays_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise))
    assert len(content) <= MOST_BYTES
    assert Image.open(io.BytesIO(content)).width >= 200


def test_a_window_is_cut_where_it_lies_and_large_ones_shrink(tmp_path: Path) -> None:
    pixels = np.zeros((1000, 2000, 3), dtype=np.uint8)
    pixels[500:, 1000:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    album = Album(tmp_path, ["a.png"])
    windows = [Window(1000, 500, 200, 150), Window(0, 0, 200, 150), Window(0, 0, 2000, 1000)]
    white, black, whole = (opened(address or "") for address in addresses(album, 0, windows, (2000, 1000)))
    assert np.asarray(white).min() > 250
    assert np.asarray(black).max() < 5
    assert white.size == (200, 150)
    assert whole.size == (LONGEST_SIDE, LONGEST_SIDE // 2)


def test_a_picture_of_another_size_is_not_stretched(tmp_path: Path) -> None:
    """Boxes would lie in the wrong place unless it happens to be the same picture, which no header says."""
    Image.new("RGB", (1000, 500)).save(tmp_path / "b.png")
    album = Album(tmp_path, ["b.png"])
    assert addresses(album, 0, [Window(1100, 600, 200, 150)], (2000, 1000)) == [None]
    (not_shown,) = album.not_shown()
    assert (not_shown.cause, not_shown.images) == ("have another size than in the ground truth", 1)
    assert "b.png: is 1000 x 500 pixels, annotated as 2000 x 1000" in not_shown.first


def test_a_picture_is_turned_as_it_was_annotated(tmp_path: Path) -> None:
    """The left half of the stored pixels is the upper half of the image that EXIF's orientation 6 shows."""
    stored = np.zeros((60, 80, 3), dtype=np.uint8)
    stored[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upper, lower = Window(0, 0, 60, 40), Window(0, 40, 60, 40)
    white, black = addresses(Album(tmp_path, ["a.png"]), 0, [upper, lower], (60, 80))
    assert np.asarray(opened(white or "")).min() > 250
    assert np.asarray(opened(black or "")).max() < 5
    as_stored = addresses(Album(tmp_path, ["a.png"]), 0, [Window(0, 0, 40, 60)], (80, 60))
    assert np.asarray(opened(as_stored[0] or "")).min() > 250


def test_an_image_of_16_bits_is_not_shown_as_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 40), 9600, dtype=np.uint16)).save(tmp_path / "a.png")
    album = Album(tmp_path, ["a.png"])
    assert addresses(album, 0, [Window(0, 0, 40, 30)], (40, 30)) == [None]
    assert "more than 8 bits per channel" in album.damaged[0]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_picture_is_shown(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (40, 30), "red").convert(mode).save(tmp_path / "a.tiff")
    (address,) = addresses(Album(tmp_path, ["a.tiff"]), 0, [Window(0, 0, 40, 30)], None)
    assert opened(address or "").size == (40, 30)


def test_missing_and_damaged_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    whole = io.BytesIO()
    Image.new("RGB", (300, 300), "red").save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "folder.jpg").mkdir()
    album = Album(tmp_path, ["gone.jpg", "damaged.jpg", "half.jpg", None, "folder.jpg"])
    for image in range(5):
        assert addresses(album, image, [Window(0, 0, 9, 9)], (9, 9)) == [None]
        assert album.size(image) is None or image == 2
    assert (album.missing, set(album.damaged), album.other_size) == ({0, 3, 4}, {1, 2}, {})


def test_a_name_finds_its_file_by_its_last_part_and_never_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    album = Album(folder, ["train/a.png", "../secret.png", str(tmp_path / "secret.png")])
    assert addresses(album, 0, [Window(0, 0, 9, 9)], None)[0] is not None
    assert addresses(album, 1, [Window(0, 0, 9, 9)], None) == [None]
    assert addresses(album, 2, [Window(0, 0, 9, 9)], None) == [None]
    assert album.missing == {1, 2}


def test_without_pillow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(PillowMissing, match="pip install pillow, or make a report without pictures"):
        Album(tmp_path, [])
    assert addresses(Album(None, ["a.jpg"]), 0, [Window(0, 0, 9, 9)], None) == [None]


@pytest.mark.parametrize("folder", [".", "/", "images", "link"])
def test_images_are_found_in_whatever_way_their_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    Image.new("RGB", (8, 6)).save(images / "a.png")
    monkeypatch.chdir(images if folder == "." else tmp_path)
    name = str(images / "a.png").lstrip("/") if folder == "/" else "a.png"
    assert Album(Path(folder), [name]).size(0) == (8, 6)


def test_links_out_of_the_folder_are_followed_only_where_asked_for(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "private.png")
    Image.new("RGB", (4, 3)).save(images / "a.png")
    (images / "out.png").symlink_to(tmp_path / "private.png")
    (images / "in.png").symlink_to(images / "a.png")
    (images / "above").symlink_to(tmp_path)
    names = ["out.png", "in.png", "above/private.png", "../private.png"]
    album = Album(images, names)
    assert [album.size(image) for image in range(4)] == [None, (4, 3), None, None]
    assert (album.outside, album.missing) == ({0, 2}, {3})
    following = Album(images, names, follow_symlinks=True)
    assert [following.size(image) for image in range(4)] == [(8, 6), (4, 3), (8, 6), None]
