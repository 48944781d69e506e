"""Axes that a user defines: any keys of the config with their values, or a YAML file.

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

from collections import Counter
from collections.abc import Sequence
from itertools import product
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
            form = "{train.lr: 1e-4}, or {} for the unchanged base"
            raise BadInput(f"{path}: variants: {bare[0]}: must be a mapping of keys to values, such as {form}")
    file = parse(tree, AxisFile, str(path))
    for changes in file.variants.values():
        anchor_weights(changes, path.resolve().parent)
    if len(file.variants) < 2:
        raise BadInput(f"{path}: variants: a study compares two or more variants, this file has {len(file.variants)}")
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


def axis_from_keys(requests: Sequence[str], *, grid: bool = False) -> Axis:
    """An axis from ``key=v1,v2,...``: each key is varied alone, with the others as in the base, or all are crossed.

    Args:
        requests: the keys and their values.
        grid: combine every value of each key with every one of the others.

    Raises:
        BadInput: a request has no key, or there is nothing to compare.
    """
    wanted: dict[str, list[Any]] = {}
    for request in requests:
        key, sign, text = (part.strip() for part in request.partition("="))
        if not (key and sign and text):
            raise BadInput(f"'{request}' needs several values: write key=value,value,... such as train.lr=1e-4,2e-4")
        values = parse_yaml(f"[{text}]", f"the values of {key}")
        wanted.setdefault(key, []).extend(value for value in values if value not in wanted.get(key, []))
    first, several = next(iter(wanted)), len(wanted) > 1
    if grid and not several:
        raise BadInput(f"--grid crosses keys, and {first} is the only one; name another with --vary, or leave it out")
    settings = [{key: value} for key, values in wanted.items() for value in values]
    if grid:
        settings = [dict(zip(wanted, values, strict=True)) for values in product(*wanted.values())]
    if len(settings) < 2:
        raise BadInput(f"{first} is given one value; a study compares two or more")
    is_numeric = not several and all(_number(value) is not None for value in wanted[first])
    return Axis(
        name=COMMAND,
        title=("Crossed: " if grid else "Varied: ") + ", ".join(wanted),
        source="command line",
        allowed_keys=frozenset(wanted),
        variants=lambda base, _: _varied(settings, base, alone=several and not grid),
        unit=first.rpartition(".")[2].replace("_", " ") if is_numeric else "",
        any_base=True,
    )


def _varied(settings: Sequence[dict[str, Any]], base: RunConfig | CommandConfig, *, alone: bool) -> tuple[Variant, ...]:
    """One variant per setting; if keys are varied alone, the base is one variant for all values that equal its own.

    Raises:
        BadInput: a key or value that does not exist, or no value but the base's own.
    """
    configs = [with_changes(base, changes) for changes in settings]
    short = _short_names([key for changes in settings for key in changes])
    variants = [
        Variant(
            name=", ".join(f"{short[key]}={_text(value)}" for key, value in changes.items()),
            changes=changes,
            number=_number(*changes.values()) if len(changes) == 1 else None,
        )
        for changes, config in zip(settings, configs, strict=True)
        if not (alone and config == base)
    ]
    if not variants:
        raise BadInput("every given value is the base's own; give other values")
    return (*([Variant(name="base", changes={})] if alone else []), *variants)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key; the whole key if another key ends with the same part."""
    last = Counter(key.rpartition(".")[2] for key in dict.fromkeys(keys))
    return {key: end if last[end := key.rpartition(".")[2]] == 1 else key for key in keys}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
