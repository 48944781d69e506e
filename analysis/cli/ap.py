"""The verb ``analyze ap``: average precision and recall for any IoUs, sizes and caps."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.analyze import (
    AnalysisInputs,
    AsJson,
    ClassAgnostic,
    DropInvalid,
    DropUnknown,
    IouType,
    Jobs,
    Kind,
    MinScore,
    OwnSizes,
    Predictions,
    ReadOptions,
    RespectIgnore,
    Root,
    Truth,
    Verify,
    check_records,
    print_json,
    read_inputs,
    settings_of,
)
from analysis.cli.completion import several_of
from analysis.cli.figure_options import Columns, Style, StyleName, Width, column_names, figure_style
from analysis.cli.option_rules import RULES, check_options
from analysis.exceptions import BadInput

PARTS = ("class", "size", "iou")
MOST_IOUS = 101


class VocYear(StrEnum):
    """Which rule of Pascal VOC."""

    y07 = "07"
    y10 = "10"


def ap(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    iou_type: Kind = IouType.bbox,
    iou: Annotated[
        str | None,
        typer.Option(
            "--iou",
            metavar="FROM:TO:STEP or IOU,...",
            help="IoU thresholds over which the AP is averaged.",
            show_default="0.5:0.95:0.05",
        ),
    ] = None,
    sizes: OwnSizes = None,
    max_dets: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N,...]",
            help="Highest numbers of detections per image and category: AR at each, AP at the last.",
            show_default="1,10,100; LVIS: 300 per image",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Also split by class, size, iou (a comma-separated list), or all.",
            autocompletion=several_of(*PARTS, "all"),
        ),
    ] = None,
    micro: Annotated[
        bool,
        typer.Option(
            "--micro",
            help="Compute one curve over the detections of all categories, instead of the mean over categories.",
        ),
    ] = False,
    voc: Annotated[
        VocYear | None, typer.Option("--voc", help="Pascal VOC's AP instead: 07 (11 recalls) or 10 (all recalls).")
    ] = None,
    min_score: MinScore = None,
    class_agnostic: ClassAgnostic = False,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    drop_invalid: DropInvalid = False,
    jobs: Jobs = 1,
    everything: Annotated[bool, typer.Option("--all", help="Show all classes, not only the first ones.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for tables and precision-recall curves.")
    ] = None,
    style: Style = StyleName.screen,
    width: Width = "",
    columns: Columns = "",
    as_json: AsJson = False,
    verify: Verify = False,
    root: Root = Path(),
) -> None:
    """AP and AR: the 12 COCO numbers (equal to pycocotools, many times faster), 13 for LVIS, or VOC's AP.

    --iou, --sizes and --max-dets correspond to iouThrs, areaRng and maxDets in pycocotools.
    """
    from analysis.evaluation.metrics import measure_metrics
    from analysis.evaluation.verify import compare_metrics
    from analysis.files import check_targets
    from analysis.render.average_precision import ap_screen
    from analysis.render.screen import print_whole

    check_options(context, RULES["ap"])
    ious, areas, parts = parse_ious(iou), parse_areas(sizes), parse_ap_parts(by)
    if voc is not None and len(ious) > 1 and iou is not None:
        raise typer.BadParameter("--voc uses a single IoU, for example --iou 0.5", param_hint="--iou")
    drawn = figure_style(style, width)
    caps = parse_caps(max_dets) if max_dets is not None else None
    settings = settings_of(
        iou_type, 0.5, 0.1, caps[-1] if caps else None, class_agnostic=class_agnostic, min_score=min_score
    )
    options = ReadOptions(iou_type, respect_ignore, drop_unknown, drop_invalid, jobs)
    inputs = read_inputs(context, predictions, gt, root, options, as_json=as_json)
    inputs = inputs.without_categories() if class_agnostic else inputs
    ground_truth = inputs.ground_truth
    if out:
        from analysis.render.average_precision_files import WRITTEN

        check_targets(out, WRITTEN, [ground_truth.path, *(dt.path for _, dt in inputs.runs)])
    if voc is not None:
        _show_voc(inputs, voc.value, ious[0] if iou is not None else 0.5, min_score, everything, as_json=as_json)
        return
    settings = settings.under_rules_of(ground_truth, own_cap=caps is not None)
    caps = caps or settings.caps
    measured = [
        measure_metrics(name, ground_truth, dt, settings, caps, ious=ious, sizes=areas, micro=micro)
        for name, dt in inputs.runs
    ]
    checks = []
    if verify:
        checks = [
            (one.name, *check)
            for one in measured
            for check in [compare_metrics(ground_truth, one.detections, one.evaluation, settings, areas)]
        ]
    document = {}
    if as_json or out:
        from analysis.render.average_precision_files import ap_document, write_ap

        document = ap_document(ground_truth, settings, measured, parts) | inputs.source()
    written = (
        write_ap(out, ground_truth, settings, measured, parts, document, drawn, column_names(columns)) if out else ()
    )
    if as_json:
        print_json(document | ({"verify": check_records(checks)} if verify else {}))
        return
    inputs.print_warnings()
    print_whole(*ap_screen(ground_truth, settings, measured, parts, everything=everything))
    for run, _, result in checks:
        typer.echo(f"verify {run}: {result}")
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(written))


def parse_ious(text: str | None) -> list[float]:
    """``0.5:0.95:0.05`` or ``0.3,0.5`` -> IoUs, the steps of a range as pycocotools makes them.

    Raises:
        typer.BadParameter: something else is written there, or an IoU lies outside 0..1.

    >>> parse_ious("0.5:0.7:0.1"), parse_ious("0.5, 0.3"), len(parse_ious(None))
    ([0.5, 0.6, 0.7], [0.3, 0.5], 10)
    """
    import numpy as np

    text = "0.5:0.95:0.05" if text is None else text
    try:
        if ":" in text:
            low, high, step = map(float, text.split(":"))
            count = (high - low) / step
            whole = math.isfinite(count) and step > 0 and abs(count - round(count)) < 1e-6 and 0 <= count < MOST_IOUS
            found = np.linspace(low, high, round(count) + 1).tolist() if whole else []
        else:
            found = sorted({float(part) for part in text.split(",")})
    except (ValueError, ZeroDivisionError):
        found = []
    if not found or len(found) > MOST_IOUS or not all(0 < iou <= 1 for iou in found):
        raise typer.BadParameter(
            f"{text!r} is not a list of IoUs above 0 and up to 1: write FROM:TO:STEP, such as 0.5:0.95:0.05, or "
            "0.3,0.5",
            param_hint="--iou",
        )
    return [float(iou) for iou in found]


def parse_areas(text: str | None) -> dict[str, tuple[float, float]]:
    """``small:0-32,large:32-`` -> pycocotools' ``areaRng`` in square pixels by name, all areas first; none: COCO's.

    Raises:
        typer.BadParameter: the text is not understood.

    >>> parse_areas("big:96-")
    {'all': (0, 10000000000.0), 'big': (9216.0, 10000000000.0)}
    """
    from analysis.evaluation.matching import AREA_RANGES
    from analysis.evaluation.slices import parse_sizes

    if text is None:
        return AREA_RANGES
    whole = AREA_RANGES["all"]
    try:
        sizes = parse_sizes(text)
    except BadInput as error:
        raise typer.BadParameter(str(error), param_hint="--sizes") from None
    if any(size.name == "all" for size in sizes):
        raise typer.BadParameter(
            "no size can have the name all, which means all objects; choose another name", param_hint="--sizes"
        )
    return {"all": whole} | {size.name: (size.low**2, min(size.high**2, whole[1])) for size in sizes}


def parse_ap_parts(text: str | None) -> tuple[str, ...]:
    """``class,iou`` or ``all`` -> parts.

    Raises:
        typer.BadParameter: a part is unknown.

    >>> parse_ap_parts("iou, class"), parse_ap_parts("all"), parse_ap_parts(None)
    (('class', 'iou'), ('class', 'size', 'iou'), ())
    """
    wanted = {part.strip() for part in (text or "").split(",") if part.strip()}
    unknown = sorted(wanted - {*PARTS, "all"})
    if unknown or (text is not None and not wanted):
        raise typer.BadParameter(
            f"{(unknown or [''])[0]!r} is not a split; choose from {', '.join(PARTS)}, or all", param_hint="--by"
        )
    return tuple(part for part in PARTS if part in wanted or "all" in wanted)


def parse_caps(text: str) -> tuple[int, ...]:
    """``1,10,100`` -> caps in ascending order.

    Raises:
        typer.BadParameter: something else is written there.

    >>> parse_caps("300"), parse_caps("500, 10")
    ((300,), (10, 500))
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(
            f"{text!r} is not a list of whole numbers from 1, such as 300 or 1,10,100", param_hint="--max-dets"
        )
    return tuple(sorted({int(part) for part in parts}))


def _show_voc(
    inputs: AnalysisInputs, year: str, iou: float, min_score: float | None, everything: bool, *, as_json: bool
) -> None:
    from analysis.evaluation.voc import voc_ap
    from analysis.render.average_precision import voc_screen
    from analysis.render.average_precision_files import voc_document
    from analysis.render.screen import print_whole

    found = [
        (name, dt, voc_ap(inputs.ground_truth, dt, year, iou=iou, min_score=min_score)) for name, dt in inputs.runs
    ]
    if as_json:
        print_json(voc_document(inputs.ground_truth, found) | inputs.source())
        return
    inputs.print_warnings()
    print_whole(*voc_screen(inputs.ground_truth, found, everything=everything))
