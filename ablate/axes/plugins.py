"""Axes of other packages, by entry points (`ablate.config.plugins`): the object is an `Axis`, called as its entry."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any

import msgspec

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.plugins import AXES, described, errors_named, load_plugin
from analysis.exceptions import BadInput


def plugin_axis(entry: EntryPoint) -> Axis:
    """The axis of an entry point; errors that its variants raise name the entry point.

    Raises:
        BadInput: it cannot be loaded, or is no axis.
    """
    assert entry.group == AXES
    axis = load_plugin(entry)
    if not isinstance(axis, Axis):
        raise BadInput(f"{described(entry)}: must be an ablate.axes.Axis, not {type(axis).__name__}")

    def variants(base: Any, options: AxisOptions) -> tuple[Variant, ...]:
        with errors_named(entry, "cannot make its variants"):
            found = tuple(axis.variants(base, options))
        _check(found, entry)
        return found

    return msgspec.structs.replace(axis, name=entry.name, variants=variants)


def _check(variants: Sequence[object], entry: EntryPoint) -> None:
    others = [variant for variant in variants if not isinstance(variant, Variant)]
    if others:
        raise BadInput(f"{described(entry)}: its variants must be ablate.axes.Variant, not {type(others[0]).__name__}")
    names = [variant.name for variant in variants if isinstance(variant, Variant)]
    twice = [name for name in names if names.count(name) > 1]
    if twice or len(names) < 2:
        why = f"two variants have the name {twice[0]!r}" if twice else f"a study compares two or more, not {len(names)}"
        raise BadInput(f"{described(entry)}: {why}")
