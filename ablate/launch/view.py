"""Studies and their runs for people and programs: while a launch runs, in `ablate list` and `status`, and their logs.

On a terminal a launch is a table that is redrawn in place (`LiveView`), elsewhere plain lines (`PlainView`). What stays
on the screen goes through `logging`. Of logs, whole lines only are shown, each after the run that wrote it.
"""

import logging
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ablate.launch.base import LOG, View
from ablate.launch.slurm_jobs import slurm_logs
from ablate.launch.status import (
    DONE,
    FAILED,
    RunStatus,
    counts,
    launchers_folder,
    read_statuses,
    without_pretrainings,
)
from ablate.launch.time_left import TimeLeft, about
from ablate.runs.folder import SCHEMA, Workspace, open_regular, state_words
from ablate.runs.lock import machine, owners
from ablate.studies.study import Job, Study, configs_folder, make_one, study_folder
from analysis.exceptions import BadInput
from analysis.render.screen import dimmed, fact_list, fixed_width, plain_console
from analysis.render.table import Cell, Column, Table
from analysis.shell import shell_command

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
BAR_WIDTHS = (16, 12, 8, 6)  # the widest that fits is drawn, and none where none fits
SHORTEST_NAME = 8  # of a variant, where it has to be cut
DONE_PART, LEFT_PART = "━", "─"
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
NUMBERS = ("seed", "loss", "AP", "time", "variants", "seeds")  # columns that stand on the right
URGENCY = ("running", "failed", "diverged", "damaged", "interrupted", "waiting", "out_of_memory", "blocked", "finished")


