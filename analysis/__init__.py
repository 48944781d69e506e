"""Error analysis of object detectors: AP, and the cost of each type of error.

The library is pure functions over arrays::

    from analysis import break_down, coco_metrics, read_detections, read_ground_truth

    gt = read_ground_truth("instances_val2017.json")
    dt = read_detections("coco_instances_results.json", gt)
    break_down(gt, dt).delta_ap
    coco_metrics(gt, dt)["AP"]

``load`` reads both from memory too: COCO objects and documents, arrays, torchvision's targets and predictions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.coco import Detections, GroundTruth, load, read_detections, read_ground_truth
    from analysis.coco.synthetic import write_example
    from analysis.evaluation.analysis import Analysis, RunAnalysis
    from analysis.evaluation.ap_evaluation import Evaluation, coco_metrics, evaluate
    from analysis.evaluation.matched_run import Labels
    from analysis.evaluation.operating_point import Criterion
    from analysis.evaluation.settings import Settings
    from analysis.evaluation.tide import Breakdown, break_down
    from analysis.evaluation.voc import VocAP, voc_ap
    from analysis.exceptions import BadInput
    from analysis.stats.compare import Candidate, Comparison, compare
    from analysis.stats.operating_point import RunAtThreshold, operating_points

__all__ = [
    "Analysis",
    "BadInput",
    "Breakdown",
    "Candidate",
    "Comparison",
    "Criterion",
    "Detections",
    "Evaluation",
    "GroundTruth",
    "Labels",
    "RunAnalysis",
    "RunAtThreshold",
    "Settings",
    "VocAP",
    "break_down",
    "coco_metrics",
    "compare",
    "evaluate",
    "load",
    "operating_points",
    "read_detections",
    "read_ground_truth",
    "voc_ap",
    "write_example",
]
_HOMES = {
    "analysis.coco": ("Detections", "GroundTruth", "load", "read_detections", "read_ground_truth"),
    "analysis.coco.synthetic": ("write_example",),
    "analysis.evaluation.analysis": ("Analysis", "RunAnalysis"),
    "analysis.evaluation.ap_evaluation": ("Evaluation", "coco_metrics", "evaluate"),
    "analysis.evaluation.matched_run": ("Labels",),
    "analysis.evaluation.operating_point": ("Criterion",),
    "analysis.evaluation.settings": ("Settings",),
    "analysis.evaluation.tide": ("Breakdown", "break_down"),
    "analysis.evaluation.voc": ("VocAP", "voc_ap"),
    "analysis.exceptions": ("BadInput",),
    "analysis.stats.compare": ("Candidate", "Comparison", "compare"),
    "analysis.stats.operating_point": ("RunAtThreshold", "operating_points"),
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: the command line starts without numpy."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(home), name)
