"""What is asked of a plan and would not mean what it seems to: refused before anything is made of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablate.axes.base import Variant
from ablate.config import RunConfig
from ablate.config_yaml import with_changes
from ablate.studies.text import scalar
from analysis.refusal import BadInput


def check_name(name: str) -> None:
    """A study's name is one printable line.

    Raises:
        BadInput: it is not.
    """
    if not name.strip():
        raise BadInput(f"--name {name!r}: is empty; give the study a name that can be read")
    if not name.isprintable():
        raise BadInput(f"--name {name!r}: must be one line of printable characters")


def check_seeds(variants: Sequence[Variant]) -> None:
    """The seed is no factor: all variants run under the same ones.

    Raises:
        BadInput: a variant sets it, and the seeds of the study would take its place.
    """
    if any("seed" in variant.changes for variant in variants):
        raise BadInput("the seed is no factor of a study: give --seeds 0,1,..., and every variant runs under each")


def check_settings(
    settings: Mapping[str, Any], base: RunConfig, variants_on: Callable[[RunConfig], Sequence[Variant]], axis: str
) -> None:
    """What a person sets for all runs reaches them.

    Args:
        settings: dotted keys, already in the base.
        base: of the study.
        variants_on: the variants on a base.
        axis: its name, for the refusal.

    Raises:
        BadInput: every variant sets a key itself, so that the study is the same with and without the person's value.
    """
    made = _changed(base, variants_on)
    for key, value in settings.items():
        own = [variant.changes.get(key) for variant in variants_on(base)]
        if None in own:
            continue
        others = [one for one in own if one != value]
        if others and all(_changed(with_changes(base, {key: other}), variants_on) == made for other in others):
            raise BadInput(
                f"--set {key}={scalar(value)} changes nothing: every variant of axis {axis} sets that itself; "
                "leave it out"
            )


def _changed(base: RunConfig, variants_on: Callable[[RunConfig], Sequence[Variant]]) -> list[RunConfig | str]:
    made: list[RunConfig | str] = []
    for variant in variants_on(base):
        try:
            made.append(with_changes(base, dict(variant.changes)))
        except BadInput as error:
            made.append(str(error))
    return made
