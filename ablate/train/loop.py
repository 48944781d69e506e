"""The training loop: any number of processes, any precision, stopped and continued at any iteration."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from ablate.data.loader import Batch, TrainingOrder, worker_error
from ablate.runs.folder import RunFolder, Status
from ablate.train.checkpoint import load_newest, save_checkpoint
from ablate.train.distributed import Processes, StopRequest, outlive_a_polite_stop
from ablate.train.logging import Curves
from ablate.train.memory import MemoryMeter, OutOfMemoryError, is_out_of_memory
from ablate.train.optim import Precision, build_scaler, set_lr
from ablate.train.outcome import Diverged, Interrupted, RanOutOfMemory, RunFailed, RuntimeOptions
from analysis.exceptions import BadInput

LOG_EVERY = 20  # iterations
STATUS_SECONDS = 5.0
SHORTEST_EPOCH_TO_SAVE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class TrainStats:
    """What training cost."""

    iterations: int
    seconds: float  # of all the sessions that led here
    peak_gib: float  # the highest of them
    device: str  # cpu or cuda; decides what the peak is of


class TrainLoop:
    """Optimizer steps of some model, whose work is never lost; what a step learns from is its subclasses' concern.

    Args:
        module: with its initial weights, on the device.
        optimizer: of its parameters.
        precision: of the forward pass.
        folder: of the run.
        processes: that train together.
        runtime: what changes no result.
        passes: forward and backward passes before each optimizer step.
        iterations: optimizer steps of the whole run.
        epoch: iterations of an epoch, for the checkpoints.
        cap: answers for a smaller device, in GiB.
        clip: largest gradient norm.
    """

    remedy = "lower train.lr, lengthen train.warmup_epochs or set train.clip_norm"  # for a loss that is not finite

    def __init__(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        *,
        passes: int,
        iterations: int,
        epoch: int,
        cap: float | None = None,
        clip: float | None = None,
    ) -> None:
        self.module, self.optimizer, self.precision, self.folder = module, optimizer, precision, folder
        self.processes, self.runtime, self.passes, self.clip = processes, runtime, passes, clip
        self.device = processes.device
        self.model: torch.nn.Module = module
        if processes.count > 1:
            self.model = DistributedDataParallel(module, broadcast_buffers=False)
        self.scaler = build_scaler(self.precision, self.device)
        self.iterations, self.epoch, self.cap = iterations, epoch, cap
        self.meter = MemoryMeter(module, self.device, cap)
        self.iteration = 0
        self._seconds_before, self._peak_before, self._began, self._stood = 0.0, 0.0, 0.0, 0.0

    def _loader(self) -> DataLoader[Any]:
        """Batches from the iteration on at which the run stands, one for each pass; see `_batches`."""
        raise NotImplementedError

    def _forward_backward(self, batch: Any, number: int) -> dict[str, Tensor]:
        """Add the gradient of the forward pass of this number -> its losses."""
        raise NotImplementedError

    def _lr(self, iteration: int) -> float:
        """The learning rate of an iteration."""
        raise NotImplementedError

    def after_step(self, iteration: int, curves: Curves) -> None:
        """What is to be kept or measured after so many iterations, before a checkpoint is taken of them."""

    def train(self) -> TrainStats:
        """Go on from the newest checkpoint to the last iteration, and save it.

        Raises:
            Diverged: a loss is not finite; its step is not taken.
            RanOutOfMemory: with the peak reached.
            Interrupted: after a signal, with everything saved.
            BadInput: damaged data or checkpoints.
        """
        self._resume()
        self._began = time.monotonic()
        self.module.train()
        first = self.iteration
        try:
            with (
                StopRequest() as stop,
                Curves(
                    self.folder if self.processes.first else None, first, self.iterations, self.runtime.say
                ) as curves,
                _reproducible(self.device),
            ):
                self._loop(stop, curves)
        except RunFailed:
            self._tell()  # how far it came
            raise
        except (OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._tell()
            raise RanOutOfMemory(self._memory_sentence(error)) from None
        return TrainStats(self.iterations, self._seconds(), self._peak_gib(), self.device.type)

    def _batches(
        self,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        *,
        batch_size: int,
        per_pass: int,
        seed: int,
    ) -> DataLoader[Any]:
        """What is left of a training set's order, ``per_pass`` images of this process at a time."""
        order = TrainingOrder(
            images=len(data),  # type: ignore[arg-type]
            batch_size=batch_size,
            per_pass=per_pass,
            seed=seed,
            first=self.iteration,
            last=self.iterations,
            rank=self.processes.rank,
            world=self.processes.count,
        )
        return DataLoader(
            data,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=self.processes.workers(self.runtime.workers),
            pin_memory=self.device.type == "cuda",
            worker_init_fn=outlive_a_polite_stop,
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began - self._stood

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """What runs inside is no training, and costs none of its seconds."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._stood += time.monotonic() - began

    def _peak_gib(self) -> float:
        return max(self._peak_before, self.meter.peak_gib)

    def _loop(self, stop: StopRequest, curves: Curves) -> None:
        batches = iter(self._loader())
        self._tell()  # how long it will be
        saved = told = time.monotonic()
        logged = self._seconds()
        sums: dict[str, float] = {}
        since = self.iteration
        while self.iteration < self.iterations:
            losses, asked_to_stop = self._step(batches, bool(stop.name))
            self.iteration += 1
            done, now = self.iteration, time.monotonic()
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            curves.advance(done)
            if done % LOG_EVERY == 0 or done == self.iterations:
                means = {name: value / (done - since) for name, value in sums.items()}
                seconds = self._seconds()
                speed = (seconds - logged) / (done - since)
                extra = {"lr": self._lr(done - 1), "seconds_per_iteration": speed, "peak_gib": self._peak_gib()}
                curves.add(done, {"loss": sum(means.values()), **means, **extra})
                sums, since, logged = {}, done, seconds
            with self._clock_stopped():
                self.after_step(done, curves)
            wanted = self.runtime.checkpoint_iterations and done % self.runtime.checkpoint_iterations == 0
            epoch_ends = done % self.epoch == 0 and now - saved > SHORTEST_EPOCH_TO_SAVE
            if (
                wanted
                or epoch_ends
                or asked_to_stop
                or done == self.iterations
                or (now - saved > self.runtime.checkpoint_seconds)
            ):
                with self._clock_stopped():
                    self._save()
                saved = time.monotonic()
            if now - told > STATUS_SECONDS or done == self.iterations:
                self._tell()
                told = now
            if asked_to_stop and done < self.iterations:
                raise Interrupted(
                    f"{self.folder.path}: stopped by {stop.name or 'a signal to another process'} after iteration "
                    f"{done} of {self.iterations}, everything is saved; the same command continues"
                )

    def _step(self, batches: Iterator[Batch], stop: bool) -> tuple[dict[str, float], bool]:
        """One optimizer step -> the losses, averaged over its images, and whether any process was asked to stop."""
        set_lr(self.optimizer, self._lr(self.iteration))
        passes, totals, names = self.passes, torch.zeros(0, device=self.device), []
        for number in range(passes):
            batch = self._next(batches)
            last = number == passes - 1
            with nullcontext() if last or self.processes.count == 1 else self.model.no_sync():  # type: ignore[operator]
                losses = self._forward_backward(batch, number)
            names = list(losses)
            values = torch.stack(list(losses.values()))
            totals = values / passes if number == 0 else totals + values / passes
        flagged = torch.cat([totals, totals.new_tensor([float(stop)])])
        *means, stopping = self.processes.mean(flagged).tolist()
        found = dict(zip(names, means, strict=True))
        if not all(-float("inf") < value < float("inf") for value in means):
            listed = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            raise Diverged(
                f"{self.folder.path}: the loss is not finite in iteration {self.iteration + 1} of {self.iterations} "
                f"({listed}); {self.remedy}"
            )
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return found, stopping > 0

    def _next(self, batches: Iterator[Batch]) -> Batch:
        try:
            return next(batches).to(self.device)
        except BadInput as error:
            raise worker_error(error) from None

    def _resume(self) -> None:
        state = load_newest(self.folder, self._warn)
        if state is not None:
            self.module.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.iteration = state["iteration"]
            self._seconds_before, self._peak_before = state["seconds"], state["peak_gib"]
            if self.processes.first and self.iteration < self.iterations:
                self.folder.append_event("resumed", iteration=self.iteration)
                self.runtime.say(f"continuing after iteration {self.iteration} of {self.iterations}")
        self.processes.wait()

    def _save(self) -> None:
        if self.processes.first:
            state = {
                "model": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "seconds": self._seconds(),
                "peak_gib": self._peak_gib(),
            }
            save_checkpoint(self.folder, self.iteration, state)

    def _tell(self) -> None:
        if self.processes.first:
            self.folder.write_status(
                Status(state="running", phase="training", iteration=self.iteration, iterations=self.iterations)
            )

    def _warn(self, line: str) -> None:
        if self.processes.first:
            self.folder.append_event("warning", message=line)
            self.runtime.say(f"warning: {line}")

    def _memory_sentence(self, error: Exception) -> str:
        limit = "the device" if self.cap is None else f"the cap of {self.cap} GiB"
        detail = f" ({str(error).splitlines()[0]})" if str(error) else ""
        return (
            f"{self.folder.path}: {limit} is full in iteration {self.iteration + 1} of {self.iterations}, "
            f"{self.meter.peak_gib:.2f} GiB reached{detail}"
        )


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """On a CPU deterministic algorithms alone, so that a resumed run ends with the same weights, bit by bit."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
