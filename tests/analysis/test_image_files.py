"""The opener of image files: pixels against torchvision and by hand, and what is refused, by kind."""

import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.io
from PIL import Image

from analysis.exceptions import BadInput
from analysis.image_files import (
    MOST_PIXELS,
    Header,
    UnusableImage,
    peculiarities,
    read_annotated,
    read_header,
    read_rgb,
)
from tests.shared_data import shared_data

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by its specification: depth in bits, colour type, rows with filter bytes, chunks behind the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def exif(orientation: int) -> bytes:
    """EXIF by its specification, big-endian, of one entry."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(read_rgb(path)[0])


def by_torchvision(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        content = torchvision.io.read_file(str(path))
        image = torchvision.io.decode_image(content, torchvision.io.ImageReadMode.RGB)
    return image.permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "1"])
def test_a_png_of_8_bits_is_what_torchvision_reads(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(RGB).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(RGB[..., 0]))
    path = saved(tmp_path / "a.png", image)
    np.testing.assert_array_equal(pixels(path), by_torchvision(path))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_what_torchvision_reads(mode: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(np.full((16, 16, 3), (200, 80, 40), np.uint8)).convert(mode))
    assert np.abs(pixels(path).astype(int) - by_torchvision(path)).max() <= 1  # two builds of libjpeg


def test_alpha_is_dropped_and_the_colour_below_it_stays(tmp_path: Path) -> None:
    clear = png(2, 1, 8, 6, bytes([0, 10, 20, 30, 0, 40, 50, 60, 255]))  # RGBA, the first pixel transparent
    (tmp_path / "a.png").write_bytes(clear)
    assert pixels(tmp_path / "a.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "p.png", image, transparency=bytes([0, 255]))
    assert pixels(path).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert [kind for kind, _ in peculiarities(path)] == ["transparent image"]


def test_cmyk_is_converted_by_the_stated_formula(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.new("CMYK", (1, 1), (10, 100, 200, 50)))
    assert pixels(path).tolist() == [[[197, 125, 44]]]  # (255 - C) (255 - K) / 255, rounded
    assert [kind for kind, _ in peculiarities(path)] == ["CMYK image"]


def test_of_several_frames_the_first_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        assert pixels(path)[0, 0].tolist() == [255, 0, 0]
        assert [kind for kind, _ in peculiarities(path)] == ["several frames"]


def test_ordinary_images_have_no_peculiarities(tmp_path: Path) -> None:
    opaque = Image.fromarray(RGB).convert("RGBA")
    for name, image in (("a.png", opaque), ("b.png", opaque.convert("L")), ("c.jpg", opaque.convert("RGB"))):
        assert list(peculiarities(saved(tmp_path / name, image))) == []


DEEP = np.arange(9408, 9408 + 12, dtype=np.uint16).reshape(3, 4)
DEEP_FILES: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: Image.fromarray(DEEP).save(path),
    "grey.tif": lambda path: Image.fromarray(DEEP).save(path),
    "packed.tif": lambda path: Image.fromarray(DEEP).save(path, compression="tiff_lzw"),
    "integer.tif": lambda path: Image.fromarray(DEEP.astype(np.int32)).save(path),
    "float.tif": lambda path: Image.fromarray(DEEP.astype(np.float32)).save(path),
    "rgb.png": lambda path: path.write_bytes(png(2, 1, 16, 2, bytes(1 + 12))),
    "grey_alpha.png": lambda path: path.write_bytes(png(2, 1, 16, 4, bytes(1 + 8))),
    "rgba.png": lambda path: path.write_bytes(png(2, 1, 16, 6, bytes(1 + 16))),
    "grey.pgm": lambda path: path.write_bytes(b"P5\n2 1\n65535\n" + bytes(4)),
    "ten_bits.pgm": lambda path: path.write_bytes(b"P5\n2 1\n1023\n" + bytes(4)),
    "rgb.ppm": lambda path: path.write_bytes(b"P6\n2 1\n65535\n" + bytes(12)),
    "float.pfm": lambda path: path.write_bytes(b"Pf\n2 1\n-1.0\n" + bytes(8)),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_more_than_8_bits_are_refused_by_header_and_by_pixels(name: str, tmp_path: Path) -> None:
    DEEP_FILES[name](tmp_path / name)
    for read in (read_header, read_rgb, lambda path: list(peculiarities(path))):
        with pytest.raises(
            UnusableImage, match=f"{name}: has more than 8 bits per channel .*; convert the whole"
        ) as refusal:
            read(tmp_path / name)
        assert refusal.value.kind == "unsupported"


def test_a_bitmap_of_16_bits_a_pixel_has_8_bits_a_channel(tmp_path: Path) -> None:
    """BMP's 5 bits a channel: 31 is white."""
    header = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(header + struct.pack("<HH", 0x7FFF, 0))
    assert pixels(tmp_path / "a.bmp").tolist() == [[[255, 255, 255], [0, 0, 0]]]


