"""The embedded data set, written once for all tests of this folder, and a small data set on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablate.data.shapes import write_shapes
from ablate.data.sources import Files

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Files]:
    """Writes three images with boxes and masks of every kind; takes a function that spoils the document."""

    def write(change: Change = lambda document: None) -> Files:
        folder = tmp_path / "bilder mit ä"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        sizes = {3: (30, 40), 7: (40, 30), 11: (20, 20)}  # id -> height, width
        for number, (height, width) in sizes.items():
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        document = {
            "images": [
                {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
                for number, (height, width) in sizes.items()
            ],
            "annotations": [
                {
                    "id": 5,
                    "image_id": 3,
                    "category_id": 90,
                    "bbox": [10, 5, 20, 10],
                    "area": 200,
                    "iscrowd": 0,
                    "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]],
                },
                {
                    "id": 6,
                    "image_id": 7,
                    "category_id": 2,
                    "bbox": [0, 0, 30, 1],
                    "area": 30,
                    "iscrowd": 0,
                    # row by row of 30 columns of 40 pixels: the first pixel of each column
                    "segmentation": {"size": [40, 30], "counts": [0, 1, *([39, 1] * 29), 39]},
                },
                {
                    "id": 7,
                    "image_id": 7,
                    "category_id": 2,
                    "bbox": [5, 5, 20, 20],
                    "area": 400,
                    "iscrowd": 1,
                    "segmentation": {"size": [40, 30], "counts": [205, 20, 975]},
                },
            ],
            "categories": [{"id": 2, "name": "zwei"}, {"id": 90, "name": "neunzig"}],
        }
        change(document)
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(document))
        return Files(path, folder)

    return write
