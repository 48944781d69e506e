"""How the embedded data set is painted: outlines as gauge functions, anti-aliased by its slope; plain numpy.

A gauge is 0 at the middle of a shape, at most 1 inside and larger outside, so a threshold below 1 gives the rim. Only
arithmetic, comparisons and a few cosines enter, so every platform paints the same picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]  # RGB, 0..1
Gauge = Callable[[Floats, Floats, float], Floats]  # x, y (unit: half the diameter), aspect -> gauge


def _ellipse(x: Floats, y: Floats, aspect: float) -> Floats:
    y = y / aspect
    return np.asarray((x * x + y * y) ** 0.5)


def _box(x: Floats, y: Floats, aspect: float) -> Floats:
    # Corners on the unit circle for a square: sides at sqrt(1/2).
    return np.asarray(np.maximum(np.abs(x), np.abs(y) / aspect) * (1 + aspect * aspect) ** 0.5)


def _polar_fold(x: Floats, y: Floats, points: int) -> tuple[Floats, Floats]:
    """Mirror the plane into one half of one of ``points`` equal sectors around the x axis."""
    sector = 2 * np.pi / points
    angle = np.arctan2(y, x)
    angle = np.abs(angle - sector * np.round(angle / sector))
    radius = np.hypot(x, y)
    return radius * np.cos(angle), radius * np.sin(angle)


def _triangle(x: Floats, y: Floats, _: float) -> Floats:
    return _polar_fold(-x, y, 3)[0] * 2


def _star(x: Floats, y: Floats, inner: float) -> Floats:
    """Five tips at radius 1, the dents between them at radius ``inner``."""
    along, across = _polar_fold(x, y, 5)
    dent_x, dent_y = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
    # The edge runs from the tip (1, 0) to the dent; (dent_y, 1 - dent_x) is its normal.
    return np.asarray((along * dent_y + across * (1 - dent_x)) / dent_y)


def _cross(x: Floats, y: Floats, width: float) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x, y / width), np.maximum(x / width, y))


def _half_disc(x: Floats, y: Floats, _: float) -> Floats:
    return np.maximum(np.hypot(x, y), 1 + 2 * (y - 0.1))


def _crescent(x: Floats, y: Floats, _: float) -> Floats:
    return np.maximum(np.hypot(x, y), 1.85 - np.hypot(x - 0.5, y))


GAUGES: dict[str, Gauge] = {
    "circle": _ellipse,
    "ellipse": _ellipse,
    "square": _box,
    "rectangle": _box,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "half disc": _half_disc,
    "crescent": _crescent,
}


@dataclass(frozen=True)
class Figure:
    """One shape on the canvas; lengths in pixels, angles in turns."""

    kind: str
    centre: tuple[float, float]  # x, y
    diameter: float
    turn: float
    aspect: float
    colour: Colour
    rim: float  # width of the darker rim
    stripes: float  # period of the stripes, 0: none


@dataclass(frozen=True)
class Stamp:
    """A figure painted on its own: where, what covers how much, which pixels it owns."""

    rows: slice
    columns: slice
    cover: Floats  # [h, w] 0..1
    paint: Floats  # [h, w, 3] 0..1


def paint(figure: Figure, size: tuple[int, int]) -> Stamp:
    """A figure as seen on a canvas of ``size`` (height, width)."""
    radius = figure.diameter / 2
    left, right = _span(figure.centre[0], radius, size[1])
    top, bottom = _span(figure.centre[1], radius, size[0])
    x = (np.arange(left, right) + 0.5 - figure.centre[0])[None, :] / radius
    y = (np.arange(top, bottom) + 0.5 - figure.centre[1])[:, None] / radius
    cosine, sine = np.cos(2 * np.pi * figure.turn), np.sin(2 * np.pi * figure.turn)
    along, across = x * cosine + y * sine, y * cosine - x * sine
    gauge = GAUGES[figure.kind](along, across, figure.aspect)
    down, over = np.gradient(gauge)
    distance = (1 - gauge) / np.maximum((down * down + over * over) ** 0.5, 1e-3 / radius)  # pixels inside the edge
    light = 1.0 - 0.08 * (x + y)  # from the top left
    if figure.stripes:
        band = along * radius / figure.stripes
        ridge = np.abs(band - np.floor(band) - 0.5) - 0.25  # periods from the nearer edge of a stripe
        light = light - 0.22 * np.clip(0.5 + ridge * figure.stripes, 0, 1)
    light = light * (1 - 0.42 * np.clip(figure.rim + 0.5 - distance, 0, 1))
    pixels = np.clip(light[:, :, None] * np.array(figure.colour), 0, 1)
    return Stamp(slice(top, bottom), slice(left, right), np.clip(distance + 0.5, 0, 1), pixels)


def background(size: tuple[int, int], first: Colour, second: Colour, turn: float, grain: Floats) -> Floats:
    """A gradient with soft clouds and fine grain -> f64[h, w, 3]; ``grain`` f64[h, w] uniform in 0..1 feeds both."""
    height, width = size
    x = np.arange(width) / max(size) - 0.5
    y = np.arange(height) / max(size) - 0.5
    ramp = np.cos(2 * np.pi * turn) * x[None, :] + np.sin(2 * np.pi * turn) * y[:, None] + 0.5
    mix = np.clip(ramp + 0.9 * (_clouds(grain, 24) - 0.5) + 0.4 * (_clouds(grain[::-1, ::-1], 9) - 0.5), 0, 1)[
        :, :, None
    ]
    picture: Floats = np.array(first) * (1 - mix) + np.array(second) * mix
    return picture + 0.05 * (grain[:, :, None] - 0.5)


def hue(turn: float, saturation: float, value: float) -> Colour:
    """HSV, each 0..1 -> RGB.

    >>> hue(0.0, 1.0, 1.0)
    (1.0, 0.0, 0.0)
    """
    places = [(shift + turn * 6) % 6 for shift in (5, 3, 1)]
    red, green, blue = (value - value * saturation * max(0.0, min(k, 4 - k, 1.0)) for k in places)
    return red, green, blue


def _span(centre: float, radius: float, limit: int) -> tuple[int, int]:
    """First and last + 1 of the pixels that a figure may touch, at least two of them."""
    low = int(np.clip(np.floor(centre - radius) - 1, 0, limit - 2))
    return low, int(np.clip(np.ceil(centre + radius) + 1, low + 2, limit))


def _clouds(grain: Floats, cell: int) -> Floats:
    """Value noise f64[h, w]: the first of the grain's values as knots ``cell`` pixels apart, eased between."""
    height, width = grain.shape
    shape = (height // cell + 2, width // cell + 2)
    knots = grain.reshape(-1)[: shape[0] * shape[1]].reshape(shape)
    down = _smooth_steps(height, cell)
    over = _smooth_steps(width, cell)
    rows = knots[down[0]] * (1 - down[1])[:, None] + knots[down[0] + 1] * down[1][:, None]
    return np.asarray(rows[:, over[0]] * (1 - over[1]) + rows[:, over[0] + 1] * over[1])


def _smooth_steps(length: int, cell: int) -> tuple[NDArray[np.intp], Floats]:
    """The knot before each place, and the eased way to the next one."""
    place = np.arange(length) / cell
    knot = np.floor(place).astype(np.intp)
    way = place - knot
    return knot, way * way * (3 - 2 * way)
