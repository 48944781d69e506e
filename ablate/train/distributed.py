"""The processes that train together: their devices and shares of a batch, their random draws, and their polite stop.

- `joined` makes this process one of those that torchrun started, `lay_out` cuts a batch among them.
- Every random draw comes from the seed and its place in the run (`derived`), which is all that a resume needs.
- `StopRequest`: the first signal lets the running step end and be saved, the second one acts at once.
"""

import gc
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist

from ablate.runs.manifest import usable_cores
from ablate.runs.signals import handle, restore
from ablate.train.peers import lost_peers_named, meeting_point, place_of_process
from ablate.train.rendezvous import store_of_this_run
from analysis.exceptions import BadInput, DetablateError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a global batch is divided among processes.

    Attributes:
        processes: that train together.
        images: of one forward pass of one process.
        group: processes that share a statistic; images * group is `train.images_per_norm`.
        grad_accum_steps: forward and backward passes before each optimizer step.
    """

    processes: int
    images: int
    group: int
    grad_accum_steps: int


def lay_out(batch_size: int, images_per_norm: int, processes: int) -> Layout:
    """Cut a batch for a number of processes.

    Raises:
        BadInput: where the processes cannot share the work evenly.
    """
    if images_per_norm % processes == 0:
        return Layout(processes, images_per_norm // processes, processes, batch_size // images_per_norm)
    if processes % images_per_norm == 0 and batch_size % processes == 0:
        return Layout(processes, 1, images_per_norm, batch_size // processes)
    fitting = [n for n in range(1, batch_size + 1) if images_per_norm % n == 0]
    raise BadInput(
        f"{processes} processes cannot share batches of {batch_size} in which {images_per_norm} images share a "
        f"BatchNorm statistic; start {', '.join(map(str, fitting))} of them, or change train.images_per_norm"
    )


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that torchrun started; alone without torchrun."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files and talks to the person."""
        return self.rank == 0

    def workers(self, wanted: int | None) -> int:
        """Processes that load images for this one: as wanted, else as the machine has cores to feed a GPU."""
        if wanted is not None:
            return wanted
        if self.device.type != "cuda":
            return 0
        return min(8, max(1, usable_cores() // self.on_this_machine))

    @property
    def on_this_machine(self) -> int:
        """How many of the processes run here."""
        return place_of_process().local_count

    def norm_group(self, layout: Layout) -> dist.ProcessGroup | None:
        """The processes that share statistics with this one; none where it is alone. All processes must call this.

        Where these are all, it is the group that the gradients take too: a second NCCL communicator of the same
        processes can wait for ever for the first.
        """
        if layout.group == self.count > 1:
            return dist.group.WORLD
        return None if layout.group == 1 else dist.new_subgroups(layout.group)[0]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes; not finite if it is not finite in any of them."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        if self.count > 1:
            dist.barrier()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Run the block in the first process before the others enter it, so that they find the files that it wrote.

        Raises:
            DetablateError: what the first process has raised inside, in all of them.
        """
        if not self.first:
            self._share_error_of_first(None)
        try:
            yield
        except DetablateError as error:
            if self.first:
                self._share_error_of_first(error)
            raise
        if self.first:
            self._share_error_of_first(None)

    def decided_by_first(self, act: Callable[[], T]) -> T:
        """Call ``act`` in the first process alone, and return its result in all processes.

        Raises:
            DetablateError: what the first process has raised, in all of them.
        """
        with self.first_before_others():
            decided = [act() if self.first else None]
        if self.count > 1:
            dist.broadcast_object_list(decided, src=0)
        return decided[0]  # type: ignore[return-value]

    def _share_error_of_first(self, error: DetablateError | None) -> None:
        if self.count == 1:
            return
        shared = [error]
        dist.broadcast_object_list(shared, src=0)
        if not self.first and shared[0] is not None:
            raise shared[0]


def device_of(wanted: str) -> torch.device:
    """The device of this process: the GPU of its place on this machine, or the only one that the scheduler shows it.

    Args:
        wanted: auto, cpu or cuda.

    Raises:
        BadInput: a GPU is demanded and there is none, or more processes than GPUs were started here.
    """
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cuda" and not visible:
        raise BadInput("--device cuda: no CUDA device is visible to PyTorch; choose --device cpu or auto")
    if wanted == "cpu" or not visible:
        return torch.device("cpu")
    place = place_of_process()
    own = 0 if place.bound and visible == 1 else place.local_rank
    if own >= visible:
        raise BadInput(
            f"process {own} (LOCAL_RANK) has no GPU: {visible} visible here; "
            f"start torchrun with --nproc-per-node {visible}, or choose --device cpu"
        )
    return torch.device("cuda", own)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun or srun started, and leave them in the end.

    Contexts may be nested: the outermost one joins and leaves.

    Args:
        device: auto, cpu or cuda.

    Raises:
        BadInput: as `device_of`.
    """
    chosen = device_of(device)
    gpu = chosen.type == "cuda"
    place = place_of_process()
    processes = Processes(place.rank, place.count, chosen)
    if gpu:
        torch.cuda.set_device(chosen)
    if place.count == 1 or dist.is_initialized():
        yield processes
        return
    os.environ.update(meeting_point(place))
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        rank=place.rank,
        world_size=place.count,
        store=store_of_this_run(place.count),
        device_id=chosen if gpu else None,
    )
    try:
        with lost_peers_named(processes):
            yield processes
    except BaseException as error:
        _forget_locals(error)
        raise
    finally:
        # A wrapped model must not be the last to hold a group: torch would wait, holding Python's lock, for threads
        # that need the lock to end.
        gc.collect()
        dist.destroy_process_group()


def _forget_locals(error: BaseException | None) -> None:
    """Drop the local variables of the functions that an error has passed through, such as the model."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


# Kinds of draws: the first number of a place.
WEIGHTS, MODEL, SAMPLES, PATHS = 1, 2, 3, 4


def derived(seed: int, *place: int) -> int:
    """A 63-bit seed that belongs to a place, such as (iteration, step, rank); other places give unrelated ones."""
    state = seed & (2**64 - 1)
    for number in place:
        state = _mixed(state ^ _mixed(number & (2**64 - 1)))
    return _mixed(state) >> 1


def _mixed(value: int) -> int:
    """The finaliser of splitmix64: every bit of the input reaches every bit of the output."""
    value = (value + 0x9E3779B97F4A7C15) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)


def generator(device: torch.device, seed: int, *place: int) -> torch.Generator:
    """A generator on a device, seeded for a place."""
    return torch.Generator(device).manual_seed(derived(seed, *place))


STOPPING = (signal.SIGINT, signal.SIGTERM)


def outlive_a_polite_stop(_: int = 0) -> None:
    """For a process that loads images: a stop that goes to the whole process group is its parent's to act on.

    Only the parent's own SIGTERM ends it at once: torch and multiprocessing send it when they are done with a process,
    and wait until it has ended. Where the system cannot tell who has sent a signal, torch's own handler stays.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        return

    def obey_the_parent() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            continue
        os._exit(0)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=obey_the_parent, name="stop", daemon=True).start()


class StopRequest:
    """Notes that the process was asked to stop, as a context around the training loop."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # only there does Python allow handlers
            self._before = handle(STOPPING, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        restore(self._before)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self.__exit__()
