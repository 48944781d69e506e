"""From an axis, a base config and seeds to a study: every run resolved, checked, sized and named by its identity.

A plan is a value: nothing is written for it but the embedded data set, where that is missing and its digest has to
name the runs, and what was found of the images, in the cache. What a person asks for and what would not mean what it
seems to is refused before anything is made.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import msgspec

from ablate.axes.base import Axis, AxisOptions, Variant, is_within
from ablate.config.foreign import CommandConfig
from ablate.config.identity import evaluation_identity, training_identity
from ablate.config.schema import Coco, Model, PluginBackbone, Pretrain, RunConfig, Shapes, epoch_of, pretraining_of
from ablate.config.yaml import anchor_weights, as_given, load_config, parse_change, preset_names, scalar, with_changes
from ablate.data.check import check_annotations
from ablate.data.fingerprint import DataSet, read_data_set
from ablate.data.sources import data_from, why_missing
from ablate.detector.memory import MemoryForecast, memory_limit
from ablate.runs.folder import Workspace, absolute, absolute_paths, now, pretraining_name
from ablate.studies.memory import forecasts_of, plan_memory, require_one_fits
from ablate.studies.study import (
    NOTE,
    DetectorSize,
    PretrainingRun,
    Study,
    StudyMemory,
    StudyRun,
    check_name,
    configs_folder,
    leaves,
    legible,
    nested,
    slug,
)
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)

PROPOSALS, DETECTIONS = 1000, 20  # of the cost count, as in `describe`
CLASSES_OF_SHAPES, CLASSES_OF_COCO = 6, 80  # taken for granted where the data is not there


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a study besides its axis."""

    base: str = "tiny-shapes"
    data: Sequence[str] = ()  # as `ablate.data.sources.data_from` takes it
    name: str = ""
    seeds: Sequence[int] = ()
    settings: Sequence[str] = ()  # key=value, for all runs
    only: Sequence[str] = ()
    weights: Mapping[str, str] = {}
    schedule: Literal["same", "best"] = "same"
    device: str = "auto"
    device_gib: float | None = None  # memory of each GPU; none: of those that are visible
    gpus: int = 1  # that train one run together
    paper_hardware: bool = False  # cap the memory of the row that ran out of it in the paper


class Level(Variant, frozen=True, kw_only=True):
    """A variant that knows its place on each axis, and once it is resolved its config."""

    levels: tuple[str, ...]
    config: RunConfig | None = None  # none: not resolved yet, or blocked