class PlainView:
    """Lines: one when a run changes its state, and of running ones every `SECONDS_BETWEEN_LINES`.

    Args:
        clock: seconds that only grow.
        where: to look for more, a line each.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, where: Sequence[str] = ()) -> None:
        self._clock, self._where = clock, where
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
            for line in self._where:
                logger.info(line)
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
    """A table that is redrawn in place on standard error, inside of `live`; what is logged meanwhile stays above it.

    Args:
        title: of the study.
        where: to look for more, a line each; left out where the terminal is low.
    """

    def __init__(self, title: str, where: Sequence[str] = ()) -> None:
        self._title, self._where, self._began = title, where, time.monotonic()
        self._time_left = TimeLeft()
        self._console = plain_console(stderr=True)
        self.live = Live(console=self._console, auto_refresh=False, transient=True)

    def update(self, statuses: list[RunStatus], stopping: str) -> None:
        """See `View.update`."""
        width, height = self._console.width, self._console.height
        head = f"{self._title}: {summary_words(statuses)}, {clock(time.monotonic() - self._began)} so far"
        left = self._time_left(statuses)
        if left is not None:
            head += f", about {about(left)} left"
        foot = [stopping_words(stopping) if stopping else "Ctrl-C stops and saves; run the same command to continue"]
        below = [*foot, *self._where]
        if _lines_of([head, *below], width) + len(statuses) + 2 > height:
            below = foot
        of_runs = self._time_left.of_runs
        table = runs_table(statuses, height - _lines_of([head, *below], width) - 2, width, NOTE_WIDTH, of_runs)
        try:
            texts = (Text(line, style="dim", overflow="fold") for line in below)
            self.live.update(Group(Text(head, style="bold"), table, *texts), refresh=True)
        except OSError:  # the terminal was closed, and what runs goes on
            self._console.quiet = True


def _lines_of(texts: Sequence[str], width: int) -> int:
    """How many lines of a terminal they take."""
    return sum(max(1, -(-len(text) // max(1, width))) for text in texts)


@contextmanager
def view_for(workspace: Workspace, study: Study) -> Iterator[View]:
    """The view of a launch of a study that fits standard error: lines without a terminal, none with ``--quiet``."""
    where = [f"{name + ':':8} {what}" for name, what in where_to_look(workspace, study)]
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.WARNING):
        yield PlainView(where=where)
        return
    view = LiveView(study.name, where)
    view.live.start()
    try:
        yield view
    finally:
        with suppress(OSError):  # the terminal was closed
            view.live.stop()


def where_to_look(workspace: Workspace, study: Study) -> list[tuple[str, str]]:
    """Commands and paths that show more of a study: its logs, its curves, its files."""
    runs = shlex.quote(str(workspace.results / "runs"))
    logs = shell_command("ablate", "logs", root=workspace.root, study=study.name)
    found = [] if study.is_adopted else [("logs", logs)]  # of which nothing was run here
    found += [] if study.is_foreign else [("curves", f"tensorboard --logdir {runs}")]
    return [*found, ("files", f"{runs}, {shlex.quote(str(study_folder(workspace, study.name)))}")]


def runs_table(
    statuses: Sequence[RunStatus],
    height: int = UNLIMITED,
    width: int = UNLIMITED,
    note_width: int = UNLIMITED,
    left: Mapping[str, float] | None = None,
) -> Table:
    """One row per run.

    Args:
        statuses: of the runs.
        height: lines; of more runs, the ones that matter now are shown and the others are counted.
        width: characters; where they are not enough, notes are cut, then bars shortened, then columns left out.
        note_width: characters of the longest note.
        left: run id -> seconds that a run still takes; of others, what is left of their training.
    """
    shown = list(statuses)
    if len(shown) > max(3, height):
        first = sorted(statuses, key=lambda status: URGENCY.index(status.state))[: max(3, height) - 1]
        shown = [status for status in statuses if status in first][: len(first)]
    heads, rows, room = _fitting(shown, width, left or {})
    note_width = min(note_width, max(0, room))
    state_place = heads.index("state")
    table_rows: list[tuple[str | Cell, ...]] = [
        (
            *row[:state_place],
            Cell(row[state_place], style=STYLES.get(status.state, "dim")),
            *row[state_place + 1 :],
            Cell(_cut(_note(status), note_width), style="dim"),
        )
        for status, row in zip(shown, rows, strict=True)
    ]
    if len(shown) < len(statuses):
        table_rows.append((Cell(f"and {len(statuses) - len(shown)} more", style="dim"), *[""] * len(heads)))
    return Table("", _columns((*heads, "")), tuple(table_rows))


def _fitting(
    statuses: Sequence[RunStatus], width: int, left: Mapping[str, float]
) -> tuple[tuple[str, ...], list[tuple[str, ...]], int]:
    """Heads and rows that fit a width, and what is left of it for notes.

    Where it is not enough, first the bars become shorter; then the seed is left out where it is one, the bars, the
    loss; at last the names of variants are cut.
    """
    heads = ("variant", "seed", "state", "progress", "loss", "AP", "time")
    dispensable = ["seed"] * (len({status.seed for status in statuses}) < 2)
    attempts = [(bar_width, tuple[str, ...]()) for bar_width in BAR_WIDTHS]
    attempts += [(bar_width, tuple(dispensable)) for bar_width in (BAR_WIDTHS[-1], 0)]
    attempts.append((0, (*dispensable, "loss")))
    for bar_width, dropped in attempts:
        kept = [place for place, head in enumerate(heads) if head not in dropped]
        cells = [_cells(status, bar_width, left.get(status.run_id)) for status in statuses]
        rows = [tuple(row[place] for place in kept) for row in cells]
        chosen = tuple(heads[place] for place in kept)
        room = width - sum(max(map(len, column)) + GAP for column in zip(chosen, *rows, strict=True))
        if room >= 0:
            return chosen, rows, room
    longest = max(SHORTEST_NAME, max((len(status.variant) for status in statuses), default=0) + room)
    return chosen, [(_cut(variant, longest), *others) for variant, *others in rows], 0


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
    if status.state == "finished" and status.ap is not None:
        took = "" if status.seconds is None else f", {clock(status.seconds)}"
        return f"finished, box AP {status.ap:.1f}{took}"
    if status.state != "running":
        return ": ".join(part for part in (state_words(status.state), _message(status)) if part)
    loss = "" if status.loss is None else f", loss {status.loss:.3f}"
    if status.phase != "training" or not status.iterations:
        return f"{status.phase or 'running'}{loss}"
    left = "" if status.remaining is None else f", {clock(status.remaining)} left"
    return f"iteration {status.iteration} of {status.iterations}{loss}{left}"


def stopping_words(who: str) -> str:
    """The message after a stop was requested."""
    return f"stopping ({who}): every run saves its state; stop again to end them at once"


def clock(seconds: float) -> str:
    """A duration in two units at most."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _cells(status: RunStatus, bar_width: int, left: float | None) -> tuple[str, ...]:
    """Variant, seed, state, progress, loss, AP, and the time that it took or that is left."""
    runs = status.state == "running"
    seconds = status.remaining if left is None else left
    took = clock(status.seconds) if status.seconds is not None else ""
    return (
        status.variant,
        str(status.seed),
        status.phase if runs and status.phase else _queued_word(status) or state_words(status.state),
        _progress(status, bar_width),
        f"{status.loss:.3f}" if runs and status.loss is not None else "",
        f"{status.ap:.1f}" if status.ap is not None else "",
        f"{clock(seconds)} left" if runs and seconds else took,
    )


