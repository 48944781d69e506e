"""The findings in a terminal, to be understood by somebody who has never heard of TIDE."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analysis.error_types import ERRORS, SPECIAL, Settings
from analysis.findings import MEANINGS, what_next
from analysis.ground_truth import GroundTruth
from analysis.printed import one_line
from analysis.runs import Run
from analysis.tables import ap_name, settings_sentence

BAR_WIDTH = 16
PROSE_WIDTH = 110
SIDE_BY_SIDE = 3  # up to so many runs stand as columns, with bars; more stand as rows
COLORS = {"cls": "magenta", "loc": "cyan", "both": "blue", "dup": "yellow", "bg": "red", "miss": "green"}


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
