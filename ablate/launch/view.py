"""Studies and their runs for people and programs: while a launch runs, in `ablate list` and `status`, and their logs.

On a terminal a launch is a table that is redrawn in place (`LiveView`), elsewhere plain lines (`PlainView`). What stays
on the screen goes through `logging`. Of logs, whole lines only are shown, each after the run that wrote it.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ablate.launch.base import LOG, View
from ablate.launch.slurm_jobs import slurm_logs
from ablate.launch.status import DONE, FAILED, RunStatus, counts, launchers_folder, read_statuses
from ablate.runs.folder import SCHEMA, Workspace, open_regular
from ablate.runs.lock import machine, owners
from ablate.studies.study import Job, Study, configs_folder, make_one, state_words
from analysis.render.screen import plain_console
from analysis.render.table import Cell, Column, Table

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
LEAST_SHARE = 0.02  # of a study, before its end can be guessed
BAR_WIDTH = 16
NOTE_WIDTH = 30  # of a table that must not grow while one looks
GAP = 2  # characters between two columns
UNLIMITED = 10**9
STYLES = {
    "finished": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "damaged": "red",
    "out_of_memory": "yellow",
}
NUMBERS = ("seed", "loss", "left", "variants", "seeds")  # columns that stand on the right
URGENCY = ("running", "failed", "diverged", "damaged", "interrupted", "waiting", "out_of_memory", "blocked", "finished")


class PlainView:
    """Lines: one when a run changes its state, and of running ones every `SECONDS_BETWEEN_LINES`.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[tuple[str, int], str] = {}
        self._last_lines = clock()
        self._stopping = ""

    def update(self, statuses: list[RunStatus], stopping: str) -> None:
        """See `View.update`."""
        if stopping and not self._stopping:
            self._stopping = stopping
            logger.info(stopping_words(stopping))
        if not self._states:
            logger.info(", ".join(f"{number} {state_words(state)}" for state, number in counts(statuses).items()))
        due = self._clock() - self._last_lines > SECONDS_BETWEEN_LINES
        for status in statuses:
            key = (status.variant, status.seed)
            # Before the first look nothing has changed.
            changed = self._states.get(key, status.state) != status.state
            self._states[key] = status.state
            if changed or (status.state == "running" and due):
                logger.info(f"{status.label}: {line_words(status)}")
        if due:
            self._last_lines = self._clock()


class LiveView:
    """A table that is redrawn in place on standard error, inside of `live`; what is logged meanwhile stays above it."""

    def __init__(self, title: str) -> None:
        self._title, self._began = title, time.monotonic()
        self._share_before: float | None = None
        self._console = plain_console(stderr=True)
        self.live = Live(console=self._console, auto_refresh=False, transient=True)

    def update(self, statuses: list[RunStatus], stopping: str) -> None:
        """See `View.update`."""
        spent, share = time.monotonic() - self._began, _share(statuses)
        if self._share_before is None:
            self._share_before = share
        head = f"{self._title}: {summary_words(statuses)}, {clock(spent)} so far"
        if share - self._share_before >= LEAST_SHARE:
            head += f", about {clock(spent * (1 - share) / (share - self._share_before))} to go"
        foot = stopping_words(stopping) if stopping else "Ctrl-C stops cleanly, the same command continues"
        table = runs_table(statuses, self._console.height - 4, self._console.width, NOTE_WIDTH)
        try:
            self.live.update(Group(Text(head, style="bold"), table, Text(foot, style="dim")), refresh=True)
        except OSError:  # the terminal was closed, and what runs goes on
            self._console.quiet = True


@contextmanager
def view_for(title: str) -> Iterator[View]:
    """The view that fits standard error: lines where there is no terminal, and none of them with ``--quiet``."""
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.WARNING):
        yield PlainView()
        return
    view = LiveView(title)
    view.live.start()
    try:
        yield view
    finally:
        with suppress(OSError):  # the terminal was closed
            view.live.stop()


