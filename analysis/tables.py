"""The findings as documents for programs and papers: JSON, CSV, Markdown, and a row for every detection."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from analysis.error_types import ERRORS, LABEL_NAMES, SPECIAL, Settings
from analysis.error_types import ap_name as ap_name  # others take it from here
from analysis.ground_truth import GroundTruth
from analysis.runs import Run

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


def ground_truth_summary(ground_truth: GroundTruth) -> dict[str, Any]:
    """What was read, for the JSON documents."""
    return {
        "path": str(ground_truth.path),
        "digest": ground_truth.digest,
        "images": len(ground_truth.image_id),
        "annotations": len(ground_truth),
        "crowd": int(ground_truth.crowd.sum()),
        "categories": len(ground_truth.category_id),
    }


def errors_document(ground_truth: GroundTruth, settings: Settings, runs: Sequence[Run]) -> dict[str, Any]:
    """The document of ``analyze errors --json``: AP and deltas in points (0..100), unrounded."""
    return {
        "schema": SCHEMA,
        "ground_truth": ground_truth_summary(ground_truth),
        "settings": asdict(settings),
        "warnings": list(ground_truth.warnings),
        "runs": [
            {
                "name": run.name,
                "path": str(run.detections.path),
                "detections": len(run.detections),
                "ap": run.breakdown.ap,
                "delta_ap": run.breakdown.delta_ap,
                "raw_delta_ap": run.breakdown.raw,
                "count": run.breakdown.count,
                "true_positives": run.breakdown.true_positives,
                "positives": run.breakdown.positives,
                "never_detected": [ground_truth.category_name[c] for c in run.breakdown.never_detected],
                "warnings": list(run.detections.warnings),
            }
            for run in runs
        ],
    }


def ap_document(
    ground_truth: GroundTruth, iou_type: str, metrics: Sequence[tuple[Run | str, Any, dict[str, float]]]
) -> dict[str, Any]:
    """The document of ``analyze ap --json``: COCO's 12 numbers in points, -1 where COCO says so."""
    return {
        "schema": SCHEMA,
        "ground_truth": ground_truth_summary(ground_truth),
        "settings": {"iou_type": iou_type},
        "warnings": list(ground_truth.warnings),
        "runs": [
            {
                "name": name,
                "path": str(detections.path),
                "detections": len(detections),
                **numbers,
                "warnings": list(detections.warnings),
            }
            for name, detections, numbers in metrics
        ],
    }


def as_json(document: dict[str, Any]) -> bytes:
    """A document as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def errors_frame(runs: Sequence[Run]) -> "pd.DataFrame":
    """One row a run and error type: AP, delta-AP in points, count (empty for fp and fn, which are not counted)."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "run": run.name,
                "iou_type": run.breakdown.settings.iou_type,
                "iou": run.breakdown.settings.iou,
                "background_iou": run.breakdown.settings.background_iou,
                "max_dets": run.breakdown.settings.max_dets,
                "convention": run.breakdown.settings.convention,
                "ap": run.breakdown.ap,
                "error": error,
                "delta_ap": run.breakdown.delta_ap[error],
                "raw_delta_ap": run.breakdown.raw[error],
                "count": run.breakdown.count.get(error),
            }
            for run in runs
            for error in (*ERRORS, *SPECIAL)
        ]
    ).astype({"count": "Int64"})


def errors_markdown(ground_truth: GroundTruth, settings: Settings, runs: Sequence[Run]) -> str:
    """The breakdown as a Markdown table, one row a run, with the settings below."""
    head = ["run", ap_name(settings.iou), *ERRORS, "FP", "FN"]
    lines = [
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
    ]
    for run in runs:
        values = [run.breakdown.ap, *(run.breakdown.delta_ap[e] for e in (*ERRORS, *SPECIAL))]
        name = run.name.replace("|", "\\|")
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    lines += [
        "",
        f"Points of {ap_name(settings.iou)} to gain by fixing one type of error alone; they do not add up, because "
        "fixing one changes what the others cost.",
        f"{settings_sentence(settings)} Ground truth: {ground_truth.path.name}, {len(ground_truth.image_id):,} images, "
        f"{len(ground_truth):,} objects, digest {ground_truth.digest[:12]}.",
        "",
    ]
    return "\n".join(lines)


def settings_sentence(settings: Settings) -> str:
    """What was compared, from which IoU on, under which cap and convention."""
    what = "Boxes" if settings.iou_type == "bbox" else "Masks"
    cap = "an image and category" if settings.convention == "coco" else "an image, over all categories"
    return (
        f"{what}; right from IoU {settings.iou:g}, on background up to IoU {settings.background_iou:g}; at most "
        f"{settings.max_dets} detections {cap} ({settings.convention} convention)."
    )


def detections_frame(ground_truth: GroundTruth, runs: Sequence[Run]) -> "pd.DataFrame":
    """One row a detection: its place in the file, its label, the IoU and the object (annotation id) it points at.

    ``label`` is one of tp, cls, loc, both, dup, bg, ignored (by a crowd), over-cap. ``iou`` is the IoU with the target;
    without one, the best IoU with any object. ``fixes`` marks the cls or loc error that would win its object.
    """
    import pandas as pd

    frames = []
    names = np.array(ground_truth.category_name, dtype=object)
    for run in runs:
        dt, labels = run.detections, run.breakdown.labels
        has_target = labels.target >= 0
        target = pd.array(ground_truth.annotation_id[labels.target], dtype="Int64")
        target[~has_target] = pd.NA
        target_category = names[ground_truth.category[labels.target]]
        target_category[~has_target] = None
        frames.append(
            pd.DataFrame(
                {
                    "run": run.name,
                    "row": dt.row,
                    "image_id": np.array(ground_truth.image_id)[dt.image],
                    "category": names[dt.category],
                    "score": dt.score,
                    "label": np.array(LABEL_NAMES)[labels.error],
                    "iou": labels.iou,
                    "target": target,
                    "target_category": target_category,
                    "fixes": labels.fixes,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def gzipped_csv(frame: "pd.DataFrame") -> bytes:
    """A frame as gzipped CSV, the same bytes for the same rows."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=4) as file:
        frame.to_csv(file, index=False)
    return buffer.getvalue()
