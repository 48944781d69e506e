"""The verb ``analyze compare``, and the options of resampling."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.analyze import (
    AsJson,
    BackgroundIou,
    Baseline,
    DropUnknown,
    Iou,
    IouType,
    Kind,
    MaxDets,
    Predictions,
    RespectIgnore,
    Root,
    Truth,
    app,
    find_inputs,
    print_json,
    read_files,
    settings_of,
)
from analysis.exceptions import BadInput

Resamples = Annotated[
    int | None,
    typer.Option("--resamples", help="How often the images are drawn.", min=1, show_default="1,000 or enough"),
]
Seed = Annotated[int, typer.Option("--seed", help="Of the resampling.", min=0)]
Out = Annotated[Path | None, typer.Option(help="Folder for CSV, Markdown, LaTeX and JSON.")]


@app.command()
def compare(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    baseline: Baseline = "",
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    background_iou: BackgroundIou = 0.1,
    max_dets: MaxDets = 100,
    resamples: Resamples = None,
    seed: Seed = 0,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    out: Out = None,
    as_json: AsJson = False,
    root: Root = Path(),
) -> None:
    """Runs against a baseline on the same images: every difference with its interval, and which objects moved.

    analyze compare a.json b.json --gt gt.json; without any file, the newest study's runs are compared.
    """
    from analysis.render.comparison import comparison_screen, write_comparison
    from analysis.render.documents import comparison_document
    from analysis.render.screen import print_whole
    from analysis.stats.compare import Candidate
    from analysis.stats.compare import compare as compare_runs

    settings = settings_of(iou_type, iou, background_iou, max_dets)
    named, truth = find_inputs(context, predictions, gt, root)
    if len(named) < 2:
        raise BadInput(f"{named[0][0]} is the only run; name at least two prediction files to compare")
    inputs = read_files(named, truth, respect_ignore, drop_unknown)
    comparison = compare_runs(
        inputs.ground_truth,
        [Candidate(name, (detections,)) for name, detections in inputs.runs],
        settings,
        baseline=baseline,
        resamples=resamples or 0,
        seed=seed,
        progress=progress_line(),
    )
    files = [truth, *(path for _, path in named)]
    written = write_comparison(out, inputs.ground_truth, comparison, files) if out else ()
    if as_json:
        print_json(comparison_document(inputs.ground_truth, comparison))
        return
    inputs.print_warnings()
    print_whole(*comparison_screen(inputs.ground_truth, comparison))
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(written))


def progress_line() -> Callable[[int], None] | None:
    """Counts resamples on standard error, where somebody watches, in a line that the next output writes over."""
    if not sys.stderr.isatty():
        return None
    return lambda done: print(f"\r{done:,} resamples\r", end="", file=sys.stderr, flush=True)
