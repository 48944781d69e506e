"""The costliest errors, each drawn on its picture with the object that it points at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SHAPES, SHAPES_MANY
from analysis.evaluation.settings import ap_name, iou_name
from analysis.evaluation.single_error_cost import Example
from analysis.render.markup import Child, Markup, join, tag
from analysis.render.takeaways import image_name
from analysis.report.charts import badge
from analysis.report.components import error_title, note
from analysis.report.examples import Examples, ShownExample, sides
from analysis.report.page import Section
from analysis.report.pictures import Album, Wanted, Window, labels, overlay, window_around
from analysis.report.report_data import ReportData, RunData

AT_FIRST = 8  # examples of a type that are shown until more are asked for


@dataclass(frozen=True)
class _Card:
    """One example, ready to be drawn."""

    number: int  # among all, which its address in the page holds
    of: ShownExample
    window: Window


def gallery(examples: Examples, album: Album, pictures_asked: bool) -> Section:
    """Cards by error type, the costliest first; reads the pictures of ``album``."""
    data = examples.data
    cards = [_card(data, album, number, one) for number, one in enumerate(examples.shown)]
    pictures = _pictures(data, album, cards)
    marks = [_marks(data, card) for card in cards]  # while the pictures are made
    addresses = dict(pictures)
    groups = []
    for error in ERRORS:
        by_run = [
            [card for card in cards if (card.of.run, card.of.example.error) == (run, error)]
            for run in range(len(data.runs))
        ]
        in_turn = [card for turn in zip_longest(*by_run) for card in turn if card is not None]  # first of each run, ...
        ranked = sorted(in_turn, key=lambda card: -card.of.example.cost)
        drawn = [_drawn(data, card, marks[card.number], addresses[card.number], pictures_asked) for card in ranked]
        groups.append(_group(error_title(error, data.settings.iou_type), error, drawn))
    introduction = _introduction(data, album, len(cards), pictures_asked)
    body = join([introduction, _filters(data, cards), *groups, _viewer()])
    return Section("gallery", "Gallery", "The costliest errors, one by one", body)


def _card(data: ReportData, album: Album, number: int, one: ShownExample) -> _Card:
    boxes = np.array([source.box[row] for source, row in sides(data, one.run, one.example)])
    return _Card(number, one, window_around(boxes, _size(data, album, one.image)))


def _size(data: ReportData, album: Album, image: int) -> tuple[int, int] | None:
    height, width = data.ground_truth.image_size[image].tolist()
    return (width, height) if width > 0 else album.size(image)


def _pictures(data: ReportData, album: Album, cards: Sequence[_Card]) -> Iterator[tuple[int, str | None]]:
    """The number and the picture of every card, reading each image once; they are made from this call on."""
    by_image: dict[int, list[int]] = {}
    for card in cards:
        by_image.setdefault(card.of.image, []).append(card.number)
    wanted = [
        Wanted(image, [cards[n].window for n in numbers], _size(data, album, image))
        for image, numbers in by_image.items()
    ]
    pictures = album.pictures(wanted)
    return chain.from_iterable(zip(*one, strict=True) for one in zip(by_image.values(), pictures, strict=True))


def _introduction(data: ReportData, album: Album, count: int, pictures_asked: bool) -> Markup:
    shapes = SHAPES_MANY[data.settings.iou_type]
    parts: list[Markup] = [
        tag(
            "p",
            f"Examples of each run and error type, ordered by the {ap_name(data.settings.iou)} gained if only that "
            "error is fixed. The costliest error of each class is chosen first, then the second of each class; "
            "missed objects of a class have the same cost, so the largest are chosen.",
        ),
        tag(
            "ul",
            tag("li", _key("found"), "the detection"),
            tag("li", _key("object"), "the object of the detection, or the missed object"),
            tag("li", _key("winner"), "the correct detection of the same object (dup)"),
            tag("li", _key("other"), "other annotated objects"),
            class_="legend roles",
        ),
    ]
    if not pictures_asked:
        parts.append(note(f"No image folder was given (--images), so {shapes} are shown without images."))
    parts += [
        note(f"{one.images:,} of the required images {one.cause}: only {shapes} are shown for them.")
        for one in album.not_shown()
    ]
    if not count:
        parts.append(note("There are no errors to show."))
    return join(parts)


def _key(role: str) -> Markup:
    frames = (tag("rect", x=2, y=2, width=22, height=12, class_=name) for name in ("halo", role))
    return tag("svg", *frames, width=26, height=16, class_="overlay key", aria_hidden="true")


def _filters(data: ReportData, cards: Sequence[_Card]) -> Markup:
    names = data.ground_truth.category_name

    def classes(found: set[int]) -> list[tuple[str, str]]:
        return [(str(c), names[c]) for c in sorted(found, key=lambda c: names[c].lower())]

    categories = {c for card in cards for c in card.of.categories}
    detected = {card.of.detected for card in cards if card.of.detected is not None}
    sizes = [size.name for size in data.runs[0].sizes.sizes]
    iou_type = data.settings.iou_type
    types = [(error, f"{error}: {ERROR_TYPES[error].described(iou_type)}") for error in ERRORS]
    controls = [
        _select("run", "Run", "all runs", [(str(n), name) for n, name in enumerate(data.names)]),
        _select("error", "Error", "all types", types),
        _select("class", "Class of object or detection", "all classes", classes(categories)),
        _select("detected", "Detected as", "all classes", classes(detected)),
        _select("size", "Size", "all sizes", [(size, size) for size in sizes]),
        tag("div", _score("from", "Score from"), _score("to", "Score to"), class_="scores"),
    ]
    switches = [
        tag("label", tag("input", type="checkbox", id=f"show-{what}", checked=True), f" {label}")
        for what, label in (("marks", SHAPES_MANY[iou_type]), ("others", "other objects"))
    ]
    return tag(
        "form",
        *controls,
        tag("div", *switches, class_="switches"),
        tag(
            "div",
            tag("p", "", id="shown", role="status", aria_live="polite"),
            tag("button", "Clear filters", type="button", id="clear", hidden=True),
            class_="count",
        ),
        class_="filters",
        id="filters",
        hidden=True,
        aria_label="Filter the gallery",
    )


def _select(name: str, label: str, everything: str, options: Sequence[tuple[str, str]]) -> Markup:
    choices = (tag("option", text, value=value) for value, text in (("", everything), *options))
    return tag("label", tag("span", label), tag("select", *choices, id=f"filter-{name}", name=name))


def _score(name: str, label: str) -> Markup:
    hint = "Missed objects have no score: they are shown if both score fields are empty."
    field = tag("input", type="number", step="any", id=f"filter-{name}", name=name, placeholder="any", title=hint)
    return tag("label", tag("span", label), field, class_="score")


def _group(title: Markup, error: str, drawn: Sequence[Markup]) -> Markup:
    if not drawn:
        return Markup()
    return tag(
        "section",
        tag("h3", title, id=f"gallery-{error}"),
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


def _marks(data: ReportData, card: _Card) -> Markup:
    """What is drawn and written over the picture of a card."""
    of = (data, card.of.run, card.of.example)
    return join([overlay(*of, card.of.image, card.window), labels(*of, card.window)])


def _drawn(data: ReportData, card: _Card, marks: Markup, address: str | None, pictures_asked: bool) -> Markup:
    shown = card.of
    one, example = data.runs[shown.run], shown.example
    what, details = _told(data, one, example)
    name, by = image_name(data.ground_truth, shown.image), ", ".join(data.names[run] for run in shown.runs)
    if address is None:
        picture = tag("span", "picture missing" if pictures_asked else "", class_="nothing")
    else:
        width, height = card.window.width, card.window.height
        picture = tag(
            "img", src=address, alt=f"{name}: {what}", loading="lazy", decoding="async", width=width, height=height
        )
    cost = _cost(example.cost, ap_name(data.settings.iou))
    label = f"Enlarge: {what}, {details}, {cost}, by {by}, {name}"
    view = [
        picture,
        marks,
        tag("button", type="button", class_="open", aria_label=label),
    ]
    caption = [
        tag("strong", what),
        tag("span", *_unbroken(f"{details} · {cost}")),
        tag("span", *map(badge, shown.runs), tag("span", by, class_="name", title=by), class_="by"),
        tag("span", name, class_="dim file", title=name),
    ]
    return tag(
        "li",
        tag("figure", tag("div", *view, class_="view"), tag("figcaption", *caption)),
        class_="example",
        id=f"example-{card.number}",
        data_run=" ".join(map(str, shown.runs)),
        data_error=example.error,
        data_class=" ".join(map(str, sorted(shown.categories))),
        data_detected=shown.detected,
        data_size=shown.size,
        data_score=None if shown.score is None else f"{shown.score:.6g}",
    )


def _unbroken(numbers: str) -> Iterator[Child]:
    """Numbers that are broken into lines only between each other."""
    for place, number in enumerate(numbers.split(" · ")):
        yield " · " * (place > 0)
        yield tag("span", number, class_="whole")


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
    row, shape = example.detection, SHAPES[data.settings.iou_type]
    what = caption.format(category=names[one.detections.category[row]], object=annotated, shape=shape)
    iou = iou_name(data.settings.iou_type)
    numbers = f"score {one.detections.score[row]:.2f} · {iou} {one.breakdown.labels.iou[row]:.2f}"
    return what, numbers if example.truth >= 0 else f"{numbers} at best"