def test_a_ppm_of_fewer_values_is_scaled_by_its_own_largest(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n1 1\n100\n" + bytes([0, 50, 100]))
    assert pixels(tmp_path / "a.ppm").tolist() == [[[0, 128, 255]]]


def test_postscript_under_the_name_of_a_picture_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **_: started.append(arguments))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: started.append(arguments), raising=False)
    shutil.copy(shared_data("..", "cases", "security", "eps_named.jpg"), tmp_path / "a.jpg")
    for read in (read_header, read_rgb):
        with pytest.raises(UnusableImage, match=r"a.jpg: cannot be decoded \(not an image of BMP.*; replace it"):
            read(tmp_path / "a.jpg")
    assert started == []


def test_the_format_is_told_by_the_content(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), RGB)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    done: list[str] = []

    def read_all() -> None:
        for name in ("pipe.jpg", "folder.jpg", "device.jpg"):
            with pytest.raises(UnusableImage, match=f"{name}: is a [a-zA-Z]+, not a file; replace it") as refusal:
                read_rgb(tmp_path / name)
            done.append(refusal.value.kind)

    thread = threading.Thread(target=read_all, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert done == ["damaged"] * 3
    with pytest.raises(UnusableImage, match=r"none.jpg: no such image; check the images folder") as refusal:
        read_rgb(tmp_path / "none.jpg")
    assert refusal.value.kind == "missing"
    with pytest.raises(UnusableImage, match=r"cannot be read .*null"):
        read_rgb(tmp_path / "a\0b.jpg")


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.jpg", "a.png", "a.ppm", "a.tif", "a.webp"])
def test_a_cut_file_is_damaged_wherever_it_ends(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = saved(tmp_path / name, Image.fromarray(noise)).read_bytes()
    for size in (0, 3, 11, 40, len(whole) // 3, len(whole) * 2 // 3):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(UnusableImage) as refusal:
            read_rgb(tmp_path / name)
        assert refusal.value.kind == "damaged", (size, refusal.value)
        assert "\n" not in str(refusal.value)


def test_whatever_a_decoder_raises_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RGB))

    def fail(error: Exception) -> Callable[..., None]:
        def load(_: object) -> None:
            raise error

        return load

    for error in (struct.error("short"), ZeroDivisionError(), KeyError("x"), RecursionError(), AttributeError("y")):
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail(error))
        with pytest.raises(BadInput, match=r"a.png: cannot be decoded"):
            read_rgb(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail(MemoryError()))
    with pytest.raises(MemoryError):  # of the machine, not of the file
        read_rgb(path)


