"""Axes that a person makes: any keys of the config with their values, or a YAML file.

The file reads::

    name: windows
    title: Size of the windows
    source: our group meeting
    touches: [model.backbone.attention.window_size]
    baseline: large
    variants:
      small: {model.backbone.attention.window_size: 4}
      large: {model.backbone.attention.window_size: 8}

Relative paths of initial weights count from this file. What a variant changes beyond ``touches`` is marked
"not controlled" wherever the study is shown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ablate.axes.base import Axis, Variant
from ablate.config.foreign import CommandConfig
from ablate.config.schema import Part, RunConfig
from ablate.config.yaml import anchor_weights, parse, parse_yaml, read_yaml, with_changes
from analysis.exceptions import BadInput

COMMAND = "vary"


class AxisFile(Part, frozen=True, kw_only=True):
    """An axis as YAML."""

    name: str
    allowed_keys: tuple[str, ...] = msgspec.field(name="touches")
    variants: dict[str, dict[str, Any]]
    title: str = ""
    source: str = "a file of ours"
    baseline: str = "none"
    unit: str = ""


def axis_from_file(path: Path) -> Axis:
    """The axis in a YAML file.

    Raises:
        BadInput: the file is no axis; what a variant sets wrongly is found when the study is planned.
    """
    tree = read_yaml(path)
    if isinstance(tree.get("variants"), dict):
        tree["variants"] = {str(name): changes for name, changes in tree["variants"].items()}
        bare = [name for name, changes in tree["variants"].items() if not isinstance(changes, dict)]
        if bare:
            form = "{train.lr: 1e-4}, or {} for the base as it is"
            raise BadInput(f"{path}: variants: {bare[0]}: must hold keys and values, such as {form}")
    file = parse(tree, AxisFile, str(path))
    for changes in file.variants.values():
        anchor_weights(changes, path.resolve().parent)
    if len(file.variants) < 2:
        raise BadInput(f"{path}: variants: a study compares two or more, this file has {len(file.variants)}")
    if file.baseline not in ("none", *file.variants):
        raise BadInput(f"{path}: baseline: must be one of {', '.join(file.variants)}, not {file.baseline}")
    variants = tuple(
        Variant(name=name, changes=changes, number=_number(*changes.values()) if len(changes) == 1 else None)
        for name, changes in file.variants.items()
    )
    return Axis(
        name=file.name,
        title=file.title or file.name,
        source=file.source,
        allowed_keys=frozenset(file.allowed_keys),
        variants=lambda _base, _options: variants,
        baseline=None if file.baseline == "none" else file.baseline,
        unit=file.unit if all(variant.number is not None for variant in variants) else "",
        any_base=True,
    )


def axis_from_keys(requests: Sequence[str]) -> Axis:
    """``key=v1,v2,...`` once or more: every key is varied alone, the others stay as in the base.

    Raises:
        BadInput: a request has no key, or fewer than two values for one key.
    """
    wanted: dict[str, list[Any]] = {}
    for request in requests:
        key, sign, text = (part.strip() for part in request.partition("="))
        if not (key and sign and text):
            raise BadInput(f"'{request}' varies nothing: write key=value,value,... such as train.lr=1e-4,2e-4")
        values = parse_yaml(f"[{text}]", f"the values of {key}")
        wanted.setdefault(key, []).extend(value for value in values if value not in wanted.get(key, []))
    settings = [(key, value) for key, values in wanted.items() for value in values]
    first, several = next(iter(wanted)), len(wanted) > 1
    if len(settings) < 2:
        raise BadInput(f"{first} is given one value; a study compares two or more")
    unchanged = [Variant(name="base", changes={})] if several else []
    is_numeric = not several and all(_number(value) is not None for _, value in settings)
    return Axis(
        name=COMMAND,
        title=f"Varied: {', '.join(wanted)}",
        source="asked for on the command line",
        allowed_keys=frozenset(wanted),
        variants=lambda base, _: (*unchanged, *(_varied(key, value, base) for key, value in settings)),
        unit=first.rpartition(".")[2].replace("_", " ") if is_numeric else "",
        any_base=True,
    )


def _varied(key: str, value: object, base: RunConfig | CommandConfig) -> Variant:
    with_changes(base, {key: value})  # a key or value that does not exist is refused here, before anything is planned
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return Variant(name=f"{key.rpartition('.')[2]}={text}", changes={key: value}, number=_number(value))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
