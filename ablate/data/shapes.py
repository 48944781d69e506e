"""*shapes*, the embedded data set: 800 training and 240 validation images of flat figures, made from a seed.

Six classes, of which several look alike (circle and ellipse, square and rectangle), from 24 to 150 pixels, in any
orientation, behind one another and cut by the border. Colour hints at the class and sometimes misleads; figures of no
class, stray lines and clouds are clutter; some images hold a crowd. So all six error types occur. It shows the tool and
is no evidence about detectors. One fixed data set: change what is drawn and raise ``REVISION``.

Figures are painted by gauge functions, anti-aliased by their slope. A gauge is 0 at the middle of a shape, at most 1
inside and larger outside, so a threshold below 1 gives the rim. Only arithmetic, comparisons and a few cosines enter,
so every platform paints the same image.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ablate.progress import progress
from analysis.arrays import Floats
from analysis.files import part_folder

Colour = tuple[float, ...]  # RGB, 0..1
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


def _star(x: Floats, y: Floats, inner: float) -> Floats:
    """Five tips at radius 1, the dents between them at radius ``inner``."""
    along, across = _polar_fold(x, y, 5)
    dent_x, dent_y = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
    # The edge runs from the tip (1, 0) to the dent; (dent_y, 1 - dent_x) is its normal.
    return np.asarray((along * dent_y + across * (1 - dent_x)) / dent_y)


def _cross(x: Floats, y: Floats, width: float) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x, y / width), np.maximum(x / width, y))


GAUGES: dict[str, Gauge] = {
    "circle": _ellipse,
    "ellipse": _ellipse,
    "square": _box,
    "rectangle": _box,
    "triangle": lambda x, y, _: _polar_fold(-x, y, 3)[0] * 2,
    "star": _star,
    "cross": _cross,
    "half disc": lambda x, y, _: np.maximum(np.hypot(x, y), 1 + 2 * (y - 0.1)),
    "crescent": lambda x, y, _: np.maximum(np.hypot(x, y), 1.85 - np.hypot(x - 0.5, y)),
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

    def owned(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The pixels of a canvas of ``size`` (height, width) that it covers by more than half -> [height, width]."""
        pixels = np.zeros(size, dtype=bool)
        pixels[self.rows, self.columns] = self.cover > 0.5
        return pixels


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
    x, y = (np.arange(side) / max(size) - 0.5 for side in (width, height))
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
    places = ((shift + turn * 6) % 6 for shift in (5, 3, 1))
    return tuple(value - value * saturation * max(0.0, min(k, 4 - k, 1.0)) for k in places)


def _span(centre: float, radius: float, limit: int) -> tuple[int, int]:
    """First and last + 1 of the pixels that a figure may touch, at least two of them."""
    low = int(np.clip(np.floor(centre - radius) - 1, 0, limit - 2))
    return low, int(np.clip(np.ceil(centre + radius) + 1, low + 2, limit))


