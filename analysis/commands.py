"""The verbs of ``analyze``: parse the command line, call the library, show the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from analysis.inputs import inputs
from analysis.options import (
    AsJson,
    BackgroundIou,
    Convention,
    DropUnknown,
    Iou,
    IouType,
    Kind,
    MaxDets,
    Predictions,
    RespectIgnore,
    Root,
    Rules,
    Truth,
    Verify,
    settings_of,
)
from analysis.refusal import BadInput

if TYPE_CHECKING:
    from analysis.comparison.compare import Comparison
    from analysis.error_types import Settings
    from analysis.ground_truth import GroundTruth
    from analysis.runs import Run
    from analysis.where.by_size import Size

app = typer.Typer(help="Where a detector's average precision went, from its prediction files.", no_args_is_help=True)


@app.command()
def errors(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    background_iou: BackgroundIou = 0.1,
    max_dets: MaxDets = 100,
    convention: Rules = Convention.coco,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    by: Annotated[
        str | None,
        typer.Option(help="Also where: class, size, iou, crowding, confusion, several with commas, or all."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Sizes of your own, as sides in pixels: small:0-32,large:32-", metavar="NAME:FROM-TO,..."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every class and confused pair, not only the first.")
    ] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show how sure each number is, from resampling the images.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables, figures, every detection's label and every object's fate.")
    ] = None,
    as_json: AsJson = False,
    verify: Verify = False,
    root: Root = Path(),
) -> None:
    """Break the AP down into six types of error: what each costs, how often it happens, where to look.

    Several prediction files are compared on one ground truth: analyze errors a.json vit=b.json --gt gt.json
    Without any, the newest study's are.
    """
    from analysis.where.analysis import parse_parts
    from analysis.where.by_size import COCO_SIZES, parse_sizes

    try:
        parts = parse_parts(",".join(part for part in (by, "size" if sizes else None) if part))
        split = Split(parts, parse_sizes(sizes) if sizes is not None else COCO_SIZES, everything)
    except BadInput as error:
        raise typer.BadParameter(str(error)) from None
    settings = settings_of(iou_type, iou, background_iou, max_dets, convention)
    named, truth = inputs(context, predictions, gt, root)
    _errors(named, truth, settings, split, respect_ignore, drop_unknown, out, as_json, verify, intervals)


class Split(NamedTuple):
    """Of what else than the whole the errors are shown."""

    parts: tuple[str, ...] = ()
    sizes: "tuple[Size, ...]" = ()
    everything: bool = False


def _errors(
    named: list[tuple[str, Path]],
    truth: Path,
    settings: "Settings",
    split: Split = Split(),  # noqa: B008 (immutable)
    respect_ignore: bool = False,
    drop_unknown: bool = False,
    out: Path | None = None,
    as_json: bool = False,
    verify: bool = False,
    intervals: bool = False,
) -> None:
    from analysis.comparison.screen import intervals_screen
    from analysis.comparison.tables import intervals_entries
    from analysis.detections import read_detections
    from analysis.ground_truth import read_ground_truth
    from analysis.tables import as_json as encode
    from analysis.tables import errors_document
    from analysis.terminal import errors_screen, print_warnings, print_whole
    from analysis.where.analysis import Analysis
    from analysis.where.screen import where_screen
    from analysis.where.tables import where_entry

    ground_truth = read_ground_truth(truth, respect_ignore=respect_ignore)
    analysis = Analysis(ground_truth, settings, split.parts, split.sizes)
    found = [analysis.of(name, read_detections(path, ground_truth, drop_unknown=drop_unknown)) for name, path in named]
    runs = [one.run for one in found]
    measured = _resampled(ground_truth, runs, settings) if intervals else None
    document = {}
    if as_json or out:
        document = errors_document(ground_truth, settings, runs)
        for entry, one in zip(document["runs"], found, strict=True):
            entry |= where_entry(ground_truth, one)
        if measured:
            document |= intervals_entries(measured, document["runs"])
    checks = _verify_errors(ground_truth, runs, "size" in split.parts) if verify else []
    written: list[str] = []
    if out:
        from analysis.outputs import write_outputs

        written = write_outputs(out, ground_truth, settings, found, analysis.crowding, encode(document))
    if as_json:
        if verify:
            document["verify"] = [{"run": run, "check": check, "result": result} for run, check, result in checks]
        typer.echo(encode(document).decode(), nl=False)
        return
    print_warnings(_warnings(ground_truth, [(run.name, run.detections.warnings) for run in runs]))
    where = where_screen(ground_truth, settings, found, split.everything)
    sure = intervals_screen(measured) if measured else []
    print_whole(*errors_screen(ground_truth, settings, runs), *sure, *where)
    for run_name, check, result in checks:
        typer.echo(f"verify {run_name}: {check}: {result}")
    if out:
        kinds: dict[str, list[str]] = {}
        for name in written:
            stem, _, kind = name.partition(".")
            kinds.setdefault(stem, []).append(kind)
        typer.echo(f"\nwritten to {out}: " + "; ".join(f"{stem} ({', '.join(k)})" for stem, k in kinds.items()))


def _resampled(ground_truth: "GroundTruth", runs: "list[Run]", settings: "Settings") -> "Comparison":
    from analysis.comparison.compare import Entrant, compare

    return compare(ground_truth, [Entrant(run.name, (run.detections,)) for run in runs], settings)


@app.command()
def ap(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    iou_type: Kind = IouType.bbox,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    as_json: AsJson = False,
    verify: Verify = False,
    root: Root = Path(),
) -> None:
    """COCO's 12 numbers, equal to pycocotools' and many times faster."""
    from analysis.average_precision import coco_metrics
    from analysis.detections import read_detections
    from analysis.ground_truth import read_ground_truth
    from analysis.tables import ap_document
    from analysis.tables import as_json as encode
    from analysis.terminal import ap_screen, print_warnings, print_whole

    named, truth_path = inputs(context, predictions, gt, root)
    ground_truth = read_ground_truth(truth_path, respect_ignore=respect_ignore)
    metrics = []
    for name, path in named:
        detections = read_detections(path, ground_truth, drop_unknown=drop_unknown)
        metrics.append((name, detections, coco_metrics(ground_truth, detections, iou_type=iou_type.value)))
    checks = []
    if verify:
        from analysis.verify import compare_metrics

        checks = [(name, compare_metrics(ground_truth, dt, numbers, iou_type.value)) for name, dt, numbers in metrics]
    if as_json:
        document = ap_document(ground_truth, iou_type.value, metrics)
        if verify:
            document["verify"] = [{"run": name, "check": "pycocotools", "result": result} for name, result in checks]
        typer.echo(encode(document).decode(), nl=False)
        return
    print_warnings(_warnings(ground_truth, [(name, dt.warnings) for name, dt, _ in metrics]))
    print_whole(*ap_screen(ground_truth, iou_type.value, metrics))
    for name, result in checks:
        typer.echo(f"verify {name}: {result}")


@app.command()
def example(
    out: Annotated[Path, typer.Option(help="Folder for the generated files.")] = Path("results/example"),
    images: Annotated[int, typer.Option(help="Number of images.", min=1)] = 400,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 1,
) -> None:
    """Generate ground truth and two simulated detectors with known flaws, and analyze them."""
    from analysis.error_types import Settings
    from analysis.synthetic import write_example

    truth, files = write_example(out, images=images, seed=seed)
    typer.echo(
        f"Simulated detectors on simulated objects, written to {out}: they show the tool and are no evidence.\n"
        "The same analysis of your own files:\n"
        f"  analyze errors {' '.join(map(str, files.values()))} --gt {truth}\n"
    )
    _errors(list(files.items()), truth, Settings(), out=out / "analysis")


def _warnings(ground_truth: "GroundTruth", runs: list[tuple[str, tuple[str, ...]]]) -> list[tuple[str, str]]:
    return [(ground_truth.path.name, w) for w in ground_truth.warnings] + [(name, w) for name, ws in runs for w in ws]


def _verify_errors(ground_truth: "GroundTruth", runs: "list[Run]", by_size: bool) -> list[tuple[str, str, str]]:
    from analysis.verify import compare_breakdown

    return [(run.name, *check) for run in runs for check in compare_breakdown(ground_truth, run, by_size)]
