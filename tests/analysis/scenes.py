"""Random small data sets for hypothesis: crowded with ties, boundaries and things that are hardly ever there."""

import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from analysis import Detections, GroundTruth, read_ground_truth
from analysis.coco.masks import run_lengths


@dataclass(frozen=True)
class SceneFiles:
    """A COCO document and a results list, as Python values."""

    truth: dict[str, Any]
    results: list[dict[str, Any]]

    @contextmanager
    def written(self) -> Iterator[tuple[Path, Path]]:
        """Both as files in a folder that lives as long as the block."""
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "gt.json"), Path(folder, "dt.json")
            for path, content in zip(paths, (self.truth, self.results), strict=True):
                path.write_text(json.dumps(content))
            yield paths

    def read(self) -> tuple[GroundTruth, Detections]:
        """Both as arrays."""
        with self.written() as (truth, _):
            gt = read_ground_truth(truth)
        return gt, Detections.from_records(self.results, gt)


# With these sides IoUs of exactly 1/10, 1/5, 1/2 and 1 are common. 0 gives boxes without area.
_SIDES = st.sampled_from([10, 10, 10, 20, 20, 50, 100, 0])
_OFFSETS = st.sampled_from([0, 0, 0, 10, 20, 50])
_SCORES = st.sampled_from([0.9, 0.9, 0.5, 0.5, 0.25, 0.1, 1.0, 0.0])


@st.composite
def grid_boxes(draw: st.DrawFn) -> list[float]:
    """Boxes xywh on a grid of 10 pixels."""
    x, y, w, h = draw(_OFFSETS), draw(_OFFSETS), draw(_SIDES), draw(_SIDES)
    return [float(x), float(y), float(w), float(h)]


@st.composite
def loose_boxes(draw: st.DrawFn) -> list[float]:
    """Boxes xywh whose IoUs hardly ever tie."""
    unit = st.floats(0, 1, allow_subnormal=False)
    x, y, w, h = draw(unit), draw(unit), draw(unit), draw(unit)
    return [60 * x, 60 * y, 5 + 60 * w, 5 + 60 * h]


@st.composite
def clustered_boxes(draw: st.DrawFn) -> list[float]:
    """Boxes xywh about two places, so that many of them claim the same object."""
    unit = st.floats(-1, 1, allow_subnormal=False)
    left = draw(st.sampled_from([20.0, 80.0]))
    return [left + 12 * draw(unit), 20 + 12 * draw(unit), 40 + 12 * draw(unit), 40 + 12 * draw(unit)]


@st.composite
def mask_scenes(draw: st.DrawFn) -> SceneFiles:
    """Scenes whose masks are the box and a second rectangle, in all three spellings."""
    from pycocotools import mask

    scene = draw(scenes(max_images=2, max_objects=5, max_detections=8, scales=(1,)))
    for record in (*scene.truth["annotations"], *scene.results):
        (x, y, w, h), (x2, y2, w2, h2) = record["bbox"], draw(grid_boxes())
        polygons = [
            [left, top, left + width, top, left + width, top + height, left, top + height]
            for left, top, width, height in ((x, y, w, h), (x2, y2, w2, h2))
        ]
        rle = mask.merge(mask.frPyObjects(polygons, 200, 200))
        rle["counts"] = rle["counts"].decode()
        runs = {"size": [200, 200], "counts": run_lengths(rle["counts"]).tolist()}
        record["segmentation"] = draw(st.sampled_from([polygons, rle, runs]))
    return scene


@st.composite
def scenes(
    draw: st.DrawFn,
    boxes: st.SearchStrategy[list[float]] = grid_boxes(),  # noqa: B008
    scores: st.SearchStrategy[float] = _SCORES,
    crowds: bool = True,
    max_images: int = 2,
    max_categories: int = 2,
    max_objects: int = 8,
    max_detections: int = 14,
    scales: tuple[float, ...] = (1, 3.2, 9.6),
) -> SceneFiles:
    """Images out of order of their ids, some empty; categories that may lack objects or detections."""
    images = draw(st.lists(st.integers(1, 50), min_size=1, max_size=max_images, unique=True))
    categories = draw(st.lists(st.integers(0, 9), min_size=1, max_size=max_categories, unique=True))
    scale = draw(st.sampled_from(scales))  # 3.2 and 9.6 put the side 10 on COCO's limits of size, 32 and 96
    ids = itertools.count(draw(st.sampled_from([1, 100])))
    image, category = st.sampled_from(images), st.sampled_from(categories)
    annotations = []
    for _ in range(draw(st.integers(0, max_objects))):
        box = [scale * side for side in draw(boxes)]
        crowd = int(crowds and draw(st.integers(0, 3)) == 0)
        area = box[2] * box[3] * draw(st.sampled_from([1, 1, 0.5, 2]))
        annotations.append(
            {"id": next(ids), "image_id": draw(image), "category_id": draw(category), "bbox": box, "area": area}
            | ({"iscrowd": crowd} if crowds else {})
        )
    results = [
        {
            "image_id": draw(image),
            "category_id": draw(category),
            "bbox": [scale * side for side in draw(boxes)],
            "score": draw(scores),
        }
        for _ in range(draw(st.integers(0, max_detections)))
    ]
    return SceneFiles(
        {
            "images": [{"id": i, "width": round(200 * scale), "height": round(200 * scale)} for i in images],
            "annotations": annotations,
            "categories": [{"id": c, "name": f"category {c}"} for c in categories],
        },
        results,
    )
