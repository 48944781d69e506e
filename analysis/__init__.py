"""Error analysis of object detectors: where the average precision went, exactly and fast.

The library is pure functions over arrays::

    from analysis import break_down, coco_metrics, read_detections, read_ground_truth

    gt = read_ground_truth("instances_val2017.json")
    dt = read_detections("coco_instances_results.json", gt)
    break_down(gt, dt).delta_ap
    coco_metrics(gt, dt)["AP"]
"""

from analysis.coco import Detections, GroundTruth, read_detections, read_ground_truth
from analysis.evaluation.average_precision import coco_metrics
from analysis.evaluation.matched_run import Labels
from analysis.evaluation.settings import Settings
from analysis.evaluation.tide import Breakdown, break_down
from analysis.exceptions import BadInput

__all__ = [
    "BadInput",
    "Breakdown",
    "Detections",
    "GroundTruth",
    "Labels",
    "Settings",
    "break_down",
    "coco_metrics",
    "read_detections",
    "read_ground_truth",
]