def plan(
    axis: Axis, request: Request, workspace: Workspace, *, crossed: Axis | None = None, write: bool = True
) -> Study:
    """The study of an axis, or of two crossed.

    Args:
        axis: what is varied.
        request: what it is varied on.
        workspace: above `results/`, where the embedded data lies.
        crossed: a second axis; every variant of the first is combined with every one of the second.
        write: make the embedded data set where it is missing, and keep what was found of the images; without it, data
            may be missing, and runs then have no identity.

    Raises:
        BadInput: an option names something that does not exist or does not fit, or no variant can run.
    """
    axes = (axis,) if crossed is None else (axis, crossed)
    asked = _settings(request)
    base, settings = _base(axes, request, asked)
    variants = _resolved_variants(axes, request, base, asked)
    baseline = _baseline(axes, variants, base)
    synthetic = isinstance(base.data.train, Shapes) or isinstance(base.data.validation, Shapes)
    chosen = chosen_variants(variants, request.only, baseline.name, distinct=synthetic)
    left_out = () if request.only else tuple(variant.name for variant in variants if variant not in chosen)
    name = request.name or _default_name(axes, request.base, base)
    check_name(name)
    data = StudyData(base, workspace, write)
    memory, forecasts = _memory(chosen, request, data)
    if memory.chosen:
        resolved = {"train.images_per_norm": memory.images_per_norm}
        settings = settings | resolved
        chosen = [_changed(variant, resolved) for variant in chosen]
        baseline = _changed(baseline, resolved)
    configs = {variant.name: variant.config for variant in chosen if variant.config is not None}
    _check_shares(configs.values(), request.gpus)
    if memory.device_gib is not None:
        require_one_fits(configs, forecasts, memory.device_gib, memory.gpus)
    allowed_keys = frozenset[str]().union(*(one.allowed_keys for one in axes))
    seeds = tuple(request.seeds) or (base.seed,)
    paths = config_paths(workspace, name, variants)
    sizes = {variant.name: data.size(variant.config.model) for variant in chosen if variant.config is not None}
    runs: list[StudyRun] = []
    for variant, seed in product(chosen, seeds):
        config, training, evaluation = None, "", ""
        needs, confounders = variant.needs, tuple[str, ...]()
        if variant.config is not None and baseline.config is not None:
            config = with_changes(variant.config, {"seed": seed})
            training, evaluation = data.identities(config)
            confounders = changed_outside_axis(baseline.config, config, allowed_keys)
            if evaluation and config.init.pretraining != "none":
                needs += (pretraining_name(data.weights(config)),)
        runs.append(
            StudyRun(
                variant=variant.name,
                seed=seed,
                changes=dict(variant.changes),
                config_path=paths(variant.name, seed),
                config=config,
                training=training,
                evaluation=evaluation,
                needs=needs,
                blocked=variant.blocked,
                note=variant.note,
                confounders=confounders,
                levels=variant.levels,
                number=variant.number,
                size=sizes.get(variant.name),
                memory=forecasts.get(variant.name),
                images_that_fit=_images_that_fit(config, forecasts.get(variant.name), memory),
            )
        )
    check_different(runs)
    is_preset = request.base in preset_names() and not Path(request.base).is_file()
    return Study(
        name=name,
        axis=axis.name,
        title=title_of(axes),
        source="; ".join(dict.fromkeys(one.source for one in axes)),
        allowed_keys=tuple(sorted(allowed_keys)),
        baseline=baseline.name,
        base=request.base if is_preset else absolute(request.base),
        settings=settings,
        seeds=seeds,
        synthetic=synthetic,
        training_data=data.digests[0],
        validation_data=data.digests[1],
        product=crossed.name if crossed else None,
        unit=next((one.unit for one in axes if one.unit), ""),
        left_out=left_out,
        memory=memory,
        runs=tuple(runs),
        pretrainings=_pretrainings(runs, data),
        planned=now(),
    )


def _memory(
    variants: Sequence[Level], request: Request, data: "StudyData"
) -> tuple[StudyMemory, dict[str, MemoryForecast]]:
    """The memory of a study's GPUs, and where that is known what each variant needs of it."""
    configs = {variant.name: variant.config for variant in variants if variant.config is not None}
    device_gib = request.device_gib
    if device_gib is None and request.device != "cpu":
        from ablate.detector.memory_forecast import visible_memory_gib

        device_gib = visible_memory_gib()
    forecasts = {}
    if device_gib is not None:
        forecasts = forecasts_of(configs, data.classes, data.workspace, request.gpus, write=data.write)
    return plan_memory(configs, forecasts, device_gib, request.gpus), forecasts


def _check_shares(configs: Iterable[RunConfig], gpus: int) -> None:
    """Refuse GPUs that cannot share the work of every run evenly.

    Raises:
        BadInput: they cannot; the sentence says how many can.
    """
    from ablate.train.distributed import lay_out

    for config in configs:
        try:
            lay_out(config.train.batch_size, config.train.norm_images, gpus)
        except BadInput as error:
            raise BadInput(f"--gpus-per-run {gpus}: {error}") from None


def _changed(variant: Level, changes: dict[str, Any]) -> Level:
    """A variant on a base with these changes; a blocked one has no config."""
    if variant.config is None:
        return variant
    return msgspec.structs.replace(variant, config=with_changes(variant.config, changes))


