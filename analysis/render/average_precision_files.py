"""What ``analyze ap`` writes: the JSON document, tables and precision-recall curves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.arrays import Floats
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.ap_evaluation import Evaluation
from analysis.evaluation.average_precision import COCO_RECALLS
from analysis.evaluation.metrics import RunMetrics
from analysis.evaluation.settings import Settings, ap_name, iou_name
from analysis.evaluation.voc import VocAP
from analysis.files import write_all
from analysis.io import json_bytes
from analysis.render.average_precision import (
    ap_sentence,
    ap_tables,
    class_names,
    class_numbers,
    iou_numbers,
    metrics_table,
)
from analysis.render.documents import Record, analysis_document, maybe, run_record
from analysis.render.figure_style import (
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
from analysis.render.plots import (
    distinct_labels,
    is_first_in_row,
    panel_rows,
    panel_title,
    plain_axis,
    split_panels,
)
from analysis.render.slices import IN_PAPER, ON_SCREEN, PAPER_ROWS
from analysis.render.table import Table, csv_text, markdown, without_bold
from analysis.render.takeaways import source_sentence

WRITTEN = tuple(
    f"{name}.{kind}"
    for name, kinds in (
        ("ap", ("json", "csv", "md", "tex")),
        *((f"ap_by_{part}", ("csv", "md", "tex")) for part in ("class", "size", "iou")),
        ("precision_recall", ("csv", "png", "pdf")),
        ("ap_figures", ("tex",)),
    )
    for kind in kinds
)
UNITS = {"AP*": "points", "AR*": "points", "ap": "points", "ar": "points"}  # of the columns of the CSV files
MIDDLE_IOU = 0.75
WIDTHS = (3.8, 5.4, 7.2)  # inches of a figure with so many panels


def ap_document(
    ground_truth: GroundTruth, settings: Settings, runs: Sequence[RunMetrics], parts: Sequence[str] = ()
) -> Record:
    """The document of ``analyze ap --json``: points, -1 where COCO says so; precision (0..1) at 101 recalls."""
    evaluation = runs[0].evaluation
    asked = {
        "iou_type": settings.iou_type,
        "max_dets": list(evaluation.caps),
        "class_agnostic": settings.class_agnostic,
        "min_score": settings.min_score,
        "federated": settings.federated,
        "ious": evaluation.ious.tolist(),
        "sizes": list(evaluation.sizes),
        "micro": evaluation.category.tolist() == [-1],
    }
    records = []
    for one in runs:
        record = run_record(one.name, one.detections, one.metrics) | {
            "over_cap": maybe(one.over_cap),
            "low_scores": maybe(one.low_scores),
            "precision_recall": _mean_curves(one.evaluation),
        }
        if "class" in parts:
            record["by_class"] = [
                row | {"precision": curve}
                for row, curve in zip(class_records(ground_truth, one.evaluation), _curves(one.evaluation), strict=True)
            ]
        if "size" in parts:
            record["by_size"] = _size_records(one)
        if "iou" in parts:
            numbers = iou_numbers(one.evaluation)
            record["by_iou"] = [{"iou": iou, "ap": ap} for iou, ap in zip(asked["ious"], numbers, strict=True)]
        records.append(record)
    return analysis_document(ground_truth, asked, records)


def class_records(ground_truth: GroundTruth, evaluation: Evaluation) -> list[Record]:
    """A record a category that occurs: its numbers in points, -1 where it has no object that counts."""
    names = class_names(ground_truth, evaluation)
    return [
        {
            "id": ground_truth.category_id[c] if c >= 0 else None,
            "class": names[place],
            "objects": int(evaluation.objects[0][place]),
            "detections": int(evaluation.detections[place]),
            **class_numbers(evaluation, place),
        }
        for place, c in enumerate(evaluation.category.tolist())
    ]


def _size_records(one: RunMetrics) -> list[Record]:
    evaluation = one.evaluation
    rows = ap_tables_rows(one)
    return [
        {"size": size, "objects": int(evaluation.objects[a].sum()), "ap": ap, "ar": ar}
        for a, (size, (ap, ar)) in enumerate(zip(evaluation.sizes, rows, strict=True))
    ]


def ap_tables_rows(one: RunMetrics) -> list[tuple[float, float]]:
    """AP and AR of each size in points, all first."""
    evaluation = one.evaluation
    found = []
    for a in range(len(evaluation.sizes)):
        precision, recall = evaluation.precision[a, -1], evaluation.recall[a, -1]
        found.append((_points(precision), _points(recall)))
    return found


def _points(values: Floats) -> float:
    known = values[values > -1]
    return float(known.mean()) * 100 if known.size else -1.0


def mean_precision(evaluation: Evaluation) -> Floats:
    """f64[T, 101] the mean precision (0..1) over the categories that have objects; NaN where none has."""
    precision = evaluation.precision[0, -1]  # [T, K, 101]
    known = evaluation.objects[0] > 0
    found: Floats = precision[:, known].mean(axis=1) if known.any() else np.full(precision[:, 0].shape, np.nan)
    return found


def _mean_curves(evaluation: Evaluation) -> Record:
    return {
        "iou": evaluation.ious.tolist(),
        "recall": COCO_RECALLS.tolist(),
        "precision": mean_precision(evaluation).tolist(),
    }


def _curves(evaluation: Evaluation) -> list[list[list[float]]]:
    """By category: a curve an IoU."""
    curves: list[list[list[float]]] = np.swapaxes(evaluation.precision[0, -1], 0, 1).tolist()
    return curves


def write_ap(
    out: Path,
    ground_truth: GroundTruth,
    settings: Settings,
    runs: Sequence[RunMetrics],
    parts: Sequence[str],
    document: Record,
    style: FigureStyle = SCREEN,
    columns: Sequence[str] = (),
) -> tuple[str, ...]:
    """Write the files and return their names; all are made before the first is written, and each appears whole.

    Raises:
        BadInput: the folder cannot be written, or one of the files is an input.
    """
    note = (ap_sentence(settings, runs[0].evaluation), source_sentence(ground_truth, settings))
    whole = without_bold(metrics_table([(one.name, one.metrics) for one in runs]))
    title = "Average precision and recall, in points"
    whole = replace(whole.choose(columns) if columns else whole, title=title, notes=note, label="ap")
    contents = {"ap.json": json_bytes(document), "ap.md": markdown(whole).encode(), "ap.tex": latex(whole).encode()}
    for most, kind, write in ((None, "md", markdown), (PAPER_ROWS, "tex", latex)):
        for name, table in ap_tables(ground_truth, runs, parts, most).items():
            about = f"{table.title}: average precision and recall, in points" if name != "ap_by_iou" else table.title
            notes = (*(one.replace(ON_SCREEN, IN_PAPER) for one in table.notes), *note)
            table = replace(without_bold(table), title=about, notes=notes, label=name.replace("_", "-"))
            contents[f"{name}.{kind}"] = write(table).encode()
    rows: dict[str, list[Record]] = {"ap": [{"run": one.name, **one.metrics} for one in runs]}
    if "class" in parts:
        rows["ap_by_class"] = [
            {"run": one.name} | row for one in runs for row in class_records(ground_truth, one.evaluation)
        ]
    if "size" in parts:
        rows["ap_by_size"] = [{"run": one.name} | row for one in runs for row in _size_records(one)]
    if "iou" in parts:
        rows["ap_by_iou"] = [
            {"run": one.name, "iou": iou, "ap": ap}
            for one in runs
            for iou, ap in zip(one.evaluation.ious.tolist(), iou_numbers(one.evaluation), strict=True)
        ]
    contents |= {f"{name}.csv": csv_text(Table.from_records(records, UNITS)).encode() for name, records in rows.items()}
    contents["precision_recall.csv"] = _curves_csv(ground_truth, runs, each="class" in parts)
    warn_of_undrawable(one.name for one in runs)
    if picture := precision_recall_figure(ground_truth, settings, runs, style):
        contents |= picture.named("precision_recall")
        contents["ap_figures.tex"] = figures_tex({"precision_recall": picture}, style)
    write_all(out, contents, [ground_truth.path, *(one.detections.path for one in runs)])
    return tuple(name for name in WRITTEN if name in contents)


def _curves_csv(ground_truth: GroundTruth, runs: Sequence[RunMetrics], *, each: bool) -> bytes:
    """A row a run, IoU, class and recall; the mean over classes first, under the class ``(mean)``."""
    import pandas as pd

    frames = []
    for one in runs:
        evaluation = one.evaluation
        curves = [("(mean)", mean_precision(evaluation))]
        if each:
            precision = evaluation.precision[0, -1]
            known = np.flatnonzero(evaluation.objects[0]).tolist()
            names = class_names(ground_truth, evaluation)
            curves += [(names[place], precision[:, place]) for place in known]
        for name, values in curves:
            for iou, curve in zip(evaluation.ious.tolist(), values, strict=True):
                frames.append(
                    pd.DataFrame(
                        {"run": one.name, "iou": iou, "class": name, "recall": COCO_RECALLS, "precision": curve}
                    )
                )
    text: str = pd.concat(frames, ignore_index=True).to_csv(index=False)
    return text.encode()


def drawn_ious(ious: Floats) -> list[int]:
    """Places of the IoUs whose curves are drawn: the lowest, 0.75 or what is nearest to it, and the highest."""
    return sorted({0, int(np.abs(ious - MIDDLE_IOU).argmin()), len(ious) - 1})


def precision_recall_figure(
    ground_truth: GroundTruth, settings: Settings, runs: Sequence[RunMetrics], style: FigureStyle = SCREEN
) -> Picture | None:
    """Precision against recall, the mean over classes: a panel an IoU (up to three of them), a line a run.

    None where no class has an object.
    """
    ious = runs[0].evaluation.ious
    curves = [mean_precision(one.evaluation) for one in runs]
    if np.isnan(curves[0]).all():
        return None
    places = drawn_ious(ious)
    across = style.across()
    with drawing(style):
        height = 1.7 if style.narrow else 2.3
        width = style.wide(WIDTHS[len(places) - 1])
        figure = new_figure(width, height * panel_rows(len(places), across) + 0.2)
        names, colors = distinct_labels([one.name for one in runs]), distinct_colors(len(runs))
        axes = split_panels(figure, len(places), across, sharey=True)
        for panel, (axis, t) in enumerate(zip(axes, places, strict=True)):
            for number, (one, curve, name) in enumerate(zip(runs, curves, names, strict=True)):
                score = f"{ap_name(float(ious[t]))} {iou_numbers(one.evaluation)[t]:.1f}"
                text = f"{name}  ({score})" if len(places) == 1 else name
                axis.plot(COCO_RECALLS, curve[t], label=text, **line_look(number, colors[number]))
            panel_title(axis, f"{ap_name(float(ious[t]))}: {iou_name(settings.iou_type)} {ious[t]:g}", style)
            axis.set_xlabel("recall" if panel >= len(places) - min(across, len(places)) else "")
            axis.set_xlim(-0.02, 1.02)
            axis.set_ylim(-0.02, 1.02)
            if is_first_in_row(panel, len(places), across):
                axis.set_ylabel("precision")
            plain_axis(axis, style)
        legend_above(figure, axes, style=style)
        counted = int((runs[0].evaluation.objects[0] > 0).sum())
        over = "all detections as one class" if settings.class_agnostic else f"the mean over {counted:,} classes"
        if runs[0].evaluation.category.tolist() == [-1] and not settings.class_agnostic:
            over = "over the detections of all classes together"
        caption = (
            f"Precision against recall, {over}, at each of 101 recalls the highest precision from there on; the area "
            f"below a line is its AP. {source_sentence(ground_truth, settings, thresholds=False)}"
        )
        return finish(figure, caption, style)


def voc_document(ground_truth: GroundTruth, runs: Sequence[tuple[str, Detections, VocAP]]) -> Record:
    """The document of ``analyze ap --voc --json``: AP in points, null where a class has no object that counts."""
    first = runs[0][2]
    records = [
        run_record(
            name,
            detections,
            {
                "mAP": found.mean,
                "by_class": [
                    {
                        "id": identifier,
                        "class": category,
                        "objects": int(found.objects[c]),
                        "detections": int(found.detections[c]),
                        "true_positives": int(found.true_positives[c]),
                        "ap": float(found.category[c]),
                    }
                    for c, (identifier, category) in enumerate(
                        zip(ground_truth.category_id, ground_truth.category_name, strict=True)
                    )
                ],
            },
        )
        for name, detections, found in runs
    ]
    return analysis_document(ground_truth, {"voc": first.year, "iou": first.iou}, records)
