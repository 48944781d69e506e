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
MOST = 2**31 - 1  # the largest count that an option takes


@dataclass(frozen=True)
class OptionRule:
    """One option (``--all``), perhaps with a value (``--convention tidecv``), and what it excludes or needs."""

    option: str
    why: str
    excludes: str = ""
    needs: tuple[str, ...] = ()  # one of them
    unless: str = ""  # the rule does not apply if this is given

    def broken_by(self, given: set[str]) -> str:
        """The sentence that refuses the given options; empty if they agree."""
        if self.option not in given or self.unless in given:
            return ""
        if self.excludes in given:
            return f"{self.option} and {self.excludes} cannot be used together: {self.why}"
        if self.needs and not given.intersection(self.needs):
            return f"{self.option} needs {' or '.join(self.needs)}: {self.why}"
        return ""


NAMED_FILES = (
    OptionRule("--gt", "name the prediction files to compare with it, such as a.json b.json", needs=(PREDICTIONS,)),
    OptionRule("--root", "it is the folder in which a study is searched when no file is given", excludes=PREDICTIONS),
)
FIGURES = (
    OptionRule("--style", "figures are only written to a folder", needs=("--out",)),
    OptionRule("--width", "the width of figures in screen style is fixed by their content", needs=("--style paper",)),
)
COLUMNS = OptionRule("--columns", "it selects the columns of the written tables", needs=("--out",))
BASELINE = OptionRule("--baseline", "a single run cannot be compared", excludes=ONE_FILE)
NO_INTERVALS = "intervals exist in the coco convention only"
ONE_CATEGORY = "there are no categories to split by"

RULES: Mapping[str, tuple[OptionRule, ...]] = {
    "errors": (
        *NAMED_FILES,
        OptionRule(
            "--all",
            "it shows all rows of the tables of classes and pairs",
            needs=("--by class", "--by confusion", "--by all"),
        ),
        OptionRule("--min-objects", "it applies to the table of classes", needs=("--by class", "--by all")),
        *FIGURES,
        COLUMNS,
        OptionRule("--intervals", NO_INTERVALS, excludes="--convention tidecv"),
        OptionRule("--export", "the export is written to that folder", needs=("--out",)),
        OptionRule("--class-agnostic", ONE_CATEGORY, excludes="--by class"),
        OptionRule("--class-agnostic", ONE_CATEGORY, excludes="--by confusion"),
    ),
    "ap": (
        *NAMED_FILES,
        *FIGURES,
        COLUMNS,
        OptionRule("--class-agnostic", ONE_CATEGORY, excludes="--by class"),
        OptionRule("--micro", "all categories share one curve", excludes="--by class"),
        OptionRule("--micro", "all categories share one curve", excludes="--by all"),
        OptionRule("--micro", "pycocotools has no such AP", excludes="--verify"),
        OptionRule("--all", "it shows all rows of the table of classes", needs=("--by class", "--by all", "--voc")),
        *(
            OptionRule("--voc", f"VOC's AP has no {why}", excludes=other)
            for other, why in (
                ("--sizes", "sizes"),
                ("--max-dets", "cap on detections"),
                ("--by", "other split than by class, which is always shown"),
                ("--micro", "curve over all classes together"),
                ("--class-agnostic", "class-agnostic form"),
                ("--iou-type segm", "masks"),
                ("--respect-ignore", "choice: it always leaves out difficult objects"),
                ("--verify", "counterpart in pycocotools"),
                ("--out", "tables of several IoUs and sizes"),
            )
        ),
    ),
    "threshold": (
        *NAMED_FILES,
        *FIGURES,
        *(
            OptionRule(one, "each run has one threshold", excludes=other)
            for one, other in combinations(("--score", "--best-f1", "--precision", "--recall"), 2)
        ),
        OptionRule("--per-class", "a given score is the same for all classes", excludes="--score"),
    ),
    "compare": (*NAMED_FILES, BASELINE, *FIGURES),
    "report": (
        *NAMED_FILES,
        BASELINE,
        OptionRule("--images", "a gallery without examples shows no image", excludes="--pictures 0"),
        OptionRule("--assets", "without images there are no pictures to write", needs=("--images",)),
        OptionRule("--resamples", NO_INTERVALS, excludes="--convention tidecv", unless="--resamples 0"),
    ),
    "example": (),
}


def check_options(context: typer.Context, rules: tuple[OptionRule, ...]) -> None:
    """Refuse options that a rule forbids, and counts that are too large for any computation.

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
