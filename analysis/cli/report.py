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
    typer.Option("--images", metavar="DIR", help="Folder of the images, for the gallery.", show_default=False),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML file to write.")]
IntervalResamples = Annotated[
    int | None,
    typer.Option(
        "--resamples",
        help="How often the images are drawn for intervals; 0: never.",
        min=0,
        show_default="1,000 or enough for up to 10,000 images in all runs, else 0",
    ),
]
FollowSymlinks = Annotated[
    bool, typer.Option("--follow-symlinks", help="Embed images also where symbolic links lead out of their folder.")
]
Assets = Annotated[
    Path | None,
    typer.Option(
        "--assets",
        metavar="DIR",
        help="Put the pictures into this folder beside the page, not into the page: for thousands of them.",
        show_default=False,
    ),
]
Pictures = Annotated[int, typer.Option(help="Examples in the gallery, of all runs and errors together.", min=0)]


def report(
    context: typer.Context,
    predictions: Predictions = None,
    gt: Truth = None,
    images: Images = None,
    follow_symlinks: FollowSymlinks = False,
    out: Out = Path("report.html"),
    assets: Assets = None,
    baseline: Baseline = "",
    title: Annotated[str, typer.Option(help="Of the page.")] = "Where the AP went",
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
    """One HTML file: charts, classes, sizes, curves, confusion, and a gallery of the errors that cost most.

    It needs no network and can be mailed.
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
    """Refuse before hours of work what cannot be read or written.

    Raises:
        BadInput: there is no such folder of images, or ``out`` is a folder, a device or the like, or an input.
    """
    from analysis.files import check_target

    if images is not None and not images.is_dir():
        raise BadInput(f"{images}: no such folder of images; name the one that holds the files of the ground truth")
    if out.is_dir():
        raise BadInput(f"{out}: is a folder; name the HTML file to write, such as {out / 'report.html'}")
    target = check_target(out, inputs)
    if images is not None and target.exists() and target.is_relative_to(images.resolve()):
        raise BadInput(
            f"{out}: is a file in the folder of the images, which is not replaced; name another file to write"
        )


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
    remedy = f"name a folder beside it, such as {out.with_suffix('')}_pictures"
    if page.parent not in folder.parents:
        raise BadInput(f"{assets}: is not below the folder of the page {out}, with which it would be moved; {remedy}")
    if images is not None and folder.resolve().is_relative_to(images.resolve()):
        raise BadInput(f"{assets}: lies in the folder of the images, into which nothing is written; {remedy}")
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
                f"{one.images:,} of the images needed {one.cause}{f' (first: {one.first})' if one.first else ''}; in "
                "the report their examples have no picture",
            )
            for one in built.not_shown
        ]
    )
    if assets is not None and built.files:
        fill_folder(assets, built.files)
    write_bytes(out, built.content)
    beside = ""
    if built.files:
        size = sum(map(len, built.files.values())) / 1e6
        beside = f"; {len(built.files):,} pictures in {assets}: {size:.1f} MB, to be moved with the page"
    typer.echo(f"written to {out}: {len(built.content) / 1e6:.1f} MB, {built.shown:,} examples in the gallery{beside}")