def _images_that_fit(config: RunConfig | None, forecast: MemoryForecast | None, memory: StudyMemory) -> int | None:
    if config is None or forecast is None or memory.device_gib is None:
        return None
    return forecast.images_that_fit(memory_limit(config, memory.device_gib))


def changed_outside_axis(
    baseline: RunConfig | CommandConfig, config: RunConfig | CommandConfig, allowed_keys: frozenset[str]
) -> tuple[str, ...]:
    """The keys in which two configs differ although the axis may not change them; the seed may differ."""
    first, second = (leaves(msgspec.to_builtins(one)) for one in (baseline, config))
    differing = (key for key in dict.fromkeys([*first, *second]) if first.get(key) != second.get(key))
    return tuple(key for key in differing if key != "seed" and not is_within(key, allowed_keys))


def check_different(runs: Sequence[StudyRun]) -> None:
    """Refuse variants that are one run: a table of them would compare its numbers with themselves.

    Raises:
        BadInput: two variants have the same identity under the same seed.
    """
    first: dict[tuple[int, str], StudyRun] = {}
    for run in runs:
        if not run.evaluation:
            continue
        other = first.setdefault((run.seed, run.evaluation), run)
        if other is not run:
            one, two = (leaves(msgspec.to_builtins(each.any_config)) for each in (other, run))
            keys = [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]
            why = (
                f"the files in which they differ ({', '.join(keys)}) have the same content"
                if keys
                else "their configs are equal"
            )
            raise BadInput(
                f"variants {other.variant!r} and {run.variant!r} are the same run {run.run_id}: their data, weights "
                f"and settings are equal, {why}; leave one of them out"
            )


class StudyData:
    """The data of a study: its annotations' digests, its classes, and how large a detector for them is.

    Args:
        base: the study's.
        workspace: above `results/`, where the embedded data lies.
        write: make the embedded data where it is missing, and keep what was found of the images; without it and the
            data, digests are empty.

    Raises:
        BadInput: ``write``, and the data is missing; or data that is there cannot be used.
    """

    def __init__(self, base: RunConfig, workspace: Workspace, write: bool) -> None:
        self.workspace, self.write = workspace, write
        self._read = cache(self._data_set)
        self._check = cache(self._check_annotations)
        self.size = cache(self._size)
        self._weights: dict[object, str] = {}
        first, second = self._read(base.data.train), self._read(base.data.validation)
        self.digests = first.truth.digest if first else "", second.truth.digest if second else ""
        unknown = CLASSES_OF_SHAPES if isinstance(base.data.train, Shapes) else CLASSES_OF_COCO
        self.classes = unknown if first is None else len(first.truth.category_id)

    def identities(self, config: RunConfig) -> tuple[str, str]:
        """Training and evaluation; empty where the data is not there yet.

        Raises:
            BadInput: data on which the run would be refused.
        """
        first, second = self._read(config.data.train), self._read(config.data.validation)
        if first is None or second is None:
            return "", ""
        self._check(config.data.train, config.data.validation, config.model.detector.masks)
        weights = self.weights(config)
        if config.init.pretraining != "none" and not weights:
            return "", ""
        return (
            training_identity(config, first.digest, weights),
            evaluation_identity(config, first.digest, second.digest, weights),
        )

    def weights(self, config: RunConfig) -> str:
        """The digest of the initial weights for the identity; empty if they are random, or their images missing."""
        from ablate.detector.init_weights import initial_digest

        key = (config.init, config.model)
        if key not in self._weights:
            self._weights[key] = initial_digest(config, self.workspace, write=self.write)
        return self._weights[key]

    def _data_set(self, source: Shapes | Coco) -> DataSet | None:
        if not self.write and why_missing(source, self.workspace):
            return None
        return read_data_set(source, self.workspace, keep=self.write)

    def _check_annotations(self, train: Shapes | Coco, validation: Shapes | Coco, masks: bool) -> None:
        first, second = self._read(train), self._read(validation)
        if first is not None and second is not None:
            check_annotations(first.truth, second.truth, masks=masks)

    def _size(self, model: Model) -> DetectorSize:
        """The size of a detector, counted without allocating memory."""
        import torch

        from ablate.detector.flops import detector_costs, total
        from ablate.detector.mask_rcnn import build_detector

        with torch.device("meta"):
            detector = build_detector(model, self.classes)
        costs = detector_costs(detector, model.backbone.image_size, proposals=PROPOSALS, detections=DETECTIONS)
        whole = total(costs.values())
        return DetectorSize(whole.parameters, whole.macs, whole.activations)


