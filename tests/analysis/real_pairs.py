"""The pairs of ground truth and real predictions in the shared data."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shared_data import shared_data


@dataclass(frozen=True)
class RealPair:
    """Two files of the shared data and what to compare in them."""

    folder: str
    truth: str
    results: str
    iou_type: str

    def __str__(self) -> str:
        return f"{self.results.split('.')[0]}-{self.iou_type}"

    def paths(self) -> tuple[Path, Path]:
        return shared_data(self.folder, self.truth), shared_data(self.folder, self.results)


_VAL, _FAKE = "coco_val2017_206", "cocoapi_val2014_100_fake"
VOC = RealPair("voc2007_test_4952", "gt_voc2007_test.json.gz", "dt_yolov2.json.gz", "bbox")
YOLOV8N = RealPair(_VAL, "gt_bbox_206.json", "dt_bbox_yolov8n.json.gz", "bbox")
YOLOV8M = RealPair(_VAL, "gt_bbox_206.json", "dt_bbox_yolov8m.json.gz", "bbox")
EFFICIENTDET = RealPair(_VAL, "gt_bbox_206.json", "dt_bbox_efficientdet-lite2.json.gz", "bbox")
YOLOV5S = RealPair(_VAL, "gt_bbox_206.json", "dt_bbox_yolov5s-seg.json.gz", "bbox")
MASKS_BOXES = RealPair(_VAL, "gt_masks_179.json", "dt_masks_yolov5s-seg.json.gz", "bbox")
MASKS = RealPair(_VAL, "gt_masks_179.json", "dt_masks_yolov5s-seg.json.gz", "segm")
FAKE_BOXES = RealPair(_FAKE, "instances_val2014_100.json", "instances_val2014_fakebbox100_results.json", "bbox")
FAKE_MASKS = RealPair(_FAKE, "instances_val2014_100.json", "instances_val2014_fakesegm100_results.json", "segm")
FAKE_MASKS_BOXES = RealPair(_FAKE, "instances_val2014_100.json", "instances_val2014_fakesegm100_results.json", "bbox")

SMALL = (EFFICIENTDET, FAKE_BOXES, FAKE_MASKS, FAKE_MASKS_BOXES)
ALL = (*SMALL, YOLOV8N, YOLOV8M, YOLOV5S, MASKS_BOXES, MASKS, VOC)
# For the slow peers: the default tier compares a part of VOC, the campaign all of it.
ALL_IN_TWO_TIERS = (*ALL[:-1], pytest.param(VOC, marks=pytest.mark.campaign))


def part_of_voc(folder: Path, images: int = 600) -> tuple[Path, Path]:
    """The first images of VOC2007, written into a folder."""
    truth, results = (json.loads(gzip.decompress(path.read_bytes())) for path in VOC.paths())
    truth["images"] = truth["images"][:images]
    some = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in some]
    paths = folder / "voc_gt.json", folder / "voc_dt.json"
    paths[0].write_text(json.dumps(truth))
    paths[1].write_text(json.dumps([r for r in results if r["image_id"] in some]))
    return paths
