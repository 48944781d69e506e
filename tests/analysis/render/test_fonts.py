"""Names in figures: drawn by a font that has them or told apart by numbers, and nothing of the user's is overridden."""

import logging
from collections.abc import Iterator
from io import BytesIO

import matplotlib as mpl
import pytest
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from PIL import Image

from analysis.render.figure_style import DPI, drawing, encoded, new_figure
from analysis.render.fonts import choose_fonts, stand_in, warn_of_undrawable
from analysis.render.plots import distinct_labels

NOBODYS = "\U00013000\U00013001"  # Egyptian hieroglyphs, of which hardly a machine has a font


@pytest.fixture
def defaults() -> Iterator[None]:
    """matplotlib as it comes: to import tidecv changes its settings, in another test."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def figure_with(text: str, **options: object) -> mpl.figure.Figure:
    figure = new_figure(2, 1)
    figure.text(0.1, 0.5, text, **options)
    return figure


def test_a_name_in_a_script_that_no_font_has_is_told_apart_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    if stand_in(NOBODYS) == NOBODYS:
        pytest.skip("a font of Egyptian hieroglyphs is installed")
    names = [NOBODYS, NOBODYS[::-1], "dog", f"dog {NOBODYS[0]}\u200d", "$5", "two\nlines", " "]
    assert distinct_labels(names) == [
        "(13000 13001)",
        "(13001 13000)",
        "dog",
        "dog (13000)",
        r"\$5",
        "two lines",
        "(blank)",
    ]
    with caplog.at_level(logging.WARNING):
        warn_of_undrawable(["dog", NOBODYS])
    (record,) = caplog.records
    assert record.message.startswith(f"no installed font can draw {NOBODYS}; the figures show numbers of characters")
    caplog.clear()
    warn_of_undrawable(["dog", "chien ä", "$5"])
    assert not caplog.records


def test_matplotlibs_font_of_boxes_draws_no_name() -> None:
    """matplotlib 3.11 brings a font that has every character, as a box."""
    assert stand_in("\U0010fffd") != "\U0010fffd"


def test_letters_that_the_font_lacks_are_drawn_by_another(recwarn: pytest.WarningsRecorder) -> None:
    figure = figure_with("собака", fontfamily=["cmr10"])  # a Latin font that comes with matplotlib
    choose_fonts(figure)
    families = figure.texts[0].get_fontfamily()
    assert families[0] == "cmr10"
    fonts = [FT2Font(findfont(FontProperties(family=[family]))) for family in families[1:]]
    assert all(any(font.get_char_index(ord(letter)) for font in fonts) for letter in "собака")
    encoded(figure, ("png",))
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_what_the_user_has_set_stays(defaults: None) -> None:
    with drawing():
        styled = encoded(figure_with("text"), ("png",))["png"]
        assert mpl.rcParams["grid.color"] == "0.92"
    assert Image.open(BytesIO(styled)).size == (2 * DPI, DPI)
    own = {"font.family": ["serif"], "savefig.dpi": 100, "grid.color": "red", "font.size": 17.0}
    with mpl.rc_context(own), drawing():
        assert {key: mpl.rcParams[key] for key in own} == own
        picture = encoded(figure_with("text"), ("png",))["png"]
    assert Image.open(BytesIO(picture)).size == (200, 100)
