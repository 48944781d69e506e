"""Fonts of figures: names that the style's font cannot draw get another installed font, or a stand-in of letters."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

logger = logging.getLogger(__name__)

LAST_RESORT = "Last Resort"  # matplotlib's font of boxes, which has every character and draws none
MOST_LISTED = 4


def stand_in(text: str) -> str:
    """A text with what no installed font can draw written as the numbers of its characters: ``(4E2D 6587)``."""
    if text.isascii():
        return text
    missing = {letter for letter in text if not _drawn_by_any(letter)}
    if not missing:
        return text
    text = "".join(letter for letter in text if letter not in missing or not _invisible(letter))
    visible = "".join(re.escape(letter) for letter in sorted(missing) if not _invisible(letter))
    if not visible:
        return text
    return re.sub(f"[{visible}]+", lambda run: f"({' '.join(f'{ord(letter):04X}' for letter in run[0])})", text)


def warn_of_undrawable(names: Iterable[str]) -> None:
    """Say which names are drawn as numbers of characters, and the remedy."""
    undrawn = list(dict.fromkeys(name for name in names if stand_in(name) != name))
    if undrawn:
        more = f" and {len(undrawn) - MOST_LISTED} more" if len(undrawn) > MOST_LISTED else ""
        logger.warning(
            f"no installed font can draw {', '.join(undrawn[:MOST_LISTED])}{more}; the figures show numbers of "
            f"characters instead, such as {stand_in(undrawn[0])}; install a font that has them (Noto Sans CJK or Emoji)"
        )


def choose_fonts(figure: Figure) -> None:
    """Give every text of a figure the fonts that its own font needs as help."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        letters = text.get_text()
        if not letters.isascii():
            families = text.get_fontfamily()
            text.set_fontfamily([*families, *_help_for(letters, tuple(families))])


def _help_for(letters: str, families: Sequence[str]) -> list[str]:
    """Families of installed fonts that have what the given ones lack."""
    found: list[str] = []
    files = [findfont(FontProperties(family=[family])) for family in families]
    for letter in dict.fromkeys(letters):
        if letter.isascii() or any(_has(file, letter) for file in files):
            continue
        if (family := _drawn_by_any(letter)) and family not in found:
            found.append(family)
    return found


@cache
def _drawn_by_any(letter: str) -> str:
    """The family of an installed font that has a letter; empty if there is none."""
    return next((family for family, file in _installed() if _has(file, letter)), "")


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Family and file of the upright outline fonts, each family once."""
    upright = (font for font in fontManager.ttflist if font.style == "normal" and LAST_RESORT not in font.name)
    by_name = {font.name: font.fname for font in sorted(upright, key=lambda font: font.name, reverse=True)}
    return tuple((name, by_name[name]) for name in sorted(by_name, key=lambda name: (name != "DejaVu Sans", name)))


@cache
def _font(file: str) -> FT2Font | None:
    """A font to look characters up in; none for pictures of emoji, which cannot be drawn, and for damaged files."""
    try:
        font = FT2Font(file)
    except (OSError, RuntimeError):
        return None
    return font if font.scalable else None


def _has(file: str, letter: str) -> bool:
    font = _font(file)
    return font is not None and bool(font.get_char_index(ord(letter)))


def _invisible(letter: str) -> bool:
    """Joiners and selectors of variants, which draw nothing themselves."""
    return unicodedata.category(letter) in ("Cf", "Cc") or "VARIATION SELECTOR" in unicodedata.name(letter, "")
