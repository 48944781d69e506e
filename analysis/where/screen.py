"""Where the AP went, in a terminal: the parts that were asked for, each with what to see in it."""

from collections.abc import Sequence

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analysis.error_types import ERRORS, Settings
from analysis.fates import FATE_NAMES, FOUND, IGNORED
from analysis.ground_truth import GroundTruth
from analysis.printed import one_line
from analysis.tables import ap_name
from analysis.terminal import COLORS, SIDE_BY_SIDE
from analysis.where.analysis import Where
from analysis.where.findings import where_findings
from analysis.where.printed import percent, size_sentence

FIRST_ROWS = 10  # classes and confused pairs of a run; with many runs fewer
FIRST_OF_MANY = 5
LONGEST_NAME = 32


def where_screen(
    ground_truth: GroundTruth, settings: Settings, found: Sequence[Where], everything: bool = False
) -> list[RenderableType]:
    """The parts one below the other; ``everything``: all classes and pairs, not only the first."""
    most = None if everything else FIRST_ROWS if len(found) <= SIDE_BY_SIDE else FIRST_OF_MANY
    ap = ap_name(settings.iou)
    sentences = [where_findings(ground_truth, one) for one in found]
    screen: list[RenderableType] = []

    def part(name: str, title: str, table: Table, note: str = "") -> None:
        if not table.row_count:
            return
        grid = Table.grid(padding=(0, 2))
        for one, said in zip(found, sentences, strict=True):
            if name in said:
                grid.add_row(Text(_short(one.run.name), style="bold"), Text(one_line(said[name])))
        said_first: list[RenderableType] = [grid, Text("")] if grid.row_count else []
        screen.extend([Text(""), Text(title, style="bold underline"), *said_first, table])
        if note:
            screen.append(Text(note, style="dim"))

    part("class", f"By class: points of its own {ap} to gain by fixing one type of error everywhere",
         _classes(found, ap, most), _of_how_many(found, most))  # fmt: skip
    if found[0].sizes:
        part("size", f"By size: points of {ap} to gain by fixing only the errors of one size", _sizes(found),
             size_sentence(found[0].sizes.sizes, settings.convention))  # fmt: skip
    part("iou", "By threshold: points of AP to gain at each IoU from which a detection is right", _thresholds(found))
    part("crowding", "By crowding: objects by their highest IoU with another of their class, and what became of them",
         _crowding(found), "In % of the objects; dup: second detections for each found object.")  # fmt: skip
    part("confusion", f"Confusion: points of {ap} to gain if objects of one class were not taken for another",
         _confusion(ground_truth, found, most),
         "lost: objects that were not found, with this as the best claim to them.")  # fmt: skip
    return screen


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _table(found: Sequence[Where], *heads: str, words: int = 1) -> Table:
    """A table whose first column is the run where there are several."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    if len(found) > 1:
        table.add_column("run", no_wrap=True)
    for number, head in enumerate(heads):
        table.add_column(Text(head, style=COLORS.get(head, "")), justify="left" if number < words else "right")
    return table


def _add(table: Table, found: Sequence[Where], one: Where, first: bool, cells: Sequence[str | Text]) -> None:
    """A row; the run's name stands in its first one, after a free line."""
    if len(found) > 1:
        if first and table.row_count:
            table.add_row()
        cells = [Text(_short(one.run.name) if first else "", style="bold"), *cells]
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _gains(values: Sequence[float]) -> list[Text]:
    """Points, the largest marked."""
    most = max((v for v in values if not np.isnan(v)), default=0.0)
    return [
        Text("-" if np.isnan(v) else f"{v:.2f}", style=f"bold {COLORS[e]}" if v == most > 0 else "")
        for e, v in zip(ERRORS, values, strict=True)
    ]


def _classes(found: Sequence[Where], ap: str, most: int | None) -> Table:
    table = _table(found, "class", "objects", ap, *ERRORS)
    for one, classes in [(one, one.classes) for one in found if one.classes]:
        for place, c in enumerate(classes.costliest(most).tolist()):
            gains = _gains([classes.delta_ap[e][c] for e in ERRORS])
            head = [_short(classes.names[c]), f"{classes.positives[c]:,}", f"{classes.ap[c]:.1f}"]
            _add(table, found, one, not place, [*head, *gains])
    return table


def _of_how_many(found: Sequence[Where], most: int | None) -> str:
    classes = found[0].classes
    known = len(classes.costliest()) if classes else 0
    if most is None or known <= most:
        return ""
    return f"The {most} of {known:,} classes with most to gain from a single type; --all shows every class."


def _sizes(found: Sequence[Where]) -> Table:
    table = _table(found, "size", "objects", "found %", *ERRORS)
    for one, sizes in [(one, one.sizes) for one in found if one.sizes]:
        for place, size in enumerate(sizes.sizes):
            gains = _gains([sizes.delta_ap[e][place] for e in ERRORS])
            share = percent(sizes.found[place], sizes.objects[place]) or "-"
            _add(table, found, one, not place, [_short(size.name), f"{sizes.objects[place]:,}", share, *gains])
    return table


def _thresholds(found: Sequence[Where]) -> Table:
    """All thresholds of a few runs, the mean of many."""
    table = _table(found, "IoU", "AP", *ERRORS)
    for one, ious in [(one, one.ious) for one in found if one.ious]:
        rows = range(len(ious.ious)) if len(found) <= SIDE_BY_SIDE else ()
        for place in rows:
            gains = _gains([ious.delta_ap[e][place] for e in ERRORS])
            _add(table, found, one, not place, [f"{ious.ious[place]:.2f}", f"{ious.ap[place]:.1f}", *gains])
        mean = [Text("mean", style="bold"), Text(f"{ious.mean_ap:.1f}", style="bold")]
        _add(table, found, one, not rows, [*mean, *_gains([ious.mean_delta_ap[e] for e in ERRORS])])
    return table


def _crowding(found: Sequence[Where]) -> Table:
    table = _table(found, "IoU", "objects", *(name for i, name in enumerate(FATE_NAMES) if i != IGNORED), "dup")
    for one, bins in [(one, one.crowding) for one in found if one.crowding]:
        rows = [*zip(bins.names, bins.fate, bins.duplicates, strict=True)]
        rows.append(("all", bins.fate.sum(axis=0), bins.duplicates.sum()))
        for place, (name, fate, duplicates) in enumerate(rows):
            objects = int(fate.sum() - fate[IGNORED])
            shares = [percent(fate[i], objects) or "-" for i in range(len(FATE_NAMES)) if i != IGNORED]
            twice = f"{duplicates / fate[FOUND]:.2f}" if fate[FOUND] else "-"
            _add(table, found, one, not place, [name, f"{objects:,}", *shares, twice])
    return table


def _confusion(ground_truth: GroundTruth, found: Sequence[Where], most: int | None) -> Table:
    table = _table(found, "class", "taken for", "to gain", "detections", "lost", words=2)
    names = ground_truth.category_name
    for one, confusion in [(one, one.confusion) for one in found if one.confusion]:
        for place, i in enumerate(confusion.wrong(most).tolist()):
            gain = "-" if confusion.cost is None else f"{confusion.cost[i]:.2f}"
            pair = [_short(names[confusion.true[i]]), _short(names[confusion.predicted[i]])]
            _add(table, found, one, not place, [*pair, gain, f"{confusion.count[i]:,}", f"{confusion.objects[i]:,}"])
    return table
