"""What a run costs, measured alone on the device: peak memory and seconds of training, seconds of prediction.

Training: one image an iteration, the same for every variant, as the paper measured on its GPUs; forward, backward and
optimizer step at a learning rate of 0, so that all iterations do the same work; median over ten of them, or a second of
them, warm-up dropped. Memory is what CUDA allocated at most (weights, gradients and optimizer state among it), or, on a
CPU, the bytes kept for the backward pass, because resident memory would not show activation checkpointing; that of the
first ten iterations. Prediction: the first validation images with the trained weights, boxes and masks included,
loading of files left out; median over them, again and again for a second.

How far apart equal iterations lie is kept: what parts them is something else that ran.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ablate.config import RunConfig
from ablate.probe.cost import Cost
from ablate.store import RunFolder, now
from analysis.refusal import BadInput

if TYPE_CHECKING:
    import torch

    from ablate.engines.base import Subject

WARM_UP = 3
ITERATIONS = 10
FEWEST = 3
LEAST = 1.0  # seconds; quick iterations go on until then, so that a burst of something else does not decide the median
PATIENCE = 60.0  # seconds; after them the fewest iterations are enough


def _full(cap_gib: float | Literal["none"]) -> str:
    return f"the {'device' if cap_gib == 'none' else f'cap of {cap_gib:g} GiB'} is full with one image"


class Prober:
    """Measures runs on one device, one at a time.

    Args:
        device: that nothing else uses meanwhile.
        root: above `results/`.
    """

    def __init__(self, device: "torch.device", root: Path) -> None:
        import torch

        from ablate.manifest import hardware
        from analysis import read_ground_truth

        self.device, self.root, self.hardware = device, root, hardware()
        gpu = device.type == "cuda"
        self.name = torch.cuda.get_device_name(device) if gpu else self.hardware.processor
        self.threads = torch.get_num_threads()
        self.version = str(torch.__version__)
        self._read = cache(read_ground_truth)

    @property
    def place(self) -> str:
        """As `Cost.place`."""
        return self._cost("fp32", None, None, None, 0, 0).place

    def measure(self, config: RunConfig, folder: RunFolder) -> Cost:
        """The cost of a run; its weights are those of its newest checkpoint, where there is one."""
        import torch

        from ablate.engines.memory import OutOfMemoryError, is_out_of_memory
        from ablate.engines.registry import engine_of

        assert config.train.precision != "auto"
        peak = seconds = per_image = spread = None
        iterations = images = 0
        message = ""
        torch.manual_seed(0)
        try:
            subject = engine_of(config).subject(config, self.root, self.device, self._read)
            trained = self._load(subject, folder)
            times, peak = self._train(subject, config)
            iterations, seconds, spread = len(times), statistics.median(times), _spread(times)
            if trained:
                self._load(subject, folder)  # the iterations above moved the weights
                spent = self._predict(subject)
                images, per_image = len(spent), statistics.median(spent)
        except (OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            peak = seconds = per_image = spread = None
            message = str(error).splitlines()[0] if str(error) else _full(config.train.memory_cap_gib)
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return self._cost(config.train.precision, peak, seconds, per_image, iterations, images, message, spread)

    def _cost(
        self,
        precision: str,
        peak: float | None,
        seconds: float | None,
        per_image: float | None,
        iterations: int,
        images: int,
        message: str = "",
        spread: float | None = None,
    ) -> Cost:
        return Cost(
            device="cuda" if self.device.type == "cuda" else "cpu",
            device_name=self.name,
            threads=self.threads,
            hardware=self.hardware,
            torch=self.version,
            precision=precision,
            peak_gib=peak,
            seconds_per_iteration=seconds,
            seconds_per_image=per_image,
            spread=spread,
            iterations=iterations,
            images=images,
            message=message,
            measured=now(),
        )

    def _load(self, subject: "Subject", folder: RunFolder) -> bool:
        from ablate.engines.checkpoint import load_newest

        try:
            state = load_newest(folder, lambda _: None)
        except BadInput:
            return False
        if state is not None:
            subject.load(state["model"])
        return state is not None

    def _train(self, subject: "Subject", config: RunConfig) -> tuple[list[float], float]:
        """Seconds of each iteration, and the peak in GiB."""
        import torch

        from ablate.engines.memory import MemoryMeter
        from ablate.engines.precision import build_scaler

        assert config.train.precision != "auto"
        optimizer = subject.optimizer()
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # the same arithmetic, and no other number of proposals in the next iteration
        scaler = build_scaler(config.train.precision, self.device)
        subject.module.train()
        cap = config.train.memory_cap_gib  # a run that answers for a smaller device is measured as there
        meter = MemoryMeter(subject.module, self.device, None if cap == "none" else cap)

        peak, steps = 0.0, 0

        def step(_: int) -> None:
            nonlocal peak, steps
            with meter.watching():
                losses = subject.losses()
                scaler.scale(torch.stack(list(losses.values())).sum()).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            steps += 1
            if steps <= WARM_UP + ITERATIONS:  # of as many on a quick machine as on a slow one
                peak = meter.peak_gib

        return self._timed(step, range(ITERATIONS)), peak

    def _predict(self, subject: "Subject") -> list[float]:
        """Seconds of each image."""
        subject.module.eval()
        return self._timed(subject.predict, range(subject.images))

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
