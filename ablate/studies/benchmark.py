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
from collections.abc import Callable
from functools import cache
from itertools import chain, cycle
from typing import Any

import msgspec
import torch

from ablate.config.schema import RunConfig
from ablate.engines.base import BenchmarkTarget
from ablate.engines.environment import MissingEngine, package_environment, python_of
from ablate.engines.registry import build_benchmark_target
from ablate.runs.folder import RunFolder, Workspace, now, write_json
from ablate.runs.manifest import hardware
from ablate.shell import shell_command
from ablate.studies.results import COST_FILE, MeasuredCost, read_cost
from ablate.studies.study import Study, StudyRun
from ablate.train.checkpoint import load_newest
from ablate.train.distributed import joined
from ablate.train.memory import MemoryMeter, OutOfMemoryError, is_out_of_memory
from ablate.train.optim import build_scaler
from analysis.coco.ground_truth import read_ground_truth
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)

WARM_UP = 3
ITERATIONS = 10
FEWEST = 3
LEAST = 1.0  # seconds; quick iterations go on until then, so that a burst of something else does not decide the median
PATIENCE = 60.0  # seconds; after them the fewest iterations are enough


class Prober:
    """Measures runs on one device, one at a time.

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

    def measure(self, config: RunConfig, folder: RunFolder) -> MeasuredCost:
        """The cost of a run; its weights are those of its newest checkpoint, where there is one."""
        torch.manual_seed(0)
        cost: dict[str, Any] = {}
        try:
            target = build_benchmark_target(config, self.workspace, self.device, self._read)
            trained = self._load(target, folder)
            times, peak = self._train(target, config)
            low, middle, high = statistics.quantiles(times, n=4)
            cost = {
                "iterations": len(times),
                "peak_gib": peak,
                "seconds_per_iteration": statistics.median(times),
                "spread": (high - low) / middle,
            }
            if trained:
                self._load(target, folder)  # the iterations above moved the weights
                target.module.eval()
                spent = self._timed(target.predict, range(target.images))
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

    def _load(self, target: BenchmarkTarget, folder: RunFolder) -> bool:
        try:
            # What training says of damaged ones is enough.
            state = load_newest(folder, logger.debug, lambda state: target.module.load_state_dict(state["model"]))
        except BadInput:
            return False
        return state is not None

    def _train(self, target: BenchmarkTarget, config: RunConfig) -> tuple[list[float], float]:
        """Seconds of each iteration, and the peak in GiB."""
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
    begun = [(run, run.config) for variant in study.variants for run in _measured_run(workspace, study, variant)]
    if not begun:
        raise BadInput(
            f"no run of study {study.name!r} was started yet; "
            f"run it: {shell_command('ablate', 'launch', root=workspace.root, study=study.name)}"
        )
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
        for run, config in here:
            folder = workspace.run(run.run_id)
            if again or not _is_up_to_date(read_cost(folder), folder, prober.place):
                cost = prober.measure(config, folder)
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
        for line in process.stderr:
            if line.startswith(("measured ", "error: ")):
                logger.info("%s", line.rstrip())
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
    if cost.peak_gib is None:
        return f"out of memory ({cost.message})"
    image = "" if cost.seconds_per_image is None else f", {cost.seconds_per_image:.4f} s an image"
    return f"{cost.peak_gib * 1024:,.0f} MiB, {cost.seconds_per_iteration:.4f} s an iteration{image}"