def runs_table(
    statuses: Sequence[RunStatus], height: int = UNLIMITED, width: int = UNLIMITED, note_width: int = UNLIMITED
) -> Table:
    """A row a run.

    Args:
        statuses: of the runs.
        height: lines; of more runs, the ones that matter now are shown and the others are counted.
        width: characters; where they are not enough, notes are cut, then the bars of progress left out.
        note_width: characters of the longest note.
    """
    shown = list(statuses)
    if len(shown) > max(3, height):
        first = sorted(statuses, key=lambda status: URGENCY.index(status.state))[: max(3, height) - 1]
        shown = [status for status in statuses if status in first][: len(first)]
    heads = ("variant", "seed", "state", "iterations", "loss", "left")
    for bar_width in (BAR_WIDTH, 0):
        rows = [_cells(status, bar_width) for status in shown]
        room = width - sum(max(map(len, column)) + GAP for column in zip(heads, *rows, strict=True))
        if room >= 0:
            break
    note_width = min(note_width, max(0, room))
    table_rows: list[tuple[str | Cell, ...]] = [
        (
            variant,
            seed,
            Cell(state, style=STYLES.get(status.state, "dim")),
            *others,
            Cell(_cut(_note(status), note_width), style="dim"),
        )
        for status, (variant, seed, state, *others) in zip(shown, rows, strict=True)
    ]
    if len(shown) < len(statuses):
        table_rows.append((Cell(f"and {len(statuses) - len(shown)} more", style="dim"), *[""] * len(heads)))
    return Table("", _columns((*heads, "")), tuple(table_rows))


def _columns(heads: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(head, kind="number" if head in NUMBERS else "text") for head in heads)


def summary_words(statuses: Sequence[RunStatus]) -> str:
    """How many runs are done, how many are in every other state, and how many were made by an older rule."""
    numbers = counts(statuses)
    done = sum(numbers.get(state, 0) for state in DONE)
    others = [f"{number} {state_words(state)}" for state, number in numbers.items() if state not in DONE]
    queued = len({status.run_id for status in statuses if _queued_word(status) == "queued"})
    others += [f"{queued} queued"] if queued else []
    rules = Counter({status.run_id: status.older for status in statuses if status.older}.values())
    older = [f"{number} {rule}" for rule, number in rules.items()]
    return ", ".join([f"{done} of {sum(numbers.values())} runs done", *others, *older])


def line_words(status: RunStatus) -> str:
    """A run in one line."""
    if status.state != "running":
        return ": ".join(part for part in (state_words(status.state), _message(status)) if part)
    loss = "" if status.loss is None else f", loss {status.loss:.3f}"
    if status.phase != "training" or not status.iterations:
        return f"{status.phase or 'running'}{loss}"
    left = "" if status.remaining is None else f", {clock(status.remaining)} left"
    return f"iteration {status.iteration} of {status.iterations}{loss}{left}"


def stopping_words(who: str) -> str:
    """What happens after somebody asked to stop."""
    return f"stopping ({who}): every run saves what it has; once more stops at once"


def clock(seconds: float) -> str:
    """A duration in two units at most."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _share(statuses: Sequence[RunStatus]) -> float:
    """How much of what can be run is done, 0 to 1."""
    able = {status.run_id: status for status in statuses if status.state not in (*FAILED, "blocked")}
    return sum(status.share for status in able.values()) / max(1, len(able))


def _cells(status: RunStatus, bar_width: int) -> tuple[str, ...]:
    """Variant, seed, state, progress, loss and the time that is left."""
    runs, progress = status.state == "running", ""
    if status.iterations and (status.iteration or runs):
        bar = f"{'━' * round(status.share * bar_width):{bar_width}} " if bar_width and status.state not in DONE else ""
        progress = f"{bar}{status.iteration:,}/{status.iterations:,}"
    return (
        status.variant,
        str(status.seed),
        status.phase if runs and status.phase else _queued_word(status) or state_words(status.state),
        progress,
        f"{status.loss:.3f}" if runs and status.loss is not None else "",
        clock(status.remaining) if runs and status.remaining is not None else "",
    )


def _queued_word(status: RunStatus) -> str:
    """What its job in the queue of a cluster does before the run says something itself; empty where it has none."""
    if status.state not in ("waiting", "interrupted") or status.queue is None or not status.queue.is_live:
        return ""
    return {"": "", "RUNNING": "starting"}.get(status.queue.state, "queued")  # empty: Slurm cannot be asked


def _note(status: RunStatus) -> str:
    job = status.queue if status.state in ("waiting", "interrupted", "running") else None
    if job is not None and (job.is_live or status.state == "waiting"):
        return job.words
    if status.owner is not None and status.state == "running":
        return "" if status.owner.machine == machine() else f"on {status.owner.host}"
    message = _message(status) if status.state in (*FAILED, "interrupted", "blocked", "out_of_memory") else ""
    return "; ".join(filter(None, (message, job.words if job is not None else "", status.older)))


def _message(status: RunStatus) -> str:
    """What the status says, without the folder, which is known."""
    return status.message.rpartition(f"/{status.run_id}: ")[2] if status.run_id else status.message


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]


class ViewLine(NamedTuple):
    """A line of a run's log."""

    run: str  # its variant, with :SEED where there are several
    text: str


