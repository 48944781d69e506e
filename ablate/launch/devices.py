"""The devices of this machine, each of which one run at a time has for itself."""

import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ablate.lease import Held, holding, owners
from analysis.refusal import BadInput

CPU = "cpu"
PATIENCE_SECONDS = 1.0  # between two looks for a device that is free


def slot_folder(slot: str) -> Path:
    """Where the processes of this machine, and of this user, that want a device for themselves see each other.

    Args:
        slot: `CPU`, or a GPU as CUDA_VISIBLE_DEVICES names it.
    """
    name = slot if slot == CPU else f"gpu-{slot.replace('/', '_')}"
    folder = Path(tempfile.gettempdir()) / f"detablate-{os.getuid()}" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def slots_of(device: str, gpus_per_run: int) -> tuple[str, ...]:
    """The names of the devices to run on: visible GPUs, as CUDA_VISIBLE_DEVICES takes them, or the CPU as one.

    Raises:
        BadInput: GPUs are demanded that are not there.
    """
    gpus: tuple[str, ...] = ()
    if device != "cpu":
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = tuple(named.split(",") if named is not None else map(str, range(count)))[:count]
    if device == "cuda" and not gpus:
        raise BadInput("--device cuda: no CUDA device is visible to PyTorch; choose --device cpu or auto")
    if gpus_per_run > max(1, len(gpus)):
        raise BadInput(f"--gpus-per-run {gpus_per_run}: {len(gpus)} GPUs are visible here; choose at most that many")
    return gpus or (CPU,)


def free_slots(slots: Collection[str], taken: Collection[str]) -> list[str]:
    """Those that neither this launch nor another process uses."""
    return [slot for slot in slots if slot not in taken and not owners(slot_folder(slot))]


@contextmanager
def holding_slots(slots: Collection[str]) -> Iterator[None]:
    """Have devices of this machine for oneself.

    Raises:
        Held: another process has one of them.
    """
    with ExitStack() as stack:
        for slot in slots:
            stack.enter_context(holding(slot_folder(slot), f"device {slot}"))
        yield


@contextmanager
def waiting_for_first(device: str) -> Iterator[None]:
    """Have the device for oneself that torch takes by itself (the first GPU, or the CPU), once it is free.

    Args:
        device: auto, cpu or cuda.
    """
    first = slots_of(device, 1)[:1]
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(holding_slots(first))
                break
            except Held:
                time.sleep(PATIENCE_SECONDS)
        yield
