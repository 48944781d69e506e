"""The verb ``ablate compare``.

``ablate report``: a finished study as one HTML file.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli.run import Root, app
from ablate.cli.study import AsJson, StudyName, chosen_study
from ablate.runs.folder import Workspace
from analysis.cli.analyze import IouType, Kind, print_json
from analysis.cli.compare import Out, Resamples, Seed, progress_line
from analysis.cli.report import IntervalResamples, Pictures
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from ablate.studies.study import Study, StudyRun


@app.command()
def compare(
    study: StudyName = "",
    root: Root = Path(),
    iou_type: Kind = IouType.bbox,
    resamples: Resamples = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Every variant of a study against its baseline: what differs beyond the noise of images and of seeds."""
    from ablate.studies.results import compare_study
    from ablate.studies.show_results import study_comparison_screen
    from analysis.render.comparison import write_comparison
    from analysis.render.documents import comparison_document
    from analysis.render.screen import print_whole

    chosen = chosen_study(root, study)
    summary, ground_truth, comparison = compare_study(
        Workspace(root), chosen, iou_type.value, resamples=resamples or 0, seed=seed, progress=progress_line()
    )
    written = write_comparison(out, ground_truth, comparison) if out else ()
    if as_json:
        document = {"study": summary.study, "synthetic": summary.synthetic}
        print_json(document | comparison_document(ground_truth, comparison))
        return
    print_whole(*study_comparison_screen(summary, ground_truth, comparison))
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(written))


@app.command()
def report(
    study: StudyName = "",
    root: Root = Path(),
    iou_type: Kind = IouType.bbox,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file to write.")] = Path("report.html"),
    pictures: Pictures = 300,
    resamples: IntervalResamples = None,
) -> None:
    """The study as one HTML file: its table, charts, and a gallery of the errors that cost most, on its own images."""
    from ablate.data.sources import locate
    from ablate.runs.folder import Workspace
    from ablate.studies.results import compare_study, read_validation, summarise
    from ablate.studies.write_results import study_facts, study_section
    from analysis import Settings, read_detections
    from analysis.cli.report import check_places, how_often, write_report
    from analysis.render.screen import print_warnings
    from analysis.report.report import build_report

    check_places(None, out)
    chosen = chosen_study(root, study)
    summary = summarise(Workspace(root), chosen, iou_type.value)
    runs = _shown(root, chosen)
    if not runs:
        raise BadInput(
            f"study {chosen.name!r} has no finished run yet; run it: ablate launch, or see how it stands: ablate status"
        )
    ground_truth = read_validation(Workspace(root), chosen, runs[0])
    settings = Settings(iou_type.value, summary.iou or 0.5)
    names = [run.variant for run in runs]
    count = how_often(resamples, ground_truth, sum(row.n for row in summary.rows), settings)
    lede = study_facts(summary)
    comparison = None
    if len(chosen.seeds) > 1:
        lede.append("The table and the comparison are over all seeds; all else shows the first seed of each variant.")
        if count is not None and chosen.baseline in names and len(names) > 1:
            try:
                comparison = compare_study(
                    Workspace(root), chosen, iou_type.value, resamples=count, progress=progress_line()
                )[2]
            except BadInput as reason:  # the seeds that are finished cannot be paired: the rest is worth showing
                print_warnings([(chosen.name, str(reason))])
                count = None
    assert runs[0].config is not None  # only blocked runs have none
    images = locate(runs[0].config.data.validation, Workspace(root)).images
    built = build_report(
        ground_truth,
        [(run.variant, read_detections(Workspace(root).run(run.identity).predictions, ground_truth)) for run in runs],
        settings,
        title=chosen.title,
        lede=lede,
        before=[study_section(summary)],
        baseline=chosen.baseline if chosen.baseline in names else "",
        verdict=not chosen.synthetic,
        images=images,
        pictures=pictures,
        resamples=count,
        comparison=comparison,
        progress=progress_line(),
    )
    write_report(out, built, images)


def _shown(root: Path, study: "Study") -> "list[StudyRun]":
    """The finished run of each variant with its first seed."""
    from ablate.runs.folder import Workspace, is_finished

    found: dict[str, StudyRun] = {}
    for run in study.runs:
        if run.blocked is None and run.variant not in found and is_finished(Workspace(root).run(run.identity)):
            found[run.variant] = run
    return list(found.values())
