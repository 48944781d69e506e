"""A study on the screen while it runs: a table that lives on a terminal, plain lines elsewhere.

What the workers of runs said, whole lines only, each after the run that said it.

Studies and their runs as `ablate list` and `ablate status` show them.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ablate.launch.base import LOG
from ablate.launch.status import DONE, FAILED, RunStatus, counts, launchers_folder, standings
from ablate.runs.folder import SCHEMA, Workspace
from ablate.runs.lock import machine, owners
from ablate.shell import shell_command
from ablate.studies.study import Job, Study, configs_folder

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


SECONDS_BETWEEN_LINES = 30.0
LEAST_SHARE = 0.02  # of a study, before its end can be guessed
BAR_WIDTH = 16
NOTE_WIDTH = 30  # of a table that must not grow while one looks
STYLES = {"finished": "green", "running": "cyan", "failed": "red", "diverged": "red", "out_of_memory": "yellow"}
URGENCY = ("running", "failed", "diverged", "interrupted", "waiting", "out_of_memory", "blocked", "finished")


class PlainView:
    """Lines: one when a run changes its state, and of running ones every `SECONDS_BETWEEN_LINES`.

    Args:
        write: takes a line.
        clock: seconds that only grow.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._states: dict[tuple[str, int], str] = {}
        self._said = clock()
        self._stopping = ""

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def update(self, found: list[RunStatus], stopping: str) -> None:
        """See `View.update`."""
        if stopping and not self._stopping:
            self._stopping = stopping
            self._write(stopping_words(stopping))
        if not self._states:
            self._write(", ".join(f"{number} {state_words(state)}" for state, number in counts(found).items()))
        due = self._clock() - self._said > SECONDS_BETWEEN_LINES
        for standing in found:
            key = (standing.variant, standing.seed)
            # Before the first look nothing has changed.
            changed = self._states.get(key, standing.state) != standing.state
            self._states[key] = standing.state
            if changed or (standing.state == "running" and due):
                self._write(f"{standing.variant}, seed {standing.seed}: {line_words(standing)}")
        if due:
            self._said = self._clock()

    def say(self, line: str) -> None:
        """See `View.say`."""
        self._write(line)


class LiveView:
    """A table that is redrawn in place, on standard error."""

    def __init__(self, title: str) -> None:
        from rich.live import Live

        from analysis.render.screen import plain_console

        self._title, self._began = title, time.monotonic()
        self._share_before: float | None = None
        self._console = plain_console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, found: list[RunStatus], stopping: str) -> None:
        """See `View.update`."""
        from rich.console import Group
        from rich.text import Text

        spent, share = time.monotonic() - self._began, _share(found)
        if self._share_before is None:
            self._share_before = share
        head = f"{self._title}: {summary_words(found)}, {clock(spent)} so far"
        if share - self._share_before >= LEAST_SHARE:
            head += f", about {clock(spent * (1 - share) / (share - self._share_before))} to go"
        foot = stopping_words(stopping) if stopping else "Ctrl-C stops cleanly, the same command continues"
        table = runs_table(found, self._console.height - 4, NOTE_WIDTH)
        self._live.update(Group(Text(head, style="bold"), table, Text(foot, style="dim")), refresh=True)

    def say(self, line: str) -> None:
        """See `View.say`."""
        self._console.print(line)


def view_for(title: str) -> "PlainView | LiveView":
    """The view that fits standard error."""
    return LiveView(title) if sys.stderr.isatty() else PlainView(lambda line: print(line, file=sys.stderr, flush=True))


def runs_table(found: Sequence[RunStatus], height: int = 10**9, note_width: int = 10**9) -> "Table":
    """A row a run; where they are more than ``height`` lines, the ones that matter now and a count of the others."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("variant", "seed", "state", "iterations", "loss", "left"):
        table.add_column(name, justify="right" if name in ("seed", "loss", "left") else "left", no_wrap=True)
    table.add_column("")  # the only one that gives way on a narrow terminal
    shown = list(found)
    if len(shown) > max(3, height):
        first = sorted(found, key=lambda standing: URGENCY.index(standing.state))[: max(3, height) - 1]
        shown = [standing for standing in found if standing in first][: len(first)]
    for standing in shown:
        state = standing.phase if standing.state == "running" and standing.phase else state_words(standing.state)
        table.add_row(
            Text(standing.variant),
            str(standing.seed),
            Text(state, style=STYLES.get(standing.state, "dim")),
            _progress(standing),
            "" if standing.loss is None or standing.state != "running" else f"{standing.loss:.3f}",
            clock(standing.remaining) if standing.remaining is not None and standing.state == "running" else "",
            Text(_cut(_note(standing), note_width), style="dim"),
        )
    if len(shown) < len(found):
        table.add_row(Text(f"and {len(found) - len(shown)} more", style="dim"))
    return table


def summary_words(found: Sequence[RunStatus]) -> str:
    """How many runs are done, and how many are in every other state."""
    numbers = counts(found)
    done = sum(numbers.get(state, 0) for state in DONE)
    others = [f"{number} {state_words(state)}" for state, number in numbers.items() if state not in DONE]
    return ", ".join([f"{done} of {sum(numbers.values())} runs done", *others])


def line_words(standing: RunStatus) -> str:
    """A run in one line."""
    if standing.state != "running":
        return ": ".join(part for part in (state_words(standing.state), _message(standing)) if part)
    if standing.phase != "training" or not standing.iterations:
        return standing.phase or "running"
    loss = "" if standing.loss is None else f", loss {standing.loss:.3f}"
    left = "" if standing.remaining is None else f", {clock(standing.remaining)} left"
    return f"iteration {standing.iteration} of {standing.iterations}{loss}{left}"


def stopping_words(who: str) -> str:
    """What happens after somebody asked to stop."""
    return f"stopping ({who}): every run saves what it has; once more stops at once"


def state_words(state: str) -> str:
    """A state as people say it."""
    return state.replace("_", " ")


def clock(seconds: float) -> str:
    """A duration in two units at most."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _share(found: Sequence[RunStatus]) -> float:
    """How much of what can be run is done, 0 to 1."""
    able = {standing.identity: standing for standing in found if standing.state not in (*FAILED, "blocked")}
    return sum(standing.share for standing in able.values()) / max(1, len(able))


