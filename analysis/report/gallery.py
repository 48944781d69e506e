"""The costliest errors, each drawn on its picture with the object that it points at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.costs import Example
from analysis.errors import ERRORS, TRUE_POSITIVE
from analysis.findings import MEANINGS
from analysis.report.charts import badge
from analysis.report.markup import Markup, join, tag
from analysis.report.material import Material, RunMaterial
from analysis.report.outlines import outline
from analysis.report.page import Section
from analysis.report.pictures import ASPECT, Album, Window, window_around
from analysis.tables import ap_name

Floats = NDArray[np.float64]

MOST_OTHERS = 60  # objects drawn beside those that an example is about
AT_FIRST = 8  # examples of a type that are shown until more are asked for


@dataclass(frozen=True)
class _Card:
    """One example, ready to be drawn."""

    run: int
    example: Example
    image: int
    window: Window


def gallery(material: Material, album: Album, pictures_asked: bool) -> Section:
    """Cards by error type, the costliest first; reads the pictures of ``album``."""
    cards = [
        _card(material, album, number, example)
        for number, one in enumerate(material.runs)
        for examples in one.examples.values()
        for example in examples
    ]
    addresses = _addresses(material, album, cards)
    groups = []
    for error in ERRORS:
        of_type = [n for n, card in enumerate(cards) if card.example.error == error]
        places = _in_turn([cards[n].run for n in of_type])
        of_type = [of_type[place] for place in places]
        drawn = [_drawn(material, cards[n], addresses[n], pictures_asked) for n in of_type]
        groups.append(_group(material, error, drawn))
    return Section(
        "gallery", "Gallery", "The errors that cost most, one by one",
        join([_introduction(material, album, len(cards), pictures_asked), _filters(material, cards), *groups, _dialog()]),
    )  # fmt: skip


def _in_turn(runs: Sequence[int]) -> list[int]:
    """Places so that the runs take turns: the first of each, the second of each."""
    seen: dict[int, int] = {}
    turns = []
    for place, run in enumerate(runs):
        seen[run] = seen.get(run, -1) + 1
        turns.append((seen[run], run, place))
    return [place for _, _, place in sorted(turns)]


def _card(material: Material, album: Album, run: int, example: Example) -> _Card:
    gt, one = material.ground_truth, material.runs[run]
    boxes = [one.detections.box[example.detection]] if example.detection >= 0 else []
    boxes += [gt.box[example.truth]] if example.truth >= 0 else []
    image = int(one.detections.image[example.detection] if example.detection >= 0 else gt.image[example.truth])
    return _Card(run, example, image, window_around(np.array(boxes), _size(material, album, image)))


def _size(material: Material, album: Album, image: int) -> tuple[int, int] | None:
    height, width = material.ground_truth.image_size[image].tolist()
    return (width, height) if width > 0 else album.size(image)


def _addresses(material: Material, album: Album, cards: Sequence[_Card]) -> list[str | None]:
    """The picture of every card, reading each image once."""
    found: list[str | None] = [None] * len(cards)
    by_image: dict[int, list[int]] = {}
    for number, card in enumerate(cards):
        by_image.setdefault(card.image, []).append(number)
    for image, numbers in by_image.items():
        windows = [cards[n].window for n in numbers]
        for n, address in zip(numbers, album.pictures(image, windows, _size(material, album, image)), strict=True):
            found[n] = address
    return found


def _introduction(material: Material, album: Album, count: int, pictures_asked: bool) -> Markup:
    name = ap_name(material.settings.iou)
    parts: list[Markup] = [
        tag(
            "p",
            f"Of every run and type of error the examples whose repair alone would gain most {name}, the costliest of "
            "every class first. Objects that were missed cost the same within a class, so the largest come first.",
        ),
        tag(
            "ul",
            tag("li", _key("found"), "the detection"),
            tag("li", _key("object"), "the object it points at, or that was missed"),
            tag("li", _key("winner"), "the detection that had taken it (dup)"),
            tag("li", _key("other"), "other annotated objects"),
            class_="legend roles",
        ),
    ]
    if not pictures_asked:
        parts.append(tag("p", "No folder of images was named (--images), so boxes stand on empty ground.", class_="note"))
    for trouble, what in ((album.missing, "are not in the folder of images"), (album.damaged, "cannot be read")):
        if trouble:
            noun = "picture" if len(trouble) == 1 else "pictures"
            parts.append(
                tag("p", f"{len(trouble):,} {noun} of those needed {what}: their boxes stand on empty ground.",
                    class_="note")
            )  # fmt: skip
    if not count:
        parts.append(tag("p", "There is no error to show.", class_="note"))
    return join(parts)


def _key(role: str) -> Markup:
    return tag(
        "svg", tag("rect", x=2, y=2, width=22, height=12, class_="halo"), tag("rect", x=2, y=2, width=22, height=12, class_=role),
        width=26, height=16, class_="overlay key", aria_hidden="true",
    )  # fmt: skip


def _filters(material: Material, cards: Sequence[_Card]) -> Markup:
    names = material.ground_truth.category_name
    categories = sorted({c for card in cards for c in _categories(material, card)}, key=lambda c: names[c].lower())
    controls = [
        _select("run", "Run", "all runs", [(str(n), name) for n, name in enumerate(material.names)]),
        _select("error", "Error", "all types", [(error, f"{error}: {MEANINGS[error]}") for error in ERRORS]),
        _select("category", "Class", "all classes", [(str(c), names[c]) for c in categories]),
    ]
    switches = [
        tag("label", tag("input", type="checkbox", id=f"show-{what}", checked=True), f" {label}")
        for what, label in (("marks", "boxes"), ("others", "other objects"))
    ]
    return tag(
        "form", *controls, tag("div", *switches, class_="switches"),
        tag("p", "", id="shown", role="status", aria_live="polite"),
        class_="filters", id="filters", hidden=True, aria_label="Filter the gallery",
    )  # fmt: skip


def _select(name: str, label: str, everything: str, options: Sequence[tuple[str, str]]) -> Markup:
    return tag(
        "label", tag("span", label),
        tag("select", tag("option", everything, value=""), *(tag("option", text, value=value) for value, text in options),
            id=f"filter-{name}", name=name),
    )  # fmt: skip


def _group(material: Material, error: str, drawn: Sequence[Markup]) -> Markup:
    if not drawn:
        return Markup()
    return tag(
        "section",
        tag("h3", tag("span", error, class_="code"), f" {MEANINGS[error]}", id=f"gallery-{error}"),
        tag("ol", *drawn, class_="cards"),
        tag("button", "Show all", type="button", class_="more", hidden=True),
        class_="group", data_error=error, data_first=AT_FIRST, aria_labelledby=f"gallery-{error}",
    )  # fmt: skip


def _dialog() -> Markup:
    return tag(
        "dialog",
        tag("div", id="large"),
        tag(
            "p",
            tag("button", "Previous", type="button", id="previous"), tag("span", "", id="place", role="status"),
            tag("button", "Next", type="button", id="next"), tag("button", "Close", type="button", id="close"),
            class_="controls",
        ),
        id="viewer", aria_label="Example, enlarged",
    )  # fmt: skip


def _categories(material: Material, card: _Card) -> set[int]:
    gt, one = material.ground_truth, material.runs[card.run]
    found = {int(one.detections.category[card.example.detection])} if card.example.detection >= 0 else set()
    return found | ({int(gt.category[card.example.truth])} if card.example.truth >= 0 else set())


def _drawn(material: Material, card: _Card, address: str | None, pictures_asked: bool) -> Markup:
    one = material.runs[card.run]
    what, details = _told(material, one, card.example)
    name = material.ground_truth.file_name[card.image] or f"image {material.ground_truth.image_id[card.image]}"
    if address is None:
        picture = tag("span", "picture missing" if pictures_asked else "", class_="nothing")
    else:
        picture = tag("img", src=address, alt="", loading="lazy", decoding="async",
                      width=card.window.width, height=card.window.height)  # fmt: skip
    cost = f"costs {card.example.cost:.2f} {ap_name(material.settings.iou)}"
    return tag(
        "li",
        tag(
            "figure",
            tag(
                "button", picture, _overlay(material, one, card), _labels(material, one, card),
                type="button", class_="view", aria_label=f"Enlarge: {what}, {details}, {cost}, by {one.name}, {name}",
            ),
            tag(
                "figcaption", tag("strong", what), tag("span", f"{details} · {cost}"),
                tag("span", badge(card.run), tag("span", one.name, class_="name"), class_="by"),
                tag("span", name, class_="dim file"),
            ),
        ),
        class_="example", data_run=card.run, data_error=card.example.error,
        data_categories=" ".join(map(str, sorted(_categories(material, card)))),
    )  # fmt: skip


def _told(material: Material, one: RunMaterial, example: Example) -> tuple[str, str]:
    """What went wrong, and its numbers."""
    names, gt = material.ground_truth.category_name, material.ground_truth
    if example.error == "miss":
        width, height = gt.box[example.truth, 2:]
        return f"{names[gt.category[example.truth]]} missed", f"{width:.0f} × {height:.0f} pixels"
    row = example.detection
    category = names[one.detections.category[row]]
    numbers = f"score {one.detections.score[row]:.2f} · IoU {one.breakdown.labels.iou[row]:.2f}"
    what = {
        "cls": lambda: f"{category}, but is {names[gt.category[example.truth]]}",
        "loc": lambda: f"{category}, box too far off",
        "both": lambda: f"{category}: wrong, and too far off",
        "dup": lambda: f"{category}, found before",
        "bg": lambda: f"{category} where nothing is annotated",
    }[example.error]()
    return what, numbers if example.truth >= 0 else f"{numbers} at best"


def _overlay(material: Material, one: RunMaterial, card: _Card) -> Markup:
    """Boxes, or masks where those were compared, in pixels of the image."""
    gt, dt, example = material.ground_truth, one.detections, card.example
    masks = material.settings.iou_type == "segm"
    others = np.flatnonzero((gt.image == card.image) & (np.arange(len(gt)) != example.truth))[:MOST_OTHERS]
    parts = [
        tag("g", *(_shape(gt.masks.rle(i) if masks else None, gt.box[i], 2.0) for i in others.tolist()), class_="other")
    ]
    if example.error == "dup":
        labels = one.breakdown.labels
        taken = np.flatnonzero((labels.target == example.truth) & (labels.error == TRUE_POSITIVE))
        parts += [
            tag("g", _shape(dt.masks.rle(i) if masks else None, dt.box[i]), class_="winner") for i in taken.tolist()
        ]
    if example.truth >= 0:
        shape = _shape(gt.masks.rle(example.truth) if masks else None, gt.box[example.truth])
        parts.append(tag("g", tag("g", shape, class_="halo"), tag("g", shape, class_="object")))
    if example.detection >= 0:
        shape = _shape(dt.masks.rle(example.detection) if masks else None, dt.box[example.detection])
        parts.append(tag("g", tag("g", shape, class_="halo"), tag("g", shape, class_="found")))
    window = card.window
    return tag(
        "svg", *parts, viewBox=f"{window.x} {window.y} {window.width} {window.height}", class_="overlay",
        aria_hidden="true",
    )  # fmt: skip


def _shape(rle: dict[str, object] | None, box: Floats, tolerance: float = 0.8) -> Markup:
    if rle is None:
        x, y, width, height = (f"{side:.1f}".removesuffix(".0") for side in box.tolist())
        return tag("rect", x=x, y=y, width=width, height=height)
    loops = ("M" + " ".join(f"{x:g},{y:g}" for x, y in loop.tolist()) + "z" for loop in outline(rle, tolerance))
    return tag("path", d="".join(loops), fill_rule="evenodd")


def _labels(material: Material, one: RunMaterial, card: _Card) -> Markup:
    """The words on the picture, of one size however large the picture is shown."""
    gt, dt, example = material.ground_truth, one.detections, card.example
    names, parts = gt.category_name, []
    if example.detection >= 0:
        text = f"{names[dt.category[example.detection]]} {dt.score[example.detection]:.2f}"
        parts.append(_label(text, dt.box[example.detection], card.window, "found", above=True))
    if example.truth >= 0 and example.error in ("cls", "miss"):
        text = names[gt.category[example.truth]]
        parts.append(_label(text, gt.box[example.truth], card.window, "object", above=example.error == "miss"))
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
    return tag(
        "text", text if len(text) <= 34 else text[:33] + "…", x=f"{100 * min(max(x, 0.012), 0.988):.1f}%", y=f"{100 * y:.1f}%",
        dy=lift, class_=f"{role} {'end' if to_the_left else 'start'}",
    )  # fmt: skip


