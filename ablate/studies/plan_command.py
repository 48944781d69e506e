"""From an axis, a command's config and seeds to a study: what `ablate.studies.plan` does for detectors of ours.

Nothing is known of the detectors but their parameters, so nothing is sized or forecast. A parameter is a key of the
config: ``lr`` stands for ``parameters.lr``.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from ablate.axes.base import Axis, AxisOptions
from ablate.config.foreign import CommandConfig
from ablate.config.identity import command_identities
from ablate.config.schema import Shapes
from ablate.config.yaml import key_of, load_any_config, parse_change, with_changes
from ablate.data.fingerprint import DataSet, read_data_set
from ablate.data.source_code import sources_digest
from ablate.data.sources import shapes_folder
from ablate.runs.folder import Workspace, absolute, now
from ablate.studies.plan import (
    Level,
    Request,
    changed_outside_axis,
    check_different,
    chosen_variants,
    combined_variants,
    config_paths,
    title_of,
)
from ablate.studies.study import Study, StudyRun, check_name
from analysis.exceptions import BadInput

# What a request may ask for that only a detector of ours has, by the option that asks.
OF_DETECTORS = (
    ("--data", "data", "the config names the validation data, and the command the training data"),
    ("--weights", "weights", "the command decides what it starts from; make it a parameter"),
    ("--device-memory", "device_gib", "the memory that the command needs is not known"),
    ("--paper-hardware", "paper_hardware", "it limits the memory of a built-in detector"),
)


def plan_command(
    axis: Axis, request: Request, workspace: Workspace, *, crossed: Axis | None = None, write: bool = True
) -> Study:
    """The study of an axis, or of two crossed, whose runs are those of a command.

    Args:
        axis: what is varied.
        request: what it is varied on; its base is of engine command.
        workspace: above `results/`.
        crossed: a second axis.
        write: make the embedded data set where it is the validation set and missing, and keep what was found of images.

    Raises:
        BadInput: an option names something that does not exist or does not fit.
    """
    axes = (axis,) if crossed is None else (axis, crossed)
    _check_request(axes, request)
    base, settings = _base(request)
    variants = [_qualified(variant, base) for variant in combined_variants(axes, base, AxisOptions())]
    configs = {variant.name: _config(variant, base) for variant in variants}
    baseline = _baseline(axes, variants, configs, base)
    chosen = chosen_variants(variants, request.only, baseline, distinct=False)
    seeds = tuple(request.seeds) or (base.seed,)
    if request.seeds:
        _check_seeds({variant.name: configs[variant.name] for variant in chosen})
    name = request.name or "-".join([*(one.name for one in axes), Path(request.base).stem])
    check_name(name)
    allowed_keys = frozenset(key_of(base, key) for one in axes for key in one.allowed_keys)
    data = _validation(base, workspace, write)
    paths = config_paths(workspace, name, variants)
    digest_of = cache(sources_digest)
    runs = []
    for variant, seed in product(chosen, seeds):
        config = with_changes(configs[variant.name], {"seed": seed})
        training, evaluation = "", ""
        if data is not None:
            training, evaluation = command_identities(config, digest_of(config.sources), data.digest)
        runs.append(
            StudyRun(
                variant=variant.name,
                seed=seed,
                changes=dict(variant.changes),
                config_path=paths(variant.name, seed),
                command=config,
                training=training,
                evaluation=evaluation,
                note=variant.note,
                confounders=changed_outside_axis(configs[baseline], config, allowed_keys),
                levels=variant.levels,
                number=variant.number,
            )
        )
    check_different(runs)
    return Study(
        name=name,
        axis=axis.name,
        title=title_of(axes),
        source="; ".join(dict.fromkeys(one.source for one in axes)),
        allowed_keys=tuple(sorted(allowed_keys)),
        baseline=baseline,
        base=absolute(request.base),
        settings=settings,
        seeds=seeds,
        synthetic=isinstance(base.validation, Shapes),
        training_data="",
        validation_data="" if data is None else data.truth.digest,
        product=crossed.name if crossed else None,
        unit=next((one.unit for one in axes if one.unit), ""),
        runs=tuple(runs),
        planned=now(),
    )


def _check_request(axes: Sequence[Axis], request: Request) -> None:
    for one in axes:
        if not one.any_base:
            raise BadInput(
                f"axis {one.name} changes a built-in detector, but {request.base} is a command of your own; vary its "
                "parameters: ablate vary --base ... --vary NAME=VALUE,VALUE"
            )
    default = Request()
    for option, field, why in OF_DETECTORS:
        if getattr(request, field) != getattr(default, field):
            raise BadInput(f"{option}: does not apply to {request.base}, a command of your own: {why}")
    if request.schedule != default.schedule:
        raise BadInput("--schedule best: applies to axis init only, or to --weights from which all variants start")


def _base(request: Request) -> tuple[CommandConfig, dict[str, Any]]:
    """The config on which all variants are made, and the dotted keys that make it of the request's base."""
    plain = load_any_config(request.base)
    assert isinstance(plain, CommandConfig)
    settings = {key_of(plain, key): value for key, value in map(parse_change, request.settings)}
    if "engine" in settings:
        raise BadInput(f"--engine {settings['engine']}: {request.base} is a command of your own, which trains its runs")
    return with_changes(plain, settings), settings


def _qualified(variant: Level, base: CommandConfig) -> Level:
    """A variant whose keys are those of the config."""
    changes = {key_of(base, key): value for key, value in variant.changes.items()}
    for key in changes:
        if key == "seed":
            raise BadInput(
                "the seed cannot be varied as a factor: give --seeds 0,1,..., and every variant runs with each seed"
            )
        if key.partition(".")[0] in ("validation", "engine", "predictions"):
            raise BadInput(f"{key}: cannot be varied: all runs of a study are measured with the same settings")
    return msgspec.structs.replace(variant, changes=changes)


def _config(variant: Level, base: CommandConfig) -> CommandConfig:
    try:
        return with_changes(base, variant.changes)
    except BadInput as error:
        raise BadInput(f"variant {variant.name!r}: {str(error).removeprefix('the changed config: ')}") from None


def _baseline(
    axes: Sequence[Axis], variants: Sequence[Level], configs: Mapping[str, CommandConfig], base: CommandConfig
) -> str:
    """The variant to compare with: the axes' own, else the one that is the base, else the first."""

    def fitness(variant: Level) -> tuple[bool, bool]:
        levels = zip(axes, variant.levels, strict=True)
        return all(axis.baseline in (None, level) for axis, level in levels), configs[variant.name] == base

    return max(variants, key=fitness).name


def _check_seeds(configs: Mapping[str, CommandConfig]) -> None:
    for name, config in configs.items():
        if not config.takes_seed:
            raise BadInput(
                f"--seeds: the command of {name} has no {{seed}}, so every seed would be the same run; write {{seed}} "
                "into the command, or leave --seeds out"
            )


def _validation(base: CommandConfig, workspace: Workspace, write: bool) -> DataSet | None:
    """The validation data; none where it is the embedded data set and must not be made."""
    source = base.validation
    if isinstance(source, Shapes) and not write and not shapes_folder(workspace).exists():
        return None
    return read_data_set(source, workspace, keep=write)
