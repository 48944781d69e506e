"""A few iterations of a config, timed: `python -m ablate.launch.trial TRIAL`, also under torchrun."""

import sys
from pathlib import Path

import msgspec

from ablate.config_yaml import with_changes
from ablate.engines.base import Habits, RanOutOfMemory
from ablate.engines.processes import joined
from ablate.engines.registry import engine_of
from ablate.launch.forecast import Pace, Trial
from ablate.store import run_folder, write_json
from analysis.refusal import Refusal

WARM_UP, ITERATIONS = 2, 5


def time_passes(trial: Trial) -> None:
    """Train for a few iterations, twice: the first time warms up, the second counts.

    The answer is `pace.json` in the folder of the trial.
    """
    root, folder = Path(trial.root), Path(trial.folder)
    with joined(trial.device) as processes:
        pace = Pace(images=0)
        try:
            for iterations in (WARM_UP, ITERATIONS):
                config = with_changes(trial.config, {"train.iterations": iterations, "train.epochs": "none"})
                run = run_folder(folder, str(iterations))
                run.checkpoints.mkdir(parents=True, exist_ok=True)
                trainer = engine_of(config).trainer(config, root, run, processes, Habits(device=trial.device))
                pace = Pace(images=len(trainer.data))
                trained = trainer.train()
                if processes.first:
                    seconds = run.read_metrics()[-1]["seconds_per_iteration"]
                    pace = Pace(images=len(trainer.data), seconds=seconds, peak_gib=trained.peak_gib)
        except RanOutOfMemory as error:
            pace = Pace(images=pace.images, message=f"out of memory, which is a result too ({error})")
        if processes.first:
            write_json(folder / "pace.json", pace)


if __name__ == "__main__":
    try:
        time_passes(msgspec.json.decode(sys.argv[1], type=Trial))
    except Refusal as refusal:
        sys.exit(str(refusal))
