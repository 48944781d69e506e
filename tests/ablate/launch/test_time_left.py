"""The estimate of a launch: right for simulated studies, and steady from look to look."""

from itertools import pairwise

import msgspec
import pytest

from ablate.launch.status import RunStatus
from ablate.launch.time_left import TimeLeft, about

ITERATIONS, PACE, AFTER = 200, 0.5, 30.0  # seconds; 130 s for each run


def status(number: int, seconds: float) -> RunStatus:
    """A run that began so many seconds ago; its measured pace swings by a tenth."""
    run = RunStatus(variant=f"v{number}", seed=0, run_id=str(number), state="waiting")
    if seconds < 0:
        return run
    training = ITERATIONS * PACE
    if seconds >= training + AFTER:
        return msgspec.structs.replace(
            run,
            state="finished",
            iteration=ITERATIONS,
            iterations=ITERATIONS,
            seconds=training + AFTER,
            seconds_after_training=AFTER,
        )
    done = min(ITERATIONS, int(seconds / PACE))
    pace = PACE * (1.1 if done // 20 % 2 else 0.9)
    return msgspec.structs.replace(
        run,
        state="running",
        phase="training" if done < ITERATIONS else "predicting",
        phase_done=max(0, int(seconds - training)),
        phase_total=int(AFTER),
        iteration=done,
        iterations=ITERATIONS,
        seconds_per_iteration=pace if done >= 20 else None,
    )


def estimates(runs: int, parallel: int) -> list[tuple[float, float]]:
    """Pairs of the true time left and the estimate, every half second."""
    each = ITERATIONS * PACE + AFTER
    whole = each * runs / parallel
    now, found = 0.0, []
    left = TimeLeft(now=lambda: now)
    while now < whole:
        looked = [status(number, now - each * (number // parallel)) for number in range(runs)]
        answer = left(looked)
        if answer is not None:
            found.append((whole - now, answer))
        now += 0.5
    return found


@pytest.mark.parametrize(("runs", "parallel"), [(4, 1), (4, 2), (1, 1)])
def test_the_estimate_is_right_and_does_not_swing(runs: int, parallel: int) -> None:
    found = estimates(runs, parallel)
    whole = found[0][0]
    for true, answer in found:
        assert abs(answer - true) < 0.2 * whole, "within a fifth of the whole from the first pace on"
    ends = [answer - true for true, answer in found]
    assert max(abs(second - first) for first, second in pairwise(ends)) < 0.02 * whole
    measured = [abs(answer - true) for true, answer in found if true < 0.4 * whole]
    if runs > parallel:
        assert max(measured) < 0.06 * whole, "once a run has ended, its phases are measured"


def test_nothing_is_said_before_a_pace_is_known() -> None:
    left = TimeLeft(now=lambda: 0.0)
    assert left([status(0, 1.0), status(1, -1)]) is None
    assert left([]) is None
    assert left([RunStatus(variant="a", seed=0, run_id="", state="blocked")]) is None


def test_runs_that_share_a_folder_count_once() -> None:
    running = status(0, 50.0)
    twice = msgspec.structs.replace(running, variant="the same")
    assert TimeLeft(now=lambda: 0.0)([running]) == TimeLeft(now=lambda: 0.0)([running, twice])


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "a few seconds"), (7, "10 s"), (59, "1 min 00 s"), (299, "5 min 00 s"), (300, "5 min")]
)
def test_durations_are_not_told_to_the_second(seconds: float, words: str) -> None:
    assert about(seconds) == words