def _clouds(grain: Floats, cell: int) -> Floats:
    """Value noise f64[h, w]: the first of the grain's values as knots ``cell`` pixels apart, eased between."""
    height, width = grain.shape
    shape = (height // cell + 2, width // cell + 2)
    knots = grain.reshape(-1)[: shape[0] * shape[1]].reshape(shape)
    down, over = _smooth_steps(height, cell), _smooth_steps(width, cell)
    rows = knots[down[0]] * (1 - down[1])[:, None] + knots[down[0] + 1] * down[1][:, None]
    return np.asarray(rows[:, over[0]] * (1 - over[1]) + rows[:, over[0] + 1] * over[1])


def _smooth_steps(length: int, cell: int) -> tuple[NDArray[np.intp], Floats]:
    """The knot before each place, and the eased way to the next one."""
    place = np.arange(length) / cell
    knot = np.floor(place).astype(np.intp)
    way = place - knot
    return knot, way * way * (3 - 2 * way)


REVISION = 2
CLASSES = ("circle", "ellipse", "square", "rectangle", "triangle", "star")
STRANGERS = ("cross", "half disc", "crescent")  # of no class
Split = Literal["train", "val"]
COUNTS: dict[Split, int] = {"train": 800, "val": 240}
SIZES = ((144, 192), (192, 144), (160, 160), (176, 176))  # height, width
VISIBLE = 0.6  # part of a figure that what lies on top must leave, and of it that must lie on the canvas
SMALLEST = 30  # visible pixels of an object


@dataclass(frozen=True)
class Drawing:
    """One picture and its objects."""

    pixels: NDArray[np.uint8]  # [h, w, 3]
    masks: list[NDArray[np.bool_]]  # [h, w] each, what is visible
    labels: list[int]  # index into CLASSES
    crowd: list[bool]


def draw_scene(split: Split, number: int) -> Drawing:
    """Picture ``number`` (from 0) of a split; the same on every platform."""
    rng = np.random.default_rng([REVISION, list(COUNTS).index(split), number])
    size = SIZES[_below(rng, len(SIZES))]
    first, second = _backdrop(rng)
    canvas = background(size, first, second, rng.random(), rng.random(size))
    for stroke in _clutter(rng, size, first):
        _blend(canvas, paint(stroke, size))
    layers: list[tuple[Figure, NDArray[np.bool_], float]] = []  # what is visible of each, and its area when alone
    for figure in _figures(rng, size):
        stamp = paint(figure, size)
        own = stamp.owned(size)
        filling = {"circle": 1.0, "ellipse": figure.aspect, "square": 0.64, "rectangle": 0.52}.get(figure.kind, 0.42)
        alone = np.pi / 4 * figure.diameter**2 * filling  # about its area
        seen_below = [(other, seen & ~own, area) for other, seen, area in layers]
        if own.sum() >= max(SMALLEST, VISIBLE * alone) and all(
            seen.sum() >= max(SMALLEST, VISIBLE * area) for _, seen, area in seen_below
        ):
            _blend(canvas, stamp)
            layers = [*seen_below, (figure, own, float(own.sum()))]
    of_class = [(seen, CLASSES.index(figure.kind)) for figure, seen, _ in layers if figure.kind in CLASSES]
    masks, labels = [seen for seen, _ in of_class], [label for _, label in of_class]
    scene = Drawing(np.zeros(0, dtype=np.uint8), masks, labels, [False] * len(of_class))
    if rng.random() < 0.05:
        _add_crowd(rng, canvas, scene)
    return replace(scene, pixels=np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8))