def _progress(status: RunStatus, bar_width: int) -> str:
    """A bar of iterations, or of images for a run that predicts, with their numbers; without a bar for what is done."""
    runs = status.state == "running"
    if runs and status.phase == "predicting" and status.phase_total:
        done, of, unit = status.phase_done, status.phase_total, " images"
    else:
        done, of, unit = status.iteration, status.iterations, ""
    if not of or not (done or runs):
        return ""
    filled = round(min(1.0, done / of) * bar_width)
    bar = f"{DONE_PART * filled}{LEFT_PART * (bar_width - filled)} " if bar_width and status.state not in DONE else ""
    return f"{bar}{done:,}/{of:,}{unit}"


def _queued_word(status: RunStatus) -> str:
    """The state of its job in a cluster's queue before the run itself has one; empty if there is no job."""
    if status.state not in ("waiting", "interrupted") or status.queue is None or not status.queue.is_live:
        return ""
    return {"": "", "RUNNING": "starting"}.get(status.queue.state, "queued")  # empty: Slurm cannot be asked


def _note(status: RunStatus) -> str:
    job = status.queue if status.state in ("waiting", "interrupted", "running") else None
    if job is not None and (job.is_live or status.state == "waiting"):
        return job.words
    if status.owner is not None and status.state == "running":
        return "" if status.owner.machine == machine() else f"on {status.owner.host}"
    told = (*FAILED, "interrupted", "blocked", "out_of_memory", "finished")
    message = _message(status) if status.state in told else ""
    return "; ".join(filter(None, (message, job.words if job is not None else "", status.older)))


def _message(status: RunStatus) -> str:
    """The message of the status, without the folder, which is shown elsewhere."""
    if not status.run_id:
        return status.message
    place, colon, said = status.message.rpartition(f"/{status.run_id}: ")[2].partition(": ")
    return place.rpartition(f"/{status.run_id}/")[2] + colon + said


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
    """A row a run, who is launching, and where to look; of a study that is done, what its variants score."""
    who = ", ".join(
        f"{owner}, since {owner.since[:16].replace('T', ' ')} UTC"
        for owner in owners(launchers_folder(workspace, study.name))
    )
    return [
        Text(f"{study.name}: {summary_words(statuses)}", style="bold"),
        Text(f"launched by {who}" if who else "no launcher is running", style="dim"),
        Text(""),
        runs_table(statuses, width=fixed_width() or UNLIMITED),
        *_results_of(workspace, study, statuses),
        Text(""),
        fact_list([(name, what) for name, what in where_to_look(workspace, study)]),
    ]


def _results_of(workspace: Workspace, study: Study, statuses: Sequence[RunStatus]) -> list[RenderableType]:
    """The scores of a study's variants, if every run that can be done is done; else nothing."""
    runs = without_pretrainings(statuses)
    if not any(run.state == "finished" for run in runs) or any(run.state not in (*DONE, "blocked") for run in runs):
        return []
    from ablate.studies.results import summarise
    from ablate.studies.tables import scores_table

    try:
        table = scores_table(summarise(workspace, study))
    except BadInput as error:
        return [Text(""), Text(f"no table: {error}")]
    whole = shell_command("ablate", "table", root=workspace.root, study=study.name)
    return [Text(""), table, dimmed(f"Errors and costs: {whole}")]


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
