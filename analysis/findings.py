"""The breakdown read aloud: what each error means, which cost the most, and what to look at next."""

import numpy as np

from analysis.error_types import BG, CLS, DUP, ERRORS, LOC
from analysis.ground_truth import GroundTruth
from analysis.runs import Run
from analysis.tables import ap_name

MEANINGS = {
    "cls": "right place, wrong category",
    "loc": "right category, box too far off",
    "both": "wrong category and too far off",
    "dup": "a second detection of a found object",
    "bg": "a detection where there is nothing",
    "miss": "an object that nothing points at",
    "fp": "all wrong detections together",
    "fn": "all objects not found together",
}


def what_next(ground_truth: GroundTruth, run: Run, most: int = 2) -> list[str]:
    """Sentences on the costliest errors of a run, the costliest first, each with where to look."""
    delta = run.breakdown.delta_ap
    costly = [e for e in sorted(ERRORS, key=lambda e: -delta[e]) if delta[e] > 0.05][:most]
    name = ap_name(run.breakdown.settings.iou)
    sentences = [f"{error} costs {delta[error]:.1f} {name}: {_where(ground_truth, run, error)}" for error in costly]
    if not costly:
        sentences.append("no type of error costs as much as 0.1 points")
    silent = [ground_truth.category_name[c] for c in run.breakdown.never_detected]
    if silent:
        listed = ", ".join(silent[:4]) + (f" and {len(silent) - 4} more" if len(silent) > 4 else "")
        sentences.append(
            f"never detected: {listed}. Their AP is 0 and only fixing cls can change that, so hardly a number above "
            "shows them"
        )
    return sentences


def _where(ground_truth: GroundTruth, run: Run, error: str) -> str:
    labels, dt = run.breakdown.labels, run.detections
    names = ground_truth.category_name
    if error == "miss":
        rows = np.flatnonzero(labels.missed)
        small = float((ground_truth.area[rows] <= 32**2).mean())
        return (
            f"{len(rows):,} objects, {100 * small:.0f} % of them small (up to 32 x 32 pixels), most often "
            f"{_most(ground_truth.category[rows], names)}; try a lower score threshold, larger input or more recall"
        )
    label = ERRORS.index(error)
    rows = np.flatnonzero(labels.error == label)
    category = dt.category[rows]
    if label == CLS:
        pairs = category * len(names) + ground_truth.category[labels.target[rows]]
        top, count = _top(pairs)
        object_is, taken_for = names[top % len(names)], names[top // len(names)]
        return (
            f"{len(rows):,} detections; most often {object_is} is taken for {taken_for} ({count:,}); "
            "look at those labels first"
        )
    if label == LOC:
        median = float(np.median(labels.iou[rows]))
        return (
            f"{len(rows):,} boxes with median IoU {median:.2f}, most often {_most(category, names)}; "
            "better regression or finer features would help"
        )
    if label == DUP:
        return f"{len(rows):,} second boxes, most often {_most(category, names)}; a stricter NMS removes them"
    sure = int((dt.score[rows] >= 0.5).sum())
    hint = "unannotated objects or look-alikes" if label == BG else "weak features on hard objects"
    return f"{len(rows):,} detections ({sure:,} with score 0.5 or more), most often {_most(category, names)}; {hint}?"


def _most(category: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", names: list[str]) -> str:
    top, count = _top(category)
    return f"{names[top]} ({count:,})"


def _top(values: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> tuple[int, int]:
    unique, count = np.unique(values, return_counts=True)
    best = int(np.argmax(count))
    return int(unique[best]), int(count[best])
