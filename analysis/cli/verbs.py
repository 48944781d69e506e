"""The verbs of a command line as a table: a verb's module is imported when the verb is called or its help is shown.

The help page of a group needs the table alone, so that it takes no longer than Python and typer do. To add a verb,
write a function for typer in a file of this package and add its row to a table: here or in `ablate.cli.verbs`.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer

from analysis.cli.help import Command, PageOfGroup, epilog

logger = logging.getLogger(__name__)

# The key, in a command's context, of the function that finds the ground truth of a run folder.
TRUTH_OF_RUN = "detablate.truth_of_run"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the help of a group lists: a verb, or a group in it.

    Attributes:
        name: as it is typed.
        target: ``module:function``.
        summary: of a verb the first sentence of its help page.
        examples: command lines without the program's name.
        panel: of the group's help in which it stands.
    """

    name: str
    target: str
    summary: str
    examples: tuple[str, ...]
    panel: str = "Commands"

    def listed(self) -> Command:
        """The command as a list shows it; it cannot be called."""
        return Command(self.name, help=self.summary, rich_help_panel=self.panel)

    def imported(self) -> Any:
        """The target."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class Verb(Row):
    """One verb; its target is a function for typer, whose docstring is the help page.

    Attributes:
        exit_codes: which it has besides the usual ones.
        argument: given to the target, which then makes the function, where one target serves several verbs.
        cached: whether ``--cache`` keeps its answer.
    """

    exit_codes: tuple[int, ...] = ()
    argument: str = ""
    cached: bool = False

    def load(self) -> Command:
        """Import the module and make the command."""
        function = self.imported()
        kind = Command
        if self.cached:
            from analysis.cli.answers import AnsweringCommand as kind  # noqa: N813 (a class)
        command = _command(function(self.argument) if self.argument else function, self.name, kind)
        if self.cached:
            command.params += _command(_cached, self.name).params
        command.params += _command(_every_verb, self.name).params
        command.epilog = epilog(self.examples, self.exit_codes)
        return command


@dataclass(frozen=True, kw_only=True)
class Group(Row):
    """A group of verbs; its target is a function that gives their table."""

    def load(self) -> "VerbGroup":
        """Import the table and make the group."""
        return VerbGroup(
            self.name,
            self.imported()(),
            help=self.summary,
            epilog=epilog(self.examples),
            no_args_is_help=True,
            rich_markup_mode=None,
        )


class VerbGroup(PageOfGroup):
    """A group that lists verbs from their table and loads the one that is called."""

    def __init__(self, name: str | None = None, rows: Iterable[Verb | Group] = (), **attributes: Any) -> None:
        super().__init__(name=name, **attributes)
        self.rows = {row.name: row for row in rows}
        self.commands = {row.name: row.listed() for row in self.rows.values()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called, loaded; see `typer`."""
        if args and args[0] not in self.rows:
            self._suggest(ctx, args[0])
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self.rows[command.name or ""].load(), rest

    def _suggest(self, ctx: Any, word: str) -> None:
        """Refuse a verb of one of the groups that was typed without its group, and name both."""
        groups = [row for row in self.rows.values() if isinstance(row, Group)]
        found = [f"'{group.name} {word}'" for group in groups if word in {row.name for row in group.imported()()}]
        if found:
            ctx.fail(f"No such command '{word}'. Did you mean {' or '.join(found)}?")


def _command(function: Callable[..., None], name: str, kind: type[Command] = Command) -> Command:
    """A typer command of a function, without a group around it."""
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=kind)(function)
    command = typer.main.get_command(alone)
    assert isinstance(command, Command)
    return command


def _set_level(level: str) -> None:
    """Set the level of `logging` from which messages of both packages are printed."""
    for package in ("ablate", "analysis"):
        logging.getLogger(package).setLevel(level)


def _begin_verbose(context: typer.Context, wanted: bool) -> None:
    if wanted:
        _set_level("DEBUG")
        began = time.perf_counter()
        context.call_on_close(lambda: logger.debug("%s: %.2f s", context.command_path, time.perf_counter() - began))


def _every_verb(
    quiet: bool = typer.Option(
        False,
        "--quiet",
        "-q",
        help="Print results and errors only, without warnings and progress.",
        expose_value=False,
        callback=lambda wanted: _set_level("ERROR") if wanted else None,
    ),
    verbose: bool = typer.Option(
        False,
        "--verbose",
        "-v",
        help="Also print each step with its time, and the place in the code of an error.",
        expose_value=False,
        callback=_begin_verbose,
    ),
) -> None:
    """The options that all verbs have."""


def _keep_answer(context: typer.Context, wanted: bool) -> None:
    from analysis.cli.answers import WANTED

    context.meta[WANTED] = wanted


def _cached(
    cache: bool = typer.Option(
        False,
        "--cache",
        help="Keep the answer, and show it at once when the same is asked of the same files.",
        expose_value=False,
        callback=_keep_answer,
    ),
) -> None:
    """The option of verbs whose answers can be kept."""


TWO_RUNS = "a.json b.json --gt instances.json"


def analyze_verbs() -> tuple[Verb, ...]:
    """The verbs of ``analyze``."""
    return (
        Verb(
            name="errors",
            target="analysis.cli.analyze:errors",
            cached=True,
            summary="Break the AP down into six types of error: cost, number and location of each.",
            examples=(f"analyze errors {TWO_RUNS}", "analyze errors a.json --gt instances.json --by class,size -o out"),
        ),
        Verb(
            name="example",
            target="analysis.cli.analyze:example",
            summary="Generate ground truth and two simulated detectors with known flaws, and analyze them.",
            examples=("analyze example --images 100",),
        ),
        Verb(
            name="ap",
            target="analysis.cli.ap:ap",
            cached=True,
            summary="AP and AR: the 12 COCO numbers (equal to pycocotools, many times faster), 13 for LVIS, or "
            "VOC's AP.",
            examples=(f"analyze ap {TWO_RUNS}", "analyze ap a.json --gt instances.json --iou 0.3:0.9:0.1 --by class"),
        ),
        Verb(
            name="compare",
            target="analysis.cli.compare:compare",
            cached=True,
            summary="Compare runs with a baseline on the same images: differences with intervals, and which objects "
            "changed.",
            examples=(f"analyze compare {TWO_RUNS}",),
        ),
        Verb(
            name="report",
            target="analysis.cli.report:report",
            summary="Write one HTML file: charts, classes, sizes, curves, confusion, and a gallery of the costliest "
            "errors.",
            examples=(f"analyze report {TWO_RUNS} --images val2017",),
        ),
        Verb(
            name="threshold",
            target="analysis.cli.threshold:threshold",
            cached=True,
            summary="Precision, recall, F1, errors and confusion at a score threshold.",
            examples=(f"analyze threshold {TWO_RUNS} --precision 0.9",),
        ),
        Verb(
            name="gate",
            target="analysis.cli.gate:gate",
            summary="Exit with code 6 if NEW is significantly worse than BASE; print Markdown for a pull request.",
            examples=("analyze gate new.json base.json --gt instances.json --metric AP75",),
            exit_codes=(6,),
        ),
    )
