"""The smallest real run: a few painted rectangles and a detector of some ten thousand parameters."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ablate.config.schema import (
    Anchors,
    Attention,
    Coco,
    Data,
    Detector,
    Evaluate,
    Model,
    Position,
    Proposals,
    Pyramid,
    RunConfig,
    Train,
    ViT,
)
from ablate.config.yaml import with_changes
from ablate.runs.folder import RunFolder, Workspace
from ablate.runs.manifest import make_manifest

SIDE = 32


def write_data(folder: Path, images: int = 6, empty: tuple[int, ...] = ()) -> Coco:
    """Images of 32 x 40 pixels with one or two rectangles each, red (category 3) or blue (category 7)."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    document: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}],
    }
    for number in range(images):
        pixels = rng.integers(90, 120, (32, 40, 3), dtype=np.uint8)
        for place in range(0 if number in empty else 1 + number % 2):
            left, top = int(rng.integers(1, 8)) + 20 * place, int(rng.integers(1, 12))
            width, height = int(rng.integers(8, 12)), int(rng.integers(8, 18))
            red = bool(rng.integers(2))
            pixels[top : top + height, left : left + width] = (220, 30, 30) if red else (30, 30, 220)
            corners = [left, top, left + width, top, left + width, top + height, left, top + height]
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number + 1,
                    "category_id": 3 if red else 7,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
        name = f"{number}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        document["images"].append({"id": number + 1, "file_name": name, "width": 40, "height": 32})
    (folder / "instances.json").write_text(json.dumps(document))
    return Coco(annotations=str(folder / "instances.json"), images=str(folder / "images"))


def tiny_config(data: Coco, **changes: object) -> RunConfig:
    """A run of 6 iterations of 2 images; dotted changes with two underscores for each dot."""
    config = RunConfig(
        model=Model(
            backbone=ViT(
                width=16,
                depth=4,
                heads=2,
                image_size=SIDE,
                patch_size=8,
                attention=Attention(window_size=2, global_count=2),
                position=Position(absolute_grid=4),
            ),
            pyramid=Pyramid(type="multi_scale", channels=8),
            detector=Detector(
                box_conv_channels=8,
                box_fc=16,
                mask_conv_channels=8,
                anchors=Anchors(sizes=(4.0, 8.0, 16.0, 32.0, 64.0)),
                proposals=Proposals(train_before_nms=20, train_after_nms=10),
                rpn_anchors_per_image=16,
                rois_per_image=8,
            ),
        ),
        data=Data(train=data, validation=data),
        train=Train(
            iterations=6, batch_size=2, images_per_norm=2, lr=1e-3, weight_decay=0.05, jitter_scale=(0.8, 1.25)
        ),
        evaluate=Evaluate(proposals_before_nms=20, proposals_after_nms=10),
    )
    return with_changes(config, {key.replace("__", "."): value for key, value in changes.items()})


def prepared(root: Path, config: RunConfig, name: str = "run") -> RunFolder:
    """A run folder with this config, as an engine gets it."""
    folder = Workspace(root).run(name)
    manifest = make_manifest(
        training=name,
        evaluation=name,
        seed=config.seed,
        training_data="",
        validation_data="",
        training_images="",
        validation_images="",
    )
    folder.prepare(config, manifest)
    return folder
