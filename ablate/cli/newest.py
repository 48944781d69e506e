"""What ``analyze`` uses without file names: the newest study's predictions, and the ground truth of a run folder."""

import time
from collections.abc import Iterable
from pathlib import Path

from ablate.config.foreign import validation_of
from ablate.config.schema import Shapes
from ablate.data.sources import annotations_of
from ablate.execute.finished import is_finished
from ablate.runs.folder import RunFolder, Workspace
from ablate.studies.study import finished_runs, list_studies
from analysis.cli.analyze import InputFiles
from analysis.exceptions import BadInput


def newest_predictions(root: Path) -> InputFiles | None:
    """The finished runs of the newest study under a root, or the newest finished run where there is no study.

    Runs are named after their variants, with the seed if a variant has several. None if no run is finished.
    """
    workspace = Workspace(root)
    for study in reversed(list_studies(workspace, quiet=True)):
        runs = finished_runs(workspace, study)
        if runs:
            several = len({run.seed for run in runs}) > 1
            predictions = [
                (run.label if several else run.variant, workspace.run(run.run_id).predictions) for run in runs
            ]
            names = ("; " if several else ", ").join(name for name, _ in predictions)
            found = f"study {study.name}, finished {_age(path for _, path in predictions)} ago; runs {names}"
            return InputFiles(predictions, _truth(workspace.run(runs[0].run_id)), found)
    finished = filter(is_finished, workspace.runs())
    newest = max(finished, key=lambda folder: folder.predictions.stat().st_mtime, default=None)
    if newest is None:
        return None
    found = f"run {newest.path.name}, finished {_age([newest.predictions])} ago; there is no study"
    return InputFiles([(newest.path.name, newest.predictions)], _truth(newest), found)


AGES = (("day", 86_400), ("hour", 3600), ("minute", 60))


def _age(predictions: Iterable[Path]) -> str:
    """How long ago the newest of some files was written: ``2 days``."""
    return age(time.time() - max(path.stat().st_mtime for path in predictions))


def age(seconds: float) -> str:
    """A time in its largest unit.

    >>> age(5), age(60), age(7300), age(2 * 86_400)
    ('less than a minute', '1 minute', '2 hours', '2 days')
    """
    name, unit = next((one for one in AGES if seconds >= one[1]), ("", 0))
    if not unit:
        return "less than a minute"
    count = int(seconds // unit)
    return f"{count:,} {name}{'s' * (count > 1)}"


def truth_of_run(path: Path) -> Path:
    """The ground truth of a run folder.

    Raises:
        BadInput: its config or its data cannot be read, or the folder was moved away from its embedded data.
    """
    folder = RunFolder(path.resolve())
    moved = folder.path != folder.workspace.run(folder.path.name).path
    if moved and isinstance(validation_of(folder.read_any_config()), Shapes):
        raise BadInput(
            f"{path}: is not in a results/runs folder, next to which its embedded data would be; give the ground "
            "truth with --gt (data shapes writes it)"
        )
    return _truth(folder)


def _truth(folder: RunFolder) -> Path:
    return annotations_of(folder.read_any_config(), folder.workspace)
