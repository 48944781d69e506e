"""Which options of a verb need or exclude which: one table, checked before a verb does anything.

An option that would be ignored is refused, with the reason, as a usage error (exit code 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

import typer
from typer.core import TyperArgument

PREDICTIONS = "PREDICTIONS"
ONE_FILE = "only one PREDICTIONS"
MOST = 2**31 - 1  # of a whole number that counts something


@dataclass(frozen=True)
class OptionRule:
    """One option (``--all``), or one with one of its values (``--convention tidecv``), and what it does not bear."""

    option: str
    why: str
    excludes: str = ""
    needs: tuple[str, ...] = ()  # one of them
    unless: str = ""  # given with this value the option may stand

    def broken_by(self, given: set[str]) -> str:
        """The sentence that refuses the options that were given, nothing where they agree."""
        if self.option not in given or self.unless in given:
            return ""
        if self.excludes in given:
            return f"{self.option} and {self.excludes} exclude each other: {self.why}"
        if self.needs and not given.intersection(self.needs):
            return f"{self.option} needs {' or '.join(self.needs)}: {self.why}"
        return ""


NAMED_FILES = (
    OptionRule("--gt", "without prediction files a study is analyzed, on its own ground truth", needs=(PREDICTIONS,)),
    OptionRule("--root", "it is where a study is looked for when no file is named", excludes=PREDICTIONS),
)
FIGURES = (
    OptionRule("--style", "without a folder no figure is drawn", needs=("--out",)),
    OptionRule("--width", "a figure on the screen is as wide as it needs", needs=("--style paper",)),
)
COLUMNS = OptionRule("--columns", "it chooses the columns of the files", needs=("--out",))
BASELINE = OptionRule("--baseline", "a run alone is compared with nothing", excludes=ONE_FILE)
NO_INTERVALS = "intervals are made in the coco convention only"
ONE_CATEGORY = "without categories there is nothing to show"

RULES: Mapping[str, tuple[OptionRule, ...]] = {
    "errors": (
        *NAMED_FILES,
        OptionRule(
            "--all", "it lengthens the tables of classes and pairs", needs=("--by class", "--by confusion", "--by all")
        ),
        OptionRule("--min-objects", "it is about classes", needs=("--by class", "--by all")),
        *FIGURES,
        COLUMNS,
        OptionRule("--intervals", NO_INTERVALS, excludes="--convention tidecv"),
        OptionRule("--export", "its files lie in that folder", needs=("--out",)),
        OptionRule("--class-agnostic", ONE_CATEGORY, excludes="--by class"),
        OptionRule("--class-agnostic", ONE_CATEGORY, excludes="--by confusion"),
    ),
    "ap": (
        *NAMED_FILES,
        *FIGURES,
        COLUMNS,
        OptionRule("--class-agnostic", ONE_CATEGORY, excludes="--by class"),
        OptionRule("--micro", "all categories are one curve", excludes="--by class"),
        OptionRule("--micro", "all categories are one curve", excludes="--by all"),
        OptionRule("--micro", "no peer has it", excludes="--verify"),
        OptionRule("--all", "it lengthens the table of classes", needs=("--by class", "--by all", "--voc")),
        *(
            OptionRule("--voc", f"{why} is not part of VOC's rule", excludes=other)
            for other, why in (
                ("--sizes", "a size"),
                ("--max-dets", "a cap"),
                ("--by", "another split than that by class, which is shown,"),
                ("--micro", "one curve over all classes"),
                ("--class-agnostic", "one class of all"),
                ("--iou-type segm", "a mask"),
                ("--respect-ignore", "counting difficult objects"),
                ("--verify", "a check by pycocotools"),
                ("--out", "a table of several IoUs and sizes"),
            )
        ),
    ),
    "threshold": (
        *NAMED_FILES,
        *FIGURES,
        *(
            OptionRule(one, "a run has one threshold", excludes=other)
            for one, other in combinations(("--score", "--best-f1", "--precision", "--recall"), 2)
        ),
        OptionRule("--per-class", "a score that is given is the same for all classes", excludes="--score"),
    ),
    "compare": (*NAMED_FILES, BASELINE, *FIGURES),
    "report": (
        *NAMED_FILES,
        BASELINE,
        OptionRule("--images", "a gallery of no examples shows no image", excludes="--pictures 0"),
        OptionRule("--assets", "without images there are no pictures to put there", needs=("--images",)),
        OptionRule("--resamples", NO_INTERVALS, excludes="--convention tidecv", unless="--resamples 0"),
    ),
    "example": (),
}


def check_options(context: typer.Context, rules: tuple[OptionRule, ...]) -> None:
    """Refuse options that a rule forbids, and numbers of things that no computation takes.

    Raises:
        typer.BadParameter: the first rule that is broken.
    """
    for name, value in context.params.items():
        if type(value) is int and abs(value) > MOST and name != "seed":
            raise typer.BadParameter(
                f"is a number of {len(str(abs(value)))} digits; the largest is {MOST:,}",
                context,
                param_hint=f"--{name.replace('_', '-')}",
            )
    given = given_options(context)
    for rule in rules:
        if sentence := rule.broken_by(given):
            raise typer.BadParameter(sentence, context)


def given_options(context: typer.Context) -> set[str]:
    """What the command line holds: every option by its name, and with each of its values; arguments by their names."""
    given = set()
    for one in context.command.params:
        source = context.get_parameter_source(one.name or "")
        if source is None or source.name != "COMMANDLINE" or one.name not in context.params:  # as --quiet
            continue
        value = context.params[one.name or ""]
        if isinstance(one, TyperArgument):
            name = PREDICTIONS if one.name == "predictions" else (one.metavar or one.name or "").strip("[]")
            given |= {name, *([ONE_FILE] * (name == PREDICTIONS and len(value) == 1))}
            continue
        name = max(one.opts, key=len)
        text = value.value if isinstance(value, Enum) else str(value)
        given |= {name, *(f"{name} {part.strip()}" for part in text.split(","))}
    return given
