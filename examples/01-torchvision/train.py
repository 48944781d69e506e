"""Faster R-CNN of torchvision in sixty lines: train on COCO-style data, write predictions on the validation images."""

import argparse
import json
from pathlib import Path

import torch
from torchvision.datasets import CocoDetection
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.transforms.functional import to_tensor

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True, help="folder with annotations/, train/ and val/")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--iterations", type=int, default=200)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
torch.manual_seed(options.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"


def data_set(split: str) -> CocoDetection:
    annotations = options.data / "annotations" / f"instances_{split}.json"
    return CocoDetection(str(options.data / split), str(annotations))


def backbone() -> torch.nn.Module:
    layers = []
    for before, after in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [torch.nn.Conv2d(before, after, 3, 2, 1), torch.nn.BatchNorm2d(after), torch.nn.ReLU()]
    layers = torch.nn.Sequential(*layers)
    layers.out_channels = 64
    return layers


train, val = data_set("train"), data_set("val")
categories = sorted(train.coco.cats)
anchors = AnchorGenerator(sizes=((16, 32, 64),), aspect_ratios=((0.5, 1.0, 2.0),))
model = FasterRCNN(
    backbone(), len(categories) + 1, rpn_anchor_generator=anchors, min_size=128, max_size=192, box_detections_per_img=50
).to(device)
optimizer = torch.optim.AdamW(model.parameters(), options.lr)
order = torch.randint(len(train), (options.iterations, options.batch)).tolist()
with (options.out / "loss.jsonl").open("w") as log:
    for iteration, batch in enumerate(order, 1):
        images, targets = [], []
        for image, records in (train[index] for index in batch):
            boxes = torch.tensor([record["bbox"] for record in records], dtype=torch.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]  # xywh -> xyxy
            labels = torch.tensor([categories.index(record["category_id"]) + 1 for record in records])
            images.append(to_tensor(image).to(device))
            targets.append({"boxes": boxes.to(device), "labels": labels.long().to(device)})
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(json.dumps({"iteration": iteration, "loss": loss.item()}), file=log, flush=True)

model.eval()
found = []
with torch.no_grad():
    for index, image_id in enumerate(val.ids):
        (one,) = model([to_tensor(val[index][0]).to(device)])
        for (x, y, right, bottom), label, score in zip(
            one["boxes"].tolist(), one["labels"], one["scores"], strict=True
        ):
            category, box = categories[int(label) - 1], [x, y, right - x, bottom - y]
            found.append({"image_id": image_id, "category_id": category, "bbox": box, "score": float(score)})
(options.out / "predictions.json").write_text(json.dumps(found))
