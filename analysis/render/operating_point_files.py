"""What ``analyze threshold`` writes: the JSON document, curves and tables for programs, figures for papers."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Ints
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.operating_point import Counts
from analysis.files import write_all
from analysis.io import json_bytes
from analysis.render.documents import Record, analysis_document, interval_record, run_record
from analysis.render.figure_style import (
    MARKS,
    SCREEN,
    FigureStyle,
    Picture,
    distinct_colors,
    drawing,
    figures_tex,
    finish,
    legend_above,
    line_look,
    new_figure,
)
from analysis.render.fonts import warn_of_undrawable
from analysis.render.latex import latex
from analysis.render.operating_point import (
    BACKGROUND,
    cautions,
    confusion_pairs,
    criterion_sentence,
    curve_columns,
    paper_tables,
    score_text,
    takeaways,
)
from analysis.render.plots import (
    distinct_labels,
    heat_map,
    label,
    name_classes,
    panel_rows,
    panel_title,
    plain_axis,
    split_panels,
)
from analysis.render.slice_figures import MOST_CONFUSED
from analysis.render.slices import IN_PAPER, ON_SCREEN, PAPER_ROWS
from analysis.render.table import Table, csv_text, markdown, without_bold
from analysis.render.takeaways import source_sentence
from analysis.stats.operating_point import OperatingPoint, RunAtThreshold, f1_differences, rates_of

WRITTEN = (
    "threshold.json", "threshold.csv", "threshold.md", "threshold.tex", "threshold_by_class.csv",
    "threshold_by_class.md", "threshold_by_class.tex", "threshold_curves.csv", "threshold_confusion.csv",
    "threshold_curves.png", "threshold_curves.pdf", "threshold_confusion.png", "threshold_confusion.pdf",
    "threshold_figures.tex",
)  # fmt: skip
MOST_POINTS = 2000  # of a line in a figure


def operating_point_document(ground_truth: GroundTruth, runs: Sequence[RunAtThreshold]) -> Record:
    """The document of ``analyze threshold --json``: rates are 0..1, null where there is none."""
    points = [run.point for run in runs]
    first = points[0]
    settings = asdict(runs[0].settings) | {
        "criterion": first.criterion.kind,
        "value": first.criterion.value if first.criterion.kind != "f1" else None,
    }
    differences = f1_differences(points) if len(points) > 1 else {}
    document = analysis_document(
        ground_truth,
        settings,
        [run_record(run.name, run.detections, _run(ground_truth, run)) for run in runs],
    )
    return document | {
        "resampling": {"unit": "images", "resamples": first.resamples, "seed": first.seed, "confidence": 0.95},
        "cautions": cautions(runs),
        "findings": takeaways(runs),
        "f1_minus_first": {name: interval_record(one) for name, one in differences.items()},
    }


def _run(ground_truth: GroundTruth, run: RunAtThreshold) -> Record:
    point = run.point
    return {
        "threshold": point.threshold,
        "cross_fitted": bool(point.fold_thresholds),
        "fold_thresholds": list(point.fold_thresholds),
        "rates": {name: interval_record(one) for name, one in point.rates.items()},
        "in_sample" if point.criterion.is_chosen else "counts": _counts(point.in_sample, point.images),
        "errors": run.shown.errors,
        "errors_per_image": {name: count / max(point.images, 1) for name, count in run.shown.errors.items()},
        "by_class": class_records(ground_truth, point),
        "class_threshold_gain": {name: interval_record(one) for name, one in point.class_thresholds.gain.items()}
        if point.class_thresholds
        else None,
        "class_threshold_gain_in_sample": point.class_thresholds.gain_in_sample if point.class_thresholds else None,
        "confusion": confusion_records(ground_truth, run.shown.confusion),
    }


def _counts(counts: Counts, images: int) -> Record:
    return {
        "true_positives": int(counts.right),
        "false_positives": int(counts.wrong),
        "false_negatives": int(counts.missed),
        **{name: float(rate) for name, rate in rates_of(counts, images).items()},
    }


def class_records(ground_truth: GroundTruth, point: OperatingPoint) -> list[Record]:
    """A record a class: counts and rates from the one score on, and its own threshold where that was asked for."""
    classes, own, counts = point.classes, point.class_thresholds, point.classes.counts
    rates = rates_of(counts, point.images)
    records = []
    for c, (identifier, name) in enumerate(zip(ground_truth.category_id, ground_truth.category_name, strict=True)):
        record: Record = {
            "id": identifier,
            "class": name,
            "objects": int(counts.objects[c]),
            "true_positives": int(counts.right[c]),
            "false_positives": int(counts.wrong[c]),
            "false_negatives": int(counts.missed[c]),
        }
        for rate, values in rates.items():
            record |= {
                rate: float(values[c]),
                f"{rate}_low": float(classes.low[rate][c]),
                f"{rate}_high": float(classes.high[rate][c]),
            }
        if own is not None:
            record |= {"own_threshold": float(own.threshold[c]), "own_f1_in_sample": float(own.counts.f1[c])}
        records.append(record)
    return records


def confusion_records(ground_truth: GroundTruth, matrix: Ints) -> list[Record]:
    """A record a cell of the confusion matrix that is not empty."""
    names = [*ground_truth.category_name, BACKGROUND]
    return [
        {"true": names[true], "shown": names[shown], "count": int(matrix[true, shown])}
        for true, shown in np.argwhere(matrix).tolist()
    ]


def write_operating_points(
    out: Path,
    ground_truth: GroundTruth,
    runs: Sequence[RunAtThreshold],
    document: Record,
    style: FigureStyle = SCREEN,
) -> tuple[str, ...]:
    """Write the files and return their names; all are made before the first is written, and each appears whole.

    Raises:
        BadInput: the folder cannot be written, or one of the files is an input.
    """
    warn_of_undrawable([*(run.name for run in runs), *ground_truth.category_name])
    contents = {"threshold.json": json_bytes(document)}
    for most, kind, write in ((None, "md", markdown), (PAPER_ROWS, "tex", latex)):
        for name, table in paper_tables(ground_truth, runs, most).items():
            notes = tuple(note.replace(ON_SCREEN, IN_PAPER) for note in table.notes)
            contents[f"{name}.{kind}"] = write(replace(without_bold(table), notes=notes)).encode()
    records = {
        "threshold": [_flat(run) for run in runs],
        "threshold_by_class": [
            {"run": run.name} | record for run in runs for record in class_records(ground_truth, run.point)
        ],
        "threshold_confusion": [
            {"run": run.name} | record
            for run in runs
            for record in confusion_records(ground_truth, run.shown.confusion)
        ],
    }
    contents |= {f"{name}.csv": csv_text(Table.from_records(rows)).encode() for name, rows in records.items()}
    contents["threshold_curves.csv"] = _curves_csv(runs)
    made = {
        "threshold_curves": curves_figure(ground_truth, runs, style),
        "threshold_confusion": confusion_figure(ground_truth, runs, style),
    }
    pictures = {name: picture for name, picture in made.items() if picture is not None}
    for name, picture in pictures.items():
        contents |= picture.named(name)
    if pictures:
        contents["threshold_figures.tex"] = figures_tex(pictures, style)
    write_all(out, contents, [ground_truth.path, *(run.detections.path for run in runs)])
    return tuple(name for name in WRITTEN if name in contents)


def _flat(run: RunAtThreshold) -> Record:
    point = run.point
    record: dict[str, Any] = {"run": run.name, "criterion": str(point.criterion), "threshold": point.threshold}
    for rate, value in _counts(point.in_sample, point.images).items():
        record[rate if not point.criterion.is_chosen else f"in_sample_{rate}"] = value
    for rate in ("precision", "recall", "f1", "fp_per_image"):
        known = point.rates.get(rate)
        for end in ("value", "low", "high"):
            record[f"{rate}_{end}"] = getattr(known, end) if known else None
    return record | {f"{name}_per_image": count / max(point.images, 1) for name, count in run.shown.errors.items()}


def _curves_csv(runs: Sequence[RunAtThreshold]) -> bytes:
    """A row a run and score; of many scores the file holds all."""
    import pandas as pd

    frames = [pd.DataFrame({"run": run.name, **curve_columns(run)}) for run in runs]
    text: str = pd.concat(frames, ignore_index=True).to_csv(index=False)
    return text.encode()


def curves_figure(
    ground_truth: GroundTruth, runs: Sequence[RunAtThreshold], style: FigureStyle = SCREEN
) -> Picture | None:
    """Precision, recall and F1 against the score, a line a run, its threshold marked; none without a detection."""
    columns = [curve_columns(run) for run in runs]
    if not any(len(one["score"]) for one in columns):
        return None
    rates = {"precision": "precision", "recall": "recall", "f1": "F1"}
    across = style.across()
    with drawing(style):
        height = 1.6 if style.narrow else 2.3
        figure = new_figure(style.wide(), height * panel_rows(len(rates), across) + 0.2)
        names, colors = distinct_labels([run.name for run in runs]), distinct_colors(len(runs))
        axes = split_panels(figure, len(rates), across, sharey=True, sharex=True)
        for panel, (axis, (rate, head)) in enumerate(zip(axes, rates.items(), strict=True)):
            for number, (run, name, column) in enumerate(zip(runs, names, columns, strict=True)):
                x, y = column["score"], column[rate]
                some = np.unique(np.linspace(0, max(len(x) - 1, 0), MOST_POINTS).astype(np.int64))[: len(x)]
                threshold, color = run.point.threshold, colors[number]
                mark = MARKS[number % len(MARKS)]
                axis.plot(x[some], y[some], **line_look(number, color))
                axis.plot(
                    [], [], label=f"{name}  (threshold "
                    f"{score_text(threshold)})", marker=mark, ms=5, mec="white", mew=0.7,
                    **line_look(number, color),
                )  # fmt: skip
                if threshold is not None and len(x):
                    at = int(np.searchsorted(-x, -threshold, side="right")) - 1
                    if at >= 0:
                        axis.plot(threshold, y[at], marker=mark, color=color, markersize=6, mec="white", mew=0.7)
            panel_title(axis, head, style)
            axis.set_ylim(-0.02, 1.02)
            if panel >= len(rates) - across:
                axis.set_xlabel("score threshold")
            plain_axis(axis, style)
        legend_above(figure, axes, style=style)
        caption = (
            "Precision, recall and F1 over all classes together, by score threshold. "
            f"Marked: {criterion_sentence(runs[0].point.criterion)}. "
            f"{source_sentence(ground_truth, runs[0].settings)}"
        )
        return finish(figure, caption, style)


def confusion_figure(
    ground_truth: GroundTruth, runs: Sequence[RunAtThreshold], style: FigureStyle = SCREEN
) -> Picture | None:
    """The classes that are confused most, with a row and a column of the background; shaded by the share of a row."""
    names = [*ground_truth.category_name, BACKGROUND]
    across = 1 if style.narrow else 2
    rows = panel_rows(len(runs), across)
    most = style.that_fit(8 if style.narrow else MOST_CONFUSED, rows, 0.27, 0.62 + 0.9 / rows)
    shown = _shown_classes([run.shown.confusion for run in runs], most)
    if not len(shown):
        return None
    places = np.append(shown, len(names) - 1)
    labels = distinct_labels([names[c] for c in places], 16)
    side = 0.3 + 0.27 * len(places)
    columns = min(len(runs), across)
    with drawing(style):
        figure = new_figure(style.wide(max(side * columns + 1.0, 4.0)), side * rows + 1.1)
        for place, (axis, run) in enumerate(zip(split_panels(figure, len(runs), across), runs, strict=True)):
            matrix = run.shown.confusion
            total = np.maximum(matrix.sum(axis=1), 1)
            part = matrix[np.ix_(places, places)]
            words = [[f"{count:,}" if count else "" for count in row] for row in part.tolist()]
            words[-1][-1] = ""
            heat_map(axis, part / total[places][:, None], words, labels, labels, style)
            name_classes(axis, place, len(runs), across, style)
            threshold = f" (threshold {score_text(run.point.threshold)})"
            axis.set_title(label(run.name, 20) + threshold, fontsize=style.size(9), loc="left")
        caption = (
            "Number of detections at or above the threshold, by the class of their object (rows) and the predicted "
            "class (columns), shaded by the share of the row. Last row: detections on no unmatched object; last "
            f"column: objects without a detection. Shown: the {len(shown)} classes confused most, or with the most "
            f"objects. {source_sentence(ground_truth, runs[0].settings)}"
        )
        return finish(figure, caption, style)


def _shown_classes(matrices: Sequence[Ints], most: int) -> Ints:
    """The classes of the most confused pairs, filled up with those that have the most objects."""
    total = np.sum(matrices, axis=0)
    order = [*confusion_pairs(total).ravel().tolist(), *np.argsort(-total[:-1].sum(axis=1), kind="stable").tolist()]
    return np.sort(np.array(list(dict.fromkeys(order))[:most], dtype=np.int64))
