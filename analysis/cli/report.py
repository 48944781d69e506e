"""``analyze report``: everything about some runs as one HTML file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli.analyze import (
    BackgroundIou,
    Baseline,
    Convention,
    DropInvalid,
    DropUnknown,
    Iou,
    IouType,
    Jobs,
    Kind,
    MaxDets,
    MinScore,
    Predictions,
    ReadOptions,
    RespectIgnore,
    Root,
    Rules,
    Truth,
    check_baseline,
    find_inputs,
    read_files,
    say_what_was_found,
    settings_of,
)
from analysis.cli.compare import progress_line
from analysis.cli.option_rules import RULES, check_options
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from analysis.coco.ground_truth import GroundTruth
    from analysis.evaluation.settings import Settings
    from analysis.report.report import Report

MOST_BY_DEFAULT = 10_000  # images in all runs together, up to which they are resampled without being asked

Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Folder of the images shown in the gallery.", show_default=False),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")]
IntervalResamples = Annotated[
    int | None,
    typer.Option(
        "--resamples",
        help="Number of bootstrap resamples for intervals; 0: no intervals.",
        min=0,
        show_default="1,000 or more for up to 10,000 images in all runs, else 0",
    ),
]
FollowSymlinks = Annotated[
    bool,
    typer.Option("--follow-symlinks", help="Also embed images outside the folder that symbolic links in it point to."),
]
Assets = Annotated[
    Path | None,
    typer.Option(
        "--assets",
        metavar="DIR",
        help="Write the pictures to this folder beside the page instead of into it (for thousands of pictures).",
        show_default=False,
    ),
]
Pictures = Annotated[int, typer.Option(help="Number of examples in the gallery, over all runs and errors.", min=0)]


def report(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    images: Images = None,
    follow_symlinks: FollowSymlinks = False,
    out: Out = Path("report.html"),
    assets: Assets = None,
    baseline: Baseline = "",
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Error analysis",
    pictures: Pictures = 300,
    resamples: IntervalResamples = None,
    iou_type: Kind = IouType.bbox,
    iou: Iou = 0.5,
    background_iou: BackgroundIou = 0.1,
    max_dets: MaxDets = None,
    min_score: MinScore = None,
    convention: Rules = Convention.coco,
    respect_ignore: RespectIgnore = False,
    drop_unknown: DropUnknown = False,
    drop_invalid: DropInvalid = False,
    jobs: Jobs = 1,
    root: Root = Path(),
) -> None:
    """Write one HTML file: charts, classes, sizes, curves, confusion, and a gallery of the costliest errors.

    The file needs no network and can be sent by e-mail.
    """
    from analysis.report.report import build_report

    check_options(context, RULES["report"])
    settings = settings_of(iou_type, iou, background_iou, max_dets, convention, min_score=min_score)
    files = find_inputs(context, predictions, gt, root)
    check_places(images, out, [files.truth, *(path for _, path in files.named)])
    assets_from_page = check_assets(assets, out, images)
    check_baseline(baseline, files)
    say_what_was_found(files.found)
    inputs = read_files(
        files.named, files.truth, ReadOptions(iou_type, respect_ignore, drop_unknown, drop_invalid, jobs)
    )
    settings = settings.under_rules_of(inputs.ground_truth, own_cap=max_dets is not None)
    built = build_report(
        inputs.ground_truth,
        inputs.runs,
        settings,
        title=title,
        baseline=baseline,
        images=images,
        follow_symlinks=follow_symlinks,
        pictures=pictures,
        resamples=how_often(resamples, inputs.ground_truth, len(inputs.runs), settings),
        assets=assets_from_page,
        progress=progress_line(),
    )
    inputs.print_warnings()
    write_report(out, built, images, assets)


def how_often(asked: int | None, ground_truth: "GroundTruth", runs: int, settings: "Settings") -> int | None:
    """Resamples of the images: as asked, or by default (0: enough) where that takes about a minute; none: no intervals.

    There are none outside the coco convention.
    """
    if settings.convention != "coco":
        return None
    if asked is not None:
        return asked or None
    return 0 if len(ground_truth.image_id) * runs <= MOST_BY_DEFAULT else None


def check_places(images: Path | None, out: Path, inputs: Sequence[Path]) -> None:
    """Check before hours of work that the images can be read and the page can be written.

    Raises:
        BadInput: there is no such folder of images, or ``out`` is a folder, a device or the like, or an input.
    """
    from analysis.files import check_target

    if images is not None and not images.is_dir():
        raise BadInput(
            f"{images}: image folder not found; give the folder that contains the images of the ground truth"
        )
    if out.is_dir():
        raise BadInput(f"{out}: is a folder; give the HTML file to write, such as {out / 'report.html'}")
    target = check_target(out, inputs)
    if images is not None and target.exists() and target.is_relative_to(images.resolve()):
        raise BadInput(f"{out}: is a file in the image folder and is not replaced; give another file to write")


def check_assets(assets: Path | None, out: Path, images: Path | None) -> str:
    """The folder of the pictures as the page names it; empty where the page holds them.

    Raises:
        BadInput: it lies outside the folder of the page, so that the two could not be moved together, or is that folder
            itself, or lies in the folder of the images, or is no folder.
    """
    from analysis.files import check_targets

    if assets is None:
        return ""
    folder, page = Path(os.path.abspath(assets)), Path(os.path.abspath(out))
    remedy = f"give a folder beside it, such as {out.with_suffix('')}_pictures"
    if page.parent not in folder.parents:
        raise BadInput(
            f"{assets}: is not below the folder of the page {out}, so they could not be moved together; {remedy}"
        )
    if images is not None and folder.resolve().is_relative_to(images.resolve()):
        raise BadInput(f"{assets}: is in the image folder, to which nothing is written; {remedy}")
    check_targets(assets, ())
    return folder.relative_to(page.parent).as_posix()


def write_report(out: Path, built: "Report", images: Path | None, assets: Path | None = None) -> None:
    """Write the pictures, then the page, each file whole, and say what it holds and what it lacks."""
    from analysis.files import fill_folder, write_bytes
    from analysis.render.screen import print_warnings

    print_warnings(
        [
            (
                str(images),
                f"{one.images:,} of the required images {one.cause}{f' (first: {one.first})' if one.first else ''}; "
                "their examples have no picture in the report",
            )
            for one in built.not_shown
        ]
    )
    if assets is not None and built.files:
        fill_folder(assets, built.files)
    write_bytes(out, built.content)
    beside = "" if images is not None or not built.shown else " without images; to show them: --images FOLDER"
    if built.files:
        size = sum(map(len, built.files.values())) / 1e6
        beside = f"; {len(built.files):,} pictures in {assets}: {size:.1f} MB; move this folder together with the page"
    typer.echo(f"written to {out}: {len(built.content) / 1e6:.1f} MB, {built.shown:,} examples in the gallery{beside}")