@pytest.mark.parametrize("side", [10_000, 14_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2 * side, side, 1, 0, b""))
    assert 2 * side * side > MOST_PIXELS
    with pytest.raises(UnusableImage, match="has more than 178,956,970 pixels, which may be a decompression bomb"):
        read_header(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "packed.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_where_the_annotated_size_asks_for_it(
    name: str, orientation: int, tmp_path: Path
) -> None:
    """What stands at the top left of the shown image, by the table of the EXIF standard."""
    stored = np.zeros((2, 3, 3), dtype=np.uint8)
    stored[0, 0], stored[0, 2], stored[1, 0], stored[1, 2] = 10, 20, 30, 40
    options = {"packed.tif": {"compression": "tiff_lzw"}, "a.webp": {"lossless": True}}.get(name, {})
    metadata = Image.Exif()
    metadata[0x0112] = orientation
    path = saved(tmp_path / name, Image.fromarray(stored), exif=metadata, **options)
    assert read_header(path) == read_rgb(path)[1] == Header((3, 2), orientation)
    np.testing.assert_array_equal(np.asarray(read_annotated(path, (3, 2))), stored)
    np.testing.assert_array_equal(np.asarray(read_annotated(path, None)), stored)
    if orientation < 5:
        with pytest.raises(UnusableImage, match=r"is 3 x 2 pixels, annotated as 2 x 3") as refusal:
            read_annotated(path, (2, 3))
        assert refusal.value.kind == "size"
        return
    shown = np.asarray(read_annotated(path, (2, 3)))[..., 0]
    corners = [shown[0, 0], shown[0, 1], shown[2, 0], shown[2, 1]]
    # Row 0 of what is stored is the left (5, 8: from 5 top, 8 bottom) or right (6, 7) side of what is shown.
    assert corners == {5: [10, 30, 20, 40], 6: [30, 10, 40, 20], 7: [40, 20, 30, 10], 8: [20, 40, 10, 30]}[orientation]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_metadata_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=b"Exif\0\0" + exif(6))
    assert read_header(path).orientation == 6
    content = path.read_bytes()
    path.write_bytes(content.replace(exif(6)[:8], b"MM\0*\xff\xff\xff\xff"))
    image, header = read_rgb(path)
    assert (image.size, header.orientation) == ((5, 6), 1)
    assert read_header(path).orientation == 1


def test_a_png_may_hold_its_orientation_behind_its_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 1, 8, 0, bytes([0, 7, 9]), (b"eXIf", exif(6))))
    assert read_header(tmp_path / "a.png").orientation == 1  # would need the pixels
    assert read_rgb(tmp_path / "a.png")[1].orientation == 6
    assert np.asarray(read_annotated(tmp_path / "a.png", (1, 2)))[..., 0].tolist() == [[7], [9]]


def test_an_image_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RGB))
    with pytest.raises(UnusableImage, match=r"a.png: is 5 x 6 pixels, annotated as 6 x 5; .* belong together"):
        read_annotated(path, (6, 5))


def test_the_header_of_an_open_file_is_that_of_the_path(tmp_path: Path) -> None:
    from analysis.image_files import header_of

    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=b"Exif\0\0" + exif(8))
    assert header_of(io.BytesIO(path.read_bytes()), path) == read_header(path) == Header((5, 6), 8)


def test_libtiff_prints_nothing_of_its_own_about_a_damaged_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(RGB).save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    content[10:14] = b"\xff\xff\xff\xff"  # the first strip
    path.write_bytes(content)
    with pytest.raises(UnusableImage, match="cannot be decoded"):
        read_rgb(path)
    assert capfd.readouterr() == ("", "")


def test_pillow_logs_nothing_to_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(RGB).save(path)
    at = path.read_bytes().index(struct.pack("<HHI", 277, 3, 1)) + 8  # samples a pixel
    path.write_bytes(path.read_bytes()[:at] + struct.pack("<H", 5952) + path.read_bytes()[at + 2 :])
    code = f"from pathlib import Path; from analysis.image_files import read_rgb; read_rgb(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UnusableImage" in done.stderr
    assert not done.stderr.startswith("More samples")
