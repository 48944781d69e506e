"""``ablate report``: a finished study as one HTML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.commands import Root, app
from ablate.study_commands import IouType, StudyName
from analysis.refusal import BadInput
from analysis.report_commands import Pictures, Resamples

if TYPE_CHECKING:
    from ablate.study import Study, StudyRun


@app.command()
def report(
    study: StudyName = "",
    root: Root = Path(),
    iou_type: Annotated[IouType, typer.Option("--iou-type", help="Errors of boxes or of masks.")] = IouType.bbox,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file to write.")] = Path("report.html"),
    pictures: Pictures = 300,
    resamples: Resamples = None,
) -> None:
    """The study as one HTML file: its table, charts, and a gallery of the errors that cost most, on its own images."""
    from ablate.data.sources import locate
    from ablate.store import run_folder
    from ablate.study import newest_study, read_study
    from ablate.study_report import study_facts, study_section
    from ablate.summary import summarise
    from analysis import Settings, read_detections, read_ground_truth
    from analysis.compare_commands import progress_line
    from analysis.report.build import build_report
    from analysis.report_commands import check_places, how_often, write_report

    check_places(None, out)
    warn = lambda line: typer.echo(f"warning: {line}", err=True)  # noqa: E731
    chosen = read_study(root, study) if study else newest_study(root, warn)
    summary = summarise(root, chosen, iou_type.value)
    runs = _shown(root, chosen)
    if not runs:
        raise BadInput(
            f"study {chosen.name!r} has no finished run yet; run it: ablate launch, or see how it stands: ablate status"
        )
    first = run_folder(root, runs[0].identity)
    files = locate(first.read_config().data.validation, root)
    ground_truth = read_ground_truth(files.annotations)
    found = [(run.variant, read_detections(run_folder(root, run.identity).predictions, ground_truth)) for run in runs]
    settings = Settings(iou_type.value, summary.iou or 0.5)
    lede = study_facts(summary)
    names = [run.variant for run in runs]
    if len(chosen.seeds) > 1:
        lede.append(f"Below the table stands seed {runs[0].seed} of each variant.")
    built = build_report(
        ground_truth, found, settings, title=chosen.title, lede=lede, before=[study_section(summary)],
        baseline=chosen.baseline if chosen.baseline in names else "", verdict=not chosen.synthetic,
        images=files.images, pictures=pictures, progress=progress_line(),
        resamples=how_often(resamples, ground_truth, len(runs), settings),
    )  # fmt: skip
    write_report(out, built, files.images)


def _shown(root: Path, study: "Study") -> "list[StudyRun]":
    """The finished run of each variant with its first seed."""
    from ablate.newest import is_finished
    from ablate.store import run_folder

    found: dict[str, StudyRun] = {}
    for run in study.runs:
        if run.blocked is None and run.variant not in found and is_finished(run_folder(root, run.identity)):
            found[run.variant] = run
    return list(found.values())
