"""Image files as 8-bit RGB pixels: the one opener of training, prediction, ``data check``, pre-training and the report.

Formats: BMP, GIF, JPEG, PNG, PPM (with PGM, PBM), TIFF and WebP, recognised by content and not by name.
No other decoder is started (Pillow hands PostScript to Ghostscript). JPEG 2000 and AVIF are left out because their
decoders do not tell how many bits a channel has.

=============================== =====================================================================================
pixels                          what is used
=============================== =====================================================================================
RGB, palette, YCbCr             RGB
grey, black and white           the grey value in all three channels
alpha, transparent colours      dropped: the colour stored under them is used, as detectron2 and torchvision do
CMYK                            R = (255 - C) (255 - K) / 255, ... as Pillow does; colour profiles are not applied
several frames                  the first
more than 8 bits per channel      refused (16-bit, 32-bit and floating-point): which range of values becomes 0..255 is a
                                decision for the whole data set, which no reader of one file can make
CIELab, premultiplied grey      refused
=============================== =====================================================================================

The EXIF orientation is applied where the stored pixels do not have the annotated size and the turned ones do
(orientations 5 to 8). An image of any other size than annotated is refused.

A file that is not a regular file, one of more than ``MOST_PIXELS`` pixels, and one on which the decoder fails in any
way is refused as an `UnusableImage`.
"""

import ctypes
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Literal

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from analysis.exceptions import BadInput
from analysis.files import ChangedWhileRead, NotAFile, unchanging

Size = tuple[int, int]  # width, height in pixels
Kind = Literal["missing", "damaged", "unsupported", "size"]

