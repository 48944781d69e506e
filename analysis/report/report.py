"""Build the page of the report from ground truth and predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.settings import Settings
from analysis.render.markup import Markup
from analysis.report.categories import confusion, per_class
from analysis.report.charts import run_letter
from analysis.report.comparison import against_baseline
from analysis.report.curves import curves
from analysis.report.examples import Examples
from analysis.report.gallery import gallery
from analysis.report.page import Section, page
from analysis.report.pictures import Album, NotShown
from analysis.report.report_data import ReportData, RunData, collect
from analysis.report.sections import errors, footer, heading, opening, sizes, summary
from analysis.report.threshold import threshold
from analysis.stats.compare import Comparison

PICTURES = 300  # examples in the gallery, by default


@dataclass(frozen=True)
class Report:
    """The page, its pictures, and what could not be shown."""

    content: bytes
    files: Mapping[str, bytes]  # the pictures of the folder of assets, by their file names
    shown: int  # examples
    not_shown: tuple[NotShown, ...]  # images that are missing, or whose file cannot be used


def build_report(
    ground_truth: GroundTruth,
    detections: Sequence[tuple[str, Detections]],
    settings: Settings,
    *,
    title: str = "Error analysis",
    lede: Sequence[Markup | str] = (),
    before: Sequence[Section] = (),
    baseline: str = "",
    verdict: bool = True,
    runs_shown: str = "each run",
    images: Path | None = None,
    follow_symlinks: bool = False,
    pictures: int = PICTURES,
    resamples: int | None = None,
    comparison: Comparison | None = None,
    assets: str = "",
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Analyse runs and write the page.

    Args:
        ground_truth: of all runs.
        detections: of each run, with its name.
        settings: of the errors.
        title: of the page.
        lede: paragraphs under it.
        before: sections that come first.
        baseline: the name of the run that the others are compared with; the first, if none is named.
        verdict: whether a sentence at the top says who scores highest.
        runs_shown: what the runs are, in the heading over their AP.
        images: folder of the images; none: the gallery shows boxes without pictures.
        follow_symlinks: also those that lead out of the folder of images.
        pictures: examples in the gallery, of all runs and types together.
        resamples: of the images, for intervals and differences; 0: as many as it takes, none: no intervals.
        comparison: one over more seeds than are shown, in place of resampling here.
        assets: the folder of the pictures, relative to that of the page; empty: they are in the page.
        progress: called with the number of resamples that are done.

    Raises:
        PillowMissing: images are named and Pillow is not installed.
        BadInput: masks are compared and a record has none, or the baseline is none of the runs.
    """
    album = Album(images, ground_truth.file_name, follow_symlinks=follow_symlinks, assets=assets)
    data = collect(
        ground_truth,
        detections,
        settings,
        baseline=baseline,
        pictures=pictures,
        resamples=resamples,
        comparison=comparison,
        progress=progress,
    )
    examples = Examples(data)
    sections = [
        *before,
        summary(data, runs_shown),
        errors(data, examples),
        *against_baseline(data),
        per_class(data, examples),
        confusion(data, examples),
        sizes(data, examples),
        curves(data),
        *threshold(data),
        gallery(examples, album, images is not None),
    ]
    head = heading(data, title, [*lede, opening(data)] if verdict else lede)
    # Without a picture there is no folder.
    has_assets = bool(assets and album.files)
    content = page(
        title, head, sections, _data(data), footer(ground_truth, assets if has_assets else ""), has_assets=has_assets
    )
    return Report(content, album.files, len(examples.shown), tuple(album.not_shown()))


def _data(data: ReportData) -> dict[str, object]:
    """What the script draws itself: the curves of each class, 101 precisions of two base-36 digits each."""
    known = np.flatnonzero(data.objects > 0).tolist()

    def curve(one: RunData, iou: float, category: int) -> str:
        return "".join(map(_two_digits, np.round(1000 * one.precision[iou][category]).astype(int).tolist()))

    return {
        "runs": data.names,
        "letters": [run_letter(place) for place in range(len(data.runs))],
        "categories": {c: data.ground_truth.category_name[c] for c in known},
        "curves": {
            f"{iou:g}": [{c: curve(one, iou, c) for c in known} for one in data.runs] for iou in data.runs[0].precision
        },
    }


def _two_digits(value: int) -> str:
    """A number below 1296 in base 36.

    >>> _two_digits(0), _two_digits(1000)
    ('00', 'rs')
    """
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return digits[value // 36] + digits[value % 36]
