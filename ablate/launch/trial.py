"""A few iterations of a config, timed: `python -m ablate.launch.trial TRIAL`, also under torchrun."""

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from ablate.config import Pretraining, RunConfig
from ablate.config_yaml import with_changes
from ablate.data.sources import locate
from ablate.engines.base import Habits, RanOutOfMemory
from ablate.engines.course import training_set
from ablate.engines.loop import Loop
from ablate.engines.pretrainer import Pretrainer, build_autoencoder, picture_set
from ablate.engines.processes import Processes, joined
from ablate.engines.registry import engine_of
from ablate.launch.forecast import Pace, Trial
from ablate.pretraining_folder import PretrainingFolder
from ablate.store import run_folder, write_json
from analysis import read_ground_truth
from analysis.refusal import Refusal

WARM_UP, ITERATIONS = 2, 5


def time_passes(trial: Trial) -> None:
    """Train for a few iterations, twice: the first time warms up, the second counts.

    The answer is `pace.json` in the folder of the trial.
    """
    folder = Path(trial.folder)
    with joined(trial.device) as processes:
        if trial.config is not None:
            images, make = _detector(trial.config, trial, processes)
        else:
            assert trial.pretraining is not None
            images, make = _autoencoder(trial.pretraining, trial, processes)
        pace = Pace(images=images)
        try:
            for iterations in (WARM_UP, ITERATIONS):
                run = PretrainingFolder(run_folder(folder, str(iterations)).path)
                run.checkpoints.mkdir(parents=True, exist_ok=True)
                trained = make(iterations, run).train()
                if processes.first:
                    seconds = run.read_metrics()[-1]["seconds_per_iteration"]
                    pace = Pace(images=images, seconds=seconds, peak_gib=trained.peak_gib)
        except RanOutOfMemory as error:
            pace = Pace(images=images, message=f"out of memory, which is a result too ({error})")
        if processes.first:
            write_json(folder / "pace.json", pace)


Make = Callable[[int, PretrainingFolder], Loop]


def _detector(config: RunConfig, trial: Trial, processes: Processes) -> tuple[int, Make]:
    """How many images there are, and the training of so many iterations in a folder."""
    root = Path(trial.root)
    files = locate(config.data.train, root)
    images = len(training_set(config, read_ground_truth(files.annotations), files))

    def make(iterations: int, folder: PretrainingFolder) -> Loop:
        short = with_changes(config, {"train.iterations": iterations, "train.epochs": "none"})
        return engine_of(short).trainer(short, root, folder, processes, Habits(device=trial.device))

    return images, make


def _autoencoder(pretraining: Pretraining, trial: Trial, processes: Processes) -> tuple[int, Make]:
    """The same of a pre-training."""
    data = picture_set(pretraining, Path(trial.root))

    def make(iterations: int, folder: PretrainingFolder) -> Loop:
        epochs = iterations * pretraining.pretrain.batch_size / len(data)
        recipe = msgspec.structs.replace(pretraining.pretrain, epochs=epochs, warmup_epochs=0.0)
        short = msgspec.structs.replace(pretraining, pretrain=recipe)
        return Pretrainer(short, build_autoencoder(short), data, folder, processes, Habits(device=trial.device))

    return len(data), make


if __name__ == "__main__":
    try:
        time_passes(msgspec.json.decode(sys.argv[1], type=Trial))
    except Refusal as refusal:
        sys.exit(str(refusal))
