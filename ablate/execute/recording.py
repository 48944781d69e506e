"""Write the status of a run folder: the progress of its stages, and how the run ended."""

import math
import time
from contextlib import suppress
from typing import Literal

import msgspec

from ablate.execute.finished import find_fault, fingerprints
from ablate.runs.folder import FAILURES, FINAL, RunFolder, State, Status, kind_of, now
from analysis.exceptions import BadInput

PROGRESS_SECONDS = 2.0
Phase = Literal["training", "predicting", "analysing"]


def check_planned(planned: str, found: str, what: str) -> None:
    """Refuse a run or a pre-training whose id differs from the planned one.

    Args:
        planned: its name; empty where it was not planned.
        found: its id now.
        what: it is named by, beside this program.

    Raises:
        BadInput: the names differ.
    """
    if planned and planned != found:
        who = planned if kind_of(planned) == "pretraining" else f"run {planned}"
        raise BadInput(
            f"{who}: its {what} or this program changed since it was planned (its run id is now {found}); plan the "
            "study again with another --name"
        )


def is_done(folder: RunFolder, again: bool) -> bool:
    """Whether a run has a result or, unless ``again``, has failed; a failed run is then not tried again.

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


class PhaseProgress:
    """Writes the progress of a phase into the status of a run, not at every step; for `ablate.progress.listening`.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._written = folder, -math.inf

    def __call__(self, done: int, total: int) -> None:
        """Write the progress, if the last time is long enough ago."""
        if time.monotonic() - self._written < PROGRESS_SECONDS:
            return
        self._written = time.monotonic()
        with suppress(OSError):  # it is only looked at
            self._folder.update_status(
                lambda last: (
                    msgspec.structs.replace(last, phase_done=done, phase_total=total, updated=now())
                    if last.state == "running"
                    else None
                )
            )


def record_end(folder: RunFolder, began: float, state: State, message: str = "", *, over_failure: bool = True) -> None:
    """Write down how a run ended, in its status and its events.

    Args:
        folder: of a run or a pre-training.
        began: by the monotonic clock.
        state: the last one.
        message: of the state.
        over_failure: also where another process has written a failure.
    """
    if write_status(folder, state, message=message, over_failure=over_failure):
        folder.append_event(state, message=message, seconds=round(time.monotonic() - began, 1))


def write_status(
    folder: RunFolder, state: State, *, phase: Phase | None = None, message: str = "", over_failure: bool = True
) -> bool:
    """Replace the status, but keep the iterations and the files of a finished run -> whether it was replaced.

    Args:
        folder: of a run or a pre-training.
        state: the new one.
        phase: the new one.
        message: the new one.
        over_failure: also where the last one is a failure.
    """
    replaced = False

    def change(last: Status) -> Status | None:
        nonlocal replaced
        replaced = over_failure or last.state not in FAILURES
        if not replaced:
            return None
        finished = "finished" in (state, last.state)
        files = last.files if state != "finished" and last.files else fingerprints(folder) if finished else {}
        return Status(
            state=state,
            phase=phase,
            message=message,
            iteration=last.iteration,
            iterations=last.iterations,
            files=files,
        )

    folder.update_status(change)
    return replaced
