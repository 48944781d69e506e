"""Checkpoints: written atomically, the newest two kept, and checked when they are loaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ablate.runs.folder import RunFolder, replacing
from ablate.train.memory import is_out_of_memory
from analysis.exceptions import BadInput
from analysis.files import fault_of_archive, unchanging

SCHEMA = 1
KEPT = 2


def save_checkpoint(folder: RunFolder, iteration: int, state: dict[str, Any]) -> Path:
    """Write the state after a number of optimizer steps, then delete all but the newest two."""
    path = folder.checkpoint(iteration)
    with replacing(path) as file:
        write_tensors({"schema": SCHEMA, "iteration": iteration, **state}, file)
    for old in folder.checkpoints_newest_first()[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def write_tensors(value: object, file: IO[bytes]) -> None:
    """Write what torch can save to an open file.

    Raises:
        OSError: the disk is full, or the like; torch itself hides that behind a RuntimeError about its archive.
    """
    try:
        torch.save(value, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint into main memory, data only: nothing in the file is executed.

    Not straight onto a device: there it would lie beside what it is copied into, and AdamW's step counters, which
    belong on the CPU, would cost a wait for the device each.

    Raises:
        BadInput: damaged, of another version, or of another iteration than its name says.
    """
    try:
        with unchanging(path) as file:
            fault = fault_of_archive(file)
            if fault:
                raise BadInput(f"{path}: is damaged ({fault})")
            file.seek(0)
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # whatever a loader trips over in damaged bytes
        raise BadInput(f"{path}: is damaged ({reason_of(error)})") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise BadInput(f"{path}: is not a checkpoint of this version")
    if state.get("iteration") != int(path.stem):
        raise BadInput(f"{path}: is damaged (it belongs to iteration {state.get('iteration')!r:.20})")
    return state


def evaluated_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint that are evaluated: their average over the steps, where the run keeps one."""
    weights: dict[str, Tensor] = state["ema"] if "ema" in state else state["model"]
    return weights


def reason_of(error: Exception) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def load_newest(
    folder: RunFolder, warn: Callable[[str], None], take: Callable[[dict[str, Any]], object] = lambda _: None
) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or none where there is none.

    Args:
        folder: of the run.
        warn: gets a sentence on each damaged one.
        take: takes from a checkpoint what is needed; one that lacks some of it, or whose content does not fit, is
            damaged too.

    Raises:
        BadInput: there are checkpoints, and all are damaged.
    """
    paths = folder.checkpoints_newest_first()
    for path in paths:
        try:
            state = load_checkpoint(path)
            take(state)
            return state
        except BadInput as error:
            warn(f"{error}; falling back to the checkpoint before it")
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = f"it lacks {error}" if isinstance(error, KeyError) else reason_of(error)
            warn(f"{path}: is damaged ({reason}); falling back to the checkpoint before it")
    if paths:
        raise BadInput(f"{folder.checkpoints}: every checkpoint is damaged; delete the folder to train from the start")
    return None
