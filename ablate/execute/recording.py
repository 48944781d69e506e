"""The status of a run folder as its stages go on: what is written down of how a run goes and how it ends."""

import time
from typing import Literal

from ablate.execute.finished import find_fault, fingerprints
from ablate.runs.folder import FINAL, RunFolder, State, Status
from analysis.exceptions import BadInput

Phase = Literal["training", "predicting", "analysing"]


def is_done(folder: RunFolder, again: bool) -> bool:
    """Whether a run has come to a result, or, unless ``again``, to a failure; that is then not tried again.

    Raises:
        BadInput: it is finished, and lacks what cannot be made again.
    """
    status = folder.read_status()
    if status is None or status.state != "finished":
        return not again and status is not None and status.state in FINAL
    fault = find_fault(folder)
    if fault is not None and not fault.repairable:
        raise BadInput(fault.sentence)
    return fault is None


def record_end(folder: RunFolder, began: float, state: State, message: str = "") -> None:
    """Write down how a run ended, in its status and its events; ``began`` by the monotonic clock."""
    write_status(folder, state, message=message)
    folder.append_event(state, message=message, seconds=round(time.monotonic() - began, 1))


def write_status(folder: RunFolder, state: State, *, phase: Phase | None = None, message: str = "") -> None:
    """Replace the status, but for how far training is and what a finished run wrote."""
    last = folder.read_status() or Status(state="prepared")
    finished = "finished" in (state, last.state)
    folder.write_status(
        Status(
            state=state,
            phase=phase,
            message=message,
            iteration=last.iteration,
            iterations=last.iterations,
            files=last.files if state != "finished" and last.files else fingerprints(folder) if finished else {},
        )
    )
