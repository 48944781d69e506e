"""One run from its config to its evaluation; the same call continues it after a kill, and reads it when it is done.

`execute` prepares and locks the folder, `run_stages` trains, predicts and analyses, and `recorded` turns how they end
into the status of the folder. A pre-training goes the same way (`ablate.execute.pretraining`).
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
import torch
from torch import nn

from ablate.config.identity import evaluation_identity, short_id, training_identity
from ablate.config.schema import RunConfig
from ablate.data.check import check_annotations
from ablate.data.fingerprint import read_data_set
from ablate.detector.init_weights import initial_digest, load_initial, with_precision
from ablate.detector.memory_forecast import with_images_per_norm
from ablate.detector.plugin import with_code
from ablate.engines.base import DetectorTrainer, read_data
from ablate.engines.environment import need_detectron2
from ablate.engines.registry import build_engine
from ablate.execute.evaluation import box_ap, cap_of, evaluate
from ablate.execute.finished import are_predictions_kept, find_fault
from ablate.execute.recording import PhaseProgress, check_planned, is_done, record_end, write_status
from ablate.progress import listening
from ablate.runs.folder import RunFolder, State, Status, Workspace, read_json
from ablate.runs.lock import holding, sweep_locks
from ablate.runs.manifest import Manifest, hardware, make_manifest
from ablate.train.distributed import WEIGHTS, Processes, derived, joined
from ablate.train.memory import is_out_of_memory
from ablate.train.outcome import Interrupted, LostPeer, RanOutOfMemory, RunFailed, RuntimeOptions
from ablate.train.peers import check_shared_folder, lost_peers_named
from ablate.weights.convert import check_weights
from ablate.weights.inspect import report_fields
from analysis.exceptions import DetablateError

logger = logging.getLogger(__name__)
F = TypeVar("F", bound=RunFolder)


@dataclass(frozen=True, slots=True)
class Executed(Generic[F]):
    """A run that was carried out, and whether this process is the one to show it."""

    folder: F
    first_process: bool


def execute(
    config: RunConfig, workspace: Workspace, runtime: RuntimeOptions, *, run_id: str = "", again: bool = True
) -> Executed[RunFolder]:
    """Prepare the folder of a run, and train, predict and analyse as far as that is not done yet.

    Under torchrun all processes call this; the first one writes. Running out of memory is a result: it is in the
    status of the folder, and nothing is raised.

    Args:
        config: of the run.
        workspace: above `results/`.
        runtime: options that do not change the result.
        run_id: the name that the folder must have, where a study has planned the run.
        again: also where it failed, diverged or ran out of memory before.

    Raises:
        BadInput: config or data that cannot be used, or other data than were planned with.
        MissingEngine: the engine is not installed here; nothing is written.
        LockHeld: another process works on this run.
        RunFailed: diverged or interrupted; the status says so too.
    """
    if config.engine == "detectron2":
        need_detectron2()
    with joined(runtime.device) as processes:
        folder = workspace.run(
            processes.decided_by_first(
                lambda: prepare(config, workspace, processes.device.type, run_id, processes.count).path.name
            )
        )
        check_shared_folder(folder.path, processes)
        with locked(folder, processes, again) as unfinished:
            if unfinished:
                predicted = are_predictions_kept(folder)
                if processes.first and not predicted:
                    _adopt_weights(folder)
                processes.wait()
                with recorded(folder, processes):
                    run_stages(folder, processes, runtime, predicted)
        return Executed(folder, processes.first)


def run_stages(folder: RunFolder, processes: Processes, runtime: RuntimeOptions, predicted: bool = False) -> None:
    """The stages of a run in its prepared folder, each by all processes; the first of them writes.

    Args:
        folder: of the run.
        processes: that share the work.
        runtime: options that do not change the result.
        predicted: the predictions are there, and only the evaluation is missing.

    Raises:
        BadInput: data, weights, checkpoints or settings that cannot be used.
        RunFailed: training diverged, was interrupted or ran out of memory.
    """
    if not predicted:
        _train_and_predict(folder, processes, runtime)
    if processes.first:
        write_status(folder, "running", phase="analysing")
        evaluate(folder)


def _train_and_predict(folder: RunFolder, processes: Processes, runtime: RuntimeOptions) -> None:
    # Config and data
    config = folder.read_config()
    data = read_data(config, folder.workspace, processes)

    # Model, with random weights
    torch.manual_seed(derived(config.seed, WEIGHTS))
    engine = build_engine(config, data, folder.path, processes)
    if processes.first and engine.version:
        folder.append_event(config.engine, **engine.version)

    # Initial weights; later on they are in the checkpoint
    if not config.init.is_random and not folder.checkpoints_newest_first():
        _load_initial_weights(engine.backbone, config, folder, processes)

    # Train
    workers = processes.workers(runtime.workers)
    trainer = DetectorTrainer(
        engine,
        folder,
        runtime,
        validate=lambda: box_ap(engine.predict(workers, show_progress=False), data.validation_truth, cap_of(config)),
    )
    stats = trainer.train()
    if processes.first:
        folder.append_event("trained", **msgspec.to_builtins(stats))
        write_status(folder, "running", phase="predicting")

    # Predict
    with listening(PhaseProgress(folder)):  # the first process alone shows progress
        records = engine.predict(workers)
    if processes.first:
        folder.write_predictions(records)
        folder.append_event("predicted", detections=len(records))


def prepare(config: RunConfig, workspace: Workspace, device: str, run_id: str = "", processes: int = 1) -> RunFolder:
    """The folder of a run, with its config and manifest; where it is already, nothing changes.

    Args:
        config: whose precision and images_per_norm may still be `auto`.
        workspace: above `results/`.
        device: cpu or cuda; resolves the precision.
        run_id: the name that the folder must have; empty for any name.
        processes: that train it together, on a GPU each where there are any.

    Raises:
        BadInput: config, data or weights that cannot be used, or others than were planned with.
    """
    config = with_code(with_precision(config, torch.device(device)))
    checked = check_weights(config)
    training_data, validation_data = (
        read_data_set(source, workspace) for source in (config.data.train, config.data.validation)
    )
    config = with_images_per_norm(config, len(training_data.truth.category_id), workspace, device, processes)
    check_annotations(training_data.truth, validation_data.truth, masks=config.model.detector.masks)
    weights = initial_digest(config, workspace)
    training = training_identity(config, training_data.digest, weights)
    evaluation = evaluation_identity(config, training_data.digest, validation_data.digest, weights)
    check_planned(run_id, short_id(evaluation), "data, weights")
    folder = workspace.run(short_id(evaluation))
    folder.prepare(
        config,
        make_manifest(
            training=training,
            evaluation=evaluation,
            seed=config.seed,
            training_data=training_data.truth.digest,
            validation_data=validation_data.truth.digest,
            training_images=training_data.images,
            validation_images=validation_data.images,
            weights=weights or None,
            initialisation="random" if not weights else "" if checked is None else checked.facts.published_as,
        ),
    )
    return folder


@contextmanager
def locked(folder: RunFolder, processes: Processes, again: bool) -> Iterator[bool]:
    """Lock a folder where anything is left to do in it -> whether there is; the same answer in all processes.

    Args:
        folder: of a run or a pre-training; the first process holds its lock.
        processes: all of which must call this.
        again: see `is_done`.

    Raises:
        BadInput: it is finished, and lacks what cannot be made again.
        LockHeld: another process works on it.
    """
    with ExitStack() as lock:
        with processes.first_before_others():
            if processes.first:
                sweep_locks(folder.path)
                if not is_done(folder, again):
                    lock.enter_context(holding(folder.path, str(folder.path)))
                    folder.sweep()
        unfinished = not is_done(folder, again)  # from here on only the holder of the lock changes it
        processes.wait()
        yield unfinished


def _adopt_weights(folder: RunFolder) -> None:
    """If there is no checkpoint, link those of the run with the same training identity that has come farthest.

    So a change of evaluation settings alone does not train again.
    """
    if folder.checkpoints_newest_first():
        return
    others = folder.workspace.runs(read_json(folder.manifest, Manifest).training)
    found = [paths for paths in (other.checkpoints_newest_first() for other in others) if paths]
    if found:
        newest, *older = max(found, key=lambda paths: int(paths[0].stem))
        try:
            os.link(newest, folder.checkpoint(int(newest.stem)))
        except OSError:
            return  # gone in the meantime, or a file system without links: it is trained here
        for path in older:  # to fall back to, where the newest is damaged
            with suppress(OSError):
                os.link(path, folder.checkpoint(int(path.stem)))
        folder.append_event("weights taken over", source=str(newest))


def _load_initial_weights(backbone: nn.Module, config: RunConfig, folder: RunFolder, processes: Processes) -> None:
    """Load the pre-trained weights that the run id covers, and record how each tensor was used."""
    report = load_initial(backbone, config, read_json(folder.manifest, Manifest).weights or "", folder.workspace)
    if processes.first:
        folder.append_event("weights loaded", **report_fields(report))
        logger.info("starting from %s weights: %s", report.facts.family, report.facts.file)
        for note in report.notes:
            logger.info("note: %s", note)


@contextmanager
def recorded(folder: RunFolder, processes: Processes) -> Iterator[None]:
    """Keep the status of a folder while the stages inside go on, and write into it how they ended.

    Running out of memory is a result: alone, nothing is raised. A full disk is the machine's trouble and not the run's:
    the run is interrupted and may go on when there is space again.

    The first process writes. Another one writes only what the first cannot know, which is what went wrong there alone;
    and the first, which then loses the connection to it, leaves that as it is. A lost connection alone interrupts.

    Args:
        folder: of a run or a pre-training.
        processes: that share the work.

    Raises:
        RunFailed: diverged or interrupted; out of memory, where there are other processes to be ended too.
    """
    began = time.monotonic()

    def record(state: State, reason: object, *, by_any: bool = False) -> None:
        if processes.first or by_any:
            with suppress(OSError):
                symptom = state == "failed" or isinstance(reason, LostPeer)  # perhaps of what another one has written
                record_end(folder, began, state, str(reason), over_failure=not symptom)

    before = folder.read_status() or Status(state="prepared")
    try:
        with _named_failures(folder, processes):
            if processes.first:
                _record_start(folder, before)
            processes.wait()  # so that the start replaces no failure of another process
            yield
    except RanOutOfMemory as error:
        record("out_of_memory", error, by_any=True)
        if processes.count > 1:
            raise RunFailed(str(error)) from None  # so that torchrun ends the others, which wait for this one
    except Interrupted as error:
        record("interrupted", error)
        raise
    except KeyboardInterrupt as error:
        record("interrupted", f"stopped by {str(error) or 'SIGINT'}; run the same command to continue")
        raise
    except RunFailed as error:
        record("diverged", error)
        raise
    except DetablateError as error:
        record("failed", error, by_any=True)
        raise
    except BaseException as error:
        record("failed", f"{type(error).__name__}: {error}", by_any=True)
        raise
    else:
        if processes.first:
            record_end(folder, began, "finished")


@contextmanager
def _named_failures(folder: RunFolder, processes: Processes) -> Iterator[None]:
    """Errors of the system and of PyTorch under the names that this package has for them."""
    try:
        with lost_peers_named(processes):
            yield
    except OSError as error:
        raise Interrupted(
            f"{error.filename or folder.path}: {error.strerror or error}; the saved state is not lost: fix this, and "
            "run the same command to continue"
        ) from error
    except RuntimeError as error:  # beside training, which names its own
        if not is_out_of_memory(error, processes.device):
            raise
        raise RanOutOfMemory(f"{folder.path}: {str(error).splitlines()[0]}") from None


def _record_start(folder: RunFolder, before: Status) -> None:
    fault = find_fault(folder) if before.state == "finished" else None
    trains = not are_predictions_kept(folder)
    write_status(folder, "running", phase="training" if trains else "analysing")
    # A run that is continued may have begun on another machine, named in the manifest.
    folder.append_event("started", host=socket.gethostname(), hardware=msgspec.to_builtins(hardware()))
    if fault is not None:
        folder.append_event("warning", message=fault.sentence)
        logger.warning("%s", fault.sentence)
    if trains and before.iteration and not folder.checkpoints_newest_first():
        lost = f"its checkpoints are missing (it had reached iteration {before.iteration}); training from the start"
        folder.append_event("warning", message=lost)
        logger.warning("%s: %s", folder.path, lost)
