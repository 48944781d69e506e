"""Small data sets written by hand: one line an object, one line a detection."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import Detections, GroundTruth, read_ground_truth
from analysis.evaluation.confusion import Confusion

Box = Sequence[float]
Record = dict[str, Any]


def object_(category: int, box: Box, image: int = 1, **more: Any) -> Record:
    return {"image_id": image, "category_id": category, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0} | more


def found(category: int, box: Box, score: float, image: int = 1, **more: Any) -> Record:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score, **more}


def most_confused(confusion: Confusion, most: int | None = None) -> list[tuple[int, int, int, int]]:
    """``(true, predicted, count, objects)`` of the wrong pairs, in the order of the confusion."""
    columns = (confusion.true, confusion.predicted, confusion.count, confusion.objects)
    return list(zip(*(column[confusion.wrong(most)].tolist() for column in columns), strict=True))


def document(objects: list[Record], images: Sequence[int] = (1,), categories: int = 2) -> Record:
    return {
        "images": [{"id": i, "width": 200, "height": 200, "file_name": f"photo_{i}.jpg"} for i in images],
        "categories": [{"id": c, "name": f"category {c}"} for c in range(1, categories + 1)],
        "annotations": [{"id": n, **record} for n, record in enumerate(objects, start=1)],
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def read(
    folder: Path,
    objects: list[Record],
    results: list[Record],
    images: Sequence[int] = (1,),
    categories: int = 2,
    **options: bool,
) -> tuple[GroundTruth, Detections]:
    gt = read_ground_truth(write(folder / "gt.json", document(objects, images, categories)), **options)
    return gt, Detections.from_records(results, gt, name=folder / "dt.json")
