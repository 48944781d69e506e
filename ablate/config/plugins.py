"""Entry points of other packages: ``detablate.axes`` and ``detablate.backbones``.

A package that is installed beside this one names its objects in its ``pyproject.toml``::

    [project.entry-points."detablate.axes"]
    stem = "my_package.axes:STEM"

    [project.entry-points."detablate.backbones"]
    my-net = "my_package.net:build"

Nothing of it is imported before it is used. Whatever it raises then becomes one sentence with the name of the entry
point and of its package.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from analysis.exceptions import BadInput, DetablateError

AXES, BACKBONES = "detablate.axes", "detablate.backbones"


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by their names, in the order of names.

    Raises:
        BadInput: two packages have an entry point of the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        other = found.setdefault(entry.name, entry)
        if other is not entry and other.value != entry.value:
            raise BadInput(
                f"{described(entry)} and {described(other)} have the same name; uninstall one of the packages"
            )
    return found


def described(entry: EntryPoint) -> str:
    """An entry point in a sentence."""
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"
    return f"entry point {entry.name!r} of {package} ({entry.value}, group {entry.group})"


def load_plugin(entry: EntryPoint) -> Any:
    """The object of an entry point.

    Raises:
        BadInput: it cannot be imported.
    """
    with errors_named(entry, "cannot be loaded"):
        return entry.load()


@contextmanager
def errors_named(entry: EntryPoint, what: str) -> Iterator[None]:
    """Whatever an entry point raises becomes a sentence that names it.

    Args:
        entry: of a package of the user.
        what: the action that fails, for the sentence.

    Raises:
        BadInput: an exception was raised inside the block.
    """
    try:
        yield
    except DetablateError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise BadInput(
            f"{described(entry)}: {what}: {type(error).__name__}{f': {words}' if words else ''}; fix or uninstall it"
        ) from error