class Logs:
    """The logs of some runs, read on from where they were left.

    Args:
        workspace: above `results/`.
        jobs: runs and pre-trainings whose logs; those that share a folder are read once.
        study: what its jobs in Slurm said is shown behind; empty for the runs' own logs alone.
    """

    def __init__(self, workspace: Workspace, jobs: Sequence[Job], study: str = "") -> None:
        seeds = len({job.seed for job in jobs}) > 1
        names: dict[str, str] = {}
        for job in jobs:
            names.setdefault(job.run_id, f"{job.variant}:{job.seed}" if seeds else job.variant)
        self._named = len(names) > 1
        logs = {name: [workspace.job_folder(run_id).path / LOG] for run_id, name in names.items()}
        for run_id, name in names.items() if study else ():
            logs[name] += slurm_logs(workspace, study, run_id)
        self._logs = [(name, path) for name, paths in logs.items() for path in paths]
        self._read = {path: 0 for _, path in self._logs}

    def shown(self, line: ViewLine) -> str:
        """A line for a person, after its run where there are several."""
        return f"{line.run}: {line.text}" if self._named else line.text

    def new(self, most: int = UNLIMITED) -> Iterator[ViewLine]:
        """The lines since the last look, at most so many of each run."""
        for name, path in self._logs:
            try:
                with open_regular(path) as file:
                    file.seek(self._read[path])
                    content = file.read()
            except OSError:
                continue  # not begun
            whole = content[: content.rfind(b"\n") + 1]
            self._read[path] += len(whole)
            lines = whole.decode("utf-8", "replace").splitlines()
            yield from (ViewLine(name, text) for text in lines[max(0, len(lines) - most) :])


def studies_screen(workspace: Workspace, studies: Sequence[Study]) -> list[RenderableType]:
    """A row a study."""
    if not studies:
        return [Text(f"no study under {workspace.root.absolute()} yet; {make_one(workspace)}")]
    rows = tuple(
        (
            Cell(study.name, bold=True),
            study.axis if study.product is None else f"{study.axis} x {study.product}",
            len(study.variants),
            len(study.seeds),
            summary_words(read_statuses(workspace, study)),
            study.planned[:16].replace("T", " "),
        )
        for study in studies
    )
    return [Table("", _columns(("study", "axis", "variants", "seeds", "runs", "planned (UTC)")), rows)]


def studies_document(workspace: Workspace, studies: Sequence[Study]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "schema": SCHEMA,
        "studies": [
            {
                "name": study.name,
                "axis": study.axis,
                "product": study.product,
                "baseline": study.baseline,
                "variants": study.variants,
                "seeds": study.seeds,
                "planned": study.planned,
                "configs": str(configs_folder(workspace, study.name)),
                "runs": counts(read_statuses(workspace, study)),
            }
            for study in studies
        ],
    }


def status_screen(workspace: Workspace, study: Study, statuses: Sequence[RunStatus]) -> list[RenderableType]:
    """A row a run, and who is launching."""
    who = ", ".join(
        f"{owner}, since {owner.since[:16].replace('T', ' ')} UTC"
        for owner in owners(launchers_folder(workspace, study.name))
    )
    return [
        Text(f"{study.name}: {summary_words(statuses)}", style="bold"),
        Text(f"launched by {who}" if who else "no launcher is running", style="dim"),
        Text(""),
        runs_table(statuses),
    ]


def status_document(workspace: Workspace, study: Study, statuses: Sequence[RunStatus]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "schema": SCHEMA,
        "study": study.name,
        "axis": study.axis,
        "launchers": msgspec.to_builtins(owners(launchers_folder(workspace, study.name))),
        "counts": counts(statuses),
        "runs": [
            {
                **msgspec.to_builtins(status),
                "seconds_left": status.remaining,
                "folder": str(workspace.job_folder(status.run_id).path) if status.run_id else None,
            }
            for status in statuses
        ],
    }
