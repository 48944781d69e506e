"""Every pair of colours that the page puts together, by WCAG 2's formula, in light and in dark."""

import re
from importlib.resources import files

import pytest

from analysis.report.charts import RUN_COLOURS, SHADES

CSS = (files("analysis.report") / "page.css").read_text()
TEXT, GRAPHICS = 4.5, 3.0  # WCAG AA


def tokens(dark: bool) -> dict[str, str]:
    """The named colours of one theme."""
    return {name: pair[dark] for name, *pair in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\);", CSS)}


def linear(colour: str) -> list[float]:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    low, high = sorted(sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear(c))) for c in (one, other))  # noqa: B905
    return (high + 0.05) / (low + 0.05)


def mixed(over: str, under: str, share: float) -> str:
    """A colour laid over another."""
    pairs = [(int(over[p : p + 2], 16), int(under[p : p + 2], 16)) for p in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def test_the_formula() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's well-known near miss


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out(dark: bool) -> None:
    colour = tokens(dark)
    assert len(colour) == 18
    for ground in ("bg", "surface"):
        for text in ("ink", "dim", "accent"):
            assert contrast(colour[text], colour[ground]) >= TEXT, (text, ground)
        for run in range(RUN_COLOURS):
            assert contrast(colour[f"r{run}"], colour[ground]) >= GRAPHICS, (run, ground)
    assert contrast(colour["dim"], colour["rule"]) >= TEXT
    for run in range(RUN_COLOURS):
        assert contrast(colour.get(f"on{run}", colour["on"]), colour[f"r{run}"]) >= TEXT, run


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_can_be_read_on_every_shade(dark: bool) -> None:
    colour = tokens(dark)
    shares = [
        int(share) / 100 for share in re.findall(r"\.h\d \{ background: color-mix\(in srgb, var\(--shade\) (\d+)%", CSS)
    ]
    assert len(shares) == SHADES - 1
    assert shares == sorted(shares)
    for share in shares:
        assert contrast(colour["ink"], mixed(colour["shade"], colour["bg"], share)) >= TEXT, share
