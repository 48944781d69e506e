"""What a run costs, measured alone on the device: peak memory and seconds of training, seconds of prediction.

Training: one image an iteration, the same for every variant, as the paper measured on its GPUs; forward, backward and
optimizer step at a learning rate of 0, so that all iterations do the same work; median over ten of them, or a second of
them, warm-up dropped. Memory is what CUDA allocated at most (weights, gradients and optimizer state among it), or, on a
CPU, the bytes kept for the backward pass, because resident memory would not show activation checkpointing; that of the
first ten iterations. Prediction: the first validation images with the trained weights, boxes and masks included,
loading of files left out; median over them, again and again for a second.

How far apart equal iterations lie is kept: what parts them is something else that ran. The cost of a run lies in its
folder; that of a study is that of each of its variants, measured by the Python that has its engine.
"""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ablate.config.schema import RunConfig
from ablate.engines.environment import MissingEngine, package_environment, python_of
from ablate.runs.folder import SCHEMA, RunFolder, Workspace, now, read_json, write_json
from ablate.runs.manifest import Hardware
from ablate.shell import command
from ablate.studies.study import Study, StudyRun
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    import torch

    from ablate.engines.base import BenchmarkTarget

logger = logging.getLogger(__name__)

FILE = "probe.json"
WARM_UP = 3
ITERATIONS = 10
FEWEST = 3
LEAST = 1.0  # seconds; quick iterations go on until then, so that a burst of something else does not decide the median
PATIENCE = 60.0  # seconds; after them the fewest iterations are enough


