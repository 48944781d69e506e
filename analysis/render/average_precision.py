"""Average precision and recall: tables in all, by class, size and IoU, and what a terminal shows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from analysis.arrays import Ints
from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.ap_evaluation import INITIALS, Evaluation
from analysis.evaluation.average_precision import COCO_IOUS
from analysis.evaluation.error_types import SHAPES_MANY
from analysis.evaluation.matching import AREA_RANGES
from analysis.evaluation.metrics import RunMetrics
from analysis.evaluation.settings import Settings, ap_name, iou_name
from analysis.evaluation.voc import VocAP
from analysis.render.errors import ap_at, ap_column, known_metric, left_out, read_facts
from analysis.render.screen import dimmed, fact_list
from analysis.render.table import Cell, Column, Table, Value, best
from analysis.render.takeaways import LVIS_RULES

FIRST_ROWS = 10  # classes of a run in a terminal
TOGETHER = "(all together)"


def metrics_table(metrics: Sequence[tuple[str, dict[str, float]]]) -> Table:
    """COCO's numbers, a row a run; the highest of each in bold. COCO's -1 is a missing value."""
    names = list(metrics[0][1])
    values: list[Sequence[Value]] = [
        [run for run, _ in metrics],
        *(best([known_metric(numbers[name]) for _, numbers in metrics], ap_column(name)) for name in names),
    ]
    columns = (Column("run", kind="text"), *map(ap_column, names))
    return Table("", columns, tuple(zip(*values, strict=True)))


def ap_screen(
    ground_truth: GroundTruth,
    settings: Settings,
    runs: Sequence[RunMetrics],
    parts: Sequence[str] = (),
    *,
    everything: bool = False,
) -> list[RenderableType]:
    """Everything that ``analyze ap`` shows: a row a run, then the parts that were asked for."""
    score = ap_label(runs[0].evaluation, settings)
    facts = [fact for one in runs for fact in left_out(one.name, settings, one.over_cap, one.low_scores, score)]
    table = metrics_table([(one.name, one.metrics) for one in runs])
    columns = tuple(replace(column, name=score) if column.name == "AP" else column for column in table.columns)
    parts_shown = ap_tables(ground_truth, runs, parts, None if everything else FIRST_ROWS)
    return [
        fact_list([*read_facts(ground_truth, [(one.name, one.detections) for one in runs]), *facts]),
        Text(""),
        replace(table, columns=columns),
        dimmed(ap_sentence(settings, runs[0].evaluation)),
        *(part for one in parts_shown.values() for part in (Text(""), one)),
    ]


def ap_label(evaluation: Evaluation, settings: Settings) -> str:
    """What the mean AP is called: AP alone under the cap of the rules that hold."""
    return "AP" if settings.federated and evaluation.caps[-1] == 300 else ap_at(evaluation.caps[-1])


def ap_sentence(settings: Settings, evaluation: Evaluation) -> str:
    """What the numbers are, for a legend."""
    caps = evaluation.caps
    per = "per image and category" if settings.cap_per_category and not settings.class_agnostic else "per image"
    listed = " or ".join([*([", ".join(map(str, caps[:-1]))] if len(caps) > 1 else []), str(caps[-1])])
    usual = caps == settings.caps and caps[-1] == (300 if settings.federated else 100)
    above = f" AP, and AR by size, with at most {caps[-1]}." if not usual else ""
    whose = "LVIS's" if settings.federated else "COCO's"
    mean = "one curve over the detections of all categories" if evaluation.category.tolist() == [-1] else ""
    rare = " r, c, f: rare, common and frequent categories;" if (evaluation.frequency >= 0).any() else ""
    what = "; ".join(
        part for part in (mean, f"mean over {iou_name(settings.iou_type)} {ious_text(evaluation)}") if part
    )
    return (
        f"{whose} numbers for {SHAPES_MANY[settings.iou_type]}, in points. AP: {what}; {sizes_text(evaluation)};{rare} "
        f"AR: recall with at most {listed} detections {per}; -: no such object.{above}"
        + (f" {LVIS_RULES}." if settings.federated else "")
    )


def ious_text(evaluation: Evaluation) -> str:
    """The IoUs in words.

    >>> from types import SimpleNamespace
    >>> [ious_text(SimpleNamespace(ious=ious)) for ious in (np.linspace(0.5, 0.95, 10), np.array([0.3, 0.5]))]
    ['0.50 to 0.95', '0.3, 0.5']
    """
    ious = evaluation.ious
    if len(ious) == len(COCO_IOUS) and np.allclose(ious, COCO_IOUS, atol=1e-12, rtol=0):
        return "0.50 to 0.95"
    return ", ".join(f"{iou:g}" for iou in ious.tolist())


def sizes_text(evaluation: Evaluation) -> str:
    """The sizes in words."""
    if evaluation.sizes == tuple(AREA_RANGES):
        return "s, m, l: objects up to 32 x 32, up to 96 x 96 and larger, in pixels"
    return f"sizes: {', '.join(evaluation.sizes[1:])}, both ends of a range inclusive"


def ap_tables(
    ground_truth: GroundTruth, runs: Sequence[RunMetrics], parts: Sequence[str], most: int | None
) -> dict[str, Table]:
    """The tables of the parts that were asked for, by the names of their files; ``most``: classes of a run."""
    makers = {"class": _by_class, "size": _by_size, "iou": _by_iou}
    return {f"ap_by_{part}": makers[part](ground_truth, runs, most) for part in makers if part in parts}


def class_names(ground_truth: GroundTruth, evaluation: Evaluation) -> list[str]:
    """The names of the categories of an evaluation."""
    return [ground_truth.category_name[c] if c >= 0 else TOGETHER for c in evaluation.category.tolist()]


def class_numbers(evaluation: Evaluation, place: int) -> dict[str, float]:
    """AP, AP at IoUs of interest and AR under the largest cap of one category."""
    names = evaluation.of_category(place).names
    wanted = ("AP", *(ap_name(iou) for iou in (0.5, 0.75)), f"AR{evaluation.caps[-1]}")
    if len(evaluation.ious) == 1:
        wanted = ("AP", f"AR{evaluation.caps[-1]}")
    return {name: names[name] for name in wanted if name in names}


def _by_class(ground_truth: GroundTruth, runs: Sequence[RunMetrics], most: int | None) -> Table:
    rows: list[tuple[Value, ...]] = []
    known_of, numbers = 0, {}
    for one in runs:
        evaluation = one.evaluation
        names = class_names(ground_truth, evaluation)
        known = np.flatnonzero(evaluation.objects[0])
        known_of = max(known_of, len(known))
        shown: Ints = known[np.argsort(-evaluation.objects[0][known], kind="stable")][:most]
        for place in shown.tolist():
            numbers = class_numbers(evaluation, place)
            counts = (int(evaluation.objects[0][place]), int(evaluation.detections[place]))
            rows.append((one.name, names[place], *counts, *(known_metric(value) for value in numbers.values())))
    heads = [Column("class", kind="text"), Column("objects"), Column("detections"), *map(ap_column, numbers)]
    note = (
        f"The {most} of {known_of:,} classes with the most objects; --all shows all classes."
        if most and known_of > most
        else ""
    )
    return _without_single_run(
        Table(
            "By class",
            (Column("run", kind="text"), *heads),
            tuple(rows),
            notes=(note,) * bool(note),
            names=2,
            grouped=True,
        ),
        runs,
    )


def _by_size(ground_truth: GroundTruth, runs: Sequence[RunMetrics], most: int | None) -> Table:
    rows = []
    for one in runs:
        evaluation = one.evaluation
        for a, size in enumerate(evaluation.sizes):
            initial = INITIALS.get(size, f" {size}") if a else ""
            ar = f"AR{initial}" if a else f"AR{evaluation.caps[-1]}"
            values = (known_metric(one.metrics[name]) for name in (f"AP{initial}", ar))
            rows.append((one.name, size, int(evaluation.objects[a].sum()), *values))
    heads = (
        Column("run", kind="text"),
        Column("size", kind="text"),
        Column("objects"),
        ap_column("AP"),
        ap_column("AR"),
    )
    return _without_single_run(Table("By size", heads, tuple(rows), names=2, grouped=True), runs)


def _by_iou(ground_truth: GroundTruth, runs: Sequence[RunMetrics], most: int | None) -> Table:
    columns = [Column("IoU", precision=2), *(ap_column(one.name) for one in runs)]
    each = [iou_numbers(one.evaluation) for one in runs]
    rows = []
    for t, iou in enumerate(runs[0].evaluation.ious.tolist()):
        rows.append((Cell(iou, f"{iou:g}"), *best([known_metric(own[t]) for own in each], columns[1])))
    return Table("By IoU: AP at each", tuple(columns), tuple(rows))


def iou_numbers(evaluation: Evaluation) -> list[float]:
    """The AP at each IoU in points, -1 where there is nothing to average."""
    found = []
    for t in range(len(evaluation.ious)):
        values = evaluation.precision[0, -1, t]
        known = values[values > -1]
        found.append(float(known.mean()) * 100 if len(known) else -1.0)
    return found


def _without_single_run(table: Table, runs: Sequence[RunMetrics]) -> Table:
    """Of one run alone its name need not stand in every row."""
    if len(runs) > 1:
        return table
    rows = tuple(row if isinstance(row, str) else row[1:] for row in table.rows)
    return replace(table, columns=table.columns[1:], rows=rows, names=1, grouped=False)


def voc_screen(
    ground_truth: GroundTruth, runs: Sequence[tuple[str, Detections, VocAP]], *, everything: bool = False
) -> list[RenderableType]:
    """Everything that ``analyze ap --voc`` shows."""
    first = runs[0][2]
    columns = [Column("run", kind="text"), Column("mAP", precision=2)]
    table = Table(
        "", tuple(columns), tuple((name, cell) for (name, *_), cell in zip(
            runs, best([known_metric(found.mean) for *_, found in runs], columns[1]), strict=True)),
    )  # fmt: skip
    how = "mean precision at 11 recalls (VOC2007)" if first.year == "07" else "area under the envelope (VOC2010 on)"
    difficult = int((ground_truth.marked | ground_truth.crowd).sum())
    order = np.argsort(-first.objects, kind="stable")
    known = order[first.objects[order] > 0]
    shown = known if everything else known[: 2 * FIRST_ROWS]
    heads = [Column("class", kind="text"), Column("objects"), *(Column(name, precision=2) for name, *_ in runs)]
    rows = [
        (ground_truth.category_name[c], int(first.objects[c]), *(float(found.category[c]) for *_, found in runs))
        for c in shown.tolist()
    ]
    more = len(known) - len(shown)
    note = (f"The {len(shown)} of {len(known):,} classes with the most objects; --all shows all classes.",) * bool(more)
    return [
        fact_list(
            [
                *read_facts(ground_truth, [(name, detections) for name, detections, _ in runs]),
                (
                    "rule",
                    f"Pascal VOC: AP at IoU >= {first.iou:g}, {how}; {difficult:,} difficult objects do not count",
                ),
            ]
        ),
        Text(""),
        table,
        Text(""),
        Table("AP by class", tuple(heads), tuple(rows), notes=note),
        dimmed(
            "In points. Each detection is compared with the object of its class that it overlaps most, even if that "
            "object is already matched: a second detection of an object is wrong. There is no cap on detections."
        ),
    ]
