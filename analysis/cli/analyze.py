"""The verbs ``errors`` and ``example`` of ``analyze``, and what all its verbs share: options, input, output.

A verb parses the command line, calls the library, and shows the result. Its input are files, or a folder that contains
the predictions and sometimes the ground truth: an output folder of detectron2 (its ``OUTPUT_DIR``, the ``inference`` in
it, or the folder of one data set in that) or a run folder of this project. Without any file, the newest study is used.
Finding that study, or the ground truth of a run folder, needs `ablate`, which the analysis does not import: the front
door passes in functions for it.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from analysis.cli.completion import several_of
from analysis.cli.figure_options import Columns, Style, StyleName, Width, column_names, figure_style
from analysis.cli.option_rules import RULES, check_options
from analysis.cli.verbs import TRUTH_OF_RUN
from analysis.exceptions import BadInput, BadRecords
from analysis.files import check_targets, write_all
from analysis.io import json_bytes
from analysis.shell import shell_command

if TYPE_CHECKING:  # numpy is not for those who only ask for help
    from analysis.coco import Detections, GroundTruth
    from analysis.evaluation.analysis import RunAnalysis
    from analysis.evaluation.settings import Settings
    from analysis.evaluation.slices import Size
    from analysis.render.figure_style import FigureStyle


logger = logging.getLogger(__name__)


class IouType(StrEnum):
    """What IoU compares: boxes or masks."""

    bbox = "bbox"
    segm = "segm"


class Export(StrEnum):
    """Programs for which files in their own format can be written."""

    fiftyone = "fiftyone"


class Convention(StrEnum):
    """The rules of evaluation; docs/conventions.md lists the differences."""

    coco = "coco"
    tidecv = "tidecv"


Predictions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]PREDICTIONS",
        help="COCO results file (.json, .json.gz), folder of such files, detectron2 output folder, or run folder; "
        "NAME= names the run in tables and figures.",
        show_default=False,
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--gt", metavar="GT", help="Ground truth: a COCO instances file (.json, .json.gz).", show_default=False
    ),
]
Kind = Annotated[IouType, typer.Option("--iou-type", help="Compare boxes or masks.")]
RespectIgnore = Annotated[
    bool, typer.Option("--respect-ignore", help="Leave out objects with ignore=1 (difficult in VOC).")
]
DropUnknown = Annotated[
    bool,
    typer.Option(
        "--drop-unknown", help="Leave out detections on images or categories that are not in the ground truth."
    ),
]
DropInvalid = Annotated[
    bool, typer.Option("--drop-invalid", help="Leave out invalid annotations and detections, and list them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Recompute with tidecv and pycocotools, and show the differences.")
]
Root = Annotated[
    Path, typer.Option("--root", help="Folder that contains results/; without PREDICTIONS, its newest study is used.")
]
Iou = Annotated[float, typer.Option(help="Lowest IoU of a correct detection.")]
BackgroundIou = Annotated[float, typer.Option(help="Highest IoU of a detection on background.")]
MaxDets = Annotated[
    int | None,
    typer.Option(
        "--max-dets",
        help="Highest number of detections per image (coco convention: per image and category).",
        min=1,
        show_default="100; LVIS: 300 per image",
    ),
]
ClassAgnostic = Annotated[
    bool, typer.Option("--class-agnostic", help="Treat all categories as one (useCats=0 in pycocotools).")
]
MinScore = Annotated[
    float | None,
    typer.Option("--min-score", help="Leave out detections with a lower score, and show how that changes the AP."),
]
OwnSizes = Annotated[
    str | None,
    typer.Option(
        "--sizes",
        help="Your own size ranges, as side lengths in pixels: small:0-32,large:32-",
        metavar="NAME:FROM-TO,...",
    ),
]
Baseline = Annotated[
    str, typer.Option(help="Name of the run that the others are compared with.", show_default="the first")
]
Jobs = Annotated[int, typer.Option("--jobs", metavar="N", help="Number of files to analyze at the same time.", min=1)]
Rules = Annotated[Convention, typer.Option(help="Evaluation rules: those of COCOeval (coco) or of tidecv.")]


def settings_of(
    iou_type: IouType,
    iou: float,
    background_iou: float,
    max_dets: int | None,
    convention: Convention = Convention.coco,
    *,
    class_agnostic: bool = False,
    min_score: float | None = None,
) -> "Settings":
    """The settings of the command line.

    Raises:
        typer.BadParameter: thresholds that do not fit together.
    """
    from analysis.evaluation.settings import Settings

    if not 0 < background_iou <= iou <= 1:
        raise typer.BadParameter("needs 0 < --background-iou <= --iou <= 1", param_hint="--iou")
    if min_score is not None and not math.isfinite(min_score):
        raise typer.BadParameter(f"{min_score} is not a number; give a score such as 0.05", param_hint="--min-score")
    cap = 100 if max_dets is None else max_dets
    return Settings(iou_type.value, iou, background_iou, cap, convention.value, class_agnostic, min_score)


@dataclass(frozen=True)
class AnalysisInputs:
    """Ground truth, and the detections of each run with its name."""

    ground_truth: "GroundTruth"
    runs: "list[tuple[str, Detections]]"
    found: str = ""  # where they come from, if no file was named
    jobs: int = 1  # how many are analyzed at the same time

    def source(self) -> dict[str, str]:
        """The entry of a JSON document that names files found without being given."""
        return {"source": self.found} if self.found else {}

    def without_categories(self, convention: str = "coco") -> "AnalysisInputs":
        """The same with all categories taken as one."""
        from analysis.evaluation.selection import class_agnostic

        ground_truth, runs = class_agnostic(self.ground_truth, self.runs, convention)
        return replace(self, ground_truth=ground_truth, runs=runs)

    def print_warnings(self) -> None:
        """Print the warnings of the readers on standard error, each after its file or run."""
        from analysis.render.screen import print_warnings

        sources: list[tuple[str, GroundTruth | Detections]] = [(self.ground_truth.path.name, self.ground_truth)]
        sources += self.runs
        print_warnings((name, warning) for name, one in sources for warning in (*one.warnings, *one.masks.notes))


class ReadOptions(NamedTuple):
    """How ground truth and predictions are read."""

    iou_type: IouType = IouType.bbox
    respect_ignore: bool = False
    drop_unknown: bool = False
    drop_invalid: bool = False
    jobs: int = 1  # files at the same time


def read_inputs(
    context: typer.Context,
    predictions: list[str] | None,
    gt: Path | None,
    root: Path,
    options: ReadOptions,
    *,
    as_json: bool = False,
) -> AnalysisInputs:
    """Read the given files, or else those that are found under the root, which are named first."""
    files = find_inputs(context, predictions, gt, root)
    say_what_was_found(files.found, as_json)
    return replace(read_files(files.named, files.truth, options), found=files.found)


def read_files(
    named: Sequence[tuple[str, Path]],
    truth: Path,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (immutable)
) -> AnalysisInputs:
    """Read ground truth and predictions; where masks are compared, decode them all.

    Raises:
        BadInput: a file cannot be read, or holds what the ground truth does not know.
    """
    from analysis.coco import read_detections, read_ground_truth
    from analysis.parallel import side_by_side

    iou_type = options.iou_type.value
    try:
        with timed(f"read {truth}"):
            ground_truth = read_ground_truth(
                truth, respect_ignore=options.respect_ignore, drop_invalid=options.drop_invalid, iou_type=iou_type
            )
        if options.iou_type is IouType.segm:
            ground_truth.masks.decode()

        def read(run: tuple[str, Path]) -> "tuple[str, Detections]":
            name, path = run
            with timed(f"read {path}"):
                found = read_detections(
                    path,
                    ground_truth,
                    drop_unknown=options.drop_unknown,
                    drop_invalid=options.drop_invalid,
                    iou_type=iou_type,
                )
                if options.iou_type is IouType.segm:
                    found.masks.decode()
            return name, found

        runs = side_by_side(read, named, options.jobs)
    except BadRecords as error:
        raise BadInput(f"{error}; use --drop-invalid to leave them out") from None
    return AnalysisInputs(ground_truth, runs, jobs=options.jobs)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """With ``--verbose``, say what was done and how long it took."""
    began = time.perf_counter()
    yield
    logger.debug("%s: %.2f s", what, time.perf_counter() - began)


class InputFiles(NamedTuple):
    """Prediction files with their names, their ground truth, and where they come from if no file was named."""

    named: list[tuple[str, Path]]
    truth: Path
    found: str = ""


def find_inputs(context: typer.Context, predictions: list[str] | None, gt: Path | None, root: Path) -> InputFiles:
    """The files that were named, or else those that the front door finds under the root.

    Raises:
        typer.BadParameter: no ground truth is named, and the folders do not all tell it.
        BadInput: nothing was named, and there is nothing to be found.
    """
    if predictions:
        from analysis.evaluation.analysis import name_runs

        named = name_runs(predictions)
        for _, path in named:
            if not path.exists():
                raise BadInput(f"{path}: no such file; check the path")
        truth_of_run = None if gt else context.meta.get(TRUTH_OF_RUN)
        outputs = [look_into(path, truth_of_run) if path.is_dir() else Output(path, None) for _, path in named]
        truth = gt or common_truth(outputs)
        if truth is None:
            told = "" if any(path.is_file() for _, path in named) else "; not every folder contains one"
            raise typer.BadParameter(f"--gt is required: the COCO file of the annotated objects (ground truth){told}")
        files = [(name, output.predictions) for (name, _), output in zip(named, outputs, strict=True)]
        return InputFiles(files, truth)
    newest: InputFiles | None = context.obj(root) if context.obj else None
    if newest is None:
        raise BadInput(
            "no prediction file was given and there is no finished run to analyze; give a file: "
            f"{shell_command('analyze', 'errors', 'PREDICTIONS', '--gt', 'GT')}; or simulate two detectors: "
            f"{shell_command('analyze', 'example')}; or train some: {shell_command('ablate', 'attention', '--launch')}"
        )
    return newest


def check_baseline(baseline: str, files: InputFiles) -> None:
    """Refuse a baseline that is none of the runs before they are read.

    Raises:
        BadInput: there is no run of that name.
    """
    names = [name for name, _ in files.named]
    if baseline and baseline not in names:
        raise BadInput(f"baseline {baseline!r} is not one of the runs; choose from {', '.join(names)}")


def say_what_was_found(found: str, as_json: bool = False) -> None:
    """Name the files that were found without being given; a JSON document contains them itself."""
    if found and not as_json:
        typer.echo(found)


def print_json(document: object) -> None:
    """Print a document, and nothing else, on standard output."""
    typer.echo(json_bytes(document).decode(), nl=False)


DETECTRON2 = "coco_instances_results.json"
# COCOEvaluator writes to a given folder: `inference` in train_net.py, with several data sets a folder for each.
DETECTRON2_PLACES = ("", "inference*/", "inference*/*/")
CONVERTED = "_coco_format.json"  # detectron2's copy of a data set that was not registered as COCO
RUN = ("config.yaml", "manifest.json")  # with which a run folder counts as prepared
RUN_PREDICTIONS = "predictions.json"
LISTED = 6

TruthOf = Callable[[Path], Path]


@dataclass(frozen=True)
class Output:
    """A prediction file and, if the folder names it, the ground truth that it was made for."""

    predictions: Path
    truth: Path | None


def common_truth(outputs: Sequence[Output]) -> Path | None:
    """The ground truth of all predictions; None where some do not tell theirs.

    Raises:
        BadInput: two of them differ in content.
    """
    from analysis.coco import read_ground_truth

    told = [output.truth for output in outputs if output.truth is not None]
    if len(told) < len(outputs):
        return None
    first = told[0]
    for other in sorted({*told} - {first}):
        if read_ground_truth(other).digest != read_ground_truth(first).digest:
            raise BadInput(
                f"{first} and {other} differ, so their runs cannot be compared; give one ground truth with --gt"
            )
    return first


def look_into(folder: Path, truth_of_run: TruthOf | None = None) -> Output:
    """The one prediction file of a folder.

    Args:
        folder: of a detectron2 training or evaluation, or of a run of this project.
        truth_of_run: from a run folder of this project to its ground truth.

    Raises:
        BadInput: the folder is empty, holds none or several, or is of something else.
    """
    from analysis.coco.detections import parts_of

    if all((folder / name).is_file() for name in RUN):
        if not (folder / RUN_PREDICTIONS).is_file():
            raise BadInput(f"{folder}: is a run without predictions; finish it with the command that started it")
        return Output(folder / RUN_PREDICTIONS, truth_of_run(folder) if truth_of_run else None)
    found = sorted({path for place in DETECTRON2_PLACES for path in folder.glob(place + DETECTRON2)})
    if folder / DETECTRON2 in found:
        found = [folder / DETECTRON2]  # the folder itself stands for its content
    if len(found) > 1:
        raise BadInput(f"{folder}: contains several results files; give one of {_listed(found)}")
    if not found and parts_of(folder):
        return Output(folder, None)
    if not found:
        raise BadInput(f"{folder}: {_what_it_is_instead(folder)}")
    return Output(found[0], _converted(folder, found[0]))


def _converted(folder: Path, predictions: Path) -> Path | None:
    """The ground truth that detectron2 converted for this evaluation, if it is the only one."""
    own = predictions.parent.name + CONVERTED
    for above in predictions.parents:
        found = sorted(above.glob(f"*{CONVERTED}"), key=lambda path: path.name != own)
        if found and (len(found) == 1 or found[0].name == own):
            return found[0]
        if above == folder or found:
            break
    return None


def _what_it_is_instead(folder: Path) -> str:
    """What a folder without known predictions seems to be, and what to do."""
    inside = sorted(folder.iterdir())
    if not inside:
        return "is an empty folder; give a results file or a detectron2 output folder"
    if (folder / "metrics.json").is_file() and any(folder.glob("model_*.pth")):
        return (
            f"is a detectron2 training without an evaluation ({DETECTRON2} is missing); run it with --eval-only and a "
            "COCOEvaluator that has an output_dir"
        )
    if (folder / "instances_predictions.pth").is_file():
        return f"contains instances_predictions.pth of detectron2 but no {DETECTRON2}; run the evaluation again"
    documents = [path for path in inside if path.name.removesuffix(".gz").endswith(".json")]
    if documents:
        return f"is neither a detectron2 output folder nor a run folder; give a COCO results file: {_listed(documents)}"
    return f"contains no {DETECTRON2} and no other JSON file; give a COCO results file"


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:LISTED])) + (f" and {len(paths) - LISTED} more" if len(paths) > LISTED else "")


def errors(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    background_iou: BackgroundIou = 0.1,
    max_dets: MaxDets = None,
    min_score: MinScore = None,
    class_agnostic: ClassAgnostic = False,
    convention: Rules = Convention.coco,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    drop_invalid: DropInvalid = False,
    jobs: Jobs = 1,
    by: Annotated[
        str | None,
        typer.Option(
            help="Also split by class, size, iou, crowding, confusion (a comma-separated list), or all.",
            autocompletion=several_of("class", "size", "iou", "crowding", "confusion", "all"),
        ),
    ] = None,
    sizes: OwnSizes = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all classes and confused pairs, not only the first ones.")
    ] = False,
    min_objects: Annotated[
        int, typer.Option("--min-objects", help="With --by class: leave out classes with fewer objects.", min=0)
    ] = 0,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Also show the 95 % interval of each number (bootstrap over images).")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for tables, figures, the label of each detection and the outcome of each object.",
        ),
    ] = None,
    export: Annotated[
        Export | None,
        typer.Option(help="Also write all detections and objects with error, target and cost, for FiftyOne."),
    ] = None,
    style: Style = StyleName.screen,
    width: Width = "",
    columns: Columns = "",
    as_json: AsJson = False,
    verify: Verify = False,
    root: Root = Path(),
) -> None:
    """Break the AP down into six types of error: cost, number and location of each.

    Several prediction files are shown side by side. Without PREDICTIONS, those of the newest study are used.
    """
    from analysis.evaluation.analysis import parse_parts
    from analysis.evaluation.slices import COCO_SIZES, parse_sizes, thresholds

    check_options(context, RULES["errors"])
    settings = settings_of(
        iou_type, iou, background_iou, max_dets, convention, class_agnostic=class_agnostic, min_score=min_score
    )
    try:
        parts = parse_parts(",".join(part for part in (by, "size" if sizes else None) if part))
        if class_agnostic:  # `all` is all that there is without categories
            parts = tuple(part for part in parts if part not in ("class", "confusion"))
        if "iou" in parts:
            thresholds(settings)
        split = Split(parts, parse_sizes(sizes) if sizes is not None else COCO_SIZES, everything, min_objects)
    except BadInput as error:
        raise typer.BadParameter(str(error)) from None
    drawn = figure_style(style, width)
    options = ReadOptions(iou_type, respect_ignore, drop_unknown, drop_invalid, jobs)
    inputs = read_inputs(context, predictions, gt, root, options, as_json=as_json)
    inputs = inputs.without_categories(convention.value) if class_agnostic else inputs
    settings = settings.under_rules_of(inputs.ground_truth, own_cap=max_dets is not None)
    show_errors(
        inputs,
        settings,
        split,
        out=out,
        export=export is not None,
        as_json=as_json,
        verify=verify,
        intervals=intervals,
        style=drawn,
        columns=column_names(columns),
    )


class Split(NamedTuple):
    """By what else the errors are split."""

    parts: tuple[str, ...] = ()
    sizes: "tuple[Size, ...]" = ()
    everything: bool = False
    min_objects: int = 0


def show_errors(
    inputs: AnalysisInputs,
    settings: "Settings",
    split: Split = Split(),  # noqa: B008 (immutable)
    *,
    out: Path | None = None,
    export: bool = False,
    as_json: bool = False,
    verify: bool = False,
    intervals: bool = False,
    style: "FigureStyle | None" = None,
    columns: Sequence[str] = (),
) -> None:
    """Analyse the runs, write the files, and print the screen or the document."""
    from analysis.evaluation.analysis import Analysis
    from analysis.evaluation.average_precision import COCO_IOUS
    from analysis.evaluation.slices import COCO_SIZES
    from analysis.parallel import side_by_side
    from analysis.render.errors import errors_screen
    from analysis.render.screen import print_whole
    from analysis.render.slices import slices_screen

    ground_truth = inputs.ground_truth
    if out:  # before the work
        check_targets(out, ("errors.json",), [ground_truth.path, *(detections.path for _, detections in inputs.runs)])
    ious = COCO_IOUS if intervals else ()
    analysis = Analysis(ground_truth, settings, split.parts, split.sizes, ious=ious, at_stake=True)

    def analyzed(run: "tuple[str, Detections]") -> "RunAnalysis":
        with timed(f"analyzed {run[0]}"):
            return analysis.of(*run)

    analyses = side_by_side(analyzed, inputs.runs, inputs.jobs)
    measured, of_intervals = None, []
    if intervals:
        from analysis.render.comparison import intervals_screen
        from analysis.stats.compare import Candidate, compare

        candidates = [Candidate.of(one) for one in analyses]
        measured = compare(ground_truth, candidates, settings)
        of_intervals = intervals_screen(measured)
    document: dict[str, Any] = {}
    if as_json or out:
        from analysis.render.documents import add_intervals, errors_document

        document = errors_document(ground_truth, settings, analyses) | inputs.source()
        if measured:
            add_intervals(document, measured)
    written: dict[str, list[str]] = {}
    if out:
        from analysis.render.fiftyone import fiftyone_files
        from analysis.render.figure_style import SCREEN
        from analysis.render.files import write_analysis

        exported = fiftyone_files(ground_truth, analyses) if export else {}
        check_targets(out, exported)
        files = write_analysis(
            out,
            ground_truth,
            settings,
            analyses,
            analysis.crowding,
            json_bytes(document),
            measured=measured,
            min_objects=split.min_objects,
            style=style or SCREEN,
            columns=columns,
        )
        write_all(out, exported)
        for stem, _, kind in (name.partition(".") for name in files):
            written.setdefault(stem, []).append(kind)
        if exported:
            written["fiftyone"] = [f"{len(exported)} files"]
    checks = []
    if verify:  # after the figures: to import tidecv changes matplotlib's settings
        from analysis.evaluation.verify import compare_breakdown

        by_size = "size" in split.parts and split.sizes == COCO_SIZES
        checks = [(run.name, *check) for run in analyses for check in compare_breakdown(ground_truth, run, by_size)]
    if as_json:
        print_json(document | ({"verify": check_records(checks)} if verify else {}))
        return
    inputs.print_warnings()
    print_whole(
        *errors_screen(ground_truth, settings, analyses),
        *of_intervals,
        *slices_screen(ground_truth, settings, analyses, split.everything, split.min_objects),
    )
    for run, check, result in checks:
        typer.echo(f"verify {run}: {check}: {result}")
    if out:
        typer.echo(
            f"\nwritten to {out}: " + "; ".join(f"{stem} ({', '.join(kinds)})" for stem, kinds in written.items())
        )


def check_records(checks: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    """The results of ``--verify`` as records."""
    return [{"run": run, "check": check, "result": result} for run, check, result in checks]


def example(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the generated files.")] = Path(
        "results/example"
    ),
    images: Annotated[int, typer.Option(help="Number of images.", min=1, max=1_000_000)] = 400,
    seed: Annotated[int, typer.Option(help="Random seed for generating the data.")] = 1,
) -> None:
    """Generate ground truth and two simulated detectors with known flaws, and analyze them."""
    from analysis.coco.synthetic import write_example
    from analysis.evaluation.settings import Settings

    check_targets(out, ())
    truth, files = write_example(out, images=images, seed=seed)
    typer.echo(
        f"Simulated detectors on simulated objects, written to {out}: demonstration only, not evidence.\n"
        "To analyze your own files in the same way:\n"
        f"  {shell_command('analyze', 'errors', *map(str, files.values()), '--gt', str(truth))}\n"
    )
    show_errors(read_files(list(files.items()), truth), Settings(), out=out / "analysis")
