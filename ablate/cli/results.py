"""The verbs that show the results of a study: ``table``, ``compare`` and ``report``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli import completion
from ablate.cli.option_rules import RULES
from ablate.cli.options import HERE, AsJson, InWorkspace, StudyName, chosen_study, print_json, show
from ablate.data.sources import images_of
from ablate.runs.folder import SCHEMA, Workspace
from ablate.studies.study import Study, StudyRun, finished_runs, launch_command
from analysis.cli.analyze import IouType, Kind
from analysis.cli.compare import Out, Resamples, Seed, progress_line
from analysis.cli.figure_options import Columns, Style, StyleName, Width, column_names, figure_style
from analysis.cli.option_rules import check_options, given_options
from analysis.cli.report import (
    Assets,
    FollowSymlinks,
    IntervalResamples,
    Pictures,
    check_assets,
    check_places,
    how_often,
    write_report,
)
from analysis.exceptions import BadInput
from analysis.shell import shell_command


def table(
    context: typer.Context,
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            help="Name of the study; give several to compare them, if their data and settings are equal.",
            show_default="the newest",
            autocompletion=completion.studies,
        ),
    ] = None,
    workspace: InWorkspace = HERE,
    iou_type: Kind = IouType.bbox,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for CSV, Markdown, LaTeX, JSON and figures."),
    ] = None,
    style: Style = StyleName.screen,
    width: Width = "",
    columns: Columns = "",
    as_json: AsJson = False,
) -> None:
    """Show the result of a study: AP, errors and cost of every variant, and published findings."""
    from ablate.studies.results import summarise
    from ablate.studies.show_results import seeds_hint, summary_screen

    check_options(context, RULES["table"])
    drawn, chosen_columns = figure_style(style, width), column_names(columns)
    if studies and len(studies) > 1:
        of_one = {"--columns": "chooses the columns", "--style": "is for the figures", "--width": "is for the figures"}
        for option, what in of_one.items():
            if option in given_options(context):
                raise typer.BadParameter(f"{option} {what} of one study; name one", context)
        _tables_side_by_side(workspace, studies, iou_type, out, as_json)
        return
    chosen = chosen_study(workspace, studies[0] if studies else "")
    summary = summarise(workspace, chosen, iou_type.value)
    shown = summary_screen(summary, chosen_columns)
    if out:
        from ablate.studies.training_curves import read_curves
        from ablate.studies.write_results import write_files

        write_files(out, summary, read_curves(workspace, chosen), drawn, chosen_columns)
    show(lambda: summary, lambda: [*shown, *seeds_hint(workspace, chosen, summary)], as_json)


def _tables_side_by_side(
    workspace: Workspace, names: Sequence[str], iou_type: IouType, out: Path | None, as_json: bool
) -> None:
    from ablate.studies.results import summarise
    from ablate.studies.side_by_side import check_equal, side_by_side_screen, write_side_by_side

    studies = [chosen_study(workspace, name) for name in names]
    summaries = [summarise(workspace, study, iou_type.value) for study in studies]
    notes = check_equal(workspace, studies, summaries)
    if out:
        write_side_by_side(out, summaries, notes)
    document = {"schema": SCHEMA, "studies": summaries, "notes": notes}
    show(lambda: document, lambda: side_by_side_screen(summaries, notes), as_json)


def compare(
    context: typer.Context,
    study: StudyName = "",
    workspace: InWorkspace = HERE,
    iou_type: Kind = IouType.bbox,
    resamples: Resamples = None,
    seed: Seed = 0,
    out: Out = None,
    style: Style = StyleName.screen,
    width: Width = "",
    as_json: AsJson = False,
) -> None:
    """Compare every variant of a study with its baseline; intervals cover the noise of images and seeds."""
    from ablate.studies.results import compare_study
    from ablate.studies.show_results import seeds_hint, study_comparison_screen
    from analysis.render.comparison import write_comparison
    from analysis.render.documents import comparison_document
    from analysis.render.screen import print_whole

    check_options(context, RULES["study compare"])
    drawn = figure_style(style, width)
    chosen = chosen_study(workspace, study)
    summary, ground_truth, comparison = compare_study(
        workspace,
        chosen,
        iou_type.value,
        resamples=resamples or 0,
        seed=seed,
        progress=progress_line(),
    )
    written = write_comparison(out, ground_truth, comparison, [ground_truth.path], style=drawn) if out else ()
    if as_json:
        print_json(
            {
                "study": summary.study,
                "synthetic": summary.synthetic,
                **comparison_document(ground_truth, comparison),
            }
        )
        return
    print_whole(*study_comparison_screen(summary, ground_truth, comparison), *seeds_hint(workspace, chosen, summary))
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(written))


def report(
    study: StudyName = "",
    workspace: InWorkspace = HERE,
    iou_type: Kind = IouType.bbox,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML file to write.")] = Path(
        "report.html"
    ),
    assets: Assets = None,
    pictures: Pictures = 300,
    follow_symlinks: FollowSymlinks = False,
    resamples: IntervalResamples = None,
) -> None:
    """Write the study as one HTML file: table, charts, and a gallery of the costliest errors on its images."""
    from ablate.studies.report import study_facts, study_sections
    from ablate.studies.results import compare_study, read_validation, summarise
    from ablate.studies.training_curves import read_curves
    from analysis import Settings, read_detections
    from analysis.render.screen import print_warnings
    from analysis.report.report import build_report

    chosen = chosen_study(workspace, study)
    summary = summarise(workspace, chosen, iou_type.value)
    runs = _shown(workspace, chosen)
    ground_truth = read_validation(workspace, chosen, runs[0])
    settings = Settings(iou_type.value, summary.iou or 0.5, max_dets=summary.max_dets)
    names = [run.variant for run in runs]
    count = how_often(resamples, ground_truth, sum(row.n for row in summary.rows), settings)
    lede = study_facts(summary)
    comparison = None
    if len(chosen.seeds) > 1:
        lede.append("The table and the comparison use all seeds; everything else shows the first seed of each variant.")
    if count is not None and chosen.baseline in names and len(names) > 1:
        try:
            comparison = compare_study(workspace, chosen, iou_type.value, resamples=count, progress=progress_line())[2]
        except BadInput as reason:  # the seeds that are finished cannot be paired: the rest is worth showing
            print_warnings([(chosen.name, str(reason))])
            count = None
    config = runs[0].any_config
    assert config is not None  # only blocked runs have none
    images = images_of(config, workspace)
    predictions = [workspace.run(run.run_id).predictions for run in runs]
    check_places(None, out, [ground_truth.path, *predictions])
    assets_from_page = check_assets(assets, out, images)
    built = build_report(
        ground_truth,
        [(run.variant, read_detections(path, ground_truth)) for run, path in zip(runs, predictions, strict=True)],
        settings,
        title=chosen.title,
        lede=lede,
        before=study_sections(summary, read_curves(workspace, chosen), names),
        baseline=chosen.baseline if chosen.baseline in names else "",
        verdict=False,  # who scores highest is no finding about designs
        runs_shown="the first seed of each variant" if len(chosen.seeds) > 1 else "each variant",
        images=images,
        follow_symlinks=follow_symlinks,
        pictures=pictures,
        resamples=count,
        comparison=comparison,
        assets=assets_from_page,
        progress=progress_line(),
    )
    write_report(out, built, images, assets)


def _shown(workspace: Workspace, study: Study) -> list[StudyRun]:
    """The finished run of each variant with its first seed.

    Raises:
        BadInput: no run is finished.
    """
    found: dict[str, StudyRun] = {}
    for run in finished_runs(workspace, study):
        found.setdefault(run.variant, run)
    if not found:
        raise BadInput(
            f"study {study.name!r} has no finished run yet; run it: {launch_command(workspace, study)}, or see its "
            "status: "
            f"{shell_command('ablate', 'status', root=workspace.root, study=study.name)}"
        )
    return list(found.values())
