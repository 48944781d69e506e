"""The verb ``ablate compare``."""

from pathlib import Path

import typer

from ablate.commands import Root, app
from ablate.studies.commands import AsJson, StudyName, chosen_study
from analysis.comparison.commands import OUTPUTS, Out, Resamples, Seed
from analysis.options import IouType, Kind


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
    from ablate.comparison.compare import compare_study
    from ablate.comparison.screen import study_comparison_screen
    from analysis.comparison.commands import progress_line, write_comparison
    from analysis.terminal import print_whole

    chosen = chosen_study(root, study)
    summary, ground_truth, comparison = compare_study(
        root, chosen, iou_type.value, resamples=resamples or 0, seed=seed, progress=progress_line()
    )
    if out:
        write_comparison(out, ground_truth, comparison)
    if as_json:
        from analysis.comparison.tables import comparison_document
        from analysis.tables import as_json as encode

        document = {"study": summary.study, "synthetic": summary.synthetic}
        typer.echo(encode(document | comparison_document(ground_truth, comparison)).decode(), nl=False)
        return
    print_whole(*study_comparison_screen(summary, ground_truth, comparison))
    if out:
        typer.echo(f"\nwritten to {out}: " + ", ".join(OUTPUTS))
