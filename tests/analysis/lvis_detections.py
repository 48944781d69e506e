"""Simulated detections on LVIS's 100 images: near objects, of wrong and unchecked categories, and too many in some."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.shared_data import shared_data


def truth() -> dict[str, Any]:
    path = shared_data("lvis_val_100", "lvis_val_100.json.gz")
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return document


@cache
def detections(decimals: int = 9) -> list[dict[str, Any]]:
    """With boxes and masks (the boxes as masks); few decimals make scores tie."""
    from pycocotools import mask

    document, rng = truth(), np.random.default_rng(5)
    categories = [one["id"] for one in document["categories"]]
    found: list[dict[str, Any]] = []
    for image in document["images"]:
        objects = [one for one in document["annotations"] if one["image_id"] == image["id"]]
        near = [one["category_id"] for one in objects] + image["neg_category_ids"]
        near += image["not_exhaustive_category_ids"] + categories[:2]
        boxes: list[tuple[int, Any, float]] = []
        for one in objects:
            for _ in range(rng.integers(0, 4)):
                side = np.array([*one["bbox"][2:], *one["bbox"][2:]])
                box = np.array(one["bbox"]) + rng.normal(0, 0.12, 4) * side
                box[2:] = np.maximum(box[2:], 1)
                other = int(rng.choice(near if rng.random() < 0.6 else categories))
                boxes.append((one["category_id"] if rng.random() < 0.75 else other, box, rng.beta(3, 2)))
        crowded = 330 if rng.random() < 0.1 else 0
        for number in range(rng.integers(5, 40) + crowded):
            box = np.array([*rng.uniform(0, 300, 2), *rng.uniform(5, 200, 2)])
            known = number < crowded or rng.random() < 0.5
            boxes.append((int(rng.choice(near if known else categories)), box, rng.beta(1.3, 4)))
        for category, box, score in boxes:
            x, y, w, h = box.tolist()
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            rle = mask.merge(mask.frPyObjects(polygon, image["height"], image["width"]))
            rle["counts"] = rle["counts"].decode()
            record = {"image_id": image["id"], "category_id": category, "bbox": [x, y, w, h]}
            found.append(record | {"score": round(float(score), decimals), "segmentation": rle})
    return found


def of_kind(iou_type: str, decimals: int = 9) -> list[dict[str, Any]]:
    """With masks only where those are compared."""
    drop = () if iou_type == "segm" else ("segmentation",)
    return [{key: value for key, value in one.items() if key not in drop} for one in detections(decimals)]


def written(folder: Path, iou_type: str, decimals: int = 9) -> tuple[Path, Path]:
    paths = folder / "lvis.json", folder / "detections.json"
    for path, content in zip(paths, (truth(), of_kind(iou_type, decimals)), strict=True):
        path.write_text(json.dumps(content))
    return paths
