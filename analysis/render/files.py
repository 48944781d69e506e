"""What ``--out`` writes: the same findings as files for programs, papers and slides."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run, RunAnalysis
from analysis.evaluation.error_types import LABEL_NAMES
from analysis.evaluation.matched_run import CLS, DUP, LOC
from analysis.evaluation.outcomes import OUTCOME_NAMES
from analysis.evaluation.settings import Settings
from analysis.files import write_all
from analysis.render.documents import error_records, slice_records
from analysis.render.errors import errors_table
from analysis.render.figure_style import SCREEN, FigureStyle, figures_tex
from analysis.render.fonts import warn_of_undrawable
from analysis.render.latex import latex
from analysis.render.plots import errors_figure
from analysis.render.slice_figures import slice_figures
from analysis.render.slices import slice_tables
from analysis.render.table import Table, csv_text, markdown
from analysis.stats.compare import Comparison

# Of the columns of the CSV files, by key or by its beginning.
UNITS = {"ap": "points", "delta_ap*": "points", "raw_delta_ap*": "points"}
SIDES = {"low": "px", "high": "px"}  # of the square of a size


def write_analysis(
    out: Path,
    ground_truth: GroundTruth,
    settings: Settings,
    analyses: Sequence[RunAnalysis],
    crowding: NDArray[np.float64],
    document: bytes,
    *,
    measured: Comparison | None = None,
    min_objects: int = 0,
    style: FigureStyle = SCREEN,
    columns: Sequence[str] = (),
) -> list[str]:
    """Write every file and return their names; all are made before the first is written, and each appears whole.

    The breakdown, the detections and the objects are always written, the slices where they were computed.

    Args:
        out: the folder.
        ground_truth: of the runs.
        settings: of the runs.
        analyses: of each run.
        crowding: f64[M] of the objects.
        document: the JSON of ``--json``.
        measured: the intervals of the numbers, where they were asked for.
        min_objects: classes with fewer are left out of the table and the figure by class; the CSV has all.
        style: of the figures.
        columns: of the table of errors in Markdown and LaTeX, by name; none: all.

    Raises:
        BadInput: the folder cannot be written, or there is no such column.
    """
    shown = any(one.classes or one.confusion for one in analyses)
    warn_of_undrawable([*(one.name for one in analyses), *(ground_truth.category_name if shown else ())])
    table = errors_table(ground_truth, settings, analyses, measured, paper=True)
    contents = {
        "errors.csv": csv_text(Table.from_records(error_records(analyses), UNITS)).encode(),
        "errors.json": document,
        **_paper("errors", table.choose(columns) if columns else table),
    }
    records = [(one.name, slice_records(ground_truth, one)) for one in analyses]
    for name in records[0][1]:
        rows = [{"run": run, **record} for run, slices in records for record in slices[name]]
        table = Table.from_records(rows, UNITS | (SIDES if name == "by_size" else {}))
        contents[f"{name}.csv"] = csv_text(table).encode()
    pictures = {"errors": errors_figure(ground_truth, analyses, measured, style)}
    pictures |= slice_figures(ground_truth, analyses, style, min_objects=min_objects)
    for name, picture in pictures.items():
        contents |= picture.named(name)
    contents["errors_figures.tex"] = figures_tex(pictures, style)
    for name, table in slice_tables(ground_truth, settings, analyses, min_objects=min_objects, paper=True).items():
        contents |= _paper(name, table)
    contents["detections.csv.gz"] = _gzipped(detections_frame(ground_truth, analyses))
    contents["objects.csv.gz"] = _gzipped(objects_frame(ground_truth, analyses, crowding))
    write_all(out, contents, [ground_truth.path, *(one.detections.path for one in analyses)])
    return list(contents)


def _paper(name: str, table: Table) -> dict[str, bytes]:
    return {f"{name}.md": markdown(table).encode(), f"{name}.tex": latex(table).encode()}


def _gzipped(frame: pd.DataFrame) -> bytes:
    """A frame as gzipped CSV, the same bytes for the same rows."""
    return gzip.compress(frame.to_csv(index=False).encode(), compresslevel=4, mtime=0)


def detections_frame(ground_truth: GroundTruth, runs: Sequence[Run]) -> pd.DataFrame:
    """One row a detection: its place in the file, its label, the IoU and the object (annotation id) it points at.

    ``label`` is one of tp, cls, loc, both, dup, bg, ignored (by a crowd), over-cap, low-score. ``iou`` is the IoU with
    the target; without one, the best IoU with any object. ``fixes`` marks the cls or loc error that would win its
    object.
    """
    frames = []
    names = np.array(ground_truth.category_name, dtype=object)
    for run in runs:
        dt, labels = run.detections, run.breakdown.labels
        has_target = labels.target >= 0
        # -1, no target, takes what is appended: there may be no object at all
        annotation_id = np.append(ground_truth.annotation_id, -1)
        object_category = np.concatenate([names[ground_truth.category], np.array([None], dtype=object)])
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
                    "target": pd.Series(annotation_id[labels.target], dtype="Int64").where(has_target),
                    "target_category": object_category[labels.target],
                    "fixes": labels.recovers_gt,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def objects_frame(
    ground_truth: GroundTruth, analyses: Sequence[RunAnalysis], crowding: NDArray[np.float64]
) -> pd.DataFrame:
    """One row a run and object: its outcome, by which detection, and how many errors point at it.

    ``row`` is the place in the prediction file of the detection that took the object or has the best claim to it;
    ``by_category``, ``score`` and ``iou`` are its; all are empty if no detection matches or nearly matches the object.
    ``crowding`` is the highest IoU with another object of its category.
    """
    names = np.array(ground_truth.category_name, dtype=object)
    frames = []
    for one in analyses:
        dt, labels, by = one.detections, one.breakdown.labels, one.outcomes.by
        pointed = by >= 0

        def of_detection(values: NDArray[Any], kind: Any, pointed: Any = pointed, by: Any = by) -> pd.Series:
            column = pd.Series([None] * len(by), dtype=kind)
            column[pointed] = values[by[pointed]]
            return column

        frames.append(
            pd.DataFrame(
                {
                    "run": one.name,
                    "annotation_id": ground_truth.annotation_id,
                    "image_id": np.array(ground_truth.image_id)[ground_truth.image],
                    "category": names[ground_truth.category],
                    "area (px^2)": ground_truth.area_of(one.breakdown.settings.iou_type),
                    "crowding": crowding,
                    "fate": np.array(OUTCOME_NAMES)[one.outcomes.outcome],
                    "row": of_detection(dt.row, "Int64"),
                    "by_category": of_detection(names[dt.category], object),
                    "score": of_detection(dt.score, np.float64),
                    "iou": of_detection(labels.iou, np.float64),
                    **{
                        f"{name}_errors": np.bincount(labels.target[labels.error == error], minlength=len(by))
                        for name, error in (("cls", CLS), ("loc", LOC), ("dup", DUP))
                    },
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
