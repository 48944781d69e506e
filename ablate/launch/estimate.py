"""Estimate the time of a launch: a few iterations of every different model are timed on the device first.

The launcher asks what is worth a question (`costly_jobs`) and logs the estimate (`estimate`); it builds no model. Each
timing is a process of its own, whose memory is gone afterwards: `python -m ablate.launch.estimate JOB`, or several of
them (`time_passes`).
"""

import logging
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ablate.config.schema import Pretraining, RunConfig
from ablate.config.yaml import load_config, with_changes
from ablate.engines.environment import package_environment, python_of
from ablate.launch.base import (
    CPU,
    LaunchOptions,
    devices_of,
    holding_devices,
    module_command,
    scratch_folder,
    worker_environment,
)
from ablate.launch.local import CAN_START
from ablate.launch.status import RunStatus, read_statuses
from ablate.launch.view import clock
from ablate.runs.folder import FAILURES, PretrainingFolder, Workspace, write_json
from ablate.studies.memory import check_visible_gpus
from ablate.studies.study import Job, Study, StudyRun
from ablate.train.outcome import RanOutOfMemory, RunFailed, RuntimeOptions
from analysis.exceptions import BadInput, DetablateError

if TYPE_CHECKING:
    from ablate.train.distributed import Layout, Processes
    from ablate.train.loop import TrainLoop

    # The number of images, and how to build the training of so many iterations in a folder.
    Timed = tuple[int, Callable[[int, PretrainingFolder], TrainLoop]]

logger = logging.getLogger(__name__)

CHEAP = "tiny-shapes"  # the base of studies that are not worth asking about
CHEAP_MACS = 0.35e9  # multiply-adds of its detector for an image
WORTH_ASKING = 30  # times the work of such a run, which takes about a minute
WARM_UP, ITERATIONS = 2, 5
ANSWER = "pace.json"


