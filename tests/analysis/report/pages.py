"""A small data set on disk with pictures, hostile names and every type of error, and reports on it."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=1</script>",
    "{{ script }} & 'quoted' \u2028",
    "plain",
)
WIDTH, HEIGHT, IMAGES = 200, 150, 6


def _record(image: int, category: int, box: list[float], score: float | None = None) -> dict[str, Any]:
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {"image_id": image, "category_id": category, "bbox": box, "segmentation": polygon} | (
        {"area": w * h, "iscrowd": 0} if score is None else {"score": score}
    )


def write_data(folder: Path, names: tuple[str, ...] = HOSTILE, images: int = IMAGES) -> tuple[Path, Path, list[Path]]:
    """Ground truth, the folder of images (one of them missing, one damaged) and two prediction files."""
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    first: list[dict[str, Any]] = []
    kinds = len(names)
    for image in range(1, images + 1):
        pixels = rng.integers(60, 200, (HEIGHT // 10, WIDTH // 10, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        if image != images:
            Image.fromarray(pixels).save(pictures / f"<{image}>.jpg")
        own, other = 1 + image % kinds, 1 + (image + 1) % kinds
        boxes = [[left, 10.0, 40.0, 40.0] for left in (10.0, 70.0, 130.0)] + [[10.0, 90.0, 50.0, 40.0]]
        annotations += [_record(image, own, box) for box in boxes]
        first += [
            _record(image, own, boxes[0], 0.9),
            _record(image, own, [12.0, 12.0, 40.0, 40.0], 0.8),  # dup
            _record(image, other, boxes[1], 0.7),  # cls
            _record(image, own, [145.0, 10.0, 40.0, 40.0], 0.6),  # loc
            _record(image, other, [35.0, 90.0, 50.0, 40.0], 0.5),  # both
            _record(image, own, [120.0, 90.0, 60.0, 40.0], 0.4 + image / 100),  # bg
        ]  # the fourth object is missed
    if images > 1:
        (pictures / "<1>.jpg").write_bytes(b"no picture")
    truth = folder / "gt.json"
    truth.write_text(
        json.dumps(
            {
                "images": [
                    {"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f"<{i}>.jpg"} for i in range(1, images + 1)
                ],
                "categories": [{"id": c, "name": name} for c, name in enumerate(names, start=1)],
                "annotations": [{"id": n, **record} for n, record in enumerate(annotations, start=1)],
            }
        )
    )
    # The class "plain" suffers, so that not all curves are alike.
    first = [record for record in first if record["image_id"] != 4 or record["score"] < 0.75]
    second = [record for record in first if record["score"] > 0.45]
    files = [folder / "first.json", folder / "second.json"]
    for path, records in zip(files, (first, second), strict=True):
        path.write_text(json.dumps(records))
    return truth, pictures, files


def text_of(page: str) -> str:
    """What a page says: without its script, style, data and tags."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))
