"""Damaged image files of every format that is read: pixels or one sentence, in bounded time and memory."""

import random
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.image_files import (
    FORMATS,
    UnusableImage,
    peculiarities,
    read_annotated,
    read_header,
    read_rgb,
)
from tests.campaign.damage import damage, restore
from tests.campaign.peak import with_peak

SECONDS = 20.0
MOST_MEMORY = 2 << 30  # bytes: `MOST_PIXELS` as they are stored and as RGB, of four bytes each, and as much for a copy
SIZE = (48, 36)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x3000, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MODES = {"GIF": ("P", "L"), "JPEG": ("RGB", "L", "CMYK"), "TIFF": ("RGB", "RGBA", "P", "CMYK"), "WEBP": ("RGB", "RGBA")}
OPTIONS = {"TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"compression": "jpeg"})}


def sound(path: Path, kind: str, rng: random.Random) -> bytes:
    """A sound file of a format, of pixels, compression and orientation by chance."""
    pixels = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    mode, options = rng.choice(MODES.get(kind, ("RGB", "L"))), dict(rng.choice(OPTIONS.get(kind, ({},))))
    if options.get("compression") == "jpeg":
        mode = "RGB"
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and rng.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = rng.randrange(1, 9)
        options["exif"] = exif
    image = Image.fromarray(pixels).convert(mode)
    if kind == "GIF" and rng.random() < 0.5:
        options |= {"save_all": True, "append_images": [image.rotate(90)]}
    image.save(path, kind, **options)
    return path.read_bytes()


def header(path: Path, rng: random.Random) -> None:
    """Other numbers near the beginning or the end, where formats hold sizes, offsets and counts."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 4])):
        number = struct.pack(rng.choice("<>") + rng.choice("HIII"), rng.choice(EXTREMES[:8]))
        if rng.random() < 0.3:
            number = struct.pack("<I", rng.choice(EXTREMES))
        at = (
            rng.randrange(min(len(content), 160))
            if rng.random() < 0.7
            else max(0, len(content) - rng.randrange(1, 300))
        )
        content[at : at + len(number)] = number
    path.write_bytes(bytes(content))


def mend_checksums(path: Path) -> None:
    """Make the checksums of a PNG's chunks right again, so that what is damaged reaches the decoder."""
    content, at = bytearray(path.read_bytes()), 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        content[end : end + 4] = zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    path.write_bytes(bytes(content))


def look(path: Path) -> str:
    """Everything that the product asks of an image -> whether it is read; a refusal is one sentence about the file."""
    try:
        known = read_header(path)
        list(peculiarities(path))
        image, loaded = read_rgb(path)
        assert (image.mode, image.size) == ("RGB", loaded.size)
        assert 1 <= loaded.orientation <= 8
        del image  # before the next, for the memory is measured
        assert read_annotated(path, known.size).size == known.size
    except UnusableImage as refusal:
        sentence = str(refusal)
        assert sentence.startswith(f"{path}: ")
        assert "\n" not in sentence
        assert len(sentence) < 1000
        return "refused"
    return "read"


def storm(folder: Path, kind: str, seeds: range) -> tuple[Counter[str], float]:
    """Outcomes, and the longest time of one file in seconds."""
    path, longest = folder / "image", 0.0
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(f"{kind} {seed}")
        content = sound(path, kind, rng)
        assert look(path) == "read"
        way = "header"
        if rng.random() < 0.6:
            header(path, rng)
            if kind == "PNG" and rng.random() < 0.8:
                mend_checksums(path)
        else:
            way = damage(path, rng)
        began = time.perf_counter()
        try:
            seen[look(path)] += 1
        except BaseException as error:
            error.add_note(f"{kind}, seed {seed}, {way}")
            raise
        took = time.perf_counter() - began
        assert took < SECONDS, f"{kind}, seed {seed}, {way}: {took:.0f} s"
        longest = max(longest, took)
        restore(path, content)
    return seen, longest


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sample(tmp_path: Path, kind: str) -> None:
    seen, _ = storm(tmp_path, kind, range(25))
    assert seen["refused"] > 3, seen


@pytest.mark.campaign
@pytest.mark.parametrize("kind", FORMATS)
def test_a_storm(tmp_path: Path, kind: str) -> None:
    (seen, longest), peak = with_peak(storm, tmp_path, kind, range(100, 1100))
    print(f"{kind}: {dict(seen)}, longest {longest:.1f} s, peak {peak >> 20} MiB")  # with -s
    assert seen["refused"] > 100, seen
    assert seen["read"] > 5, seen  # hardly a PNG: its data have a checksum
    assert peak < MOST_MEMORY