def base_of(axis: Axis, request: Request) -> RunConfig:
    """The config on which a study's variants are made.

    Raises:
        BadInput: an option names something that does not exist or does not fit.
    """
    return _base((axis,), request, _settings(request))[0]


def _base(axes: Sequence[Axis], request: Request, asked: dict[str, Any]) -> tuple[RunConfig, dict[str, Any]]:
    """The config on which all variants are made, and the dotted keys that make it of the request's base."""
    settings, base = asked, load_config(request.base)
    if request.weights and not any(one.takes_weights for one in axes):
        settings = {**_weights_for_all(request.weights, base, axes[0], request.schedule), **settings}
    elif request.schedule == "best" and not any(one.name == "init" for one in axes):
        raise BadInput("--schedule best: applies to axis init only, or to --weights from which all variants start")
    base = with_changes(base, settings)
    settings = settings | _resolved_precision(base, request.device) | absolute_paths(base) | _resolved_code(base)
    return with_changes(base, settings), settings


def _resolved_code(base: RunConfig) -> dict[str, Any]:
    """By which code a backbone of another package is made; nothing for others."""
    backbone = _with_code(base).model.backbone
    return {"model.backbone.code": backbone.code} if isinstance(backbone, PluginBackbone) else {}


def _with_code(config: RunConfig) -> RunConfig:
    if not isinstance(config.model.backbone, PluginBackbone):
        return config
    from ablate.detector.plugin import with_code

    return with_code(config)


def _settings(request: Request) -> dict[str, Any]:
    """The settings of ``--set`` and ``--data`` for all runs, by dotted key."""
    settings = dict(map(parse_change, request.settings))
    if request.data:
        data = data_from(request.data)
        settings["data"] = {name: as_given(getattr(data, name)) for name in ("train", "validation")}
    return leaves(nested(settings))


def _weights_for_all(weights: Mapping[str, str], base: RunConfig, axis: Axis, schedule: str) -> dict[str, Any]:
    """The settings of ``--weights`` for all variants, if the axis varies something else; ``--set`` overrides them."""
    from ablate.axes.init import check_options
    from ablate.weights.settings import KINDS, best_epochs, best_schedule, init_settings

    check_options(AxisOptions(weights=weights), KINDS)
    if len(weights) > 1:
        raise BadInput(
            f"axis {axis.name} uses one initialisation for all variants: give one --weights, not {', '.join(weights)}"
        )
    ((kind, file),) = weights.items()
    if schedule == "best":
        return {**init_settings(kind, base, file), **best_schedule(kind, base)}
    best = best_epochs(kind, base)
    if base.train.epochs == best_epochs("random", base) != best:
        logger.warning(
            f"all runs are planned with {base.train.epochs:g} epochs, the paper's best length for random weights; for "
            f"these weights it was {best:g}: --schedule best uses that"
        )
    return init_settings(kind, base, file)


def _resolved_precision(base: RunConfig, device: str) -> dict[str, Any]:
    recipe = base.init.pretraining
    wanted = {
        "train.precision": base.train.precision,
        "init.pretraining.precision": recipe.precision if isinstance(recipe, Pretrain) else "",
    }
    if "auto" not in wanted.values():
        return {}
    from ablate.train.distributed import device_of
    from ablate.train.optim import resolve

    return {key: resolve("auto", device_of(device)) for key, precision in wanted.items() if precision == "auto"}


