"""What a launch will cost: a few iterations of every different model, timed on the device before anything begins."""

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import typer

from ablate.config import Pretraining, RunConfig
from ablate.config_yaml import load_config, with_changes
from ablate.engines.availability import python_of
from ablate.launch.base import Options, module_command, worker_environment
from ablate.launch.devices import CPU, holding_slots, slots_of
from ablate.launch.queue import CAN_FAIL, CAN_START
from ablate.launch.standing import Standing, standings
from ablate.launch.view import clock
from ablate.studies.study import Job, Study, StudyRun
from analysis.refusal import BadInput

CHEAP = "tiny-shapes"  # the base of studies that are not worth asking about
CHEAP_MACS = 0.35e9  # multiply-adds of its detector for an image
WORTH_ASKING = 30  # times the work of such a run, which takes about a minute
Say = Callable[[str], None]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a timing process is told: a run or a pre-training."""

    config: RunConfig | None = None
    pretraining: Pretraining | None = None
    root: str
    folder: str  # to work in, and for the answer
    device: str


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers."""

    images: int  # of the training set
    seconds: float = 0.0  # of one forward and backward pass with its optimizer step
    peak_gib: float = 0.0
    message: str = ""  # why there is no pace: out of memory


def agree(root: Path, study: Study, options: Options) -> None:
    """Say what a launch will cost and ask whether to begin; the tiny preset and what is done need no question.

    Raises:
        BadInput: nobody is there to be asked, or nothing could be timed.
        typer.Abort: the answer is no.
    """
    found = standings(root, study)
    todo = _to_do(study.jobs, found, options.retry)
    if not todo or (study.base == CHEAP and study.synthetic and all(map(_is_cheap, todo))):
        return
    if not sys.stdin.isatty():
        raise BadInput(
            f"study {study.name} has {len(todo)} runs to do that are not as cheap as the tiny preset's; "
            "begin without being asked with --yes"
        )
    forecast(root, todo, options, _say)
    typer.confirm("Begin?", abort=True, err=True)


def forecast(root: Path, todo: Sequence[Job], options: Options, say: Say) -> float | None:
    """Time the runs to do and say what they will cost -> hours until all are trained; none where nothing was timed."""
    slots = slots_of(options.device, options.gpus_per_run)[: options.gpus_per_run]
    lanes = max(1, len(slots_of(options.device, options.gpus_per_run)) // options.gpus_per_run)
    total, timed = 0.0, 0
    paces: dict[bytes, Pace] = {}
    for run in todo:
        config = run.config if isinstance(run, StudyRun) else run.pretraining
        assert config is not None
        key = _cost_key(config)
        if key not in paces:
            say(f"timing a few iterations of {run.variant} ...")
            paces[key] = _time(root, config, slots)
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
    together = f", {lanes} at a time" if lanes > 1 else ""
    say(f"in all about {clock(total / lanes)} of training for {len(todo)} runs{together}; predicting comes on top")
    return total / lanes / 3600


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


def _to_do(runs: Sequence[Job], found: Sequence[Standing], retry: bool) -> list[Job]:
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


def _time(root: Path, config: RunConfig | Pretraining, slots: Sequence[str]) -> Pace:
    """Time one pass of a config in processes of their own, whose memory is gone afterwards."""
    on_gpus = tuple(slots) != (CPU,)
    with tempfile.TemporaryDirectory(prefix="detablate-") as folder, holding_slots(slots):
        device = "cuda" if on_gpus else "cpu"
        trial = Trial(root=str(root.absolute()), folder=folder, device=device)
        if isinstance(config, RunConfig):
            one_pass = with_changes(config, {"train.batch_size": config.train.images_per_norm})
            trial = msgspec.structs.replace(trial, config=one_pass)
        else:
            trial = msgspec.structs.replace(trial, pretraining=config)
        environment = worker_environment() | ({"CUDA_VISIBLE_DEVICES": ",".join(slots)} if on_gpus else {})
        done = subprocess.run(
            module_command(
                "ablate.launch.trial",
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
            return msgspec.json.decode((Path(folder) / "pace.json").read_bytes(), type=Pace)
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
