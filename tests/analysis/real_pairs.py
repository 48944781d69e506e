"""The pairs of ground truth and real predictions in the shared data."""

from dataclasses import dataclass
from pathlib import Path

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
