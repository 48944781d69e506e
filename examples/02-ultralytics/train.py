"""Train a YOLO of Ultralytics on COCO-style data, and write its predictions on the validation images.

    python train.py --data shapes --out run --lr0 0.004 --epochs 6 --imgsz 96 --seed 0
    python train.py --data shapes --out run --resume          # goes on from run/train/weights/last.pt

It works without a network: the model is built from its YAML, and any font will do for plots that are not drawn.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import matplotlib

SPLITS = {"train": "train", "val": "val"}  # folder of the images, annotations/instances_<name>.json


def write_labels(coco: Path, out: Path) -> Path:
    """The data set as Ultralytics wants it: links to the images, a text file of labels each, and a YAML."""
    for split, folder in SPLITS.items():
        document = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
        categories = sorted(document["categories"], key=lambda category: category["id"])
        index = {category["id"]: place for place, category in enumerate(categories)}
        lines: dict[int, list[str]] = {image["id"]: [] for image in document["images"]}
        sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
        for record in document["annotations"]:
            (x, y, w, h), (width, height) = record["bbox"], sizes[record["image_id"]]
            box = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            lines[record["image_id"]].append(" ".join(map(str, (index[record["category_id"]], *box))))
        images, labels = out / "images" / split, out / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for image in document["images"]:
            link = images / image["file_name"]
            if not link.exists():
                link.symlink_to((coco / folder / image["file_name"]).resolve())
            (labels / link.name).with_suffix(".txt").write_text("\n".join(lines[image["id"]]))
    names = {place: category["name"] for place, category in enumerate(categories)}
    data = out / "data.yaml"
    data.write_text(json.dumps({"path": str(out), "train": "images/train", "val": "images/val", "names": names}))
    return data


def write_predictions(coco: Path, written: Path, path: Path) -> None:
    """The predictions that Ultralytics has written, whose categories it counts from 1, with the ids of the data set."""
    document = json.loads((coco / "annotations" / f"instances_{SPLITS['val']}.json").read_text())
    ids = sorted(category["id"] for category in document["categories"])
    records = json.loads(written.read_text()) if written.exists() else []  # it writes none without a box
    path.write_text(json.dumps([record | {"category_id": ids[record["category_id"] - 1]} for record in records]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/, train/ and val/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--width", type=float, default=0.125, help="of YOLOv8, whose nano has 0.25")
    parser.add_argument("--lr0", type=float, default=0.004)
    parser.add_argument("--mosaic", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the training images")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out = options.out.resolve()
    os.environ["YOLO_CONFIG_DIR"] = str(out / "settings")
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    (out / "settings" / "Ultralytics").mkdir(parents=True, exist_ok=True)
    shutil.copy(font, out / "settings" / "Ultralytics" / "Arial.ttf")

    from ultralytics import YOLO  # reads its settings when it is imported
    from ultralytics.nn.tasks import yaml_model_load

    data, last = write_labels(options.data, out / "data"), out / "train" / "weights" / "last.pt"
    if options.resume:
        YOLO(last).train(resume=True)
    else:
        model = yaml_model_load("yolov8n.yaml") | {"scales": {"n": [0.33, options.width, 1024]}}
        (out / "yolov8n.yaml").write_text(json.dumps(model))
        YOLO(out / "yolov8n.yaml").train(
            data=str(data), epochs=options.epochs, imgsz=options.imgsz, batch=options.batch, lr0=options.lr0,
            optimizer="AdamW", warmup_epochs=1, mosaic=options.mosaic, fraction=options.fraction, seed=options.seed,
            workers=options.workers, project=str(out), name="train", exist_ok=True, pretrained=False, amp=False,
            plots=False, val=False,
        )  # fmt: skip
    YOLO(last).val(
        data=str(data), imgsz=options.imgsz, batch=options.batch, workers=options.workers, save_json=True, plots=False,
        project=str(out), name="val", exist_ok=True,
    )  # fmt: skip
    write_predictions(options.data, out / "val" / "predictions.json", out / "predictions.json")


if __name__ == "__main__":
    main()
