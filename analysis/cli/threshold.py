"""The verb ``analyze threshold``: precision, recall and F1 from a score on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli.analyze import (
    AsJson,
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
    find_inputs,
    print_json,
    read_files,
    say_what_was_found,
    settings_of,
)
from analysis.cli.compare import Seed, progress_line
from analysis.cli.figure_options import Style, StyleName, Width, figure_style
from analysis.cli.option_rules import RULES, check_options
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from analysis.evaluation.operating_point import Criterion

BACKGROUND_IOU = 0.1  # TIDE's, for the six errors


def threshold(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    score: Annotated[
        float | None, typer.Option("--score", help="Use this score as the threshold of all runs.", show_default=False)
    ] = None,
    best_f1: Annotated[
        bool, typer.Option("--best-f1", help="For each run, choose the threshold with the best F1 (the default).")
    ] = False,
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision",
            help="For each run, choose the lowest threshold from which precision stays at or above this value (0..1).",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            help="For each run, choose the highest threshold that reaches this recall (0..1).",
            show_default=False,
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also choose a threshold for each class, and show the gain.")
    ] = False,
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    max_dets: MaxDets = None,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Number of bootstrap resamples for intervals; 0: no intervals.", min=0)
    ] = 1000,
    seed: Seed = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all classes and confused pairs, not only the first ones.")
    ] = False,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    drop_invalid: DropInvalid = False,
    jobs: Jobs = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for tables, curves, figures and the JSON document."),
    ] = None,
    style: Style = StyleName.screen,
    width: Width = "",
    as_json: AsJson = False,
    root: Root = Path(),
) -> None:
    """Precision, recall, F1, errors and confusion at a score threshold.

    The threshold is given by --score, or chosen for each run.
    """
    from analysis.files import check_targets
    from analysis.render.operating_point import operating_point_screen
    from analysis.render.screen import print_whole
    from analysis.stats.operating_point import operating_points

    check_options(context, RULES["threshold"])
    settings = settings_of(iou_type, iou, min(BACKGROUND_IOU, iou), max_dets)
    criterion, drawn = criterion_of(score, precision, recall), figure_style(style, width)
    files = find_inputs(context, predictions, gt, root)
    say_what_was_found(files.found, as_json)
    if out:
        from analysis.render.operating_point_files import WRITTEN

        check_targets(out, WRITTEN, [files.truth, *(path for _, path in files.named)])
    inputs = read_files(
        files.named, files.truth, ReadOptions(iou_type, respect_ignore, drop_unknown, drop_invalid, jobs)
    )
    settings = settings.under_rules_of(inputs.ground_truth, own_cap=max_dets is not None)
    runs = operating_points(
        inputs.ground_truth,
        inputs.runs,
        settings,
        criterion,
        per_class=per_class,
        resamples=resamples,
        seed=seed,
        progress=progress_line(),
    )
    document = {}
    if out or as_json:  # by what imports matplotlib
        from analysis.render.operating_point_files import operating_point_document, write_operating_points

        document = operating_point_document(inputs.ground_truth, runs)
    if files.found:
        document |= {"source": files.found}
    written = write_operating_points(out, inputs.ground_truth, runs, document, drawn) if out else ()
    if as_json:
        print_json(document)
        return
    inputs.print_warnings()
    print_whole(*operating_point_screen(inputs.ground_truth, runs, everything=everything))
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(written))


def criterion_of(score: float | None, precision: float | None, recall: float | None) -> "Criterion":
    """The criterion by which the threshold is chosen.

    Raises:
        typer.BadParameter: the value cannot be a score or a share.
    """
    from analysis.evaluation.operating_point import Criterion

    try:
        if score is not None:
            return Criterion("score", score)
        if precision is not None:
            return Criterion("precision", precision)
        if recall is not None:
            return Criterion("recall", recall)
    except BadInput as error:
        raise typer.BadParameter(str(error)) from None
    return Criterion()
