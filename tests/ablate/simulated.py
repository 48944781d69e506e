"""A study on the embedded data as if it had been run: its predictions are sampled from the ground truth, masks too."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ablate.config.yaml import dump_config
from ablate.data.sources import locate
from ablate.execute.evaluation import evaluate
from ablate.runs.folder import RunFolder, Workspace
from ablate.studies.study import Study, StudyRun
from tests.ablate.finished import finish, probed


def simulate(root: Path, study: Study, run: StudyRun, quality: float, seed: int) -> RunFolder:
    """A finished run whose boxes and classes are the better, the nearer ``quality`` is to 1."""
    assert run.config is not None
    truth = json.loads(locate(run.config.data.validation, Workspace(root)).annotations.read_text())
    folder = finish(root, study, run, 1.0)
    folder.config.write_text(dump_config(run.config))
    folder.predictions.write_text(json.dumps(_predictions(truth, quality, seed)))
    evaluate(folder)
    probed(folder, seconds=0.1 + 0.01 * seed)
    return folder


def _predictions(truth: dict[str, Any], quality: float, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    kinds = [category["id"] for category in truth["categories"]]
    noise = 0.16 * (1 - quality) + 0.02
    found = []
    for record in truth["annotations"]:
        if rng.random() < 0.3 * (1 - quality):
            continue
        for _ in range(1 + (rng.random() < 0.12)):
            x, y, w, h = np.array(record["bbox"]) + rng.normal(0, noise, 4) * np.tile(record["bbox"][2:], 2)
            confused = rng.random() < 0.35 * (1 - quality)
            category = int(rng.choice(kinds)) if confused else record["category_id"]
            score = float(np.clip(rng.beta(6, 2) - 0.25 * confused, 0.05, 0.99))
            found.append(_record(record["image_id"], category, [x, y, max(w, 2.0), max(h, 2.0)], score, truth))
    for image in truth["images"]:
        for _ in range(rng.poisson(1.5 * (1 - quality))):
            w, h = rng.uniform(12, 60, 2)
            box = [rng.uniform(0, image["width"] - w), rng.uniform(0, image["height"] - h), w, h]
            found.append(_record(image["id"], int(rng.choice(kinds)), box, float(rng.beta(1.5, 4)), truth))
    return found


def _record(image: int, category: int, box: list[float], score: float, truth: dict[str, Any]) -> dict[str, Any]:
    """A detection whose mask is the octagon in its box."""
    x, y, w, h = (round(float(side), 1) for side in box)
    size = truth["images"][0]
    corners = [(0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3)]
    points = [(min(max(x + a * w, 0.0), size["width"]), min(max(y + b * h, 0.0), size["height"])) for a, b in corners]
    polygon = [[round(float(side), 1) for point in points for side in point]]
    return {
        "image_id": image, "category_id": category, "bbox": [x, y, w, h], "score": round(score, 4),
        "segmentation": polygon,
    }  # fmt: skip
