"""The findings as documents for programs and papers: JSON, CSV, Markdown, and a row for every detection.

The breakdown read aloud: what each error means, which cost the most, and what to look at next.

The findings in a terminal, to be understood by somebody who has never heard of TIDE.
"""

import gzip
import io
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import Run
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, LABEL_NAMES, SPECIAL
from analysis.evaluation.matched_run import BG, CLS, DUP, LOC
from analysis.evaluation.settings import Settings
from analysis.evaluation.settings import ap_name as ap_name  # others take it from here
from analysis.render.printed_tables import one_line

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
                    "fixes": labels.recovers_gt,
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


MEANINGS = {name: one.description for name, one in ERROR_TYPES.items()}


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


BAR_WIDTH = 16
PROSE_WIDTH = 110
SIDE_BY_SIDE = 3  # up to so many runs stand as columns, with bars; more stand as rows
COLORS = {name: one.colour for name, one in ERROR_TYPES.items() if one.colour}


# Names may hold [this] and :that:, which are not Rich's to read.
plain_console = partial(Console, highlight=False, markup=False, emoji=False)


def print_whole(*parts: RenderableType) -> None:
    """Print on standard output; where there is no terminal, as wide as it takes rather than crushed to 80 columns."""
    console = plain_console()
    if console.is_terminal:
        console.print(*parts, sep="\n")
        return
    tables = [part for part in parts if not isinstance(part, Text)]  # prose wraps, tables must not
    widths = (Measurement.get(console, console.options.update(max_width=10_000), part).maximum for part in tables)
    console = plain_console(width=max([PROSE_WIDTH, *widths]), color_system=None)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_warnings(warnings: Sequence[tuple[str, str]]) -> None:
    """Warnings, each after the file or run that it is about, on standard error."""
    console = plain_console(stderr=True, soft_wrap=True)
    for about, sentence in warnings:
        console.print(Text.assemble(("warning: ", "yellow"), one_line(f"{about}: {sentence}")))


def errors_screen(ground_truth: GroundTruth, settings: Settings, runs: Sequence[Run]) -> list[RenderableType]:
    """Everything that ``analyze errors`` shows: runs as columns with bars where there is room, else as rows."""
    console = Console()
    table = _columns(settings, runs)
    fits = not console.is_terminal or Measurement.get(console, console.options, table).maximum < console.width
    as_columns = len(runs) <= SIDE_BY_SIDE and fits
    return [
        _what_was_read(ground_truth, settings, [(run.name, len(run.detections)) for run in runs]),
        Text(""),
        *((table,) if as_columns else (_rows(settings, runs), _legend())),
        _reading_aid(settings),
        Padding(_next(ground_truth, runs), (1, 0, 0, 0)),
    ]


