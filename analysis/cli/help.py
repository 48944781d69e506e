"""Help pages in plain text: made without rich, they show up at once, and fit 80 columns and pipes alike."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDTH = 100  # at most
KINDS = {"int": "N", "float": "X", "path": "PATH", "str": "TEXT", "bool": ""}  # typer's names and what is shown
TYPE = re.compile(rf"<({'|'.join(KINDS)})(?: range)?>")
EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "not confirmed",
    2: "usage error",
    3: "a run failed",
    4: "bad input",
    5: "a package or engine is missing",
    6: "the gate failed",
    130: "stopped by Ctrl-C (128 + the signal's number)",
}
USUAL = (0, 2, 4)


class Page:
    """What a command and a group have in common: options by panel, and an epilog whose lines are not wrapped."""

    params: list[Any]
    epilog: str | None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each panel under its heading."""
        _write_panels(
            formatter,
            [
                (getattr(param, "rich_help_panel", None) or f"{param.param_type_name}s".capitalize(), *record)
                for param in sorted(self.get_params(ctx), key=lambda param: param.param_type_name != "argument")
                if (record := param.get_help_record(ctx)) is not None
            ],
        )

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, ``--help`` among them."""
        return list(super().get_params(ctx))  # type: ignore[misc]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the epilog; its examples as they are, since a command that is folded cannot be pasted."""
        for line in (self.epilog or "").splitlines():
            if line.startswith("  ") or not line:
                formatter.write(f"{line}\n")
            else:
                formatter.write_text(line)


class Command(Page, TyperCommand):
    """A verb."""


class PageOfGroup(Page, TyperGroup):
    """A group of verbs."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs with their whole first paragraphs, then the options."""
        listed: list[Any] = list(self.commands.values())
        _write_panels(formatter, [(one.rich_help_panel, one.name, one.help) for one in listed])
        super().format_options(ctx, formatter)


def epilog(examples: Iterable[str], exit_codes: Iterable[int] = ()) -> str:
    """The end of a help page: commands that work when they are pasted, and what the exit codes mean."""
    from analysis.shell import program

    lines = [f"  {program()} {one}" for one in examples]
    codes = ", ".join(f"{code} {EXIT_CODES[code]}" for code in sorted({*USUAL, *exit_codes}))
    return "\n".join(("", _heading(f"Example{'s' * (len(lines) > 1)}") + ":", *lines, "", f"Exit codes: {codes}"))


def _write_panels(formatter: Any, rows: list[tuple[str, str, str]]) -> None:
    """Write rows of (panel, name, text), the panels in the order in which they first occur."""
    order = list(dict.fromkeys(panel for panel, _, _ in rows))
    for panel, group in groupby(sorted(rows, key=lambda row: order.index(row[0])), key=lambda row: row[0]):
        with formatter.section(_heading(panel)):
            formatter.write_dl([(_name(name), _plain(text)) for _, name, text in group])


def _name(text: str) -> str:
    """An option with its kind of value in one word, an argument without."""
    if not text.startswith("-"):
        return re.sub(r" <[^ ]*>$", "", text)
    return TYPE.sub(lambda found: KINDS[found[1]], text)


def _plain(text: str) -> str:
    """Without the parentheses that typer puts around a default in words, as one paragraph."""
    paragraph = " ".join(text.split("\n\n")[0].split()).replace(r"\[", "[")  # which older versions escape
    return re.sub(r"\[default: \((.*?)\)(; |\])", r"[default: \1\2", paragraph)


def _heading(text: str) -> str:
    """Bold in a terminal."""
    return typer.style(text, bold=True) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