class TimingJob(msgspec.Struct, frozen=True, kw_only=True):
    """The instructions of a timing process: a run or a pre-training."""

    config: RunConfig | None = None
    pretraining: Pretraining | None = None
    root: str
    folder: str  # to work in, and for the answer
    device: str


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a timing process."""

    images: int  # of the training set
    seconds: float = 0.0  # of one forward and backward pass of each process, with its optimizer step
    peak_gib: float = 0.0
    message: str = ""  # why nothing was timed: out of memory


def costly_jobs(workspace: Workspace, study: Study, options: LaunchOptions) -> list[Job]:
    """The runs of a launch that are long enough to ask about: neither the tiny preset nor finished runs.

    Args:
        workspace: above `results/`.
        study: to be launched.
        options: of the launch.
    """
    if study.is_foreign:  # the time of a command is not known here, and nothing of it can be timed
        return []
    jobs = _left(workspace, study, options)
    return [] if study.base == CHEAP and study.synthetic and all(map(_is_cheap, jobs)) else jobs


def _left(workspace: Workspace, study: Study, options: LaunchOptions) -> list[Job]:
    """The runs that a launch would start, each once."""
    states = (*CAN_START, *FAILURES * options.retry)
    statuses = zip(study.jobs, read_statuses(workspace, study), strict=True)
    return list({job.run_id: job for job, status in statuses if status.state in states and _trains(status)}.values())


def check_memory(workspace: Workspace, study: Study, options: LaunchOptions) -> None:
    """Refuse a launch on GPUs none of whose runs fits, by the forecast of each; on a CPU nothing is checked.

    Raises:
        BadInput: every run that is left would run out of memory.
    """
    if options.device != "cpu" and study.base != CHEAP:
        left = [job for job in _left(workspace, study, options) if isinstance(job, StudyRun)]
        check_visible_gpus(workspace, study, left, options.gpus_per_run)


def _trains(status: RunStatus) -> bool:
    """Whether iterations are left; else only predictions or their evaluation are made again."""
    return not 0 < status.iterations <= status.iteration


def estimate(workspace: Workspace, jobs: Sequence[Job], options: LaunchOptions) -> None:
    """Time jobs and log what each of them, and all together, will cost.

    Raises:
        BadInput: nothing could be timed.
    """
    visible = devices_of(options.device, options.gpus_per_run, options.parallel)
    devices, parallel_runs = visible[: options.gpus_per_run], max(1, len(visible) // options.gpus_per_run)
    where = "this CPU" if CPU in devices else "one GPU" if len(devices) == 1 else f"{len(devices)} GPUs"
    total = 0.0
    timed: dict[bytes, Throughput] = {}
    for job in jobs:
        config = job.config if isinstance(job, StudyRun) else job.pretraining
        assert config is not None
        key = _cost_key(config)
        if key not in timed:
            logger.info(f"timing a few iterations of {job.variant} ...")
            timed[key] = _time(workspace, config, devices, worker_environment(devices, options))
        throughput, name = timed[key], job.label
        if throughput.message:
            logger.info(f"{name}: {throughput.message}")
            continue
        if isinstance(config, RunConfig):
            iterations = config.train.total_iterations(throughput.images)
            seconds = _layout(config, len(devices)).grad_accum_steps * throughput.seconds
        else:
            iterations, seconds = config.pretrain.total_iterations(throughput.images), throughput.seconds
        logger.info(
            f"{name}: {iterations:,} iterations of {seconds:.2f} s, {clock(iterations * seconds)} on {where}, "
            f"{throughput.peak_gib:.2f} GiB{' each' if len(devices) > 1 else ''}"
        )
        total += iterations * seconds
    if total:
        logger.info(
            f"in total about {clock(total / parallel_runs)} of training for {len(jobs)} runs"
            f"{f', {parallel_runs} at a time' * (parallel_runs > 1)}, and the time for predictions"
        )


def _is_cheap(job: Job) -> bool:
    """Whether a run on the embedded data is still one of minutes, whatever was set."""
    if not isinstance(job, StudyRun) or job.config is None:
        return True
    macs = CHEAP_MACS if job.size is None else job.size.macs
    return _images(job.config) * macs <= WORTH_ASKING * _images(load_config(CHEAP)) * CHEAP_MACS


def _images(config: RunConfig) -> float:
    """How many images a run trains on; without bound where its length is in epochs."""
    train = config.train
    return train.batch_size * (train.iterations if isinstance(train.iterations, int) else math.inf)


def _layout(config: RunConfig, processes: int) -> "Layout":
    from ablate.train.distributed import lay_out

    return lay_out(config.train.batch_size, config.train.norm_images, processes)


def _cost_key(config: RunConfig | Pretraining) -> bytes:
    """Configs with the same key take as long for one pass."""
    if isinstance(config, Pretraining):
        return msgspec.json.encode(
            [config.encoder, msgspec.structs.replace(config.pretrain, epochs=1.0, warmup_epochs=0.0)]
        )
    train = config.train
    return msgspec.json.encode(
        [config.engine, config.model, config.data, train.images_per_norm, train.precision, train.jitter_scale]
    )


def _time(
    workspace: Workspace, config: RunConfig | Pretraining, devices: Sequence[str], environment: Mapping[str, str]
) -> Throughput:
    """Time one pass of a config in processes of their own."""
    with scratch_folder("timing") as folder, holding_devices(devices):
        job = TimingJob(
            config=config if isinstance(config, RunConfig) else None,
            pretraining=config if isinstance(config, Pretraining) else None,
            root=str(workspace.root.absolute()),
            folder=str(folder),
            device="cpu" if CPU in devices else "cuda",
        )
        python = python_of(config.engine) if isinstance(config, RunConfig) else ""
        done = subprocess.run(
            module_command("ablate.launch.estimate", job, len(devices), python),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**package_environment(), **environment},
            check=False,
        )
        try:
            return msgspec.json.decode((folder / ANSWER).read_bytes(), type=Throughput)
        except (OSError, msgspec.DecodeError):
            words = (done.stderr or done.stdout).strip().splitlines()
            raise BadInput(
                f"the timing of a few iterations failed: {words[-1] if words else f'exit code {done.returncode}'}"
            ) from None


def time_passes(job: TimingJob) -> None:
    """Train for a few iterations, twice: the first time warms up, the second counts.

    The answer is `pace.json` in the folder of the job.
    """
    from ablate.train.distributed import joined

    folder, workspace, runtime = Path(job.folder), Workspace(Path(job.root)), RuntimeOptions(device=job.device)
    with joined(job.device) as processes:
        if job.config is not None:
            images, training = _detector(job.config, workspace, runtime, processes)
        else:
            assert job.pretraining is not None
            images, training = _autoencoder(job.pretraining, workspace, runtime, processes)
        try:
            for iterations in (WARM_UP, ITERATIONS):
                run = PretrainingFolder(folder / str(iterations))
                run.checkpoints.mkdir(parents=True, exist_ok=True)
                trained = training(iterations, run).train()
            if processes.first:
                seconds = run.read_metrics()[-1]["seconds_per_iteration"]
                throughput = Throughput(images=images, seconds=seconds, peak_gib=trained.peak_gib)
        except RanOutOfMemory as error:
            throughput = Throughput(images=images, message=f"out of memory, which also counts as a result ({error})")
            if processes.count > 1:  # the others may have had memory, and wait for this one
                write_json(folder / ANSWER, throughput)
                raise RunFailed(str(error)) from None
        if processes.first:
            write_json(folder / ANSWER, throughput)


def _detector(config: RunConfig, workspace: Workspace, runtime: RuntimeOptions, processes: "Processes") -> "Timed":
    from ablate.engines.base import read_data, training_set
    from ablate.engines.registry import build_trainer

    layout = _layout(config, processes.count)
    config = with_changes(config, {"train.batch_size": layout.images * layout.processes})  # one pass a step
    data = read_data(config, workspace, processes)

    def training(iterations: int, folder: PretrainingFolder) -> "TrainLoop":
        length = {"train.iterations": iterations, "train.epochs": "none"}
        return build_trainer(with_changes(config, length), data, folder, processes, runtime)

    return len(training_set(config, data.training_truth, data.training)), training


def _autoencoder(
    pretraining: Pretraining, workspace: Workspace, runtime: RuntimeOptions, processes: "Processes"
) -> "Timed":
    from ablate.train.mae import Pretrainer, build_autoencoder, picture_set

    data, recipe = picture_set(pretraining, workspace), pretraining.pretrain

    def training(iterations: int, folder: PretrainingFolder) -> "TrainLoop":
        epochs = iterations * recipe.batch_size / len(data)
        short = msgspec.structs.replace(
            pretraining, pretrain=msgspec.structs.replace(recipe, epochs=epochs, warmup_epochs=0.0)
        )
        return Pretrainer(short, build_autoencoder(short), data, folder, processes, runtime)

    return len(data), training


if __name__ == "__main__":
    try:
        time_passes(msgspec.json.decode(sys.argv[1], type=TimingJob))
    except DetablateError as refusal:
        sys.exit(str(refusal))
