"""Commands with placeholders: split first, then each argument filled once; what is filled in is never split again."""

import re
import shlex
from collections.abc import Iterator, Mapping

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(?P<name>[A-Za-z_][\w.-]*)\}")


def placeholders(text: str) -> tuple[str, ...]:
    """The names in braces, each once; ``{{`` and ``}}`` stand for braces.

    >>> placeholders("--lr {lr} --out {run}/{lr} '{{seed}}' {print $1}")
    ('lr', 'run')
    """
    return tuple(dict.fromkeys(found["name"] for found in PLACEHOLDER.finditer(text) if found["name"]))


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every placeholder replaced by its value, once: a value may hold braces.

    >>> fill("--name={name} {{x}}", {"name": "{name} of {lr}"})
    '--name={name} of {lr} {x}'
    """
    return PLACEHOLDER.sub(lambda found: values[found["name"]] if found["name"] else found[0][0], text)


def arguments(command: str, values: Mapping[str, str]) -> list[str]:
    """The arguments of a command: split as a shell does, then filled.

    >>> arguments("train --note {note} 'a b'", {"note": "two words; $HOME"})
    ['train', '--note', 'two words; $HOME', 'a b']

    Raises:
        ValueError: a quotation is not closed.
    """
    return [fill(argument, values) for argument in shlex.split(command)]


def shell_line(command: str, values: Mapping[str, str]) -> str:
    """A command for a shell, in which every value is quoted.

    >>> shell_line("train --note {note} | tail -1", {"note": "two words; $HOME"})
    "train --note 'two words; $HOME' | tail -1"
    """
    return fill(command, {name: shlex.quote(value) for name, value in values.items()})


def quoted_placeholder(command: str) -> str:
    """The first placeholder that stands in quotes of a shell, where a quoted value would not be one; empty without.

    >>> quoted_placeholder("echo '{lr}'"), quoted_placeholder('echo "it is" {lr}')
    ('lr', '')
    """
    for found in PLACEHOLDER.finditer(command):
        if found["name"] and any(_open_quotes(command[: found.start()])):
            return found["name"]
    return ""


def _open_quotes(text: str) -> Iterator[str]:
    """The quote that is open at the end of a text, if any."""
    quote, escaped = "", False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif letter in ("'", '"') and quote in ("", letter):
            quote = "" if quote else letter
    if quote:
        yield quote
