"""Error analysis of object detectors: where the average precision went, exactly and fast.

The library is pure functions over arrays::

    from analysis import break_down, coco_metrics, read_detections, read_ground_truth

    gt = read_ground_truth("instances_val2017.json")
    dt = read_detections("coco_instances_results.json", gt)
    break_down(gt, dt).delta_ap
    coco_metrics(gt, dt)["AP"]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.coco import Detections, GroundTruth, read_detections, read_ground_truth
    from analysis.evaluation.ap_evaluation import coco_metrics
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
_HOMES = {
    "analysis.coco": ("Detections", "GroundTruth", "read_detections", "read_ground_truth"),
    "analysis.evaluation.ap_evaluation": ("coco_metrics",),
    "analysis.evaluation.matched_run": ("Labels",),
    "analysis.evaluation.settings": ("Settings",),
    "analysis.evaluation.tide": ("Breakdown", "break_down"),
    "analysis.exceptions": ("BadInput",),
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: the command line starts without numpy."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(home), name)
