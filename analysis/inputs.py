"""What a verb of ``analyze`` is to read: the named predictions and their ground truth, or what the front door finds."""

from pathlib import Path

import typer

from analysis.refusal import BadInput

# The place in a command's context where the front door puts the way from a run folder to its ground truth.
TRUTH_OF_RUN = "detablate.truth_of_run"


def inputs(
    context: typer.Context, predictions: list[str] | None, gt: Path | None, root: Path
) -> tuple[list[tuple[str, Path]], Path]:
    """What was named, or else what the front door finds under the root."""
    from analysis.output_folders import common_truth, open_output
    from analysis.runs import name_runs

    if predictions:
        named = name_runs(predictions)
        outputs = [open_output(path, None if gt else context.meta.get(TRUTH_OF_RUN)) for _, path in named]
        truth = gt or common_truth(outputs)
        if truth is None:
            told = "" if any(path.is_file() for _, path in named) else "; the folders do not all hold it"
            raise typer.BadParameter(f"is needed: the ground truth to compare with{told}", param_hint="--gt")
        return [(name, output.predictions) for (name, _), output in zip(named, outputs, strict=True)], truth
    newest: tuple[list[tuple[str, Path]], Path] | None = context.obj(root) if context.obj else None
    if newest is None:
        raise BadInput(
            "no prediction file was named and there is no finished run to analyze; name one (analyze errors "
            "PREDICTIONS --gt GT), or make one: ablate attention --launch runs a small study, ablate run tiny-shapes "
            "trains one detector, analyze example simulates two"
        )
    return newest