def write_shapes(folder: Path) -> None:
    """Write the data set: ``annotations/instances_{train,val}.json`` and ``{train,val}/NNNNNN.png``.

    The folder appears whole or not at all; where it is already, nothing happens.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    what = "creating the embedded images"
    with part_folder(folder) as work, progress(what, "image", sum(COUNTS.values())) as advance:
        work.chmod(0o755)
        (work / "annotations").mkdir()
        for split in COUNTS:
            (work / split).mkdir()
            document = _document(split)
            for number, image in enumerate(document["images"]):
                scene = draw_scene(split, number)
                Image.fromarray(scene.pixels).save(work / split / image["file_name"], compress_level=1)
                _annotate(document, image, scene)
                advance()
            (work / "annotations" / f"instances_{split}.json").write_bytes(msgspec.json.encode(document))
        try:
            work.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same content
                raise


def _document(split: Split) -> dict[str, Any]:
    start = 0 if split == "train" else 100_000
    sizes = [draw_size(split, number) for number in range(COUNTS[split])]
    return {
        "info": {"description": f"shapes, revision {REVISION}: synthetic, made by detablate"},
        "images": [
            {"id": start + number + 1, "file_name": f"{number:06d}.png", "width": width, "height": height}
            for number, (height, width) in enumerate(sizes)
        ],
        "annotations": [],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
    }


def draw_size(split: Split, number: int) -> tuple[int, int]:
    """Height and width of a picture."""
    return SIZES[_below(np.random.default_rng([REVISION, list(COUNTS).index(split), number]), len(SIZES))]


def _annotate(document: dict[str, Any], image: dict[str, Any], scene: Drawing) -> None:
    from pycocotools import mask as coco_mask

    for seen, label, crowd in zip(scene.masks, scene.labels, scene.crowd, strict=True):
        rle = coco_mask.encode(np.asfortranarray(seen.astype(np.uint8)))
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "image_id": image["id"],
                "category_id": label + 1,
                "bbox": [float(side) for side in coco_mask.toBbox(rle)],
                "area": int(seen.sum()),
                "iscrowd": int(crowd),
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
            }
        )


def _figures(rng: np.random.Generator, size: tuple[int, int]) -> list[Figure]:
    """The figures to place, from the bottom to the top; large ones tend to be lower."""
    figures = []
    for _ in range(2 + _below(rng, 4)):
        kind = CLASSES[_below(rng, len(CLASSES))]
        figure = _figure(rng, size, kind, _diameter(rng), _centre(rng, size))
        figures.append(figure)
        if rng.random() < 0.12:  # company: the same kind close by
            shift = figure.diameter * _between(rng, 0.6, 1.0)
            turn = 2 * np.pi * rng.random()
            centre = (figure.centre[0] + shift * np.cos(turn), figure.centre[1] + shift * np.sin(turn))
            figures.append(_figure(rng, size, kind, figure.diameter * _between(rng, 0.8, 1.2), centre))
    for _ in range(_below(rng, 2)):
        kind = STRANGERS[_below(rng, len(STRANGERS))]
        figures.append(_figure(rng, size, kind, min(_diameter(rng), 80), _centre(rng, size)))
    return sorted(figures, key=lambda figure: -figure.diameter * _between(rng, 0.6, 1.4))


def _figure(
    rng: np.random.Generator, size: tuple[int, int], kind: str, diameter: float, centre: tuple[float, float]
) -> Figure:
    own = kind in CLASSES and rng.random() < 0.92
    turn = CLASSES.index(kind) / len(CLASSES) + _between(rng, -0.05, 0.05) if own else rng.random()
    aspect = {"circle": 1.0, "square": 1.0, "star": 0.45, "cross": 0.34}.get(kind, _between(rng, 0.45, 0.68))
    return Figure(
        kind=kind,
        centre=centre,
        diameter=min(diameter, 0.95 * min(size)),
        turn=rng.random(),
        aspect=aspect,
        colour=hue(turn % 1, _between(rng, 0.5, 0.85), _between(rng, 0.7, 0.98)),
        rim=_between(rng, 0.8, 1.8),
        stripes=_between(rng, 4, 9) if rng.random() < 0.15 else 0.0,
    )


def _clutter(rng: np.random.Generator, size: tuple[int, int], first: Colour) -> list[Figure]:
    """Stray lines, faint against the background."""
    return [
        Figure(  # drawn in this order
            kind="rectangle",
            colour=tuple(min(max(part + _between(rng, -0.18, 0.18), 0), 1) for part in first),
            centre=_centre(rng, size),
            diameter=_between(rng, 20, 90),
            turn=rng.random(),
            aspect=_between(rng, 0.02, 0.06),
            rim=0.0,
            stripes=0.0,
        )
        for _ in range(2 + _below(rng, 5))
    ]


def _add_crowd(rng: np.random.Generator, canvas: Floats, scene: Drawing) -> None:
    """A swarm of tiny figures of one class, annotated as one crowd region."""
    size = canvas.shape[0], canvas.shape[1]
    label = _below(rng, len(CLASSES))
    middle = _centre(rng, size)
    region = np.zeros(size, dtype=bool)
    for _ in range(8 + _below(rng, 8)):
        spot = (middle[0] + _between(rng, -22, 22), middle[1] + _between(rng, -14, 14))
        if not (5 < spot[0] < size[1] - 5 and 5 < spot[1] < size[0] - 5):
            continue
        stamp = paint(_figure(rng, size, CLASSES[label], _between(rng, 7, 10), spot), size)
        own = stamp.owned(size)
        if not any((seen & own).any() for seen in scene.masks):  # on free ground only: no object loses pixels
            _blend(canvas, stamp)
            region |= own
    if region.sum() >= SMALLEST:
        scene.masks.append(region)
        scene.labels.append(label)
        scene.crowd.append(True)


def _backdrop(rng: np.random.Generator) -> tuple[Colour, Colour]:
    dark, turn = rng.random() < 0.3, rng.random()
    saturation, value = ((0.2, 0.45), (0.2, 0.38)) if dark else ((0.06, 0.22), (0.78, 0.96))
    first = hue(turn, _between(rng, *saturation), _between(rng, *value))
    second = hue((turn + _between(rng, -0.15, 0.15)) % 1, _between(rng, *saturation), _between(rng, *value))
    return first, second


def _blend(canvas: Floats, stamp: Stamp) -> None:
    cover, area = stamp.cover[:, :, None], canvas[stamp.rows, stamp.columns]
    canvas[stamp.rows, stamp.columns] = area * (1 - cover) + stamp.paint * cover


def _diameter(rng: np.random.Generator) -> float:
    """Pixels: 20 % small, 55 % medium, 25 % large; log-uniform within."""
    draw = rng.random()
    low, high = (24, 36) if draw < 0.2 else (36, 80) if draw < 0.75 else (90, 150)
    return float(low * (high / low) ** rng.random())


def _centre(rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, float]:
    return size[1] * _between(rng, 0.04, 0.96), size[0] * _between(rng, 0.04, 0.96)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low + (high - low) * rng.random())


def _below(rng: np.random.Generator, count: int) -> int:
    return int(rng.random() * count)
