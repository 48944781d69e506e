"""The verb ``analyze compare``."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli.analyze import (
    AsJson,
    BackgroundIou,
    DropUnknown,
    Iou,
    IouType,
    Kind,
    Predictions,
    RespectIgnore,
    Root,
    Truth,
    app,
    inputs,
    settings_of,
)
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from analysis.coco.ground_truth import GroundTruth
    from analysis.stats.compare import Comparison

Resamples = Annotated[
    int | None,
    typer.Option("--resamples", help="How often the images are drawn.", min=1, show_default="1,000 or enough"),
]
Seed = Annotated[int, typer.Option("--seed", help="Of the resampling.", min=0)]
Out = Annotated[Path | None, typer.Option(help="Folder for CSV, Markdown, LaTeX and JSON.")]
OUTPUTS = ("comparison.csv", "categories.csv", "comparison.md", "comparison.tex", "comparison.json")


@app.command()
def compare(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    baseline: Annotated[str, typer.Option(help="Name of the run to compare with.", show_default="the first")] = "",
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    background_iou: BackgroundIou = 0.1,
    max_dets: Annotated[int, typer.Option(help="Detections an image and category.", min=1)] = 100,
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
    from analysis.coco.detections import read_detections
    from analysis.coco.ground_truth import read_ground_truth
    from analysis.render.comparison import comparison_screen
    from analysis.render.errors import print_warnings, print_whole
    from analysis.stats.compare import Candidate
    from analysis.stats.compare import compare as compare_runs

    settings = settings_of(iou_type, iou, background_iou, max_dets)
    named, truth = inputs(context, predictions, gt, root)
    if len(named) < 2:
        raise BadInput(f"{named[0][0]} is the only run; name at least two prediction files to compare")
    ground_truth = read_ground_truth(truth, respect_ignore=respect_ignore)
    candidates = [
        Candidate(name, (read_detections(path, ground_truth, drop_unknown=drop_unknown),)) for name, path in named
    ]
    comparison = compare_runs(
        ground_truth,
        candidates,
        settings,
        baseline=baseline,
        resamples=resamples or 0,
        seed=seed,
        progress=progress_line(),
    )
    if out:
        write_comparison(out, ground_truth, comparison)
    if as_json:
        from analysis.render.comparison_tables import comparison_document
        from analysis.render.errors import as_json as encode

        typer.echo(encode(comparison_document(ground_truth, comparison)).decode(), nl=False)
        return
    warnings = [(candidate.name, w) for candidate in candidates for dt in candidate.detections for w in dt.warnings]
    print_warnings([(ground_truth.path.name, w) for w in ground_truth.warnings] + warnings)
    print_whole(*comparison_screen(ground_truth, comparison))
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(OUTPUTS))


def progress_line() -> Callable[[int], None] | None:
    """Counts resamples on standard error, where somebody watches, in a line that the next output writes over."""
    if not sys.stderr.isatty():
        return None
    return lambda done: print(f"\r{done:,} resamples\r", end="", file=sys.stderr, flush=True)


def write_comparison(out: Path, ground_truth: "GroundTruth", comparison: "Comparison") -> None:
    """Everything is made before the first file is written, and every file appears whole."""
    from analysis.io import write_bytes
    from analysis.render.comparison_tables import (
        categories_csv,
        comparison_csv,
        comparison_document,
        comparison_latex,
        comparison_markdown,
    )
    from analysis.render.errors import as_json as encode

    contents = {
        "comparison.csv": comparison_csv(comparison).encode(),
        "categories.csv": categories_csv(ground_truth, comparison).encode(),
        "comparison.md": comparison_markdown(ground_truth, comparison).encode(),
        "comparison.tex": comparison_latex(ground_truth, comparison).encode(),
        "comparison.json": encode(comparison_document(ground_truth, comparison)),
    }
    for name in OUTPUTS:
        write_bytes(out / name, contents[name])
