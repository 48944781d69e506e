"""Pictures as heavy as COCO's, with outlines of objects: for benchmarks that need a data set and have none.

640 x 480 pixels of noise whose detail falls off as that of photographs does, some 170 kB each as JPEG; seven objects a
picture (COCO's mean), each a polygon of 22 corners; 80 categories. Made from a seed, the same everywhere.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (640, 480)  # width, height in pixels
OBJECTS = 7
CORNERS = 22
CATEGORIES = 80
QUALITY = 85
OCTAVES = (2, 4, 8, 16, 32, 64, 128, 256, 480)  # rows of noise


def pixels(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise u8[480, 640, 3] in which every octave has about the same contrast, as in photographs."""
    width, height = SIZE
    total = np.zeros((height, width, 3), dtype=np.float32)
    for rows in OCTAVES:
        noise = rng.integers(0, 256, (rows, rows * width // height, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(noise).resize(SIZE, Image.Resampling.BILINEAR), dtype=np.float32)
    grey = total.mean(axis=2, keepdims=True)  # colours vary less than brightness
    total = grey + 0.4 * (total - grey)
    return (128 + 0.6 * (total - total.mean())).clip(0, 255).astype(np.uint8)


def outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """The corners f64[22, 2] (x, y in pixels) of a star-shaped polygon, 20 to 300 pixels wide, inside the picture."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, CORNERS))
    radius = 10 * 15 ** rng.uniform() * rng.uniform(0.6, 1.0, CORNERS)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + rng.uniform(size=2) * SIZE
    return np.clip(corners, 0, SIZE).round(2)


def write_photos(folder: Path, count: int, seed: int = 0) -> tuple[Path, Path]:
    """Write ``count`` pictures and their annotations in COCO's format -> the annotations, and the folder of images."""
    images, rng = folder / "images", np.random.default_rng(seed)
    images.mkdir(parents=True)
    document: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number + 1, "name": f"category {number + 1}"} for number in range(CATEGORIES)],
    }
    for number in range(1, count + 1):
        name = f"{number:012d}.jpg"
        Image.fromarray(pixels(rng)).save(images / name, "JPEG", quality=QUALITY)
        document["images"].append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for _ in range(OBJECTS):
            corners = outline(rng)
            low, high = corners.min(axis=0), corners.max(axis=0)
            if (high - low < 2).any():  # beside the picture
                continue
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(CATEGORIES)) + 1,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float(np.prod(high - low)) / 2,
                    "iscrowd": 0,
                    "segmentation": [corners.ravel().tolist()],
                }
            )
    annotations = folder / "instances.json"
    annotations.write_text(json.dumps(document))
    return annotations, images
