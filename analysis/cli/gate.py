"""The verb ``analyze gate``: a check of a model against another for continuous integration."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.analyze import (
    AsJson,
    DropInvalid,
    DropUnknown,
    IouType,
    Kind,
    MaxDets,
    ReadOptions,
    RespectIgnore,
    Truth,
    find_inputs,
    print_json,
    read_files,
    settings_of,
)
from analysis.cli.compare import Resamples, Seed, progress_line
from analysis.cli.completion import one_of


def gate(
    context: typer.Context,
    new: Annotated[str, typer.Argument(metavar="[NAME=]NEW", help="Predictions of the new model.")],
    base: Annotated[str, typer.Argument(metavar="[NAME=]BASE", help="Predictions of the model to compare with.")],
    gt: Truth = None,
    metric: Annotated[
        str,
        typer.Option(
            help="AP, or AP at one IoU, for example AP50 or AP75.", autocompletion=one_of("AP", "AP50", "AP75")
        ),
    ] = "AP50",
    max_drop: Annotated[float, typer.Option("--max-drop", help="Allowed drop in points.", min=0)] = 0.0,
    iou_type: Kind = IouType.bbox,
    max_dets: MaxDets = 100,
    resamples: Resamples = None,
    seed: Seed = 0,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    drop_invalid: DropInvalid = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write the Markdown to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Exit with code 6 if NEW is significantly worse than BASE; print Markdown for a pull request.

    The gate fails if the whole 95 % paired interval of NEW - BASE is below -MAX_DROP. The result holds for these two
    models: the variation between trainings is not covered.
    """
    from analysis.files import check_target, write_bytes
    from analysis.render.gate import gate_document, gate_markdown, gate_sentence
    from analysis.stats.gate import GateFailed, iou_of
    from analysis.stats.gate import gate as hold_against

    iou = iou_of(metric)
    settings = settings_of(iou_type, iou, min(0.1, iou), max_dets)
    files = find_inputs(context, [new, base], gt, Path())
    if out:
        check_target(out, [files.truth, *(path for _, path in files.named)])
    options = ReadOptions(iou_type, respect_ignore, drop_unknown, drop_invalid)
    inputs = replace(read_files(files.named, files.truth, options), found=files.found)
    first, second = inputs.runs
    found = hold_against(
        inputs.ground_truth,
        first,
        second,
        settings,
        metric=metric,
        max_drop=max_drop,
        resamples=resamples or 0,
        seed=seed,
        progress=progress_line(),
    )
    text = gate_markdown(inputs.ground_truth, found)
    if out:
        write_bytes(out, text.encode())
    if as_json:
        print_json(gate_document(inputs.ground_truth, found))
    else:
        inputs.print_warnings()
        typer.echo(text, nl=False)
    if not found.passed:
        raise GateFailed(gate_sentence(found))