def _resolved_variants(
    axes: Sequence[Axis], request: Request, base: RunConfig, asked: Mapping[str, Any]
) -> list[Level]:
    """The variants on the base, each with its config or the reason why it has none."""
    weights = request.weights if any(one.takes_weights for one in axes) else {}
    options = AxisOptions(weights=weights, schedule=request.schedule, paper_hardware=request.paper_hardware)
    variants = combined_variants(axes, base, options)
    if any("seed" in variant.changes for variant in variants):
        raise BadInput(
            "the seed cannot be varied as a factor: give --seeds 0,1,..., and every variant runs with each seed"
        )
    if all(one.baseline for one in axes):  # else the base decides which variant is the baseline
        _check_settings(asked, base, lambda other: combined_variants(axes, other, options), axes[0].name)
    return [_resolved(variant, base) for variant in variants]


def combined_variants(axes: Sequence[Axis], base: Any, options: AxisOptions) -> list[Level]:
    """Every combination of a variant of each axis."""
    if len(axes) > len({one.name for one in axes}):
        raise BadInput(f"--product {axes[0].name} is the axis of this study already; choose another one")
    return [_joined(axes, parts) for parts in product(*(one.variants(base, options) for one in axes))]


def _joined(axes: Sequence[Axis], parts: Sequence[Variant]) -> Level:
    for one, other in combinations(parts, 2):
        for key, theirs in product(one.changes, other.changes):
            if is_within(key, frozenset({theirs})) or is_within(theirs, frozenset({key})):
                names, clash = " and ".join(axis.name for axis in axes), max(key, theirs, key=len)
                raise BadInput(f"axes {names} both change {clash}, so they cannot be crossed")
    changes = {key: value for part in parts for key, value in part.changes.items()}
    anchor_weights(changes, Path().absolute())
    numbers = [part.number for axis, part in zip(axes, parts, strict=True) if axis.unit]
    return Level(
        name=" x ".join(part.name for part in parts),
        changes=changes,
        note="; ".join(part.note for part in parts if part.note),
        needs=tuple(need for part in parts for need in part.needs),
        blocked=next((part.blocked for part in parts if part.blocked), None),
        number=numbers[0] if numbers else parts[-1].number,
        same_result_as=next((part.same_result_as for part in parts if part.same_result_as), None),
        levels=tuple(part.name for part in parts),
    )


def _resolved(variant: Level, base: RunConfig) -> Level:
    """A variant with its config, or with the reason why there is none; weights that it reads fit, or it is blocked."""
    if variant.blocked is not None:
        return variant
    found = _config(variant, base)
    if isinstance(found, str):
        return msgspec.structs.replace(variant, blocked=found)
    config = _with_code(found)
    if config.init.weights == "none" or variant.needs:  # what it needs will write them
        return msgspec.structs.replace(variant, config=config)
    from ablate.weights.convert import cautions, check_weights
    from ablate.weights.source import read_facts

    try:
        check_weights(config)
    except BadInput as error:
        if variant.changes.get("init.weights") == config.init.weights:
            raise  # named for this very variant
        return msgspec.structs.replace(variant, blocked=str(error))
    notes = [f"{NOTE}{one}" for one in cautions(read_facts(config.init.weights), config.model)]
    return msgspec.structs.replace(variant, config=config, note="; ".join(filter(None, [variant.note, *notes])))


def _baseline(axes: Sequence[Axis], variants: Sequence[Level], base: RunConfig) -> Level:
    """The variant to compare with: the axes' own, else the one that is the base, else the first that can run."""
    runnable = [variant for variant in variants if variant.config is not None]
    if not runnable:
        reasons: dict[str, list[str]] = {}
        for variant in variants:
            reasons.setdefault(str(variant.blocked), []).append(variant.name)
        each = (f"{', '.join(names)}: {reason}" if len(reasons) > 1 else reason for reason, names in reasons.items())
        raise BadInput(f"axis {axes[0].name}: no variant can run ({'; '.join(each)})")

    def fitness(variant: Level) -> tuple[bool, bool]:
        levels = zip(axes, variant.levels, strict=True)
        return all(axis.baseline in (None, level) for axis, level in levels), variant.config == base

    # max takes the first of equals; what an axis names counts before what equals the base
    return max(runnable, key=fitness)


