"""A chart of points with their intervals on axes of their own; the marks are those of runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.render.markup import Markup, tag
from analysis.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, run_class, run_letter

MOST_TICKS = 6
ROOM = 0.08  # of the range of the points, on each side of them

Span = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """One run: its letter stands at x, y; the spans are drawn as lines through it."""

    run: int
    x: float
    y: float
    x_span: Span | None = None
    y_span: Span | None = None
    hint: str = ""  # shown when a pointer rests on it


def even_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Round numbers between two, steps of 1, 2 or 5 times a power of ten; one where they are equal.

    >>> even_ticks(0, 97), even_ticks(0.031, 0.052), even_ticks(3, 3)
    ([0.0, 20.0, 40.0, 60.0, 80.0], [0.035, 0.04, 0.045, 0.05], [3])
    """
    if high <= low:
        return [low]
    size = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(size))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def scatter(
    points: Sequence[Point],
    *,
    label: str,
    x_title: str,
    y_title: str,
    front: Sequence[tuple[float, float]] = (),
    y_values: Sequence[float] = (),
) -> Markup:
    """Points with their spans, and a dashed line through those of ``front``.

    The axis also covers ``y_values``, so that charts side by side have the same.
    """
    x_low, x_high = _range([side for one in points for side in (one.x, *(one.x_span or ()))])
    y_low, y_high = _range([*y_values, *(side for one in points for side in (one.y, *(one.y_span or ())))])

    def across(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - x_low) / (x_high - x_low), 1)

    def down(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - y_low) / (y_high - y_low)), 1)

    grid: list[Markup] = []
    for tick in even_ticks(y_low, y_high):
        grid += [
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=down(tick), y2=down(tick), class_="grid"),
            tag("text", f"{tick:g}", x=LEFT - 7, y=down(tick) + 4, class_="tick end"),
        ]
    for tick in even_ticks(x_low, x_high):
        grid += [
            tag("line", x1=across(tick), x2=across(tick), y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"),
            tag("text", f"{tick:g}", x=across(tick), y=HEIGHT - BOTTOM + 17, class_="tick middle"),
        ]
    grid += [
        tag("text", x_title, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, class_="axis middle"),
        tag("text", y_title, x=LEFT - 43, y=(TOP + HEIGHT - BOTTOM) / 2, class_="axis middle turned"),
    ]
    way = " ".join(f"{across(x)},{down(y)}" for x, y in front)
    best = [tag("polyline", points=way, class_="front")] if len(front) > 1 else []
    marks = []
    for one in reversed(points):  # the first lies on top
        x, y = across(one.x), down(one.y)
        spans = []
        if one.x_span:
            spans.append(tag("line", x1=across(one.x_span[0]), x2=across(one.x_span[1]), y1=y, y2=y, class_="span"))
        if one.y_span:
            spans.append(tag("line", x1=x, x2=x, y1=down(one.y_span[0]), y2=down(one.y_span[1]), class_="span"))
        mark = (
            tag("title", one.hint) if one.hint else None,
            tag("circle", cx=x, cy=y, r=8, class_="mark"),
            tag("text", run_letter(one.run), x=x, y=y + 3.6, class_="letter middle"),
        )
        marks.append(tag("g", *spans, *mark, class_=run_class(one.run)))
    return tag(
        "svg", tag("g", *grid), *best, tag("g", *marks, class_="marks"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="img", aria_label=label,
    )  # fmt: skip


def _range(values: Sequence[float]) -> Span:
    """The least and the greatest with room on both sides, of one value too."""
    low, high = min(values), max(values)
    room = (high - low) * ROOM or abs(high) * ROOM or 1.0
    return low - room, high + room
