"""The training loop: any number of processes, any precision, stopped and continued at any iteration."""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from ablate.data.loader import Batch, TrainingOrder
from ablate.runs.folder import FAILURES, RunFolder, Status
from ablate.train.checkpoint import load_newest, save_checkpoint
from ablate.train.distributed import Processes, StopRequest, outlive_a_polite_stop
from ablate.train.ema import WeightAverage
from ablate.train.loading import loading_errors_named
from ablate.train.logging import Curves, curves
from ablate.train.memory import MemoryMeter, OutOfMemoryError, is_out_of_memory, others_on
from ablate.train.optim import Precision, autocast, build_scaler, set_lr
from ablate.train.outcome import Diverged, Interrupted, RanOutOfMemory, RunFailed, RuntimeOptions
from ablate.train.peers import check_same_state

logger = logging.getLogger(__name__)

LOG_EVERY = 20  # iterations
STATUS_SECONDS = 5.0
SHORTEST_EPOCH_TO_SAVE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class TrainStats:
    """The cost of training."""

    iterations: int
    seconds: float  # of all the sessions that led here
    peak_gib: float  # the highest of them
    device: str  # cpu or cuda; decides what the peak is of
    threads: int | None = None  # that computed on a CPU: another number rounds otherwise


@dataclass(frozen=True, slots=True)
class _Logged:
    """The last line of the curves, and what the next one is the mean of; kept, so that a resume changes no curve."""

    iteration: int = 0
    seconds: float = 0.0  # of training, when it was written
    sums: dict[str, float] = field(default_factory=dict)  # of the losses since then


class _Unread:
    """The losses of a step, and whether a process was asked to stop, on their way from the device."""

    def __init__(self, iteration: int, names: list[str], values: Tensor) -> None:
        self.iteration, self.names = iteration, names
        self._ready: torch.cuda.Event | None = None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._ready.record()
        else:
            self._values = values

    def read(self) -> tuple[dict[str, float], bool]:
        """Wait for the values, and return them."""
        if self._ready is not None:
            self._ready.synchronize()
        *means, stopping = self._values.tolist()
        return dict(zip(self.names, means, strict=True)), stopping > 0


