"""Measure the cost of a run on the device: peak memory, seconds of a training step and of a prediction.

Training: one image a step, the same for every variant, as the paper measured on its GPUs; forward, backward and
optimizer step at a learning rate of 0, so that all steps do the same work. Memory is what CUDA allocated at most
(weights, gradients and optimizer state among it), or, on a CPU, the bytes kept for the backward pass, because resident
memory would not show activation checkpointing; that of the first ten steps. Prediction: the first validation images
with the trained weights, boxes and masks included, loading of files left out.

Variants are measured in turn, in several rounds (A B C A B C ...), so that a machine that slows down slows all of
them. A time is the median of the rounds' medians. Their range tells how far it can be trusted, as do the spread of
equal steps and the processor time that other processes took meanwhile. The cost of a run lies in its folder; that of a
study is that of each of its variants, measured by the Python that has its engine.
"""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, cycle
from typing import Any

import msgspec
import psutil
import torch

from ablate.config.schema import RunConfig
from ablate.engines.base import BenchmarkTarget
from ablate.engines.environment import MissingEngine, package_environment, python_of
from ablate.engines.registry import build_benchmark_target
from ablate.runs.folder import RunFolder, Workspace, now, write_json
from ablate.runs.manifest import hardware
from ablate.studies.cost import COST_FILE, MeasuredCost, Range, disturbance, read_cost
from ablate.studies.study import Study, StudyRun, launch_command
from ablate.train.checkpoint import evaluated_weights, load_newest
from ablate.train.distributed import joined
from ablate.train.memory import MemoryMeter, OutOfMemoryError, is_out_of_memory
from ablate.train.optim import build_scaler
from analysis.coco.ground_truth import read_ground_truth
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)

ROUNDS = 3
WARM_UP = 3
ITERATIONS = 10
FEWEST = 1
LEAST = 0.5  # seconds a round; quick steps go on until then, so that a burst of something else does not decide it
PATIENCE = 20.0  # seconds a round; after them the fewest steps are enough


@dataclass
class _Rounds:
    """The measurements of one run so far, by round."""

    iterations: list[list[float]] = field(default_factory=list)  # seconds, by round
    images: list[list[float]] = field(default_factory=list)  # likewise
    peak_gib: float | None = None
    message: str = ""  # out of memory
    seconds: float = 0.0  # of all rounds
    others: float = 0.0  # seconds of processor time that other processes used meanwhile


class Prober:
    """Measures runs on one device, in turn.

    Args:
        device: that nothing else uses meanwhile.
        workspace: above `results/`.
    """

    def __init__(self, device: torch.device, workspace: Workspace) -> None:
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
        self.place = self._here.place

    def measure(self, runs: Sequence[tuple[RunConfig, RunFolder]]) -> list[MeasuredCost]:
        """The cost of each run; its weights are those of its newest checkpoint, where there is one."""
        session, measured = now(), [_Rounds() for _ in runs]
        for _ in range(ROUNDS):
            for (config, folder), rounds in zip(runs, measured, strict=True):
                if not rounds.message:
                    self._round(config, folder, rounds)
        return [self._cost(config, rounds, session) for (config, _), rounds in zip(runs, measured, strict=True)]

    def _round(self, config: RunConfig, folder: RunFolder, rounds: _Rounds) -> None:
        torch.manual_seed(0)
        began, busy = time.perf_counter(), _busy_elsewhere()
        try:
            target = build_benchmark_target(config, self.workspace, self.device, self._read)
            trained = self._load(target, folder)
            times, peak = self._train(target, config)
            rounds.iterations.append(times)
            rounds.peak_gib = peak if rounds.peak_gib is None else rounds.peak_gib
            if trained:
                self._load(target, folder)  # the steps above moved the weights
                target.module.eval()
                rounds.images.append(self._timed(target.predict, range(target.images)))
        except (OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error, self.device):
                raise
            cap = config.train.memory_cap_gib
            full = f"one image does not fit into the {'device' if cap == 'none' else f'cap of {cap:g} GiB'}"
            rounds.message = next(iter(str(error).splitlines()), full)
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        rounds.seconds += time.perf_counter() - began
        rounds.others += max(0.0, _busy_elsewhere() - busy)

    def _cost(self, config: RunConfig, rounds: _Rounds, session: str) -> MeasuredCost:
        cost: dict[str, Any] = {"message": rounds.message, "iterations": sum(map(len, rounds.iterations))}
        if not rounds.message:
            low, middle, high = statistics.quantiles(chain.from_iterable(rounds.iterations), n=4)
            seconds, lowest_to_highest = _over_rounds(rounds.iterations)
            cost |= {
                "peak_gib": rounds.peak_gib,
                "seconds_per_iteration": seconds,
                "iteration_range": lowest_to_highest,
                "spread": (high - low) / middle,
            }
        if rounds.images and not rounds.message:
            seconds, lowest_to_highest = _over_rounds(rounds.images)
            count = sum(map(len, rounds.images))
            cost |= {"seconds_per_image": seconds, "image_range": lowest_to_highest, "images": count}
        return msgspec.structs.replace(
            self._here,
            precision=config.train.precision,
            measured=now(),
            rounds=len(rounds.iterations),
            session=session,
            other_cores=rounds.others / rounds.seconds,
            **cost,
        )

    def _load(self, target: BenchmarkTarget, folder: RunFolder) -> bool:
        try:
            # What training says of damaged ones is enough.
            state = load_newest(
                folder, logger.debug, lambda state: target.module.load_state_dict(evaluated_weights(state))
            )
        except BadInput:
            return False
        return state is not None

    def _train(self, target: BenchmarkTarget, config: RunConfig) -> tuple[list[float], float]:
        """Seconds of each step, and the peak in GiB."""
        assert config.train.precision != "auto"
        optimizer = target.engine.optimizer()
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # the same arithmetic, and no other number of proposals in the next iteration
        scaler = build_scaler(config.train.precision, self.device)
        target.module.train()
        cap = config.train.memory_cap_gib  # a run that answers for a smaller device is measured as there
        meter = MemoryMeter(target.module, self.device, None if cap == "none" else cap)
        peaks: list[float] = []

        def step(_: int) -> None:
            with meter.watching():
                loss = torch.stack(list(target.losses().values())).sum()
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            peaks.append(meter.peak_gib)

        times = self._timed(step, range(ITERATIONS))
        return times, peaks[: WARM_UP + ITERATIONS][-1]  # of as many on a quick machine as on a slow one

    def _timed(self, act: Callable[[int], None], places: range) -> list[float]:
        """Seconds of each act: at all places, again and again until the least time is over, once if they are slow."""
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


