"""What a launch will cost: a few iterations of every different model, timed on the device before anything begins.

A few iterations of a config, timed: `python -m ablate.launch.estimate TRIAL`, also under torchrun.
"""

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import typer

from ablate.config.schema import Pretraining, RunConfig
from ablate.config.yaml import load_config, with_changes
from ablate.data.sources import locate
from ablate.detector.training import training_set
from ablate.engines.environment import python_of
from ablate.engines.registry import build_trainer
from ablate.launch.base import CPU, Options, holding_slots, module_command, slots_of, worker_environment
from ablate.launch.local import CAN_FAIL, CAN_START
from ablate.launch.status import RunStatus, standings
from ablate.launch.view import clock
from ablate.runs.folder import PretrainingFolder, Workspace, write_json
from ablate.studies.study import Job, Study, StudyRun
from ablate.train.distributed import Processes, joined
from ablate.train.loop import TrainLoop
from ablate.train.mae import Pretrainer, build_autoencoder, picture_set
from ablate.train.outcome import RanOutOfMemory, RuntimeOptions
from analysis import read_ground_truth
from analysis.exceptions import BadInput, DetablateError

CHEAP = "tiny-shapes"  # the base of studies that are not worth asking about
CHEAP_MACS = 0.35e9  # multiply-adds of its detector for an image
WORTH_ASKING = 30  # times the work of such a run, which takes about a minute
Say = Callable[[str], None]


class TimingJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a timing process is told: a run or a pre-training."""

    config: RunConfig | None = None
    pretraining: Pretraining | None = None
    root: str
    folder: str  # to work in, and for the answer
    device: str


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers."""

    images: int  # of the training set
    seconds: float = 0.0  # of one forward and backward pass with its optimizer step
    peak_gib: float = 0.0
    message: str = ""  # why there is no pace: out of memory


def confirm_cost(workspace: Workspace, study: Study, options: Options) -> None:
    """Say what a launch will cost and ask whether to begin; the tiny preset and what is done need no question.

    Raises:
        BadInput: nobody is there to be asked, or nothing could be timed.
        typer.Abort: the answer is no.
    """
    found = standings(workspace, study)
    todo = _to_do(study.jobs, found, options.retry)
    if not todo or (study.base == CHEAP and study.synthetic and all(map(_is_cheap, todo))):
        return
    if not sys.stdin.isatty():
        raise BadInput(
            f"study {study.name} has {len(todo)} runs to do that are not as cheap as the tiny preset's; "
            "begin without being asked with --yes"
        )
    forecast(workspace, todo, options, _say)
    typer.confirm("Begin?", abort=True, err=True)