def ap_screen(
    ground_truth: GroundTruth, iou_type: str, metrics: Sequence[tuple[str, Any, dict[str, float]]]
) -> list[RenderableType]:
    """Everything that ``analyze ap`` shows: a row a run."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run")
    for name in next(iter(metrics))[2]:
        table.add_column(name, justify="right")
    best = {key: max(numbers[key] for _, _, numbers in metrics) for key in metrics[0][2]}
    for run, _, numbers in metrics:
        table.add_row(
            Text(one_line(run)),
            *(
                Text(
                    "-" if value < 0 else f"{value:.1f}",
                    style="bold" if len(metrics) > 1 and value == best[key] > 0 else "",
                )
                for key, value in numbers.items()
            ),
        )
    what = "boxes" if iou_type == "bbox" else "masks"
    return [
        _what_was_read(ground_truth, None, [(name, len(detections)) for name, detections, _ in metrics]),
        Text(""),
        table,
        Text(
            f"\nCOCO's numbers for {what}, in points. AP: mean over IoU 0.50 to 0.95; s, m, l: objects up to 32 x 32, "
            "up to 96 x 96 and larger, in pixels; AR: recall with at most 1, 10 or 100 detections an image and "
            "category; -: no object to measure.",
            style="dim",
        ),
    ]


def _what_was_read(
    ground_truth: GroundTruth, settings: Settings | None, runs: Sequence[tuple[str, int]]
) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    crowd = int(ground_truth.crowd.sum())
    crowds = f", {crowd:,} of them crowds" if crowd else ""
    grid.add_row(
        Text("ground truth", style="bold"),
        Text(
            f"{one_line(ground_truth.path.name)}: {len(ground_truth.image_id):,} images, {len(ground_truth):,} "
            f"objects{crowds}, {len(ground_truth.category_id):,} categories"
        ),
    )
    for number, (name, count) in enumerate(runs):
        predictions = Text(f"{one_line(name)}: {count:,} detections")
        grid.add_row(Text("predictions" if not number else "", style="bold"), predictions)
    if settings is not None:
        grid.add_row(Text("compared", style="bold"), settings_sentence(settings))
    return grid


def _error_name(error: str) -> Text:
    return Text(error if error in ERRORS else error.upper(), style=COLORS.get(error, ""))


def _bar(value: float, most: float, color: str) -> Text:
    eighths = round(max(value, 0.0) / most * BAR_WIDTH * 8) if most > 0 else 0
    full, part = divmod(eighths, 8)
    return Text(("█" * full + " ▏▎▍▌▋▊▉"[part].strip()).ljust(BAR_WIDTH), style=color)


def _columns(settings: Settings, runs: Sequence[Run]) -> Table:
    """A row an error type, three columns a run: the points lost, a bar, the count."""
    name = ap_name(settings.iou)
    most = max(max(run.breakdown.delta_ap[e] for e in ERRORS) for run in runs)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("error")
    table.add_column("what it is")
    for run in runs:
        table.add_column(Text(one_line(run.name), style="bold"), justify="right", no_wrap=True)
        table.add_column("")
        table.add_column("count", justify="right")
    ap = [cell for run in runs for cell in (Text(f"{run.breakdown.ap:.1f}", style="bold"), Text(""), Text(""))]
    table.add_row(Text(name, style="bold"), Text("average precision, of 100", style="bold"), *ap)
    table.add_row("", Text(f"{name} to gain if this error alone were fixed:", style="dim"))
    for error in (*ERRORS, *SPECIAL):
        if error == "fp":
            table.add_row("", Text("or if all of a kind were fixed:", style="dim"))
        main = error in ERRORS
        cells: list[Text] = []
        for run in runs:
            value = run.breakdown.delta_ap[error]
            color = COLORS.get(error, "")
            count = f"{run.breakdown.count[error]:,}" if main else ""
            cells += [Text(f"{value:.2f}"), _bar(value, most, color) if main else Text(""), Text(count, style="dim")]
        table.add_row(_error_name(error), MEANINGS[error], *cells)
    return table


def _rows(settings: Settings, runs: Sequence[Run]) -> Table:
    """A row a run, a column an error type; the smallest loss of each column in bold."""
    name = ap_name(settings.iou)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run")
    table.add_column(name, justify="right")
    for error in (*ERRORS, *SPECIAL):
        table.add_column(_error_name(error), justify="right")
    best_ap = max(run.breakdown.ap for run in runs)
    least = {e: min(run.breakdown.delta_ap[e] for run in runs) for e in (*ERRORS, *SPECIAL)}
    for run in runs:
        ap, delta = run.breakdown.ap, run.breakdown.delta_ap
        cells = [Text(f"{delta[e]:.2f}", style="bold" if delta[e] == least[e] else "") for e in (*ERRORS, *SPECIAL)]
        table.add_row(Text(one_line(run.name)), Text(f"{ap:.1f}", style="bold" if ap == best_ap else ""), *cells)
    return table


def _legend() -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for error, meaning in MEANINGS.items():
        grid.add_row(_error_name(error), meaning)
    return Padding(grid, (1, 0, 0, 0))


def _reading_aid(settings: Settings) -> Text:
    name = ap_name(settings.iou)
    return Text(
        f"\nEach number is the {name} gained when that one error is fixed everywhere: a wrong category or box is put "
        "right, a spurious detection is removed, a missed object is no longer asked for. They do not add up to 100: "
        "fixing one changes what the others cost. miss: objects that nothing points at; FN: all objects that were not "
        "found, also those that a cls or loc error points at.",
        style="dim",
    )


def _next(ground_truth: GroundTruth, runs: Sequence[Run]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for run in runs:
        for number, sentence in enumerate(what_next(ground_truth, run)):
            grid.add_row(Text(one_line(run.name) if not number else "", style="bold"), Text(one_line(sentence)))
    return Group(Text("What to look at next", style="bold underline"), grid)
