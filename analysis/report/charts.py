"""Small charts as SVG: bars that stretch with their table cell, curves, shades of a table.

Everything in them is also written as text beside them, so they are hidden from screen readers, or carry a label.
No style attributes: the page's security policy forbids them. Colours are classes; ``r0`` to ``r7`` are the runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Floats
from analysis.render.markup import Markup, tag

RUN_COLOURS = 8  # classes r0 .. r7, then again from the start
SHADES = 7  # classes h0 .. h6 of a table's cells
WIDTH, HEIGHT = 380, 300  # of a chart of curves, in its own units
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 12, 40
LOWEST_MARK = 0.04  # of the height: letters stand on the part of a curve that is above
FRAME = (LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, TOP)  # of the axes: left, bottom, right, top


def run_class(number: int) -> str:
    """The class that gives a run its colour."""
    return f"r{number % RUN_COLOURS}"


def run_letter(number: int) -> str:
    """The letter of a run, so that colour alone never tells runs apart.

    >>> run_letter(0), run_letter(7), run_letter(26)
    ('A', 'H', 'A1')
    """
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def badge(number: int) -> Markup:
    """The mark of a run: its letter on its colour."""
    return tag("span", run_letter(number), class_=f"badge {run_class(number)}", aria_hidden="true")


@dataclass(frozen=True)
class Scale:
    """From numbers to percents of the width, ends included."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Scale":
        """From 0, or the least value below it, to the greatest."""
        return cls(min(0.0, *values, 0.0), max(0.0, *values, 1e-9))

    def percent(self, value: float) -> float:
        """0 to 100, for what lies outside too."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)


POINTS = Scale(0, 100)


def bar(value: float, scale: Scale, colour: str = "", interval: tuple[float, float] | None = None) -> Markup:
    """A bar from 0, with whiskers where there is an interval; as wide as what it stands in."""
    zero, end = scale.percent(0.0), scale.percent(value)
    place = {"x": f"{min(zero, end)}%", "width": f"{abs(end - zero):.2f}%", "y": "18%", "height": "64%"}
    parts = [tag("rect", **place, rx=1.5, class_="fill")]
    if scale.low < 0:
        parts.append(tag("line", x1=f"{zero}%", x2=f"{zero}%", y1="0", y2="100%", class_="zero"))
    if interval:
        low, high = (f"{scale.percent(side)}%" for side in interval)
        parts += [
            tag("line", x1=low, x2=high, y1="50%", y2="50%", class_="whisker"),
            *(tag("line", x1=x, x2=x, y1="30%", y2="70%", class_="whisker") for x in (low, high)),
        ]
    return tag("svg", *parts, class_=f"bar {colour}".strip(), aria_hidden="true")


def estimate_line(value: float, interval: tuple[float, float] | None, scale: Scale, colour: str = "") -> Markup:
    """A point and its interval about a line at 0: for differences."""
    zero, place = f"{scale.percent(0.0)}%", f"{scale.percent(value)}%"
    parts = [tag("line", x1=zero, x2=zero, y1="0", y2="100%", class_="zero")]
    if interval:
        low, high = (f"{scale.percent(side)}%" for side in interval)
        parts.append(tag("line", x1=low, x2=high, y1="50%", y2="50%", class_="reach"))
    parts.append(tag("circle", cx=place, cy="50%", r=4.5, class_="fill"))
    return tag("svg", *parts, class_=f"bar {colour}".strip(), aria_hidden="true")


def dots(values: Sequence[float | None], scale: Scale) -> Markup:
    """One lettered dot a run on a common line."""
    known = [(scale.percent(value), number) for number, value in enumerate(values) if value is not None]
    parts = [tag("line", x1="0", x2="100%", y1="50%", y2="50%", class_="rail")]
    if len(known) > 1:
        low, high = min(known)[0], max(known)[0]
        parts.append(tag("line", x1=f"{low}%", x2=f"{high}%", y1="50%", y2="50%", class_="span"))
    parts += [tag("circle", cx=f"{x}%", cy="50%", r=5, class_=f"fill {run_class(number)}") for x, number in known]
    return tag("svg", *parts, class_="bar dots", aria_hidden="true")


def shade(value: float, most: float) -> str:
    """The class of a table's cell: the darker, the more of ``most`` it holds.

    >>> shade(0, 5), shade(5, 5), shade(-1, 5), shade(0.1, 5)
    ('h0', 'h6', 'h0', 'h1')
    """
    if most <= 0 or value <= 0:
        return "h0"
    return f"h{min(SHADES - 1, 1 + int(value / most * (SHADES - 1) * 0.999))}"


@dataclass(frozen=True)
class PlotLine:
    """One curve of a run: y in 0..1 over x evenly spaced, or at given x; its letter stands at ``mark``, or anywhere.

    A ``faint`` one has no letter: it is one of several that a curve with a letter is the mean of.
    """

    run: int
    y: Floats
    x: Floats | None = None
    mark: float | None = None
    faint: bool = False


def curves(
    lines: Sequence[PlotLine],
    *,
    label: str,
    x_title: str,
    y_title: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    x_ticks: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    y_top: float = 1.0,
    y_ticks: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
) -> Markup:
    """Curves on one pair of axes; every run has its dashes and, along the curve, its letter."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(value: float) -> float:
        return round(LEFT + inner_width * (value - x_range[0]) / (x_range[1] - x_range[0]), 1)

    def down(value: float) -> float:
        return round(TOP + inner_height * (1 - value / y_top), 1)

    grid: list[Markup] = []
    for tick in y_ticks:
        grid += [
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=down(tick), y2=down(tick), class_="grid"),
            tag("text", f"{tick:g}", x=LEFT - 7, y=down(tick) + 4, class_="tick end"),
        ]
    grid += [
        *(tag("text", f"{tick:g}", x=across(tick), y=HEIGHT - BOTTOM + 17, class_="tick middle") for tick in x_ticks),
        tag("text", x_title, x=LEFT + inner_width / 2, y=HEIGHT - 5, class_="axis middle"),
        tag("text", y_title, x=LEFT - 43, y=TOP + inner_height / 2, class_="axis middle turned"),
    ]
    drawn, marks = [], []
    for number, line in enumerate(lines):
        x = np.linspace(*x_range, len(line.y)) if line.x is None else line.x
        points = " ".join(f"{across(a)},{down(b)}" for a, b in zip(x.tolist(), line.y.tolist(), strict=True))
        look = "curve faint" if line.faint else f"curve d{line.run % RUN_COLOURS}"
        drawn.append(tag("polyline", points=points, class_=f"{look} {run_class(line.run)}"))
        if line.faint:
            continue
        # Letters stand apart from one another: each at another place along its curve.
        high = np.flatnonzero(line.y > LOWEST_MARK * y_top)
        high = high if len(high) else np.arange(len(line.y))
        at = int(high[int((len(high) - 1) * (0.15 + 0.7 * (number + 0.5) / len(lines)))])
        if line.mark is not None:
            at = min(int(np.searchsorted(x, line.mark)), len(x) - 1)
        left, top = across(x[at]), down(line.y[at])
        mark = (
            tag("circle", cx=left, cy=top, r=8, class_="mark"),
            tag("text", run_letter(line.run), x=left, y=top + 3.6, class_="letter middle"),
        )
        marks.append(tag("g", *mark, class_=run_class(line.run)))
    return tag(
        "svg", tag("g", *grid), tag("g", *drawn, class_="curves"), tag("g", *marks, class_="marks"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="img", aria_label=label,
    )  # fmt: skip


def legend(names: Sequence[str]) -> Markup:
    """The runs with letter, colour and dashes."""

    def entry(number: int, name: str) -> Markup:
        line = tag("line", x1=1, x2=27, y1=5, y2=5, class_=f"curve {run_class(number)} d{number % RUN_COLOURS}")
        sample = tag("svg", line, width=28, height=10, aria_hidden="true")
        return tag("li", badge(number), sample, tag("span", name, class_="name", title=name))

    return tag("ul", *map(entry, range(len(names)), names), class_="legend")
