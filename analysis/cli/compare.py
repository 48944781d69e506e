"""The verb ``analyze compare``, and the options of resampling."""

import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.analyze import (
    AsJson,
    BackgroundIou,
    Baseline,
    DropInvalid,
    DropUnknown,
    Iou,
    IouType,
    Jobs,
    Kind,
    MaxDets,
    Predictions,
    ReadOptions,
    RespectIgnore,
    Root,
    Truth,
    check_baseline,
    find_inputs,
    print_json,
    read_files,
    say_what_was_found,
    settings_of,
)
from analysis.cli.figure_options import Style, StyleName, Width, figure_style
from analysis.cli.option_rules import RULES, check_options
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)

Resamples = Annotated[
    int | None,
    typer.Option(
        "--resamples",
        help="Number of bootstrap resamples of the images.",
        min=1,
        show_default="1,000, or more if many runs are tested",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed for resampling.", min=0)]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for CSV, Markdown, LaTeX, JSON and a figure.")
]


def compare(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    baseline: Baseline = "",
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    background_iou: BackgroundIou = 0.1,
    max_dets: MaxDets = None,
    resamples: Resamples = None,
    seed: Seed = 0,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    drop_invalid: DropInvalid = False,
    jobs: Jobs = 1,
    out: Out = None,
    style: Style = StyleName.screen,
    width: Width = "",
    as_json: AsJson = False,
    root: Root = Path(),
) -> None:
    """Compare runs with a baseline on the same images: differences with intervals, and which objects changed.

    Without PREDICTIONS, the runs of the newest study are compared.
    """
    from analysis.evaluation.analysis import Analysis
    from analysis.evaluation.average_precision import COCO_IOUS
    from analysis.evaluation.cap import cap_of_run
    from analysis.evaluation.settings import ap_name
    from analysis.files import check_targets
    from analysis.parallel import side_by_side
    from analysis.render.advice import cap_matters, over_cap_sentence
    from analysis.render.comparison import WRITTEN, comparison_screen, write_comparison
    from analysis.render.documents import comparison_document
    from analysis.render.operating_point import best_f1_record, thresholds_screen
    from analysis.render.screen import print_warnings, print_whole
    from analysis.stats.compare import Candidate
    from analysis.stats.compare import compare as compare_runs
    from analysis.stats.operating_point import operating_points

    check_options(context, RULES["compare"])
    settings, drawn = settings_of(iou_type, iou, background_iou, max_dets), figure_style(style, width)
    files = find_inputs(context, predictions, gt, root)
    if len(files.named) < 2:
        raise BadInput(f"{files.named[0][0]} is the only run; give at least two prediction files to compare")
    check_baseline(baseline, files)
    say_what_was_found(files.found, as_json)
    sources = [files.truth, *(path for _, path in files.named)]
    if out:
        check_targets(out, WRITTEN, sources)
    options = ReadOptions(iou_type, respect_ignore, drop_unknown, drop_invalid, jobs)
    inputs = replace(read_files(files.named, files.truth, options), found=files.found)
    settings = settings.under_rules_of(inputs.ground_truth, own_cap=max_dets is not None)
    analysis = Analysis(inputs.ground_truth, settings, ious=COCO_IOUS)
    analyses = side_by_side(lambda run: analysis.of(*run), inputs.runs, inputs.jobs)
    comparison = compare_runs(
        inputs.ground_truth,
        [Candidate.of(one) for one in analyses],
        settings,
        baseline=baseline,
        resamples=resamples or 0,
        seed=seed,
        progress=progress_line(),
    )
    at_thresholds = operating_points(
        inputs.ground_truth,
        inputs.runs,
        settings,
        resamples=comparison.resamples,
        seed=seed,
        progress=progress_line(),
        matched=[one.matched_run for one in analyses],
    )
    best_f1 = best_f1_record(at_thresholds, comparison.baseline)
    over_cap = {name: cap_of_run(inputs.ground_truth, dt, settings) for name, dt in inputs.runs}
    written: tuple[str, ...] = ()
    if out:
        written = write_comparison(out, inputs.ground_truth, comparison, sources, {"best_f1": best_f1}, drawn)
    if as_json:
        document = comparison_document(inputs.ground_truth, comparison) | inputs.source() | {"best_f1": best_f1}
        for entry in document["runs"]:
            over = over_cap[entry["name"]]
            entry["over_cap"] = over and asdict(over)
        print_json(document)
        return
    inputs.print_warnings()
    score = ap_name(settings.iou)
    print_warnings(
        (name, over_cap_sentence(settings, over, score))
        for name, over in over_cap.items()
        if over and cap_matters(over)
    )
    print_whole(
        *comparison_screen(inputs.ground_truth, comparison), *thresholds_screen(at_thresholds, comparison.baseline)
    )
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(written))


def progress_line() -> Callable[[int], None] | None:
    """Counts resamples on standard error, if it is a terminal, in a line that the next output overwrites."""
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.WARNING):
        return None
    return lambda done: print(f"\r{done:,} resamples\r", end="", file=sys.stderr, flush=True)
