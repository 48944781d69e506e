"""One run from its config to its evaluation; the same call continues it after a kill, and reads it when it is done."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from ablate.config.identity import evaluation_identity, short_id, training_identity
from ablate.config.schema import RunConfig
from ablate.engines.environment import need_detectron2
from ablate.engines.registry import engine_of
from ablate.execute.evaluation import evaluate
from ablate.runs.folder import FINAL, RunFolder, State, Status, Workspace, read_json
from ablate.runs.lock import holding
from ablate.runs.manifest import Manifest, make_manifest
from ablate.train.outcome import Interrupted, RanOutOfMemory, RunFailed, RuntimeOptions
from analysis.exceptions import BadInput, DetablateError

F = TypeVar("F", bound=RunFolder)


@dataclass(frozen=True, slots=True)
class Executed(Generic[F]):
    """A run that was carried out, and whether this process is the one to show it."""

    folder: F
    first_process: bool


def execute(
    config: RunConfig, workspace: Workspace, runtime: RuntimeOptions, *, identity: str = "", again: bool = True
) -> Executed[RunFolder]:
    """Prepare the folder of a run, and train, predict and analyse as far as that is not done yet.

    Under torchrun all processes call this; the first one writes. Running out of memory is a result: it is in the
    status of the folder, and nothing is raised.

    Args:
        config: of the run.
        workspace: above `results/`.
        runtime: what changes no result.
        identity: the name that the folder must have, where a study has planned the run.
        again: also where it failed, diverged or ran out of memory before.

    Raises:
        BadInput: config or data that cannot be used, or other data than were planned with.
        MissingEngine: the engine is not installed here; nothing is written.
        LockHeld: another process is at this run.
        RunFailed: diverged or interrupted; the status says so too.
    """
    if config.engine == "detectron2":
        need_detectron2()
    return carry_through(
        lambda device: prepare(config, workspace, device, identity),
        WORK,
        runtime,
        lambda folder: is_done(folder, again),
    )


@dataclass(frozen=True, slots=True)
class Work(Generic[F]):
    """What is done in a folder: before training where nothing was saved, by all processes, and at last by the first."""

    begin: Callable[[F], None]
    share: Callable[[F, RuntimeOptions], None]
    finish: Callable[[F], None]


def carry_through(
    prepare: Callable[[str], F], work: Work[F], runtime: RuntimeOptions, done: Callable[[F], bool]
) -> Executed[F]:
    """Prepare a folder, and do its work as far as that is not done yet; of many processes each its part.

    Args:
        prepare: from a device (cpu or cuda) to the folder.
        work: what is done in it.
        runtime: what changes no result.
        done: whether nothing is left to do.

    Raises:
        BadInput: whatever `prepare` and the work refuse.
        LockHeld: another process is at it.
        RunFailed: diverged or interrupted; the status says so too.
    """
    from ablate.train.distributed import joined

    with joined(runtime.device) as processes, ExitStack() as stack:
        if not processes.first:
            processes.wait()
        folder = prepare(processes.device.type)
        if processes.first:
            if not done(folder):
                stack.enter_context(holding(folder.path, str(folder.path)))
                folder.sweep()
                work.begin(folder)
            processes.wait()
        finished = done(folder)  # from here on only the holder changes it
        processes.wait()
        if not finished and processes.first:
            _carry_out(folder, runtime, work, alone=processes.count == 1)
        elif not finished:
            _take_part(folder, runtime, work)
        return Executed(folder, processes.first)


def _train_and_predict(folder: RunFolder, runtime: RuntimeOptions) -> None:
    engine_of(folder.read_config()).run(folder, runtime)


def _analyse(folder: RunFolder) -> None:
    last = folder.read_status() or Status(state="prepared")
    folder.write_status(
        Status(state="running", phase="analysing", iteration=last.iteration, iterations=last.iterations)
    )
    evaluate(folder)


def is_done(folder: RunFolder, again: bool) -> bool:
    """Whether a run has come to a result, or to a failure that is not tried again."""
    status = folder.read_status()
    return status is not None and (status.state == "finished" if again else status.state in FINAL)


def prepare(config: RunConfig, workspace: Workspace, device: str, identity: str = "") -> RunFolder:
    """The folder of a run, with its config and manifest; where it is already, nothing changes.

    Args:
        config: whose precision may still be `auto`.
        workspace: above `results/`.
        device: cpu or cuda; resolves the precision.
        identity: the name that the folder must have; empty for whatever it comes to.

    Raises:
        BadInput: config, data or weights that cannot be used, or others than were planned with.
    """
    import torch

    from ablate.data.coco import check_masks
    from ablate.data.sources import locate
    from ablate.detector.init_weights import initial_digest, with_precision
    from ablate.weights.convert import check_weights
    from analysis import read_ground_truth

    config = with_precision(config, torch.device(device))
    truths = [read_ground_truth(locate(s, workspace).annotations) for s in (config.data.train, config.data.validation)]
    if config.model.detector.masks:
        check_masks(truths[1])
    data = [truth.digest for truth in truths]
    checked = check_weights(config)
    weights = initial_digest(config, workspace)
    training = training_identity(config, data[0], weights)
    evaluation = evaluation_identity(config, data[0], data[1], weights)
    if identity and identity != short_id(evaluation):
        raise BadInput(
            f"run {identity}: its data, weights or this program changed since it was planned (it comes to "
            f"{short_id(evaluation)} now); plan the study again under another --name"
        )
    folder = workspace.run(short_id(evaluation))
    folder.prepare(
        config,
        make_manifest(
            training=training,
            evaluation=evaluation,
            seed=config.seed,
            training_data=data[0],
            validation_data=data[1],
            weights=weights or None,
            initialisation="random" if not weights else "" if checked is None else checked.facts.published_as,
        ),
    )
    return folder


def _adopt_weights(folder: RunFolder) -> None:
    """Where there is no checkpoint, link those of the run that trains, or trained, the same and has come farthest.

    So settings of evaluation alone do not train anew.
    """
    if folder.checkpoints_newest_first():
        return
    training = read_json(folder.manifest, Manifest).training
    others = [other for other in folder.workspace.runs(training) if other.path != folder.path]
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


WORK = Work(_adopt_weights, _train_and_predict, _analyse)


def _tell(folder: RunFolder, began: float, state: State, message: str = "") -> None:
    last = folder.read_status() or Status(state="prepared")
    folder.write_status(Status(state=state, message=message, iteration=last.iteration, iterations=last.iterations))
    folder.append_event(state, message=message, seconds=round(time.monotonic() - began, 1))


def _take_part(folder: F, runtime: RuntimeOptions, work: Work[F]) -> None:
    """What a process but the first does; it records only what the first cannot know: what went wrong here alone."""
    began = time.monotonic()
    try:
        work.share(folder, runtime)
    except RanOutOfMemory as error:
        _tell(folder, began, "out_of_memory", str(error))
        raise RunFailed(str(error)) from None  # so that torchrun ends the others, which wait for this one
    except RunFailed:
        raise  # diverged or interrupted, in all processes at once
    except DetablateError as error:
        _tell(folder, began, "failed", str(error))
        raise


def _carry_out(folder: F, runtime: RuntimeOptions, work: Work[F], *, alone: bool) -> None:
    began = time.monotonic()

    def tell(state: State, message: str = "") -> None:
        _tell(folder, began, state, message)

    before = folder.read_status() or Status(state="prepared")
    try:
        folder.write_status(
            Status(state="running", phase="training", iteration=before.iteration, iterations=before.iterations)
        )
        folder.append_event("started")
        if before.iteration and not folder.checkpoints_newest_first():
            lost = f"its checkpoints are gone (it had come to iteration {before.iteration}); training from the start"
            folder.append_event("warning", message=lost)
            runtime.say(f"warning: {folder.path}: {lost}")
        work.share(folder, runtime)
        work.finish(folder)
    except RanOutOfMemory as error:
        tell("out_of_memory", str(error))
        if not alone:
            raise RunFailed(str(error)) from None  # so that torchrun ends the others, which wait for this one
    except Interrupted as error:
        tell("interrupted", str(error))
        raise
    except RunFailed as error:
        tell("diverged", str(error))
        raise
    except OSError as error:
        # The machine's trouble, not the run's: it may go on when there is space again.
        message = (
            f"{error.filename or folder.path}: {error.strerror or error}; what was saved is not lost: put that right, "
            "and the same command continues"
        )
        with suppress(OSError):
            tell("interrupted", message)
        raise Interrupted(message) from error
    except KeyboardInterrupt:
        tell("interrupted", "stopped by SIGINT; the same command continues")
        raise
    except BaseException as error:
        if (folder.read_status() or before).state not in ("out_of_memory", "failed", "diverged"):
            # else the process that this one lost has said why
            tell("failed", str(error) if isinstance(error, DetablateError) else f"{type(error).__name__}: {error}")
        raise
    else:
        tell("finished")