class MeasuredCost(msgspec.Struct, frozen=True, kw_only=True):
    """``probe.json``, in the folder of the run that was measured."""

    device: Literal["cpu", "cuda"]
    device_name: str
    threads: int  # that compute, on a CPU
    hardware: Hardware
    torch: str
    precision: str
    peak_gib: float | None = None  # none: out of memory
    seconds_per_iteration: float | None = None
    seconds_per_image: float | None = None  # none: no trained weights, or out of memory
    spread: float | None = None  # of the iterations: between their quartiles, as a share of the median
    iterations: int = 0  # measured
    images: int = 0  # predictions measured
    message: str = ""
    measured: str
    schema: int = SCHEMA

    @property
    def place(self) -> str:
        """Where it was measured; costs of two places are not compared."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        return f"{self.device_name}{threads}, torch {self.torch}"


def read_cost(folder: RunFolder) -> MeasuredCost | None:
    """What was measured of a run; none where nothing was, or where it cannot be read."""
    try:
        return read_json(folder.path / FILE, MeasuredCost)
    except BadInput:
        return None


def costs_of(workspace: Workspace, study: Study) -> Iterator[tuple[str, MeasuredCost]]:
    """What was measured of the variants of a study; one each, of any of its seeds."""
    for variant in study.variants:
        folders = (workspace.run(run.identity) for run in study.runs_of(variant) if run.identity)
        cost = next((cost for folder in folders if (cost := read_cost(folder)) is not None), None)
        if cost is not None:
            yield variant, cost


class Prober:
    """Measures runs on one device, one at a time.

    Args:
        device: that nothing else uses meanwhile.
        workspace: above `results/`.
    """

    def __init__(self, device: "torch.device", workspace: Workspace) -> None:
        import torch

        from ablate.runs.manifest import hardware
        from analysis import read_ground_truth

        self.device, self.workspace = device, workspace
        machine, gpu = hardware(), device.type == "cuda"
        self._read = cache(read_ground_truth)
        self._here = MeasuredCost(
            device="cuda" if gpu else "cpu",
            device_name=torch.cuda.get_device_name(device) if gpu else machine.processor,
            threads=torch.get_num_threads(),
            hardware=machine,
            torch=str(torch.__version__),
            precision="",
            measured="",
        )

    @property
    def place(self) -> str:
        """As `MeasuredCost.place`."""
        return self._here.place

    def measure(self, config: RunConfig, folder: RunFolder) -> MeasuredCost:
        """The cost of a run; its weights are those of its newest checkpoint, where there is one."""
        import torch

        from ablate.engines.registry import engine_of
        from ablate.train.memory import OutOfMemoryError, is_out_of_memory

        torch.manual_seed(0)
        cost: dict[str, Any] = {}
        try:
            target = engine_of(config).benchmark_target(config, self.workspace, self.device, self._read)
            trained = self._load(target, folder)
            times, peak = self._train(target, config)
            cost |= {"iterations": len(times), "peak_gib": peak, "spread": _spread(times)}
            cost |= {"seconds_per_iteration": statistics.median(times)}
            if trained:
                self._load(target, folder)  # the iterations above moved the weights
                spent = self._predict(target)
                cost |= {"images": len(spent), "seconds_per_image": statistics.median(spent)}
        except (OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            cap = config.train.memory_cap_gib
            full = f"the {'device' if cap == 'none' else f'cap of {cap:g} GiB'} is full with one image"
            cost = {"iterations": cost.get("iterations", 0), "message": next(iter(str(error).splitlines()), full)}
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return msgspec.structs.replace(self._here, precision=config.train.precision, measured=now(), **cost)

    def _load(self, target: "BenchmarkTarget", folder: RunFolder) -> bool:
        from ablate.train.checkpoint import load_newest

        try:
            state = load_newest(folder, lambda _: None)
        except BadInput:
            return False
        if state is not None:
            target.load(state["model"])
        return state is not None

    def _train(self, target: "BenchmarkTarget", config: RunConfig) -> tuple[list[float], float]:
        """Seconds of each iteration, and the peak in GiB."""
        import torch

        from ablate.train.memory import MemoryMeter
        from ablate.train.optim import build_scaler

        assert config.train.precision != "auto"
        optimizer = target.optimizer()
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # the same arithmetic, and no other number of proposals in the next iteration
        scaler = build_scaler(config.train.precision, self.device)
        target.module.train()
        cap = config.train.memory_cap_gib  # a run that answers for a smaller device is measured as there
        meter = MemoryMeter(target.module, self.device, None if cap == "none" else cap)

        peak, steps = 0.0, 0

        def step(_: int) -> None:
            nonlocal peak, steps
            with meter.watching():
                losses = target.losses()
                scaler.scale(torch.stack(list(losses.values())).sum()).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            steps += 1
            if steps <= WARM_UP + ITERATIONS:  # of as many on a quick machine as on a slow one
                peak = meter.peak_gib

        return self._timed(step, range(ITERATIONS)), peak

    def _predict(self, target: "BenchmarkTarget") -> list[float]:
        """Seconds of each image."""
        target.module.eval()
        return self._timed(target.predict, range(target.images))

    def _timed(self, act: Callable[[int], None], places: range) -> list[float]:
        """Seconds of each act: at all places, again and again until the least time is over, once if they are slow."""
        import torch

        times: list[float] = []
        began = time.perf_counter()
        for place in chain([places[0]] * WARM_UP, cycle(places)):
            start = time.perf_counter()
            act(place)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - start)
            count, spent = len(times) - WARM_UP, time.perf_counter() - began
            once_around = count >= len(places) and count % len(places) == 0
            if (once_around and sum(times[WARM_UP:]) >= LEAST) or (count >= FEWEST and spent > PATIENCE):
                break
        return times[WARM_UP:]


def _spread(times: list[float]) -> float:
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / middle


def probe_study(
    workspace: Workspace,
    study: Study,
    *,
    device: str = "auto",
    again: bool = False,
    engine: str = "",
) -> None:
    """Measure every variant that has a run folder, one after another, under one of its seeds.

    What was measured on this machine before is left as it is, unless ``again``. Engines that live in another
    environment are measured there, by a process of its own; each variant, and what cannot be measured, is logged.

    Args:
        workspace: above `results/`.
        study: to measure.
        device: auto, cpu or cuda.
        again: also what was measured on this machine.
        engine: measure its runs alone, here.

    Raises:
        BadInput: no run of the study was started yet.
    """
    from ablate.train.distributed import joined

    started = [(variant, run) for variant in study.variants if (run := _measured_run(workspace, study, variant))]
    if not started:
        raise BadInput(
            f"no run of study {study.name!r} was started yet; "
            f"run it: {command('ablate', 'launch', root=workspace.root, study=study.name)}"
        )
    here = [(variant, run) for variant, run in started if engine in ("", run.config.engine if run.config else "")]
    if not engine:
        elsewhere = _elsewhere(dict.fromkeys(run.config.engine for _, run in started if run.config is not None))
        here = [(variant, run) for variant, run in here if run.config is None or run.config.engine not in elsewhere]
        for name, python in elsewhere.items():
            if python:
                _probe_there(python, name, workspace, study, device, again)
    if not here:
        return
    with joined(device) as processes:
        prober = Prober(processes.device, workspace)
        for variant, run in here:
            folder = workspace.run(run.identity)
            old = read_cost(folder)
            if old is not None and not again and old.place == prober.place and not _is_out_of_date(old, folder):
                continue
            assert run.config is not None
            cost = prober.measure(run.config, folder)
            write_json(folder.path / FILE, cost)
            logger.info("measured %s: %s", variant, _words(cost))


def _elsewhere(engines: Iterable[str]) -> dict[str, str]:
    """Engines that do not run in this interpreter, and the one in which they do; empty where none does."""
    found = {}
    for engine in engines:
        try:
            python = python_of(engine)
        except MissingEngine as missing:
            logger.info("not measured: %s", missing)
            python = ""
        if python != sys.executable:
            found[engine] = python
    return found


def _probe_there(python: str, engine: str, workspace: Workspace, study: Study, device: str, again: bool) -> None:
    words = [python, "-m", "cli", "ablate", "probe", "--engine", engine, "--root", str(workspace.root.absolute())]
    words += ["--device", device, *(["--again"] if again else []), "--", study.name]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=package_environment()
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(("measured ", "error: ")):
                logger.info("%s", line.rstrip())
    if process.returncode:
        code = process.returncode
        logger.info("not measured: the runs of engine %s (exit code %s of %s)", engine, code, python)


def _measured_run(workspace: Workspace, study: Study, variant: str) -> StudyRun | None:
    """The run that stands for a variant: its first finished one, else its first one."""
    runs = [run for run in study.runs_of(variant) if run.blocked is None and run.identity]
    begun = [run for run in runs if workspace.run(run.identity).path.is_dir()]
    finished = [run for run in begun if workspace.run(run.identity).predictions.exists()]
    return next(iter([*finished, *begun]), None)


def _is_out_of_date(cost: MeasuredCost, folder: RunFolder) -> bool:
    """Whether there are weights to predict with now that were not there then."""
    return cost.seconds_per_image is None and not cost.message and folder.predictions.exists()


def _words(cost: MeasuredCost) -> str:
    if cost.peak_gib is None:
        return f"out of memory ({cost.message})"
    image = "" if cost.seconds_per_image is None else f", {cost.seconds_per_image:.4f} s an image"
    return f"{cost.peak_gib * 1024:,.0f} MiB, {cost.seconds_per_iteration:.4f} s an iteration{image}"