def _progress(standing: RunStatus) -> str:
    if not standing.iterations or (not standing.iteration and standing.state != "running"):
        return ""
    full = round(standing.share * BAR_WIDTH)
    bar = "" if standing.state in DONE else f"{'━' * full}{' ' * (BAR_WIDTH - full)} "
    return f"{bar}{standing.iteration:,}/{standing.iterations:,}"


def _note(standing: RunStatus) -> str:
    if standing.owner is not None and standing.state == "running":
        return "" if standing.owner.machine == machine() else f"on {standing.owner.host}"
    return _message(standing) if standing.state in (*FAILED, "interrupted", "blocked", "out_of_memory") else ""


def _message(standing: RunStatus) -> str:
    """What the status says, without the folder, which is known."""
    return standing.message.rpartition(f"/{standing.identity}: ")[2] if standing.identity else standing.message


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


class Line(NamedTuple):
    """What a run said."""

    run: str  # its variant, with :SEED where there are several
    text: str


class Logs:
    """The logs of some runs, read on from where they were left.

    Args:
        workspace: above `results/`.
        runs: whose logs; those that share a folder are read once.
    """

    def __init__(self, workspace: Workspace, runs: Sequence[Job]) -> None:
        seeds = len({run.seed for run in runs}) > 1
        folders: dict[str, str] = {}
        for run in runs:
            folders.setdefault(run.identity, f"{run.variant}:{run.seed}" if seeds else run.variant)
        self._named = len(folders) > 1
        self._logs = {name: workspace.run(identity).path / LOG for identity, name in folders.items()}
        self._read = dict.fromkeys(self._logs, 0)

    def shown(self, line: Line) -> str:
        """A line for a person, after its run where there are several."""
        return f"{line.run}: {line.text}" if self._named else line.text

    def last(self, count: int) -> Iterator[Line]:
        """The last lines of each."""
        for name in self._logs:
            lines = self._next(name)
            yield from lines[len(lines) - count :] if count < len(lines) else lines

    def new(self) -> Iterator[Line]:
        """The lines since the last look."""
        for name in self._logs:
            yield from self._next(name)

    def _next(self, name: str) -> list[Line]:
        try:
            with self._logs[name].open("rb") as file:
                file.seek(self._read[name])
                content = file.read()
        except OSError:
            return []  # not begun
        whole = content[: content.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        return [Line(name, text) for text in whole.decode("utf-8", "replace").splitlines()]


def studies_screen(workspace: Workspace, studies: Sequence[Study]) -> "list[RenderableType]":
    """A row a study."""
    from rich.table import Table
    from rich.text import Text

    if not studies:
        return [
            Text(
                f"no study under {workspace.root.absolute()} yet; "
                f"make one: {shell_command('ablate', 'attention', root=workspace.root)}"
            )
        ]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, side in (("study", "left"), ("axis", "left"), ("variants", "right"), ("seeds", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    table.add_column("runs")
    table.add_column("planned (UTC)")
    for study in studies:
        axis = study.axis if study.product is None else f"{study.axis} x {study.product}"
        numbers = (str(len(study.variants)), str(len(study.seeds)))
        runs = summary_words(standings(workspace, study))
        table.add_row(Text(study.name, style="bold"), axis, *numbers, runs, study.planned[:16].replace("T", " "))
    return [table]


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
                "runs": counts(standings(workspace, study)),
            }
            for study in studies
        ],
    }


def status_screen(workspace: Workspace, study: Study, found: Sequence[RunStatus]) -> "list[RenderableType]":
    """A row a run, and who is launching."""
    from rich.text import Text

    launchers = owners(launchers_folder(workspace, study.name))
    who = ", ".join(f"{owner}, since {owner.since[:16].replace('T', ' ')} UTC" for owner in launchers)
    return [
        Text(f"{study.name}: {summary_words(found)}", style="bold"),
        Text(f"launched by {who}" if who else "no launcher is running", style="dim"),
        Text(""),
        runs_table(found),
    ]


def status_document(workspace: Workspace, study: Study, found: Sequence[RunStatus]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "schema": SCHEMA,
        "study": study.name,
        "axis": study.axis,
        "launchers": msgspec.to_builtins(owners(launchers_folder(workspace, study.name))),
        "counts": counts(found),
        "runs": [
            {
                **msgspec.to_builtins(standing),
                "seconds_left": standing.remaining,
                "folder": str(workspace.run(standing.identity).path) if standing.identity else None,
            }
            for standing in found
        ],
    }