class TrainLoop(ABC):
    """Optimizer steps of a model, with checkpoints and resumption; subclasses define the forward pass.

    A subclass says what a forward pass is (`_forward`), how the learning rate moves (`_lr`) and what is kept or
    measured between two steps (`after_step`).

    Args:
        module: with its initial weights, on the device.
        optimizer: of its parameters.
        precision: of the forward pass.
        data: the training images, indexed by (epoch, index).
        collate: several of them to a batch.
        folder: of the run.
        processes: that train together.
        runtime: options that do not change the result.
        batch_size: images of an optimizer step.
        images_per_pass: of them in one forward pass of one process; gradients of the passes are accumulated.
        seed: of the order of the images.
        iterations: optimizer steps of the whole run.
        memory_cap_gib: memory limit, to simulate a smaller device.
        clip_norm: largest gradient norm.
        ema: decay of the average of the weights, which the module has in the end.

    Attributes:
        reads_late: the losses of a step are read from the device in the next one, so that the device never idles; a
            step whose loss is not finite is skipped by the device itself. None: on a GPU, where the optimizer can.
    """

    remedy = "lower train.lr, lengthen train.warmup_epochs or set train.clip_norm"  # for a loss that is not finite

    def __init__(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        folder: RunFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        *,
        batch_size: int,
        images_per_pass: int,
        seed: int,
        iterations: int,
        memory_cap_gib: float | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        self.module, self.optimizer, self.precision, self.data = module, optimizer, precision, data
        self.collate, self.folder, self.processes, self.runtime = collate, folder, processes, runtime
        self.batch_size, self.images_per_pass, self.seed = batch_size, images_per_pass, seed
        self.iterations, self.memory_cap_gib, self.clip_norm = iterations, memory_cap_gib, clip_norm
        self.device = processes.device
        self.grad_accum_steps = batch_size // (images_per_pass * processes.count)
        # Gradients are views of the buffers that are exchanged: one copy less of all weights in memory.
        self.model = (
            DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)
            if processes.count > 1
            else module
        )
        self.scaler = build_scaler(self.precision, self.device)
        self.meter = MemoryMeter(module, self.device, memory_cap_gib)
        self.average = None if ema is None else WeightAverage(module, ema)
        self.iteration = 0
        # Of the sessions before this one; when this one began, and its seconds that were no training.
        self._seconds_before, self._peak_before, self._began, self._seconds_paused = 0.0, 0.0, 0.0, 0.0
        self._logged = _Logged()
        self.reads_late: bool | None = None
        self._unread: _Unread | None = None
        self._last_loss: float | None = None  # of the last step whose losses were read
        self._stopping = False  # whether any process was asked to stop, as read last

    @abstractmethod
    def _forward(self, batch: Any, number: int) -> dict[str, Tensor]:
        """One forward pass, numbered within its optimizer step -> its losses, whose sum is minimised."""

    @abstractmethod
    def _lr(self, iteration: int) -> float:
        """The learning rate of an iteration."""

    @abstractmethod
    def after_step(self, iteration: int, curves: Curves) -> None:
        """Save or measure something after this many iterations, before their checkpoint is written."""

    def train(self) -> TrainStats:
        """Go on from the newest checkpoint to the last iteration, and save it.

        With an average of the weights, the module then has that; a checkpoint holds both.

        Raises:
            Diverged: a loss is not finite; its step is not taken.
            RanOutOfMemory: with the peak reached.
            Interrupted: after a signal, with everything saved; or to be continued with another number of threads.
            BadInput: damaged data or checkpoints.
        """
        self._resume()
        self._began = time.monotonic()
        self.module.train()
        try:
            with (
                StopRequest() as stop,
                curves(self.folder if self.processes.first else None, self.iteration, self.iterations) as written,
                _reproducible(self.device),
            ):
                self._loop(stop, written)
        except RunFailed:
            self._write_status()  # how far it came
            raise
        except (OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error, self.device):
                raise
            self._write_status()
            raise RanOutOfMemory(self._memory_sentence(error)) from None
        if self.average is not None:
            self.average.copy_to(self.module)
        return TrainStats(self.iterations, self._seconds(), self._peak_gib(), self.device.type, self._threads())

    def _loader(self) -> DataLoader[Any]:
        """Batches of this process from the current iteration on, one for each forward pass."""
        return DataLoader(
            self.data,
            batch_sampler=TrainingOrder(
                images=len(self.data),  # type: ignore[arg-type]
                batch_size=self.batch_size,
                per_pass=self.images_per_pass,
                seed=self.seed,
                first=self.iteration,
                last=self.iterations,
                rank=self.processes.rank,
                world=self.processes.count,
            ),
            collate_fn=self.collate,
            num_workers=self.processes.workers(self.runtime.workers),
            pin_memory=self.device.type == "cuda",
            worker_init_fn=outlive_a_polite_stop,
        )

    def _threads(self) -> int | None:
        return torch.get_num_threads() if self.device.type == "cpu" else None

    def _check_threads(self, before: int | None) -> None:
        """Refuse to go on with another number of threads than a checkpoint was trained with."""
        now = self._threads()
        if self.iteration < self.iterations and None not in (before, now) and before != now:
            raise Interrupted(
                f"{self.folder.path}: was trained with {before} threads so far, but this process has {now}, which "
                "would change the last digits of the result;  "
                + ("launch with --parallel 2 or more, or " if before == 1 else "leave out --parallel, and ")
                + f"set OMP_NUM_THREADS={before}"
            )

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began - self._seconds_paused

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """Exclude the time of the block from the training time."""
        paused_at = time.monotonic()
        try:
            yield
        finally:
            self._seconds_paused += time.monotonic() - paused_at

    def _peak_gib(self) -> float:
        return max(self._peak_before, self.meter.peak_gib)

    def _loop(self, stop: StopRequest, curves: Curves) -> None:
        batches = iter(self._loader())
        self._write_status()  # how long it will be
        saved_at = status_written_at = time.monotonic()
        loss_told = False
        while self.iteration < self.iterations:
            stop_requested = self._step(batches, bool(stop.name))
            self.iteration += 1
            done, now, is_last = self.iteration, time.monotonic(), self.iteration == self.iterations
            due = stop_requested or is_last or self._is_checkpoint_due(now - saved_at)
            if due or done % LOG_EVERY == 0:
                self._take_losses()

            curves.advance(done, self._last_loss)
            if done % LOG_EVERY == 0 or is_last:
                logged, sums = self._logged, self._logged.sums
                means = {name: value / (done - logged.iteration) for name, value in sums.items()}
                seconds = self._seconds()
                cost = {
                    "lr": self._lr(done - 1),
                    "seconds_per_iteration": (seconds - logged.seconds) / (done - logged.iteration),
                    "peak_gib": self._peak_gib(),
                }
                curves.add(done, {"loss": sum(means.values()), **means, **cost})
                self._logged = _Logged(done, seconds)

            with self._clock_stopped():
                self.after_step(done, curves)
                if due:
                    self._save()
                    saved_at = time.monotonic()
            first_loss = self._last_loss is not None and not loss_told
            if now - status_written_at > STATUS_SECONDS or is_last or first_loss:
                self._write_status()
                status_written_at, loss_told = now, loss_told or first_loss
            if stop_requested and not is_last:
                raise Interrupted(
                    f"{self.folder.path}: stopped by {stop.name or 'a signal to another process'} after iteration "
                    f"{done} of {self.iterations}, everything is saved; run the same command to continue"
                )

    def _is_checkpoint_due(self, seconds: float) -> bool:
        """Whether a checkpoint is taken after this iteration, so many seconds after the last one."""
        every = self.runtime.checkpoint_iterations
        epoch_iterations = max(1, len(self.data) // self.batch_size)  # type: ignore[arg-type]
        epoch_ends = self.iteration % epoch_iterations == 0 and seconds > SHORTEST_EPOCH_TO_SAVE
        return epoch_ends or seconds > self.runtime.checkpoint_seconds or bool(every and self.iteration % every == 0)

    def _step(self, batches: Iterator[Batch], stop: bool) -> bool:
        """One optimizer step -> whether any process was asked to stop before it, or, read late, before the last one.

        It says the same in all processes, which read the losses at other times for a checkpoint that is due by time.
        """
        set_lr(self.optimizer, self._lr(self.iteration))
        steps, totals, names = self.grad_accum_steps, torch.zeros(0, device=self.device), []
        for number in range(steps):
            with loading_errors_named():
                loaded = next(batches)
            batch = loaded.to(self.device)
            synchronised = number == steps - 1 or self.processes.count == 1
            with nullcontext() if synchronised else self.model.no_sync():  # type: ignore[operator]
                losses = self._forward_backward(batch, number)
            names = list(losses)
            values = torch.stack(list(losses.values())) / steps
            totals = values if number == 0 else totals + values
        means = self.processes.mean(torch.cat([totals, totals.new_full((1,), float(stop))]))
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        self._take_losses()  # of the step before
        stop_requested, self._unread = self._stopping, _Unread(self.iteration, names, means)
        if self._can_read_late():
            self.optimizer.found_inf = 1 - means.isfinite().all().float()  # type: ignore[attr-defined]
        else:
            self._take_losses()
            stop_requested = self._stopping
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.module, self.iteration)
        return stop_requested

    def _can_read_late(self) -> bool:
        """Fused optimizers leave a step out where the device finds it not finite; loss scaling has that to itself."""
        able = getattr(self.optimizer, "_step_supports_amp_scaling", False) and not self.scaler.is_enabled()
        return able and (self.device.type == "cuda" if self.reads_late is None else self.reads_late)

    def _take_losses(self) -> None:
        """Read the losses that are on their way, for the curves.

        Raises:
            Diverged: they are not finite; their step is not taken, and none after it.
        """
        if self._unread is None:
            return
        unread, self._unread = self._unread, None
        found, self._stopping = unread.read()
        if not all(math.isfinite(value) for value in found.values()):
            self.iteration = unread.iteration
            listed = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            raise Diverged(
                f"{self.folder.path}: the loss is not finite in iteration {self.iteration + 1} of {self.iterations} "
                f"({listed}); {self.remedy}"
            )
        self._last_loss = sum(found.values())
        sums = {name: self._logged.sums.get(name, 0.0) + value for name, value in found.items()}
        self._logged = replace(self._logged, sums=sums)

    def _forward_backward(self, batch: Any, number: int) -> dict[str, Tensor]:
        """Add the gradient of one forward pass -> its losses."""
        with self.meter.watching():
            with autocast(self.precision, self.device):
                losses = self._forward(batch, number)
            total = torch.stack(list(losses.values())).sum() / self.grad_accum_steps
            self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _resume(self) -> None:
        """Take everything from the newest checkpoint, where there is one."""
        resumed = load_newest(self.folder, self._warn, self._take)
        if resumed is not None:
            self._check_threads(resumed.get("threads"))
            if self.processes.first and self.iteration < self.iterations:
                self.folder.append_event("resumed", iteration=self.iteration)
                logger.info("continuing after iteration %d of %d", self.iteration, self.iterations)
        state = {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            **self._average(),
        }
        check_same_state(self.iteration, state, self.folder.path, self.processes)

    def _take(self, state: dict[str, Any]) -> None:
        """Take everything from a checkpoint."""
        self._seconds_before, self._peak_before = float(state["seconds"]), float(state["peak_gib"])
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load(state["ema"])
        self.iteration = state["iteration"]
        logged = state.get("logged")  # older versions did not keep it
        self._logged = _Logged(**logged) if logged else _Logged(self.iteration, self._seconds_before)

    def _average(self) -> dict[str, Any]:
        """The average of the weights in a checkpoint."""
        return {} if self.average is None else {"ema": self.average.values}

    def _warn(self, sentence: str) -> None:
        if self.processes.first:
            self.folder.append_event("warning", message=sentence)
            logger.warning("%s", sentence)

    def _save(self) -> None:
        if self.processes.first:
            save_checkpoint(
                self.folder,
                self.iteration,
                {
                    "model": self.module.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "seconds": self._seconds(),
                    "peak_gib": self._peak_gib(),
                    "threads": self._threads(),
                    "logged": asdict(self._logged),
                    **self._average(),
                },
            )

    def _write_status(self) -> None:
        """Write the progress into the status, but not over a failure that another process has written."""
        if not self.processes.first:
            return
        status = Status(
            state="running",
            phase="training",
            iteration=self.iteration,
            iterations=self.iterations,
            loss=self._last_loss,
        )
        shared = self.processes.count > 1
        self.folder.update_status(lambda last: None if shared and last.state in FAILURES else status)

    def _memory_sentence(self, error: Exception) -> str:
        limit = "the device" if self.memory_cap_gib is None else f"the cap of {self.memory_cap_gib} GiB"
        detail = f" ({str(error).splitlines()[0]})" if str(error) else ""
        return (
            f"{self.folder.path}: {limit} is full in iteration {self.iteration + 1} of {self.iterations}, "
            f"{self.meter.peak_gib:.2f} GiB reached{detail}{others_on(self.device)}"
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
