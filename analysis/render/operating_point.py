"""A detector at its score threshold: tables of rates, errors, classes and confusion, and what a terminal shows."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from analysis.arrays import Floats, Ints
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.operating_point import Counts, Criterion
from analysis.render.documents import interval_record
from analysis.render.errors import error_column, read_facts
from analysis.render.screen import NOTE, dimmed, fact_list
from analysis.render.table import Cell, Column, Table, Value, best
from analysis.render.takeaways import settings_sentence, source_sentence
from analysis.stats.intervals import FEWEST_OF_CATEGORY, SIGNIFICANCE, Difference, Interval
from analysis.stats.operating_point import FOLDS, RATES, OperatingPoint, RunAtThreshold, f1_differences, rates_of

BACKGROUND = "(background)"
FIRST_ROWS = 10  # classes and confused pairs of a run in a terminal
RATE_HEADS = {"precision": "precision", "recall": "recall", "f1": "F1", "fp_per_image": "FP per image"}
CROSS_FITTED = f"cross-fitted: chosen on {FOLDS - 1} of {FOLDS} parts of the images, evaluated on the other"
OPTIMISTIC = "optimistic, because the threshold was chosen on the same images"


def rate_text(number: Interval | float, *, sign: bool = False) -> str:
    """A rate (0..1) in print, with its interval where it has one.

    >>> rate_text(0.5), rate_text(Interval(0.58, 0.55, 0.6125, 0.02)), rate_text(math.nan)
    ('0.500', '0.580 [0.550, 0.613]', '-')
    """
    value, low, high = (
        (number.value, number.low, number.high) if isinstance(number, Interval) else (number, *[math.nan] * 2)
    )
    shape = "+z.3f" if sign else "z.3f"
    if value != value:
        return "-"
    return format(value, shape) + (f" [{low:{shape}}, {high:{shape}}]" if low == low else "")


def score_text(score: float | None) -> str:
    """A threshold with as many digits as tell it from its neighbours in a file.

    >>> score_text(0.235178), score_text(None), score_text(12.0)
    ('0.23518', '-', '12')
    """
    return "-" if score is None or math.isnan(score) else f"{score:.5g}"


def rates_table(points: Sequence[OperatingPoint]) -> Table:
    """A row a run: the threshold, and the rates from it on with their intervals; the highest F1 in bold."""
    first = points[0].criterion
    columns = (
        Column("run", kind="text"),
        Column("threshold", precision=5),
        *(Column(RATE_HEADS[rate], precision=3, key=rate) for rate in RATES),
    )
    highest = max((round(one.rates["f1"].value, 3) for one in points if one.rates), default=math.nan)
    rows: list[tuple[Value, ...]] = []
    for one in points:
        cells: list[Value] = [one.name, Cell(one.threshold, score_text(one.threshold))]
        for rate in RATES:
            known = one.rates.get(rate)
            bold = len(points) > 1 and rate == "f1" and known is not None and round(known.value, 3) == highest
            cells.append(Cell(None) if known is None else Cell(known.value, rate_text(known), bold=bold))
        rows.append(tuple(cells))
    how = ""
    if first.is_chosen:
        how = f", {CROSS_FITTED if any(one.fold_thresholds for one in points) else OPTIMISTIC}"
    return Table(f"Rates at the threshold{how}", columns, tuple(rows), label="threshold")


def counts_table(runs: Sequence[RunAtThreshold]) -> Table:
    """A row a run: the counts and rates on all images."""
    points = [run.point for run in runs]
    heads = ("TP", "FP", "FN", "precision", "recall", "F1", "FP per image")
    columns = (
        Column("run", kind="text"),
        *(Column(head, precision=3 if at > 2 else None) for at, head in enumerate(heads)),
    )
    rows = tuple((one.name, *_counted(one.in_sample), *_rated(one.in_sample, one.images)) for one in points)
    return Table(f"Counts on all images ({OPTIMISTIC})" if points[0].criterion.is_chosen else "Counts", columns, rows)


def _counted(counts: Counts) -> list[Value]:
    return [int(counts.right), int(counts.wrong), int(counts.missed)]


def _rated(counts: Counts, images: int) -> list[Value]:
    return [float(rate) for rate in rates_of(counts, images).values()]


def errors_table(runs: Sequence[RunAtThreshold]) -> Table:
    """A row a run, a column an error type: how many of them an image shows."""
    columns = (Column("run", kind="text"), *(replace(error_column(error), precision=3) for error in ERRORS))
    per_image = [[run.shown.errors[error] / max(run.point.images, 1) for run in runs] for error in ERRORS]
    cells = [best(values, column, low=True) for values, column in zip(per_image, columns[1:], strict=True)]
    rows = tuple((run.name, *values) for run, values in zip(runs, zip(*cells, strict=True), strict=True))
    return Table("Errors per image at the threshold", columns, rows)


def classes_table(ground_truth: GroundTruth, runs: Sequence[RunAtThreshold], most: int | None = FIRST_ROWS) -> Table:
    """A row a run and class, those with the most false positives and missed objects first."""
    own = runs[0].point.class_thresholds is not None
    heads = [Column("class", kind="text"), *map(Column, ("objects", "TP", "FP", "FN"))]
    heads += [Column(RATE_HEADS[rate], precision=3, key=rate) for rate in RATES[:3]]
    heads += [Column(head, precision=3) for head in ("own threshold", "F1 at own threshold")] * own
    names, rows, without_interval = ground_truth.category_name, [], False
    for run in runs:
        classes, thresholds = run.point.classes, run.point.class_thresholds
        counts = classes.counts
        order = class_order(counts)[:most]
        without_interval |= run.point.resamples > 0 and bool(np.isnan(classes.low["recall"][order]).any())
        for c in order.tolist():
            rates = (float(getattr(counts, rate)[c]) for rate in RATES[:3])
            cells: list[Value] = [run.name, names[c], int(counts.objects[c]), int(counts.right[c])]
            cells += [int(counts.wrong[c]), int(counts.missed[c])]
            cells += [
                Cell(rate, rate_text(_class_interval(run, name, c))) for name, rate in zip(RATES, rates, strict=False)
            ]
            if thresholds is not None:
                cells.append(Cell(float(thresholds.threshold[c]), score_text(float(thresholds.threshold[c]))))
                cells.append(float(thresholds.counts.f1[c]))
            rows.append(tuple(cells))
    known = int(((runs[0].point.classes.counts.objects > 0) | (runs[0].point.classes.counts.shown > 0)).sum())
    notes = []
    if most is not None and known > most:
        notes.append(
            f"The {most} of {known:,} classes with the most false positives and missed objects; --all shows all "
            "classes."
        )
    if without_interval:
        notes.append(f"Classes without intervals have objects in fewer than {FEWEST_OF_CATEGORY} images.")
    if own:
        notes.append(f"own threshold: chosen for this class alone, and the F1 at it ({OPTIMISTIC}).")
    table = Table(
        "By class, at the threshold of the run",
        (Column("run", kind="text"), *heads),
        tuple(rows),
        notes=tuple(notes),
        names=2,
        grouped=True,
    )
    if len(runs) == 1:
        table = replace(
            table, columns=table.columns[1:], rows=tuple(row[1:] for row in table.rows), names=1, grouped=False
        )
    return table


def class_order(counts: Counts) -> Ints:
    """The classes with objects or detections, those with the most false positives and missed objects first."""
    known = np.flatnonzero((counts.objects > 0) | (counts.shown > 0))
    wrong = (counts.wrong + counts.missed)[known]
    order: Ints = known[np.lexsort((known, -counts.objects[known], -wrong))]
    return order


def _class_interval(run: RunAtThreshold, rate: str, category: int) -> Interval:
    classes = run.point.classes
    value = float(getattr(classes.counts, rate)[category])
    return Interval(value, float(classes.low[rate][category]), float(classes.high[rate][category]), math.nan)


def confusion_pairs(matrix: Ints) -> Ints:
    """i64[P, 2] the pairs (true, shown) of classes that occur, the most frequent first; not those with background."""
    of_classes = matrix[:-1, :-1].copy()
    np.fill_diagonal(of_classes, 0)
    pairs = np.argwhere(of_classes)
    order: Ints = pairs[np.argsort(-of_classes[tuple(pairs.T)], kind="stable")]
    return order


def confusion_table(ground_truth: GroundTruth, runs: Sequence[RunAtThreshold], most: int | None = FIRST_ROWS) -> Table:
    """A row a run and pair of classes: objects shown as another class, and what else is shown of both."""
    names, rows = ground_truth.category_name, []
    for run in runs:
        matrix = run.shown.confusion
        objects = matrix.sum(axis=1)
        for true, shown in confusion_pairs(matrix)[:most].tolist():
            count = int(matrix[true, shown])
            rows.append((run.name, names[true], names[shown], count, 100 * count / int(objects[true])))
    columns = (
        Column("run", kind="text"),
        Column("true class", kind="text"),
        Column("predicted as", kind="text"),
        Column("detections"),
        Column("% of true class", precision=1),
    )
    return Table("Confused classes at the threshold", columns, tuple(rows), names=2, grouped=True)


def operating_point_screen(
    ground_truth: GroundTruth, runs: Sequence[RunAtThreshold], *, everything: bool = False
) -> list[RenderableType]:
    """Everything that ``analyze threshold`` shows."""
    points = [run.point for run in runs]
    most = None if everything else FIRST_ROWS
    criterion = points[0].criterion
    facts = [
        *read_facts(ground_truth, [(run.name, run.detections) for run in runs]),
        ("settings", settings_sentence(runs[0].settings)),
        ("threshold", criterion_sentence(criterion)),
        *(("bootstrap", resampled_sentence(points[0])) for _ in points[:1] if points[0].resamples),
        *((NOTE, caution) for caution in cautions(runs)),
    ]
    parts: list[RenderableType] = [fact_list(facts), Text(""), rates_table(points), dimmed(legend(criterion))]
    runs = [run for run in runs if run.point.threshold is not None]  # of the others there is nothing to show
    if not runs:
        return parts
    parts += [Text(""), counts_table(runs), Text(""), errors_table(runs)]
    parts += [
        dimmed(
            "The error types of analyze errors, counted among the detections at or above the threshold; miss: objects "
            "without a match or a near match among them."
        )
    ]
    if sentences := takeaways(runs):
        parts += [Text(""), fact_list([("summary", sentence) for sentence in sentences])]
    parts += [Text(""), classes_table(ground_truth, runs, most)]
    parts += [Text(""), fact_list([(run.name, confusion_sentence(run)) for run in runs])]
    pairs = confusion_table(ground_truth, runs, most)
    if pairs.rows:
        parts += [Text(""), pairs]
    return parts


def thresholds_screen(runs: Sequence[RunAtThreshold], baseline: str) -> list[RenderableType]:
    """Which run is better at its own best threshold: what ``analyze compare`` adds."""
    points = _baseline_first([run.point for run in runs], baseline)
    table = rates_table(points)
    return [
        Text(""),
        replace(table, title=f"Each run at its threshold with the best F1. {table.title}"),
        fact_list([("summary", sentence) for sentence in _f1_sentences([one for one in points if one.rates])]),
        dimmed(
            "Values from 0 to 1, [95 % interval]; analyze threshold shows more. Not one of the corrected tests above."
        ),
    ]


def best_f1_record(runs: Sequence[RunAtThreshold], baseline: str) -> dict[str, Any]:
    """The same for a document: thresholds, rates (0..1) and the differences of F1 to the baseline."""
    points = _baseline_first([run.point for run in runs], baseline)
    return {
        "runs": [
            {
                "name": one.name,
                "threshold": one.threshold,
                "rates": {name: interval_record(rate) for name, rate in one.rates.items()},
            }
            for one in points
        ],
        "minus_baseline": {name: interval_record(one) for name, one in f1_differences(points).items()},
    }


def _baseline_first(points: Sequence[OperatingPoint], baseline: str) -> list[OperatingPoint]:
    return sorted(points, key=lambda one: one.name != baseline)


def criterion_sentence(criterion: Criterion) -> str:
    """What the threshold of each run is."""
    return {
        "f1": "the score with the best F1 of each run",
        "precision": f"the lowest score of each run from which precision stays at {criterion.value:g} or above",
        "recall": f"the highest score of each run from which recall is {criterion.value:g} or more",
        "score": f"{criterion.value:g}, as given",
    }[criterion.kind]


def legend(criterion: Criterion) -> str:
    """What the rates are."""
    return (
        "Values from 0 to 1, over all categories together, [95 % interval over the choice of images"
        + ("; the threshold is chosen again in each resample" if criterion.is_chosen else "")
        + "]. Only detections with a score at or above the threshold count. precision: share of these detections that "
        "are correct; recall: share of the objects that are found; F1: 2 TP / (2 TP + FP + FN); FP per image: number "
        "of wrong detections per image."
    )


def resampled_sentence(point: OperatingPoint) -> str:
    """What was drawn."""
    return (
        f"{point.images:,} images drawn {point.resamples:,} times with replacement, the same draws for all runs (seed "
        f"{point.seed})"
    )


def cautions(runs: Sequence[RunAtThreshold]) -> list[str]:
    """What the numbers do not show, and what a person should know before using a threshold."""
    found = []
    for run in runs:
        point, criterion, scored = run.point, run.point.criterion, run.scored
        if not len(scored.object_category):
            found.append(f"{run.name}: no object counts, so there is no recall")
        if not len(scored.score):
            found.append(f"{run.name}: no detection counts, so there is no threshold to choose")
            continue
        if point.images == 1:
            found.append("there is a single image, so the numbers are not cross-fitted and have no intervals")
        if not criterion.is_chosen and criterion.value > scored.score[0]:
            found.append(f"{run.name}: no detection has a score of {criterion.value:g} or more, so none counts")
        if criterion.is_chosen and scored.score[0] == scored.score[-1]:
            found.append(f"{run.name}: all scores are {scored.score[0]:g}, so a threshold keeps all detections or none")
        found += [f"{run.name}: {sentence}" for sentence in _criterion_cautions(run)]
    return list(dict.fromkeys(found))


def _criterion_cautions(run: RunAtThreshold) -> list[str]:
    point, criterion, scored = run.point, run.point.criterion, run.scored
    if criterion.kind == "recall" and point.threshold is None:
        _, counts = scored.curve()
        return [f"recall {criterion.value:g} is never reached: all detections together reach {counts.recall[-1]:.3f}"]
    if criterion.kind == "f1" and point.threshold is None:
        return ["no detection is right, so F1 is 0 at every score"]
    if criterion.kind != "precision":
        return []
    lowest = scored.lowest_score(criterion.value)
    if lowest is None:
        highest = np.nanmax(scored.curve()[1].precision)
        return [f"precision {criterion.value:g} is reached at no score: the highest is {highest:.3f}"]
    if point.threshold is None or lowest < point.threshold:
        counts = scored.counts(lowest).total()
        kept = "at no score" if point.threshold is None else f"only from {score_text(point.threshold)} on"
        return [
            f"precision stays at {criterion.value:g} or above {kept}, because detections with higher scores are wrong; "
            f"--score {score_text(lowest)} reaches {counts.precision:.3f} too, with recall {counts.recall:.3f}"
        ]
    return []


def takeaways(runs: Sequence[RunAtThreshold]) -> list[str]:
    """Which run is better at its own threshold, how optimistic the choice is, and what thresholds per class gain."""
    points = [run.point for run in runs if run.point.rates]
    sentences = _f1_sentences(points)
    for point in points:
        if point.criterion.kind == "f1" and point.fold_thresholds:
            gap = float(point.in_sample.f1) - point.rates["f1"].value
            chosen = fold_range(point)
            spread = f"thresholds of the five parts: {chosen}" if chosen else "no part has a threshold"
            sentences.append(
                f"{point.name}: F1 is {gap:.3f} higher if evaluated on the images used to choose the threshold; "
                f"{spread}"
            )
        thresholds = point.class_thresholds
        if thresholds and thresholds.gain:
            gains = [
                f"{what} {difference_text(thresholds.gain[name])} ("
                f"{thresholds.gain_in_sample[name]:+.3f} on the images used to choose them)"
                for name, what in (("f1", "F1"), ("mean_f1", "the mean F1 of the classes"))
            ]
            sentences.append(f"{point.name}: one threshold per class changes {' and '.join(gains)}")
    return sentences


def fold_range(point: OperatingPoint) -> str:
    """From the lowest to the highest threshold that parts of the images choose; empty where none does."""
    chosen = sorted(one for one in point.fold_thresholds if one is not None)
    return f"{score_text(chosen[0])} to {score_text(chosen[-1])}" if chosen else ""


def _f1_sentences(points: Sequence[OperatingPoint]) -> list[str]:
    """Each run against the first, at its own threshold."""
    if not points:
        return []
    at = "at its own threshold" if points[0].criterion.is_chosen else "at this score"
    differences = f1_differences(points)
    return [f"{name} minus {points[0].name}, each {at}: F1 {difference_text(one)}" for name, one in differences.items()]


def difference_text(one: Difference) -> str:
    """A difference of rates with its interval, and whether it is more than noise."""
    if one.low != one.low:
        return rate_text(one, sign=True)
    return f"{rate_text(one, sign=True)}, {'significant' if is_significant(one) else 'not significant'}"


def is_significant(one: Difference) -> bool:
    """At 5 %, after Holm's correction where there are several runs."""
    return (one.p_adjusted if one.p_adjusted == one.p_adjusted else one.p) <= SIGNIFICANCE