def chosen_variants(variants: Sequence[Level], only: Sequence[str], baseline: str, *, distinct: bool) -> list[Level]:
    """The variants that a person named; else all, or where ``distinct`` those that no other has the result of."""
    names = [variant.name for variant in variants]
    for name in only:
        if name not in names and not any(name in variant.levels for variant in variants):
            raise BadInput(f"--only {name}: no such variant; there are: {'; '.join(names)}")
    if not only:
        return [v for v in variants if not (distinct and v.same_result_as)]
    return [v for v in variants if v.name in (baseline, *only) or set(v.levels) & set(only)]


def _pretrainings(runs: Sequence[StudyRun], data: StudyData) -> tuple[PretrainingRun, ...]:
    """The pre-trainings that the runs start from, each once, needed ones first, with all numbers of epochs in use."""
    needed: dict[str, dict[str, RunConfig]] = {}
    for run in runs:
        if run.config is not None and run.evaluation and run.config.init.pretraining != "none":
            needed.setdefault(data.weights(run.config), {})[run.variant] = run.config
    return tuple(
        PretrainingRun(
            variant=f"pre-training of {next(iter(configs))}",
            pretraining=pretraining_of(next(iter(configs.values()))),
            training=identity,
            epochs=tuple(sorted({epoch_of(config.init) for config in configs.values()})),
        )
        for identity, configs in needed.items()
    )


def _check_settings(
    settings: Mapping[str, Any], base: RunConfig, variants_on: Callable[[RunConfig], Sequence[Variant]], axis: str
) -> None:
    """Refuse a setting that reaches no run, because every variant sets its key itself.

    Args:
        settings: of all runs, by dotted key; the base contains them already.
        base: of the study.
        variants_on: the variants on a base.
        axis: its name, for the refusal.

    Raises:
        BadInput: the study is the same with and without one of the values.
    """

    def configs_on(base: RunConfig) -> list[RunConfig | str]:
        return [_config(variant, base) for variant in variants_on(base)]

    if not settings:
        return
    made, variants = configs_on(base), variants_on(base)
    for key, value in settings.items():
        own = [variant.changes.get(key) for variant in variants]
        others = [one for one in own if one != value]
        same = (configs_on(with_changes(base, {key: other})) == made for other in others)
        if others and None not in own and all(same):
            raise BadInput(
                f"--set {key}={scalar(value)} has no effect: every variant of axis {axis} sets this key itself; leave "
                "it out"
            )


def _config(variant: Variant, base: RunConfig) -> RunConfig | str:
    """The config of a variant on a base, or why there is none."""
    try:
        return with_changes(base, dict(variant.changes))
    except BadInput as error:
        return str(error).removeprefix("the changed config: ")


def _default_name(axes: Sequence[Axis], base_name: str, base: RunConfig) -> str:
    parts = [one.name for one in axes] + [Path(base_name).stem if Path(base_name).is_file() else base_name]
    return "-".join([*parts, *([base.engine] if base.engine != "vision" else [])])


def title_of(axes: Sequence[Axis]) -> str:
    """The heading of a study: its axis, or its two axes."""
    first, *others = (one.title for one in axes)
    return first + "".join(f", and {title[0].lower()}{title[1:]}" for title in others)


def config_paths(workspace: Workspace, study: str, variants: Sequence[Variant]) -> Callable[[str, int], str]:
    """The path, from the root, of the config of a variant and seed; the file name contains the variant."""
    folder = configs_folder(workspace, study).relative_to(workspace.root)
    plain = [legible(variant.name) for variant in variants]
    clear = len(set(plain)) == len(plain) and all(plain)
    names = {variant.name: legible(variant.name) if clear else slug(variant.name) for variant in variants}
    return lambda variant, seed: (folder / f"{names[variant]}-seed{seed}.yaml").as_posix()
