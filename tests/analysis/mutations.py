"""Small annotation and prediction files, and ways to damage them."""

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

HEIGHT, WIDTH = 16, 20
KINDS = ("boxes", "polygons", "compressed", "uncompressed", "only-masks")


def segmentation(kind: str, box: Sequence[float]) -> Any:
    """A box as a mask, spelled as ``kind``."""
    from pycocotools import mask

    x, y, w, h = (int(side) for side in box)
    if kind == "polygons":
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    pixels[y : y + h, x : x + w] = 1
    if kind == "uncompressed":
        flat = pixels.ravel(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
        return {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()}
    rle = mask.encode(pixels)
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def documents(kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Three images, five objects, eight detections; every error is there."""
    objects = [
        (1, 1, [1, 1, 8, 8]),
        (1, 2, [10, 6, 6, 6]),
        (2, 1, [2, 2, 10, 10]),
        (2, 1, [12, 4, 6, 8]),
        (3, 2, [0, 0, 20, 16]),
    ]
    found = [
        (1, 1, [1, 1, 8, 8], 0.9),
        (1, 1, [1, 2, 8, 8], 0.8),
        (1, 1, [10, 6, 6, 6], 0.7),
        (2, 1, [2, 2, 10, 9], 0.6),
        (2, 1, [14, 4, 4, 4], 0.6),
        (2, 2, [13, 4, 5, 4], 0.6),
        (2, 3, [0, 12, 3, 3], 0.5),
        (3, 2, [1, 1, 9, 9], 0.4),
    ]
    truth: dict[str, Any] = {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH, "file_name": f"{i:04d}.jpg"} for i in (1, 2, 3)],
        "categories": [{"id": c, "name": f"category {c}"} for c in (1, 2, 3)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": int(n == 5)}
            | ({} if kind == "boxes" else {"segmentation": segmentation(kind, box)})
            for n, (i, c, box) in enumerate(objects, start=1)
        ],
    }
    results: list[dict[str, Any]] = [
        {"image_id": i, "category_id": c, "bbox": box, "score": score}
        | ({} if kind == "boxes" else {"segmentation": segmentation(kind, box)})
        for i, c, box, score in found
    ]
    if kind == "only-masks":
        for record in (*truth["annotations"], *results):
            del record["bbox"]
    return truth, results


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _odd_value(rng: random.Random) -> Any:
    return rng.choice(
        [
            None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1.5, 1e-320, 1e-160, 1e-90, 1e16, 1e90, 1e160, 1e308, -1e308,
            float("nan"), float("inf"), float("-inf"), 2**31, 2**32, 2**53, 2**63, -(2**63), 2**64, 10**25, 10**400,
            "", "1", "0001", "0001.jpg", "x", "1.5", "\u20ac", "\ud800", "\x00", "P" * 50, "52203", "0" * 30,
            [], {}, [[]], [{}], [1], [0, 0, 0, 0], [1, 2, 3, 4], [[1, 2, 3, 4, 5, 6]], [[1e6, 2, 3, 4, 5, -1e6]],
            {"size": [16, 20], "counts": []}, {"size": [16, 20], "counts": [320]}, {"size": [16, 20], "counts": "P:"},
            {"size": [65536, 65535], "counts": [4294901760]}, _nested(rng.choice([5, 60, 400])),
        ]
    )  # fmt: skip


def _of_its_kind(value: Any, rng: random.Random) -> Any:
    """Another value of the same type, which more often gets past the checks of types."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return rng.choice([0, 1, 2, 3, -1, value + 1, 2 * value, -value, 10 * value, 2**31, 2**53, 2**63 - 1, 10**30])
    if isinstance(value, float):
        return rng.choice([0.0, -0.0, -value, value / 3, 10 * value, 1e-320, 1e-150, 1e16, 1e90, 1e150, 1.7e308])
    if isinstance(value, str):
        letters = [*value, rng.choice("0123456789:;<=>?@ABCOPQRSTXYZ_`abcdmno!~")]
        rng.shuffle(letters)
        return "".join(letters[: rng.randrange(len(letters) + 1)])
    if isinstance(value, list):
        return rng.choice([value * 2, value[::-1], value[:-1], [], rng.sample(value, len(value))])
    return dict(rng.sample(list(value.items()), len(value)))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, child in items:
            found.append((container, key))
            if isinstance(child, dict | list):
                waiting.append(child)
    return found


def _damage_values(document: Any, rng: random.Random) -> Any:
    document = copy.deepcopy(document)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = _places(document)
        if not places:
            break
        container, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del container[key]
            case 1:
                other, its_key = rng.choice(places)
                container[key] = copy.deepcopy(other[its_key])
            case 2 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 3:
                container[key] = _odd_value(rng)
            case _:
                container[key] = _of_its_kind(container[key], rng)
    if rng.random() < 0.02:
        return _odd_value(rng)
    return document


def _damage_text(text: bytes, rng: random.Random) -> bytes:
    data = bytearray(text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(10):
            case 8 | 9:
                digits = [place for place, letter in enumerate(data) if chr(letter).isdigit()]
                if digits:
                    data[rng.choice(digits)] = rng.choice(b"0123456789")
            case 0:
                del data[at:]
            case 1:
                del data[at : at + rng.choice([1, 1, 3, 20])]
            case 2:
                data[at:at] = bytes([rng.randrange(256)])
            case 3:
                data[at:at] = data[at : at + rng.randrange(60)]
            case 4 if data:
                data[at] = rng.choice(b'0123456789-+.eE,:[]{}"\\ntf ')
            case 5:
                data[at:at] = rng.choice(
                    [b"NaN", b"-Infinity", b"null", b"1e999", b"\xff", b"\xef\xbb\xbf", b"[" * 3000, b"{}", b"\x1f\x8b"]
                )
            case 6:  # a key twice
                data[at:at] = rng.choice(
                    [b'"id": 1, ', b'"bbox": [1, 1, 2, 2], ', b'"size": [1, 1], ', b'"score": "x", ']
                )
            case _ if data:
                data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def mutate(document: Any, rng: random.Random) -> bytes:
    """The document as bytes, damaged in its values or in its text."""
    if rng.random() < 0.6:
        return json.dumps(_damage_values(document, rng)).encode()
    return _damage_text(json.dumps(document).encode(), rng)