def confusion_sentence(run: RunAtThreshold) -> str:
    """Of what is wrong, how much is of another class and how much of the background."""
    shown, right, other, wrong, missed = confusion_counts(run).values()
    return (
        f"{shown:,} detections: {right:,} correct, {other:,} on an object of another class, {wrong:,} on no unmatched "
        f"object; {missed:,} objects without a detection"
    )


def confusion_counts(run: RunAtThreshold) -> dict[str, int]:
    """How many detections there are, how many of them are correct and wrong in which way, and unmatched objects."""
    matrix = run.shown.confusion
    right = int(matrix[:-1, :-1].trace())
    return {
        "detections": int(matrix[:, :-1].sum()),
        "correct": right,
        "on an object of another class": int(matrix[:-1, :-1].sum()) - right,
        "on no unmatched object": int(matrix[-1, :-1].sum()),
        "objects without a detection": int(matrix[:-1, -1].sum()),
    }


def curve_columns(run: RunAtThreshold) -> dict[str, Floats]:
    """Precision, recall and F1 at every score that occurs, descending."""
    score, counts = run.scored.curve()
    return {
        "score": score,
        "true_positives": counts.right,
        "false_positives": counts.wrong,
        "false_negatives": counts.missed,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }


def paper_tables(
    ground_truth: GroundTruth, runs: Sequence[RunAtThreshold], most: int | None = None
) -> dict[str, Table]:
    """The tables that leave the terminal, by the names of their files; ``most``: classes of each run, none: all."""
    points = [run.point for run in runs]
    source = source_sentence(ground_truth, runs[0].settings)
    note = f"Threshold: {criterion_sentence(points[0].criterion)}. {legend(points[0].criterion)}"
    return {
        "threshold": replace(rates_table(points), notes=(note, source)),
        "threshold_by_class": replace(classes_table(ground_truth, runs, most), label="threshold-by-class"),
    }
