"""What is drawn over a picture: boxes or masks in pixels of the image, and words that keep their size."""

import numpy as np
from numpy.typing import NDArray

from analysis.costs import Example
from analysis.error_types import TRUE_POSITIVE
from analysis.report.markup import Markup, tag
from analysis.report.material import Material
from analysis.report.outlines import TOLERANCE, outline
from analysis.report.pictures import ASPECT, Window

Floats = NDArray[np.float64]

MOST_OTHERS = 60  # objects drawn beside those that an example is about
COARSE = 3.0  # pixels: what they are only shown beside may be simplified more
LONGEST_LABEL = 34  # characters


def overlay(material: Material, run: int, example: Example, image: int, window: Window) -> Markup:
    """Boxes, or masks where those were compared, in pixels of the image."""
    gt, dt = material.ground_truth, material.runs[run].detections
    masks = material.settings.iou_type == "segm"
    others = np.flatnonzero((gt.image == image) & (np.arange(len(gt)) != example.truth))
    others = others[_touches(gt.box[others], window)][:MOST_OTHERS]
    outlines = [_shape(gt.masks.rle(i) if masks else None, gt.box[i], COARSE) for i in others.tolist()]
    parts = [tag("g", *outlines, class_="other")]
    if example.error == "dup":
        said = material.runs[run].breakdown.labels
        taken = np.flatnonzero((said.target == example.truth) & (said.error == TRUE_POSITIVE))
        parts += [
            tag("g", _shape(dt.masks.rle(i) if masks else None, dt.box[i]), class_="winner") for i in taken.tolist()
        ]
    if example.truth >= 0:
        shape = _shape(gt.masks.rle(example.truth) if masks else None, gt.box[example.truth])
        parts.append(tag("g", tag("g", shape, class_="halo"), tag("g", shape, class_="object")))
    if example.detection >= 0:
        shape = _shape(dt.masks.rle(example.detection) if masks else None, dt.box[example.detection])
        parts.append(tag("g", tag("g", shape, class_="halo"), tag("g", shape, class_="found")))
    frame = f"{window.x} {window.y} {window.width} {window.height}"
    return tag("svg", *parts, viewBox=frame, class_="overlay", aria_hidden="true")


def _touches(box: Floats, window: Window) -> NDArray[np.bool_]:
    """bool[B] which boxes f64[B, 4] have a part in the window."""
    low, high = np.array([window.x, window.y]), np.array([window.x + window.width, window.y + window.height])
    return np.asarray(((box[:, :2] < high) & (box[:, :2] + box[:, 2:] > low)).all(axis=1))


def _shape(rle: dict[str, object] | None, box: Floats, tolerance: float = TOLERANCE) -> Markup:
    if rle is None:
        x, y, width, height = (f"{side:.1f}".removesuffix(".0") for side in box.tolist())
        return tag("rect", x=x, y=y, width=width, height=height)
    loops = ("M" + " ".join(f"{x:g},{y:g}" for x, y in loop.tolist()) + "z" for loop in outline(rle, tolerance))
    return tag("path", d="".join(loops), fill_rule="evenodd")


def labels(material: Material, run: int, example: Example, window: Window) -> Markup:
    """The words on the picture, of one size however large the picture is shown."""
    gt, dt = material.ground_truth, material.runs[run].detections
    names, parts = gt.category_name, []
    if example.detection >= 0:
        text = f"{names[dt.category[example.detection]]} {dt.score[example.detection]:.2f}"
        parts.append(_label(text, dt.box[example.detection], window, "found", above=True))
    if example.truth >= 0 and example.error in ("cls", "miss"):
        text = names[gt.category[example.truth]]
        parts.append(_label(text, gt.box[example.truth], window, "object", above=example.error == "miss"))
    return tag("svg", *parts, class_="labels", aria_hidden="true")


def _label(text: str, box: Floats, window: Window, role: str, above: bool) -> Markup:
    """A word at the upper or lower edge of a box, in percents of a frame of 4 to 3 in which the window is centred."""
    shape = window.width / window.height / ASPECT
    across, down = min(1.0, shape), min(1.0, 1 / shape)  # the share of the frame that the window fills
    left = (box[0] - window.x) / window.width
    edge = (box[1] + (0 if above else box[3]) - window.y) / window.height
    to_the_left = left > 0.62
    x = left + (box[2] / window.width if to_the_left else 0)
    x, y = 0.5 + (min(max(x, 0.0), 1.0) - 0.5) * across, 0.5 + (min(max(edge, 0.0), 1.0) - 0.5) * down
    outside = y > 0.09 if above else y < 0.91
    lift = -5 if above == outside else 13
    shown = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
    anchor = "end" if to_the_left else "start"
    left_edge, height = f"{100 * min(max(x, 0.012), 0.988):.1f}%", f"{100 * y:.1f}%"
    return tag("text", shown, x=left_edge, y=height, dy=lift, class_=f"{role} {anchor}")
