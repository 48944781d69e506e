"""The costliest errors, each drawn on its picture with the object that it points at."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from analysis.coco import Detections, GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.settings import ap_name
from analysis.evaluation.single_error_cost import Example
from analysis.render.markup import Markup, join, tag
from analysis.render.takeaways import image_name
from analysis.report.charts import badge
from analysis.report.components import error_title, note
from analysis.report.page import Section
from analysis.report.pictures import Album, Window, labels, overlay, window_around
from analysis.report.report_data import ReportData, RunData

AT_FIRST = 8  # examples of a type that are shown until more are asked for


@dataclass(frozen=True)
class _Card:
    """One example, ready to be drawn."""

    run: int
    example: Example
    image: int
    window: Window


def gallery(data: ReportData, album: Album, pictures_asked: bool) -> Section:
    """Cards by error type, the costliest first; reads the pictures of ``album``."""
    cards = [
        _card(data, album, number, example)
        for number, one in enumerate(data.runs)
        for examples in one.examples.values()
        for example in examples
    ]
    addresses = _addresses(data, album, cards)
    groups = []
    for error in ERRORS:
        by_run = [
            [n for n, card in enumerate(cards) if (card.run, card.example.error) == (run, error)]
            for run in range(len(data.runs))
        ]
        in_turn = [n for turn in zip_longest(*by_run) for n in turn if n is not None]  # the first of each run, ...
        groups.append(_group(error, [_drawn(data, cards[n], addresses[n], pictures_asked) for n in in_turn]))
    introduction = _introduction(data, album, len(cards), pictures_asked)
    body = join([introduction, _filters(data, cards), *groups, _viewer()])
    return Section("gallery", "Gallery", "The errors that cost most, one by one", body)


def _card(data: ReportData, album: Album, run: int, example: Example) -> _Card:
    sides = _sides(data, run, example)
    image = next(int(source.image[row]) for source, row in sides)
    boxes = np.array([source.box[row] for source, row in sides])
    return _Card(run, example, image, window_around(boxes, _size(data, album, image)))


def _size(data: ReportData, album: Album, image: int) -> tuple[int, int] | None:
    height, width = data.ground_truth.image_size[image].tolist()
    return (width, height) if width > 0 else album.size(image)


def _addresses(data: ReportData, album: Album, cards: Sequence[_Card]) -> list[str | None]:
    """The picture of every card, reading each image once."""
    by_image: dict[int, list[int]] = {}
    for number, card in enumerate(cards):
        by_image.setdefault(card.image, []).append(number)
    found: dict[int, str | None] = {}
    for image, numbers in by_image.items():
        windows = [cards[n].window for n in numbers]
        found |= zip(numbers, album.pictures(image, windows, _size(data, album, image)), strict=True)
    return [found[number] for number in range(len(cards))]


def _introduction(data: ReportData, album: Album, count: int, pictures_asked: bool) -> Markup:
    parts: list[Markup] = [
        tag(
            "p",
            "Of every run and type of error the examples whose repair alone would gain most "
            f"{ap_name(data.settings.iou)}, the costliest of every class first. Objects that were missed cost the same "
            "within a class, so the largest come first.",
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
        parts.append(note("No folder of images was named (--images), so boxes stand on empty ground."))
    troubles = (
        (album.missing, "are not in the folder of images"),
        (album.damaged, "cannot be read"),
        (album.outside, "lie outside the folder of images"),
    )
    parts += [
        note(f"{len(images):,} of the images needed {what}: boxes alone are shown for them.")
        for images, what in troubles
        if images
    ]
    if not count:
        parts.append(note("There is no error to show."))
    return join(parts)


def _key(role: str) -> Markup:
    frames = (tag("rect", x=2, y=2, width=22, height=12, class_=name) for name in ("halo", role))
    return tag("svg", *frames, width=26, height=16, class_="overlay key", aria_hidden="true")


def _filters(data: ReportData, cards: Sequence[_Card]) -> Markup:
    names = data.ground_truth.category_name
    categories = sorted({c for card in cards for c in _categories(data, card)}, key=lambda c: names[c].lower())
    controls = [
        _select("run", "Run", "all runs", [(str(n), name) for n, name in enumerate(data.names)]),
        _select(
            "error", "Error", "all types", [(error, f"{error}: {ERROR_TYPES[error].description}") for error in ERRORS]
        ),
        _select("category", "Class", "all classes", [(str(c), names[c]) for c in categories]),
    ]
    switches = [
        tag("label", tag("input", type="checkbox", id=f"show-{what}", checked=True), f" {label}")
        for what, label in (("marks", "boxes"), ("others", "other objects"))
    ]
    return tag(
        "form",
        *controls,
        tag("div", *switches, class_="switches"),
        tag("p", "", id="shown", role="status", aria_live="polite"),
        class_="filters",
        id="filters",
        hidden=True,
        aria_label="Filter the gallery",
    )


def _select(name: str, label: str, everything: str, options: Sequence[tuple[str, str]]) -> Markup:
    choices = (tag("option", text, value=value) for value, text in (("", everything), *options))
    return tag("label", tag("span", label), tag("select", *choices, id=f"filter-{name}", name=name))


def _group(error: str, drawn: Sequence[Markup]) -> Markup:
    if not drawn:
        return Markup()
    return tag(
        "section",
        tag("h3", error_title(error), id=f"gallery-{error}"),
        tag("ol", *drawn, class_="cards"),
        tag("button", "Show all", type="button", class_="more", hidden=True),
        class_="group",
        data_error=error,
        data_first=AT_FIRST,
        aria_labelledby=f"gallery-{error}",
    )


def _viewer() -> Markup:
    """The enlarged view, filled by the script."""
    previous, following, close = (
        tag("button", text, type="button", id=text.lower()) for text in ("Previous", "Next", "Close")
    )
    controls = tag("p", previous, tag("span", "", id="place", role="status"), following, close, class_="controls")
    return tag("dialog", tag("div", id="large"), controls, id="viewer", aria_label="Example, enlarged")


def _sides(data: ReportData, run: int, example: Example) -> list[tuple[GroundTruth | Detections, int]]:
    """The detection and the object that an example is about, or the one of them that there is, each as file and row."""
    sides = (data.runs[run].detections, example.detection), (data.ground_truth, example.truth)
    return [(source, row) for source, row in sides if row >= 0]


def _categories(data: ReportData, card: _Card) -> set[int]:
    return {int(source.category[row]) for source, row in _sides(data, card.run, card.example)}


def _drawn(data: ReportData, card: _Card, address: str | None, pictures_asked: bool) -> Markup:
    one = data.runs[card.run]
    what, details = _told(data, one, card.example)
    name = image_name(data.ground_truth, card.image)
    if address is None:
        picture = tag("span", "picture missing" if pictures_asked else "", class_="nothing")
    else:
        width, height = card.window.width, card.window.height
        picture = tag(
            "img", src=address, alt=f"{name}: {what}", loading="lazy", decoding="async", width=width, height=height
        )
    cost = _cost(card.example.cost, ap_name(data.settings.iou))
    label = f"Enlarge: {what}, {details}, {cost}, by {one.name}, {name}"
    view = [
        picture,
        overlay(data, card.run, card.example, card.image, card.window),
        labels(data, card.run, card.example, card.window),
        tag("button", type="button", class_="open", aria_label=label),
    ]
    caption = [
        tag("strong", what),
        tag("span", f"{details} · {cost}"),
        tag("span", badge(card.run), tag("span", one.name, class_="name"), class_="by"),
        tag("span", name, class_="dim file", title=name),
    ]
    return tag(
        "li",
        tag("figure", tag("div", *view, class_="view"), tag("figcaption", *caption)),
        class_="example",
        data_run=card.run,
        data_error=card.example.error,
        data_categories=" ".join(map(str, sorted(_categories(data, card)))),
    )


def _cost(points: float, name: str) -> str:
    """What repairing one example alone would gain.

    >>> _cost(0.256, "AP50"), _cost(0.003, "AP50"), _cost(0.0, "AP50")
    ('costs 0.26 AP50', 'costs under 0.01 AP50', 'costs no AP50')
    """
    if points >= 0.005:
        return f"costs {points:.2f} {name}"
    return f"costs under 0.01 {name}" if points > 1e-9 else f"costs no {name}"


def _told(data: ReportData, one: RunData, example: Example) -> tuple[str, str]:
    """What went wrong, and its numbers."""
    names, gt, caption = data.ground_truth.category_name, data.ground_truth, ERROR_TYPES[example.error].caption
    annotated = names[gt.category[example.truth]] if example.truth >= 0 else ""
    if ERROR_TYPES[example.error].of_object:
        width, height = gt.box[example.truth, 2:]
        return caption.format(object=annotated), f"{width:.0f} × {height:.0f} pixels"
    row, shape = example.detection, "box" if data.settings.iou_type == "bbox" else "mask"
    what = caption.format(category=names[one.detections.category[row]], object=annotated, shape=shape)
    numbers = f"score {one.detections.score[row]:.2f} · IoU {one.breakdown.labels.iou[row]:.2f}"
    return what, numbers if example.truth >= 0 else f"{numbers} at best"