def forecast(workspace: Workspace, todo: Sequence[Job], options: Options, say: Say) -> float | None:
    """Time the runs to do and say what they will cost -> hours until all are trained; none where nothing was timed."""
    slots = slots_of(options.device, options.gpus_per_run)[: options.gpus_per_run]
    parallel_runs = max(1, len(slots_of(options.device, options.gpus_per_run)) // options.gpus_per_run)
    total, timed = 0.0, 0
    paces: dict[bytes, Throughput] = {}
    for run in todo:
        config = run.config if isinstance(run, StudyRun) else run.pretraining
        assert config is not None
        key = _cost_key(config)
        if key not in paces:
            say(f"timing a few iterations of {run.variant} ...")
            paces[key] = _time(workspace, config, slots)
        pace = paces[key]
        name = f"{run.variant}, seed {run.seed}"
        if pace.message:
            say(f"{name}: {pace.message}")
            continue
        passes = 1
        if isinstance(config, RunConfig):
            passes = config.train.batch_size // config.train.images_per_norm
        schedule = config.train if isinstance(config, RunConfig) else config.pretrain
        iterations = schedule.total_iterations(pace.images)
        seconds = iterations * passes * pace.seconds
        say(
            f"{name}: {iterations:,} iterations of {passes * pace.seconds:.2f} s, {clock(seconds)} on "
            f"{_devices(slots)}, {pace.peak_gib:.2f} GiB{' each' if len(slots) > 1 else ''}"
        )
        total, timed = total + seconds, timed + 1
    if not timed:
        return None
    together = f", {parallel_runs} at a time" if parallel_runs > 1 else ""
    say(
        f"in all about {clock(total / parallel_runs)} of training for {len(todo)} runs{together}; "
        "predicting comes on top"
    )
    return total / parallel_runs / 3600


def _is_cheap(run: Job) -> bool:
    """Whether a run on the embedded data is still one of minutes, whatever was set."""
    if not isinstance(run, StudyRun) or run.config is None:
        return True
    macs = CHEAP_MACS if run.size is None else run.size.macs
    return _images(run.config) * macs <= WORTH_ASKING * _images(load_config(CHEAP)) * CHEAP_MACS


def _images(config: RunConfig) -> float:
    """How many images a run trains on; without bound where its length is in epochs."""
    train = config.train
    return train.batch_size * (train.iterations if isinstance(train.iterations, int) else math.inf)


def _to_do(runs: Sequence[Job], found: Sequence[RunStatus], retry: bool) -> list[Job]:
    states = (*CAN_START, *(CAN_FAIL if retry else ()))
    return list({run.identity: run for run, s in zip(runs, found, strict=True) if s.state in states}.values())


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


def _time(workspace: Workspace, config: RunConfig | Pretraining, slots: Sequence[str]) -> Throughput:
    """Time one pass of a config in processes of their own, whose memory is gone afterwards."""
    on_gpus = tuple(slots) != (CPU,)
    with tempfile.TemporaryDirectory(prefix="detablate-") as folder, holding_slots(slots):
        device = "cuda" if on_gpus else "cpu"
        trial = TimingJob(root=str(workspace.root.absolute()), folder=folder, device=device)
        if isinstance(config, RunConfig):
            one_pass = with_changes(config, {"train.batch_size": config.train.images_per_norm})
            trial = msgspec.structs.replace(trial, config=one_pass)
        else:
            trial = msgspec.structs.replace(trial, pretraining=config)
        environment = worker_environment() | ({"CUDA_VISIBLE_DEVICES": ",".join(slots)} if on_gpus else {})
        done = subprocess.run(
            module_command(
                "ablate.launch.estimate",
                msgspec.json.encode(trial).decode(),
                len(slots),
                python_of(config.engine) if isinstance(config, RunConfig) else "",
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        try:
            return msgspec.json.decode((Path(folder) / "pace.json").read_bytes(), type=Throughput)
        except (OSError, msgspec.DecodeError):
            words = (done.stderr or done.stdout).strip().splitlines()
            raise BadInput(
                f"a few iterations could not be timed: {words[-1] if words else f'exit code {done.returncode}'}"
            ) from None


def _devices(slots: Sequence[str]) -> str:
    if tuple(slots) == (CPU,):
        return "this CPU"
    return "one GPU" if len(slots) == 1 else f"{len(slots)} GPUs"


def _say(line: str) -> None:
    typer.echo(line, err=True)


WARM_UP, ITERATIONS = 2, 5


def time_passes(trial: TimingJob) -> None:
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
        pace = Throughput(images=images)
        try:
            for iterations in (WARM_UP, ITERATIONS):
                run = PretrainingFolder(Workspace(folder).run(str(iterations)).path)
                run.checkpoints.mkdir(parents=True, exist_ok=True)
                trained = make(iterations, run).train()
                if processes.first:
                    seconds = run.read_metrics()[-1]["seconds_per_iteration"]
                    pace = Throughput(images=images, seconds=seconds, peak_gib=trained.peak_gib)
        except RanOutOfMemory as error:
            pace = Throughput(images=images, message=f"out of memory, which is a result too ({error})")
        if processes.first:
            write_json(folder / "pace.json", pace)


Make = Callable[[int, PretrainingFolder], TrainLoop]


def _detector(config: RunConfig, trial: TimingJob, processes: Processes) -> tuple[int, Make]:
    """How many images there are, and the training of so many iterations in a folder."""
    workspace = Workspace(Path(trial.root))
    files = locate(config.data.train, workspace)
    images = len(training_set(config, read_ground_truth(files.annotations), files))

    def make(iterations: int, folder: PretrainingFolder) -> TrainLoop:
        short = with_changes(config, {"train.iterations": iterations, "train.epochs": "none"})
        return build_trainer(short, workspace, folder, processes, RuntimeOptions(device=trial.device))

    return images, make


def _autoencoder(pretraining: Pretraining, trial: TimingJob, processes: Processes) -> tuple[int, Make]:
    """The same of a pre-training."""
    data = picture_set(pretraining, Workspace(Path(trial.root)))

    def make(iterations: int, folder: PretrainingFolder) -> TrainLoop:
        epochs = iterations * pretraining.pretrain.batch_size / len(data)
        recipe = msgspec.structs.replace(pretraining.pretrain, epochs=epochs, warmup_epochs=0.0)
        short = msgspec.structs.replace(pretraining, pretrain=recipe)
        return Pretrainer(short, build_autoencoder(short), data, folder, processes, RuntimeOptions(device=trial.device))

    return len(data), make


if __name__ == "__main__":
    try:
        time_passes(msgspec.json.decode(sys.argv[1], type=TimingJob))
    except DetablateError as refusal:
        sys.exit(str(refusal))
