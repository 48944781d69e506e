"""The processes that share a run: the place of this one, what all must agree on, and errors of lost ones.

torchrun says who is who, or Slurm's srun where each task is one process (`srun --gpus-per-task=1 python cli.py ...`).
"""

import os
import re
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from ablate.train.outcome import LostPeer
from analysis.exceptions import BadInput
from analysis.files import part_folder

if TYPE_CHECKING:
    from ablate.train.distributed import Processes

# What gloo, NCCL and their sockets say when another process has ended; errors with a class of their own need none.
LOST = re.compile(
    r"connection (was )?(closed|reset)|broken pipe|closed by (remote )?peer|socket timeout|remote process exited"
    r"|caused pair closure|timed out waiting \d+ms|connection refused|ncclRemoteError",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a process among those of its run.

    Attributes:
        rank: among all of them.
        count: of all.
        local_rank: among those of this machine.
        local_count: of those.
        bound: whether the scheduler shows each process its own GPU alone.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    bound: bool = False


def place_of_process() -> Place:
    """The place of this process, by the environment of torchrun, else of an srun step, else alone.

    A batch script is no step: what it starts without srun is alone, however many tasks were allocated.
    """
    if "WORLD_SIZE" in os.environ:
        rank, count, local_rank = (
            _number(name, default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        return Place(rank, count, local_rank, _number("LOCAL_WORLD_SIZE", count))
    if "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ:
        count = _number("SLURM_STEP_NUM_TASKS", _number("SLURM_NTASKS", 1))
        here = re.match(r"\d+", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        return Place(
            _number("SLURM_PROCID", 0),
            count,
            _number("SLURM_LOCALID", 0),
            int(here[0]) if here else count,
            bound=True,
        )
    return Place()


def _number(name: str, default: int) -> int:
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        raise BadInput(
            f"{name}={os.environ[name]} in the environment is not a number; start with torchrun or srun"
        ) from None


def meeting_point(place: Place) -> dict[str, str]:
    """The environment variables by which torch connects the processes; torchrun has set them already.

    Nothing of it is what `place_of_process` reads: a process that joins again is in the same place.
    """
    if not place.bound:
        return {}
    nodes = os.environ.get("SLURM_STEP_NODELIST", "")
    job, step = _number("SLURM_JOB_ID", 0), _number("SLURM_STEP_ID", 0)
    wanted = {
        "MASTER_ADDR": "127.0.0.1" if place.local_count == place.count else first_host(nodes),
        "MASTER_PORT": str(20000 + (job * 37 + step) % 10000),
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


def first_host(nodes: str) -> str:
    """The first machine of a list as Slurm writes it.

    >>> first_host("gpu[007-009,12],login"), first_host("a1,a2"), first_host("rack1-[3,5]-ib")
    ('gpu007', 'a1', 'rack1-3-ib')
    """
    first = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\])?([^,\[]*)", nodes)
    assert first is not None  # every part may be empty
    return "".join(part or "" for part in first.groups())


def gathered(value: Any, processes: "Processes") -> list[Any]:
    """A value of every process, in their order; all must call this."""
    if processes.count == 1:
        return [value]
    values: list[Any] = [None] * processes.count
    dist.all_gather_object(values, value)
    return values


def check_shared_folder(folder: Path, processes: "Processes") -> None:
    """Refuse machines that see different folders under one path; all processes must call this.

    Raises:
        BadInput: some of them do not see a folder that the first has just made; their machines are named.
    """
    if processes.count == 1:
        return
    name, wrong = "", ""
    with ExitStack() as until_seen:
        if processes.first:
            try:
                name = until_seen.enter_context(part_folder(folder / "shared")).name
            except OSError as error:
                wrong = f"{folder}: cannot be written ({error.strerror}); free space or choose another --root"
        (name, wrong), *_ = gathered((name, wrong), processes)
        seen = gathered((socket.gethostname(), (folder / name).exists()), processes)
    blind = sorted({host for host, there in seen if not there})
    if wrong or blind:
        raise BadInput(
            wrong
            or f"{folder}: this is not the same folder on {', '.join(blind)} as on {seen[0][0]}; choose a --root that "
            "all machines of the run share"
        )


def check_same_state(iteration: int, state: dict[str, Any], folder: Path, processes: "Processes") -> None:
    """Refuse processes that would continue from different checkpoints; all must call this.

    Args:
        iteration: from which this process would continue.
        state: what it has loaded: tensors, in dictionaries and lists.
        folder: of the run.
        processes: that train together.

    Raises:
        BadInput: they differ; the machines are named.
    """
    if processes.count == 1:
        return
    found = gathered((socket.gethostname(), iteration, _check_sum(state)), processes)
    other = next((number for number, one in enumerate(found) if one[1:] != found[0][1:]), None)
    if other is not None:
        (host, first, _), (other_host, its, _) = found[0], found[other]
        differ = "with other weights" if its == first else f"after iteration {its}"
        raise BadInput(
            f"{folder}: process 0 on {host} would continue after iteration {first}, and process {other} on "
            f"{other_host} {differ}; choose a --root that all machines of the run share, so that all read the same"
        )


def _check_sum(value: Any, total: int = 0) -> int:
    """CRC-32 of all tensors inside, in order."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        return zlib.crc32(flat.view(torch.uint8).numpy().data, total) if flat.numel() else total
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        total = _check_sum(item, total)
    return total


@contextmanager
def lost_peers_named(processes: "Processes") -> Iterator[None]:
    """Turn the errors by which torch reports that another process has ended into `LostPeer`."""
    try:
        yield
    except RuntimeError as error:
        if processes.count == 1 or not is_lost_peer(error):
            raise
        raise LostPeer(
            "another process of this run ended; see its own message. The saved state is not lost: run the same "
            "command to continue"
        ) from error


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process cannot be reached any more."""
    return isinstance(error, dist.DistNetworkError) or (
        isinstance(error, RuntimeError) and LOST.search(str(error)) is not None
    )
