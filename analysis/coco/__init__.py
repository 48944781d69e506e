"""COCO files read into checked arrays: ground truth, detections, masks; and simulated ones."""
