"""COCO files read into checked arrays: ground truth, detections, masks; and simulated ones."""

from analysis.coco.detections import Detections, read_detections
from analysis.coco.ground_truth import GroundTruth, read_ground_truth
from analysis.coco.memory import load

__all__ = ["Detections", "GroundTruth", "load", "read_detections", "read_ground_truth"]
