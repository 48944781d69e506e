"""Ground truth and simulated detectors with known flaws, from a seed: the example and the benchmarks run on them.

Nothing here is measured: a *simulated detector* is a sampler that perturbs the ground truth.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from analysis.files import write_bytes

IMAGE_SIZE = (640, 480)  # width, height in pixels


@dataclass(frozen=True)
class Flaws:
    """Rates of a simulated detector's errors, each a probability per object unless said otherwise."""

    missed: float = 0.18  # for a small object; a large one is missed a third as often
    confused: float = 0.10  # takes another category
    duplicated: float = 0.12  # a second box on the same object
    box_noise: float = 0.07  # standard deviation of each box edge, as a fraction of the side
    background: float = 6.0  # confident-looking boxes on nothing, mean per image
    tail: float = 26.0  # low-scoring boxes, mean per image, as detectors without a score threshold give


@dataclass(frozen=True)
class Scene:
    """Simulated ground truth: boxes f64[M, 4] xywh in pixels, categories and images i64[M] (ids from 1)."""

    box: NDArray[np.float64]
    category: NDArray[np.int64]
    image: NDArray[np.int64]
    images: int
    categories: int


def simulate_scene(images: int, categories: int, seed: int, objects_per_image: float = 7.4) -> Scene:
    """Objects of log-normal size and skewed category frequency, about ``objects_per_image`` an image."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(1, images + 1), rng.poisson(objects_per_image, images))
    frequency = 1 / np.arange(1, categories + 1) ** 0.7
    category = rng.choice(categories, size=len(image), p=frequency / frequency.sum()) + 1
    category[: min(categories, len(image))] = np.arange(1, min(categories, len(image)) + 1)
    side = np.clip(np.exp(rng.normal(4.1, 0.9, len(image))), 6, 420)
    aspect = np.exp(rng.normal(0, 0.35, len(image)))
    wh = np.stack([np.clip(side * aspect, 4, IMAGE_SIZE[0] - 2), np.clip(side / aspect, 4, IMAGE_SIZE[1] - 2)], axis=1)
    box = np.concatenate([rng.random((len(image), 2)) * (np.array(IMAGE_SIZE) - wh), wh], axis=1)
    return Scene(np.round(box, 2), category, image, images, categories)


def simulate_detector(scene: Scene, flaws: Flaws, seed: int) -> list[dict[str, object]]:
    """Detections of a simulated detector as COCO result records, image by image, best score first."""
    rng = np.random.default_rng(seed)
    size = np.sqrt(scene.box[:, 2] * scene.box[:, 3])
    found = rng.random(len(size)) > flaws.missed * np.where(size < 32, 1.0, np.where(size < 96, 0.6, 0.33))
    copies = 1 + (rng.random(len(size)) < flaws.duplicated)
    source = np.repeat(np.flatnonzero(found), copies[found])
    noise = rng.normal(0, flaws.box_noise, (len(source), 4)) * np.tile(scene.box[source][:, 2:], 2)
    box = scene.box[source] + noise
    category = scene.category[source].copy()
    confused = rng.random(len(source)) < flaws.confused
    category[confused] = rng.integers(1, scene.categories + 1, int(confused.sum()))
    score = np.clip(rng.beta(5, 2, len(source)) - 2.0 * np.abs(noise).mean(axis=1) / size[source], 0.01, 1)

    stray = [_stray(rng, scene, flaws.background, 1.3, 5), _stray(rng, scene, flaws.tail, 0.6, 14)]
    columns = zip((box, category, scene.image[source], score), *stray, strict=True)
    box, category, image, score = (np.concatenate(parts) for parts in columns)
    box[:, 2:] = np.maximum(box[:, 2:], 1)
    order = np.lexsort((-score, image))
    detections = (image[order], category[order], np.round(box[order], 2), np.round(score[order], 5))
    return [
        {"image_id": i, "category_id": c, "bbox": b, "score": s}
        for i, c, b, s in zip(*(column.tolist() for column in detections), strict=True)
    ]


def _stray(
    rng: np.random.Generator, scene: Scene, per_image: float, a: float, b: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Boxes that belong to nothing: half anywhere, half loosely around an object; scores from Beta(a, b)."""
    count = rng.poisson(per_image * scene.images)
    anchor = rng.integers(0, len(scene.image), count)
    loose = scene.box[anchor] + rng.normal(0, 0.45, (count, 4)) * np.tile(scene.box[anchor][:, 2:], 2)
    wh = np.clip(np.exp(rng.normal(4.1, 0.9, (count, 2))), 4, 400)
    anywhere = np.concatenate([rng.random((count, 2)) * (np.array(IMAGE_SIZE) - wh), wh], axis=1)
    near = rng.random(count) < 0.5
    image = np.where(near, scene.image[anchor], rng.integers(1, scene.images + 1, count))
    category = np.where(rng.random(count) < 0.6, scene.category[anchor], rng.integers(1, scene.categories + 1, count))
    return np.where(near[:, None], loose, anywhere), category, image, np.clip(rng.beta(a, b, count), 0.001, 1)


def ground_truth_document(scene: Scene) -> dict[str, object]:
    """The scene as a COCO instances document (boxes only)."""
    width, height = IMAGE_SIZE
    return {
        "images": [
            {"id": i, "width": width, "height": height, "file_name": f"{i:012d}.jpg"}
            for i in range(1, scene.images + 1)
        ],
        "categories": [{"id": c, "name": f"category {c}"} for c in range(1, scene.categories + 1)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, c, b) in enumerate(
                zip(scene.image.tolist(), scene.category.tolist(), scene.box.tolist(), strict=True), start=1
            )
        ],
    }


EXAMPLE_DETECTORS = {
    "sloppy-boxes": Flaws(box_noise=0.16, confused=0.05, missed=0.10),
    "confused-classes": Flaws(box_noise=0.06, confused=0.25, missed=0.22),
}


def write_example(folder: Path, images: int = 400, categories: int = 12, seed: int = 1) -> tuple[Path, dict[str, Path]]:
    """Write simulated ground truth, and the predictions of two simulated detectors with known flaws.

    Args:
        folder: of the files; is made where it is missing.
        images: number of images of 640 x 480 pixels.
        categories: number of categories.
        seed: of the random generator.

    Returns:
        The path of ``ground_truth.json``, and those of the prediction files by the names of the detectors.

    >>> truth, predictions = write_example(getfixture("tmp_path"), images=20)
    >>> truth.name, sorted(predictions)
    ('ground_truth.json', ['confused-classes', 'sloppy-boxes'])
    """
    scene = simulate_scene(images, categories, seed)
    truth = folder / "ground_truth.json"
    write_bytes(truth, msgspec.json.encode(ground_truth_document(scene)))
    predictions = {name: folder / f"{name}.json" for name in EXAMPLE_DETECTORS}
    for number, (name, flaws) in enumerate(EXAMPLE_DETECTORS.items()):
        write_bytes(predictions[name], msgspec.json.encode(simulate_detector(scene, flaws, seed + 100 + number)))
    return truth, predictions
