"""One run from its config to its evaluation; the same call continues it after a kill, and reads it when it is done."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ablate.config import RunConfig
from ablate.engines.base import Engine, Habits, Interrupted, RanOutOfMemory, RunFailed
from ablate.evaluation import evaluate
from ablate.identity import evaluation_identity, short, training_identity
from ablate.manifest import make_manifest
from ablate.store import RunFolder, Status, run_folder, run_folders
from analysis.refusal import BadInput


def engine_of(config: RunConfig) -> Engine:
    """The engine that a config names."""
    from ablate.engines.vision import VisionEngine

    engines: dict[str, type[Engine]] = {"vision": VisionEngine}
    return engines[config.engine]()


@dataclass(frozen=True, slots=True)
class Executed:
    """A run that was carried out, and whether this process is the one to show it."""

    folder: RunFolder
    first_process: bool


def execute(config: RunConfig, root: Path, habits: Habits) -> Executed:
    """Prepare the folder of a run, and train, predict and analyse as far as that is not done yet.

    Under torchrun all processes call this; the first one writes. Running out of memory is a result: it is in the
    status of the folder, and nothing is raised.

    Raises:
        BadInput: config or data that cannot be used, or another process is at this run.
        RunFailed: diverged or interrupted; the status says so too.
    """
    from ablate.engines.processes import joined

    with joined(habits.device) as processes:
        if processes.first:
            folder = prepare(config, root, processes.device.type)
            processes.wait()
        else:
            processes.wait()
            folder = prepare(config, root, processes.device.type)
        status = folder.read_status()
        done = status is not None and status.state == "finished"
        processes.wait()
        if not done and processes.first:
            with _alone(folder):
                _carry_out(folder, habits)
        elif not done:
            engine_of(folder.read_config()).run(folder, habits)
        return Executed(folder, processes.first)


def prepare(config: RunConfig, root: Path, device: str) -> RunFolder:
    """The folder of a run, with its config and manifest; where it is already, nothing changes.

    Weights that another run with the same training has are taken over, so that settings of evaluation alone do not
    train anew.

    Args:
        config: whose precision may still be `auto`.
        root: above `results/`.
        device: cpu or cuda; resolves the precision.
    """
    import torch

    from ablate.data.sources import locate
    from ablate.engines.precision import resolve
    from analysis import read_ground_truth

    precision = resolve(config.train.precision, torch.device(device))
    config = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, precision=precision))
    data = [read_ground_truth(locate(s, root).annotations).digest for s in (config.data.train, config.data.validation)]
    training, evaluation = training_identity(config, data[0]), evaluation_identity(config, data[0], data[1])
    folder = run_folder(root, short(evaluation))
    folder.prepare(
        config,
        make_manifest(
            training=training,
            evaluation=evaluation,
            seed=config.seed,
            training_data=data[0],
            validation_data=data[1],
        ),
    )
    if not folder.checkpoints_newest_first():
        _adopt_weights(folder, training)
    return folder


def _adopt_weights(folder: RunFolder, training: str) -> None:
    """Link the newest checkpoint of a run that trains, or trained, the same."""
    others = [other for other in run_folders(folder.root, training) if other.path != folder.path]
    found = [path for other in others for path in other.checkpoints_newest_first()[:1]]
    if found:
        newest = max(found, key=lambda path: int(path.stem))
        try:
            os.link(newest, folder.checkpoint(int(newest.stem)))
        except OSError:
            return  # gone in the meantime, or a file system without links: it is trained here
        folder.append_event("weights taken over", source=str(newest))


def _carry_out(folder: RunFolder, habits: Habits) -> None:
    began = time.monotonic()

    def tell(state: str, message: str = "") -> None:
        last = folder.read_status() or Status(state="prepared")
        status = Status(state=state, message=message, iteration=last.iteration, iterations=last.iterations)  # type: ignore[arg-type]
        folder.write_status(status)
        folder.append_event(state, message=message, seconds=round(time.monotonic() - began, 1))

    before = folder.read_status() or Status(state="prepared")
    folder.write_status(
        Status(state="running", phase="training", iteration=before.iteration, iterations=before.iterations)
    )
    folder.append_event("started")
    try:
        engine_of(folder.read_config()).run(folder, habits)
        last = folder.read_status() or before
        folder.write_status(
            Status(state="running", phase="analysing", iteration=last.iteration, iterations=last.iterations)
        )
        evaluate(folder)
    except RanOutOfMemory as error:
        tell("out_of_memory", str(error))
    except Interrupted as error:
        tell("interrupted", str(error))
        raise
    except RunFailed as error:
        tell("diverged", str(error))
        raise
    except BaseException as error:
        tell("failed", f"{type(error).__name__}: {error}")
        raise
    else:
        tell("finished")


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Hold the folder against other processes on this machine; the lock ends with the process, however it ends."""
    with (folder.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{folder.path}: another process is at this run; wait for it, or stop it first") from None
        yield
