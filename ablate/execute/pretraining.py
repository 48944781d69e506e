"""One pre-training from its config to its weights; the same call continues it after a kill, and finds it when done."""

from collections.abc import Sequence

import msgspec
import torch

from ablate.config.identity import PRETRAINING_REVISION, pretraining_identity
from ablate.config.schema import Pretraining, RunConfig, epoch_of, pretraining_of
from ablate.data.images import find_images
from ablate.detector.init_weights import resolved
from ablate.execute.recording import check_planned
from ablate.execute.run import Executed, execute, locked, recorded
from ablate.runs.folder import PretrainingFolder, RunFolder, Workspace, pretraining_name
from ablate.runs.manifest import make_manifest
from ablate.train.distributed import WEIGHTS, Processes, derived, joined
from ablate.train.mae import Pretrainer, build_autoencoder, picture_set
from ablate.train.outcome import RunFailed, RuntimeOptions
from ablate.train.peers import check_shared_folder
from analysis.exceptions import BadInput


def pretrain(
    pretraining: Pretraining,
    workspace: Workspace,
    runtime: RuntimeOptions,
    *,
    keep: Sequence[int] = (),
    grad_accum_steps: int = 1,
    name: str = "",
    again: bool = True,
) -> Executed[PretrainingFolder]:
    """Prepare the folder of a pre-training, and train until it is done.

    Under torchrun all processes call this; the first one writes.

    Args:
        pretraining: its config, whose precision may be `auto`.
        workspace: above `results/`.
        runtime: options that do not change the result.
        keep: epochs after which the weights are kept; the last one always is.
        grad_accum_steps: forward passes of a process before each optimizer step.
        name: of the folder, where a study has planned it.
        again: also where it failed, diverged or ran out of memory before.

    Raises:
        BadInput: images or settings that cannot be used, other images than were planned with, or an epoch that was not
            kept when this was trained.
        LockHeld: another process works on it.
        RunFailed: diverged or interrupted; the status says so too.
    """
    recipe = pretraining.pretrain
    beyond = [epoch for epoch in keep if not 0 < epoch <= recipe.epochs]
    if beyond:
        raise BadInput(f"epoch {beyond[0]} cannot be kept: the schedule has only {recipe.epochs:g} epochs")
    if recipe.batch_size % grad_accum_steps:
        raise BadInput(f"{grad_accum_steps} forward passes do not divide batches of {recipe.batch_size} images evenly")
    with joined(runtime.device) as processes:
        with processes.first_before_others():
            folder = prepare_pretraining(pretraining, workspace, processes.device.type, name)
        check_shared_folder(folder.path, processes)
        with locked(folder, processes, again) as unfinished:
            if unfinished:
                with recorded(folder, processes):
                    _run_stages(folder, processes, runtime, keep, grad_accum_steps)
    status = folder.read_status()
    missing = [epoch for epoch in keep if not folder.weights_after(epoch).exists()]
    if missing and status is not None and status.state == "finished":
        raise BadInput(
            f"{folder.path}: is finished, and epoch {missing[0]} was not kept; move the folder away to pre-train again"
        )
    return Executed(folder, processes.first)


def pretrain_first(config: RunConfig, workspace: Workspace, runtime: RuntimeOptions) -> None:
    """Run the pre-training that a run starts from, if its weights are not there yet.

    Raises:
        RunFailed: it has no result.
    """
    with joined(runtime.device) as processes:
        executed = pretrain(pretraining_of(config), workspace, runtime, keep=(epoch_of(config.init),))
        processes.wait()  # until the first process has written its last status
        status = executed.folder.read_status()
        if status is None or status.state != "finished":
            raise RunFailed(f"{executed.folder.path}: has no result: {'' if status is None else status.message}")


def execute_from_the_start(config: RunConfig, workspace: Workspace, runtime: RuntimeOptions) -> Executed[RunFolder]:
    """Carry out a run as `execute` does, and before it the pre-training that it starts from.

    Raises:
        RunFailed: the pre-training has no result; and the errors of `execute`.
    """
    with joined(runtime.device):  # the processes of torchrun meet once for both
        if config.init.pretraining != "none":
            pretrain_first(config, workspace, runtime)
        return execute(config, workspace, runtime)


def prepare_pretraining(
    pretraining: Pretraining, workspace: Workspace, device: str, name: str = ""
) -> PretrainingFolder:
    """The folder of a pre-training, with its config and manifest; where it is already, nothing changes.

    Args:
        pretraining: whose precision may be `auto`.
        workspace: above `results/`.
        device: cpu or cuda; resolves the precision.
        name: that the folder must have; empty for any name.

    Raises:
        BadInput: images that cannot be found, or others than were planned with.
    """
    pretraining = resolved(pretraining, device)
    images = find_images(pretraining.pretrain.images, workspace)
    identity = pretraining_identity(pretraining, images.digest)
    check_planned(name, pretraining_name(identity), "images")
    folder = workspace.pretraining(identity)
    folder.prepare_for(
        pretraining,
        make_manifest(
            training=identity,
            evaluation=identity,
            seed=pretraining.pretrain.seed,
            training_data=images.digest,
            validation_data="",
            training_images=images.digest,
            validation_images="",
            training_revision=PRETRAINING_REVISION,
        ),
    )
    return folder


def _run_stages(
    folder: PretrainingFolder, processes: Processes, runtime: RuntimeOptions, keep: Sequence[int], grad_accum_steps: int
) -> None:
    """The stages of a pre-training, each by all processes; the first of them writes."""
    # Config and data
    pretraining = folder.read_pretraining()
    data = picture_set(pretraining, folder.workspace)

    # Model, with random weights
    torch.manual_seed(derived(pretraining.pretrain.seed, WEIGHTS))
    autoencoder = build_autoencoder(pretraining)

    # Train
    trainer = Pretrainer(
        pretraining,
        autoencoder,
        data,
        folder,
        processes,
        runtime,
        keep=keep,
        grad_accum_steps=grad_accum_steps,
    )
    stats = trainer.train()
    if processes.first:
        folder.append_event("trained", **msgspec.to_builtins(stats))
        last = round(pretraining.pretrain.epochs)
        if not (folder.weights_after(last).exists() and folder.full_weights_after(last).exists()):
            trainer.keep_weights(last)  # they were written with the last step, and were lost since