def _over_rounds(times: Sequence[Sequence[float]]) -> tuple[float, Range]:
    """The median of the rounds' medians, and the lowest and the highest of them.

    >>> _over_rounds([[1.0, 2.0, 9.0], [3.0, 3.0], [4.0, 5.0, 6.0]])
    (3.0, (2.0, 5.0))
    """
    medians = [statistics.median(each) for each in times]
    return statistics.median(medians), (min(medians), max(medians))


def _busy_elsewhere() -> float:
    """Seconds of processor time that other processes of this machine have used until now."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # On Linux, the time of guests is part of that of users.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests) - time.process_time()


def probe_study(
    workspace: Workspace,
    study: Study,
    *,
    device: str = "auto",
    again: bool = False,
    engine: str = "",
) -> None:
    """Measure every variant that has a run folder, in turn, under one of its seeds.

    Where all of them were measured on this machine before, they are left as they are, unless ``again``. Engines that
    live in another environment are measured there, by a process of its own; each variant, and what cannot be measured,
    is logged.

    Args:
        workspace: above `results/`.
        study: to measure.
        device: auto, cpu or cuda.
        again: also where all was measured on this machine.
        engine: measure its runs alone, here.

    Raises:
        BadInput: no run of the study was started yet.
    """
    begun = [(run, run.config) for variant in study.variants for run in _measured_run(workspace, study, variant)]
    if not begun:
        raise BadInput(f"no run of study {study.name!r} has started yet; run it: {launch_command(workspace, study)}")
    engines = dict.fromkeys(config.engine for _, config in begun if config is not None)
    pythons = {engine: sys.executable} if engine else {name: _python(name) for name in engines}
    for name, python in pythons.items():
        if python not in ("", sys.executable):
            _probe_there(python, name, workspace, study, device, again)
    here = [(run, config) for run, config in begun if config and pythons.get(config.engine) == sys.executable]
    if not here:
        return
    with joined(device) as processes:
        prober = Prober(processes.device, workspace)
        folders = [workspace.run(run.run_id) for run, _ in here]
        known = [_is_up_to_date(read_cost(folder), folder, prober.place) for folder in folders]
        if all(known) and not again:
            return
        logger.info("measuring memory and seconds of %d variants, in turn ...", len(here))
        costs = prober.measure([(config, folder) for (_, config), folder in zip(here, folders, strict=True)])
        for (run, _), folder, cost in zip(here, folders, costs, strict=True):
            write_json(folder.path / COST_FILE, cost)
            logger.info("measured %s: %s", run.variant, _words(cost))


def _python(engine: str) -> str:
    """The interpreter in which an engine runs; empty where none does."""
    try:
        return python_of(engine)
    except MissingEngine as missing:
        logger.info("not measured: %s", missing)
        return ""


def _probe_there(python: str, engine: str, workspace: Workspace, study: Study, device: str, again: bool) -> None:
    words = [
        *(python, "-m", "detablate", "ablate", "probe", "--engine", engine, "--root", str(workspace.root.absolute())),
        *("--device", device, *["--again"] * again, "--", study.name),
    ]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=package_environment()
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith(("measured ", "error: ")):
                    logger.info("%s", line.rstrip())
        except BaseException:  # such as KeyboardInterrupt, which a signal to this process alone becomes
            process.terminate()
            raise
    if process.returncode:
        logger.info("not measured: the runs of engine %s (exit code %s of %s)", engine, process.returncode, python)


def _measured_run(workspace: Workspace, study: Study, variant: str) -> list[StudyRun]:
    """The run that stands for a variant: its first finished one, else its first one; none where none was started."""
    begun = [run for run in study.runs_of(variant) if run.run_id and workspace.run(run.run_id).path.is_dir()]
    return [*(run for run in begun if workspace.run(run.run_id).predictions.exists()), *begun][:1]


def _is_up_to_date(cost: MeasuredCost | None, folder: RunFolder, place: str) -> bool:
    """Whether a cost was measured in this place, with the weights to predict with that are there now."""
    return (
        cost is not None
        and cost.place == place
        and (cost.seconds_per_image is not None or bool(cost.message) or not folder.predictions.exists())
    )


def _words(cost: MeasuredCost) -> str:
    if cost.peak_gib is None or cost.seconds_per_iteration is None:
        return f"out of memory ({cost.message})"
    image = "" if cost.seconds_per_image is None else f", {cost.seconds_per_image:.4f} s per prediction"
    disturbed = f"; unreliable: {disturbance([cost])}" if cost.is_disturbed else ""
    return f"{cost.peak_gib * 1024:,.0f} MiB, {cost.seconds_per_iteration:.4f} s per training step{image}{disturbed}"
