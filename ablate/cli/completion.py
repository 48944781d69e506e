"""What a shell offers for studies, presets, axes, variants and keys of a config when the user presses Tab.

A key press waits for it: studies are found by their folders, and nothing is imported that needs numpy.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import typer

from ablate.axes import AXES, AxisOptions
from ablate.config.schema import RunConfig
from ablate.config.yaml import load_config, preset_names
from ablate.runs.folder import Workspace
from analysis.cli.completion import beginning
from analysis.exceptions import DetablateError


def studies(context: typer.Context, incomplete: str) -> list[str]:
    """The folders of the studies under ``--root``, the newest first; a study is known by its folder too."""
    found = _workspace(context).studies.glob("*/study.json")
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return beginning((path.parent.name for path in newest), incomplete)


def configs(incomplete: str) -> list[str]:
    """Presets, and YAML files in the folder that is being typed."""
    files = sorted(Path().glob(f"{incomplete}*")) if not Path(incomplete).is_absolute() else []
    paths = [f"{path}/" if path.is_dir() else str(path) for path in files if path.is_dir() or path.suffix == ".yaml"]
    return [*beginning(preset_names(), incomplete), *paths]


def axes(incomplete: str) -> list[str]:
    """The axes."""
    return beginning(AXES, incomplete)


def keys(incomplete: str) -> list[str]:
    """The keys of a run's config, each with its equals sign."""
    return beginning((f"{key}=" for key in config_keys()), incomplete)


def variants(context: typer.Context, incomplete: str) -> list[str]:
    """The variants of the axis whose verb is typed, on its base."""
    axis = AXES.get(context.info_name or "")
    if axis is None:
        return []
    with suppress(DetablateError):  # the base does not fit; the command says why
        base = load_config(context.params.get("base") or "tiny-shapes")
        return beginning((variant.name for variant in axis.variants(base, AxisOptions())), incomplete)
    return []


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """The variants of the study that is typed, or of the newest, each alone and with its seeds."""
    typed = [context.params.get("study"), *context.args]  # an option without its value leaves arguments unread
    chosen = next(filter(None, [*typed, *studies(context, "")]), "")
    try:
        study = json.loads((_workspace(context).studies / chosen / "study.json").read_bytes())
        names = [(run["variant"], run["seed"]) for run in study["runs"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return beginning(
        dict.fromkeys([*(name for name, _ in names), *(f"{name}:{seed}" for name, seed in names)]), incomplete
    )


def config_keys() -> list[str]:
    """Every key of a run's config that holds a value, with dots, whichever backbone, pyramid or data it is of."""
    return list(dict.fromkeys(_leaves(msgspec.inspect.type_info(RunConfig), "")))


def _leaves(kind: msgspec.inspect.Type, prefix: str) -> Iterator[str]:
    kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    parts = [
        one.type if isinstance(one, msgspec.inspect.Metadata) else one
        for one in (kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,))
    ]
    structs = [one for one in parts if isinstance(one, msgspec.inspect.StructType)]
    if prefix and len(structs) < len(parts):
        yield prefix
    for struct in structs:
        if struct.tag_field is not None:
            yield f"{prefix}.{struct.tag_field}"
        for field in struct.fields:
            yield from _leaves(field.type, f"{prefix}.{field.encode_name}" if prefix else field.encode_name)


def _workspace(context: typer.Context) -> Workspace:
    root: Any = context.params.get("workspace") or Path()
    return root if isinstance(root, Workspace) else Workspace(Path(root))
