"""Checkpoints: whole or absent, two deep, checked before they are believed."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from ablate.runs.folder import RunFolder, replacing
from analysis.exceptions import BadInput

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
        BadInput: damaged, or of another version.
    """
    try:
        # torch.load does not compare the check sums that torch.save wrote.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise BadInput(f"{path}: is damaged ({broken} does not match its check sum)")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, zipfile.BadZipFile, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise BadInput(f"{path}: is damaged ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise BadInput(f"{path}: is not a checkpoint of this version")
    return state


def load_newest(folder: RunFolder, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or none where there is none.

    ``warn`` gets a sentence on each damaged one.

    Raises:
        BadInput: there are checkpoints, and all are damaged.
    """
    paths = folder.checkpoints_newest_first()
    for path in paths:
        try:
            return load_checkpoint(path)
        except BadInput as error:
            warn(f"{error}; falling back to the checkpoint before it")
    if paths:
        raise BadInput(f"{folder.checkpoints}: every checkpoint is damaged; delete the folder to train from the start")
    return None
