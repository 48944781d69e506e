"""How long a study still takes: starting, training, predicting and evaluating, and an estimate that does not swing.

What a run takes is measured where it can be: the pace of its iterations and of its predictions, how long runs took to
start, and of runs that have ended the time after training. Before any of that is known, `SHARE_AFTER` of the training
stands for prediction and evaluation. Each look gives an instant at which the study would end; what is shown is the mean
of these instants, in which the newest weigh most.
"""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median

from ablate.launch.status import RunStatus

START_SECONDS = 5.0  # of a run, before its training; measured as soon as one has started
SHARE_AFTER, LEAST_AFTER = 0.1, 5.0  # of the training, and seconds; measured as soon as a run predicts
SHORTEST_SHARE = 0.05  # of a phase, for one that takes longer than expected
MEMORY = (2.0, 60.0)  # seconds after which a look weighs a third: a fifth of the time left, within these


class TimeLeft:
    """The time until the last run of a study has ended, from look to look.

    Args:
        now: seconds that only grow.

    Attributes:
        of_runs: run id -> seconds that a running run still takes, as of the last look.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.of_runs: dict[str, float] = {}
        self._phases: dict[str, tuple[str, float]] = {}  # of running runs: phase, and when it was first seen
        self._predicted: dict[str, tuple[float, int]] = {}  # when images were first seen to be predicted, how many
        self._starts: list[float] = []  # seconds
        self._end: float | None = None  # the smoothed instant
        self._looked = now()

    def __call__(self, statuses: Sequence[RunStatus]) -> float | None:
        """Seconds until the last run has ended; none while nothing is known of their pace."""
        now = self._now()
        runs = list({status.run_id: status for status in statuses if status.run_id}.values())
        self._note_phases(runs, now)
        left = self._seconds(runs, now)
        elapsed, self._looked = now - self._looked, now
        if left is None:
            return None
        if self._end is None:
            self._end = now + left
        memory = min(max(left / 5, MEMORY[0]), MEMORY[1])
        self._end += (now + left - self._end) * (1 - math.exp(-elapsed / memory))
        return max(0.0, self._end - now)

    def _note_phases(self, runs: Sequence[RunStatus], now: float) -> None:
        for run in runs:
            before = self._phases.get(run.run_id)
            if run.state != "running":
                self._phases.pop(run.run_id, None)
            elif before is None or before[0] != (run.phase or ""):
                if before is not None and before[0] == "starting":
                    self._starts.append(now - before[1])
                self._phases[run.run_id] = run.phase or "", now
            if run.phase == "predicting" and run.phase_done:
                self._predicted.setdefault(run.run_id, (now, run.phase_done))

    def _seconds(self, runs: Sequence[RunStatus], now: float) -> float | None:
        self.of_runs = {}
        ended = [run for run in runs if run.state == "finished" and run.seconds and run.iterations]
        paces = [run.seconds_per_iteration for run in runs if run.seconds_per_iteration and run.state == "running"]
        paces = paces or [_training(run) / run.iterations for run in ended]
        lengths = [run.iterations for run in runs if run.iterations]
        if not paces or not lengths:
            return None
        pace, length = median(paces), round(median(lengths))
        start = median(self._starts) if self._starts else START_SECONDS
        after = self._after(runs, ended, now)
        if after is None:
            after = max(LEAST_AFTER, SHARE_AFTER * pace * length)
        for run in runs:
            if run.state == "running":
                self.of_runs[run.run_id] = self._running(run, pace, length, start, after, now)
        waiting = [
            start + ((run.iterations or length) - run.iteration) * pace + after
            for run in runs
            if run.state in ("waiting", "interrupted")
        ]
        running = list(self.of_runs.values())
        return max([*running, (sum(running) + sum(waiting)) / max(1, len(running))])

    def _after(self, runs: Sequence[RunStatus], ended: Sequence[RunStatus], now: float) -> float | None:
        """Seconds after training: of runs that have ended, else of those that predict; none where neither is known."""
        known = [run.seconds_after_training for run in ended if run.seconds_after_training is not None]
        if known:
            return median(known)
        left = {run.run_id: self._prediction(run, now) for run in runs if run.state == "running"}
        whole = [now - self._phases[run_id][1] + seconds for run_id, seconds in left.items() if seconds is not None]
        return median(whole) if whole else None

    def _prediction(self, run: RunStatus, now: float) -> float | None:
        """Seconds of prediction that are left, at the pace since its first look; none where that is not known."""
        since, first = self._predicted.get(run.run_id, (now, run.phase_done))
        if run.phase != "predicting" or run.phase_done <= first:
            return None
        return (run.phase_total - run.phase_done) * (now - since) / (run.phase_done - first)

    def _running(self, run: RunStatus, pace: float, length: int, start: float, after: float, now: float) -> float:
        phase, since = self._phases[run.run_id]
        spent, left = now - since, (run.iterations or length) - run.iteration
        predicting = self._prediction(run, now)
        if predicting is not None:
            return max(predicting, SHORTEST_SHARE * after)
        if phase in ("predicting", "analysing") or left <= 0:
            return max(after - spent, SHORTEST_SHARE * after)
        begins = max(start - spent, 0.0) if phase == "starting" else 0.0
        return begins + left * (run.seconds_per_iteration or pace) + after


def _training(run: RunStatus) -> float:
    """Seconds of training of a run that has ended."""
    return max(0.0, (run.seconds or 0.0) - (run.seconds_after_training or 0.0))


def about(seconds: float) -> str:
    """A duration that is not known to the second.

    >>> about(4), about(34), about(100), about(754), about(5400)
    ('a few seconds', '30 s', '1 min 40 s', '13 min', '1 h 30 min')
    """
    if seconds < 5:
        return "a few seconds"
    if seconds < 300:
        minutes, rest = divmod(round(seconds, -1), 60)
        return f"{minutes:.0f} min {rest:02.0f} s" if minutes else f"{max(10, rest):.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