SUFFIXES = {
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpeg", ".jpg"),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
FORMATS = tuple(SUFFIXES)
MOST_PIXELS = 178_956_970  # at which Pillow suspects a decompression bomb
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")  # Pillow's, with 8 bits a channel
DEEP_RAW_MODE = re.compile(r";(12|16[BLNS]|32)")  # how Pillow names stored channels of more than 8 bits
EXIF_ORIENTATION = 0x0112  # the tag
SIDES_SWAPPED = {  # orientations by which width and height change places, and what undoes them
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
AS_STORED = {  # orientations, and what brings pixels that Pillow has turned by them back
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
REPLACE = "replace it"


def _silence_decoders() -> None:
    """Let Pillow and libtiff print nothing: they name no file and stop nothing; what matters of it is checked here.

    libtiff writes straight to standard error, unless it has no function to do it with. That is one setting for all
    threads; where Pillow's build hides it, libtiff goes on to print.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to standard error
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


_silence_decoders()


class UnusableImage(BadInput):
    """An image file that cannot be used.

    Attributes:
        kind: missing, damaged (or no regular file), unsupported (sound, but of a format or pixels that are not read),
            or of another size than annotated.
        what: is wrong, without the file's name.
        remedy: what to do.
    """

    def __init__(self, path: Path, kind: Kind, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}; {remedy}")
        self.kind, self.what, self.remedy = kind, what, remedy


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its image before the pixels are decoded."""

    size: Size  # of the stored pixels
    orientation: int  # EXIF's, 1 (upright) to 8; a PNG may hold it behind its pixels, which is not looked for

    def fits(self, annotated: Size | None) -> bool:
        """Whether the image has the annotated size, as it is stored or turned."""
        return annotated in (None, self.size) or self.is_turned(annotated)

    def is_turned(self, annotated: Size | None) -> bool:
        """Whether only the EXIF orientation gives the image the annotated size."""
        turned = self.orientation in SIDES_SWAPPED and annotated == self.size[::-1]
        return turned and annotated != self.size


@contextmanager
def open_image(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading; anything else (a FIFO, a device, a folder) is refused without waiting for it.

    Raises:
        UnusableImage: there is no such file, it is not a regular file, it cannot be read, or it was changed while it
            was read.
    """
    try:
        with unchanging(path) as file:
            yield file
    except UnusableImage:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableImage(path, "missing", "no such image", "check the images folder") from None
    except NotAFile as error:
        raise UnusableImage(path, "damaged", str(error.strerror), REPLACE) from None
    except ChangedWhileRead:
        raise UnusableImage(path, "damaged", "was changed while it was read", "wait until it is written") from None
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise UnusableImage(path, "damaged", what, "repair or remove it") from None


def header_of(file: IO[bytes], path: Path) -> Header:
    """The header of an open image file; ``path`` names it in refusals.

    Raises:
        UnusableImage: the file is not an image that can be used, judging by its header.
    """
    image = _identified(file, path)
    with _decoding(path):
        return _header(image)


def read_header(path: Path) -> Header:
    """The header of an image file.

    Raises:
        UnusableImage: it is missing or not an image that can be used, judging by its header.
    """
    with open_image(path) as file:
        return header_of(file, path)


def read_rgb(path: Path) -> tuple[Image.Image, Header]:
    """An image as RGB, its stored pixels as they are, and its header.

    Raises:
        UnusableImage: the file is missing, damaged, or not an image that can be used.
    """
    with open_image(path) as file:
        image = _identified(file, path)
        with _decoding(path):
            header = _header(image)
            image.load()
            orientation = _orientation(image)
            if image.format == "TIFF" and header.orientation != orientation:  # which Pillow has turned
                image = image.transpose(AS_STORED[header.orientation])
            else:
                header = Header(image.size, orientation)
            if "transparency" in image.info:  # convert alone would warn about palettes
                image = image.convert("RGBA")
            return image if image.mode == "RGB" else image.convert("RGB"), header


def read_annotated(path: Path, annotated: Size | None) -> Image.Image:
    """An image as RGB in the orientation in which it was annotated.

    Args:
        path: of the file.
        annotated: width and height in the annotations; none where they do not say: as it is stored.

    Raises:
        UnusableImage: as `read_rgb`, or the image has another size than annotated.
    """
    image, header = read_rgb(path)
    if not header.fits(annotated):
        raise wrong_size(path, header, annotated)
    return image.transpose(SIDES_SWAPPED[header.orientation]) if header.is_turned(annotated) else image


def wrong_size(path: Path, header: Header, annotated: Size | None) -> UnusableImage:
    """The refusal of an image that has another size than annotated."""
    width, height = annotated or header.size
    what = f"is {header.size[0]} x {header.size[1]} pixels, annotated as {width} x {height}"
    return UnusableImage(path, "size", what, "check that annotations and images belong together")


def peculiarities(path: Path) -> Iterator[tuple[str, str]]:
    """What is unusual about an image that `read_rgb` can read: a name for the kind, and what is done about it.

    Raises:
        UnusableImage: it cannot be used.
    """
    with open_image(path) as file:
        image = _identified(file, path)
        if image.mode == "CMYK":
            yield "CMYK image", "has CMYK pixels; they are converted to RGB without a colour profile"
        with _decoding(path):
            may_be_clear = image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info
            if may_be_clear and image.convert("RGBA").getchannel("A").histogram()[:255] != [0] * 255:
                yield "transparent image", "has transparent pixels; their stored colour is used"
        if _has_frames(image):
            yield "several frames", "has several frames; the first is used"


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage behind the first frame, which alone is used
        return True


def _identified(file: IO[bytes], path: Path) -> Image.Image:
    """An image of which the header is read; its format and pixels can be used."""
    with _decoding(path):
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            formats = ", ".join(FORMATS)
            raise UnusableImage(path, "damaged", f"cannot be decoded (not an image of {formats})", REPLACE) from None
        except Image.DecompressionBombError:
            raise _too_large(path) from None
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(path)
    if _is_deep(image):
        what = f"has more than 8 bits per channel (Pillow's mode {image.mode})"
        remedy = "convert the whole data set to 8 bits, with one range of values for all images"
        raise UnusableImage(path, "unsupported", what, remedy)
    if image.mode not in MODES:
        what = f"has pixels of Pillow's mode {image.mode}, which are not read"
        raise UnusableImage(path, "unsupported", what, "convert it to RGB")
    return image


def _too_large(path: Path) -> UnusableImage:
    what = f"has more than {MOST_PIXELS:,} pixels, which may be a decompression bomb"
    return UnusableImage(path, "unsupported", what, "cut it into smaller images")


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel is stored with more than 8 bits, which Pillow cuts or clips where it converts."""
    if image.mode.startswith(("I", "F")):
        return True
    for tile in image.tile:  # type: ignore[attr-defined]
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(one, str) and DEEP_RAW_MODE.search(one) for one in arguments):
            return True
        if image.format == "PPM" and tile[0] == "ppm" and arguments[-1] > 255:  # the largest value
            return True
    return False


def _header(image: Image.Image) -> Header:
    """The header of an image that is not loaded."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode the pixels to look behind them
        return Header(image.size, 1)
    if isinstance(image, TiffImageFile):  # whose size is that of the turned pixels
        return Header((image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]), _orientation(image))
    return Header(image.size, _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # metadata that cannot be read say nothing; the pixels are sound
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Whatever a damaged file leads a decoder to raise, as a refusal of the file."""
    try:
        yield
    except (UnusableImage, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnusableImage(path, "damaged", f"cannot be decoded ({reason})", REPLACE) from None
