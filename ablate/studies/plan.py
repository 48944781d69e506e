"""From an axis, a base config and seeds to a study: every run resolved, checked, sized and named by its identity.

What is asked of a plan and would not mean what it seems to: refused before anything is made of it.

The data of a study: what names its runs, and how large a detector for it is.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ablate.axes.base import Axis, AxisOptions, Variant, is_within
from ablate.config.schema import Coco, Folder, Model, Pretrain, RunConfig, Shapes, epoch_of, pretraining_of
from ablate.config.yaml import anchor_weights, load_config, parse_yaml, preset_names, scalar, with_changes
from ablate.runs.folder import Workspace, now, pretraining_name
from ablate.studies.study import (
    CAREFUL,
    PretrainingRun,
    Size,
    Study,
    StudyRun,
    configs_folder,
    leaves,
    legible,
    nested,
    slug,
)
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from analysis import GroundTruth


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


PROPOSALS, DETECTIONS = 1000, 20  # of the cost count, as in `describe`
CLASSES_OF_SHAPES = 6


class StudyData:
    """The data of a study: its digests, its classes, and what a detector for them comes to."""

    def __init__(self, base: RunConfig, workspace: Workspace, write: bool) -> None:
        self.workspace, self.write = workspace, write
        self._truths: dict[Shapes | Coco, GroundTruth | None] = {}
        self._sizes: dict[bytes, Size] = {}
        self._weights: dict[bytes, str] = {}
        self.digests = self._digests(base)
        first = self._truths[base.data.train]
        self.classes = CLASSES_OF_SHAPES if first is None else len(first.category_id)

    def identities(self, config: RunConfig) -> tuple[str, str]:
        """Training and evaluation; empty where the data is not there yet."""
        from ablate.config.identity import evaluation_identity, training_identity

        first, second = self._digests(config)
        if not (first and second):
            return "", ""
        weights = self.weights(config)
        if config.init.pretraining != "none" and not weights:
            return "", ""
        return training_identity(config, first, weights), evaluation_identity(config, first, second, weights)

    def weights(self, config: RunConfig) -> str:
        """What the initial weights are in the identity; empty for random ones, and where their images are not there."""
        from ablate.detector.init_weights import initial_digest

        key = msgspec.json.encode([config.init, config.model])
        if key not in self._weights:
            self._weights[key] = initial_digest(config, self.workspace, write=self.write)
        return self._weights[key]

    def _digests(self, config: RunConfig) -> tuple[str, str]:
        return self._digest(config.data.train), self._digest(config.data.validation)

    def _digest(self, source: Shapes | Coco) -> str:
        from ablate.data.sources import locate, shapes_folder
        from analysis import read_ground_truth

        if source not in self._truths:
            there = isinstance(source, Coco) or self.write or shapes_folder(self.workspace).exists()
            self._truths[source] = read_ground_truth(locate(source, self.workspace).annotations) if there else None
        truth = self._truths[source]
        return "" if truth is None else truth.digest

    def size(self, model: Model) -> Size:
        """Of a detector; counted without memory."""
        key = msgspec.json.encode(model)
        if key not in self._sizes:
            import torch

            from ablate.detector.flops import detector_costs, total
            from ablate.detector.mask_rcnn import build_detector

            with torch.device("meta"):
                detector = build_detector(model, self.classes)
            costs = detector_costs(detector, model.backbone.image_size, proposals=PROPOSALS, detections=DETECTIONS)
            whole = total(costs.values())
            self._sizes[key] = Size(whole.parameters, whole.macs, whole.activations)
        return self._sizes[key]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for, beside the axis."""

    base: str = "tiny-shapes"
    data: Sequence[str] = ()  # as `ablate.data.sources.data_from` takes it
    name: str = ""
    seeds: Sequence[int] = ()
    settings: Sequence[str] = ()  # key=value, for all runs
    only: Sequence[str] = ()
    weights: Mapping[str, str] = {}
    device: str = "auto"


def plan(
    axis: Axis, request: Request, workspace: Workspace, *, crossed: Axis | None = None, write: bool = True
) -> Study:
    """The study of an axis, or of two crossed.

    Args:
        axis: what is varied.
        request: what it is varied on.
        workspace: above `results/`, where the embedded data lies.
        crossed: a second axis; every variant of the first is combined with every one of the second.
        write: make the embedded data set where it is missing; without it and the data, runs have no identity.

    Raises:
        BadInput: something asked for does not exist or does not fit, or nothing of it can run.
    """
    settings, base = _settings(request), load_config(request.base)
    asked = dict(settings)
    takes_weights = axis.takes_weights or (crossed is not None and crossed.takes_weights)
    if request.weights and not takes_weights:
        settings = {**_held(request.weights, base, axis), **settings}
    base = with_changes(base, settings)
    settings |= _resolved_precision(base, request.device)
    settings |= _located(base)
    base = with_changes(base, settings)
    options = AxisOptions(weights=request.weights if takes_weights else {})
    variants = _variants(axis, crossed, base, options)
    check_seeds(variants)
    if axis.baseline and (crossed is None or crossed.baseline):  # else the base decides which variant is the baseline
        check_settings(asked, base, lambda other: _variants(axis, crossed, other, options), axis.name)
    allowed_keys = axis.allowed_keys | (crossed.allowed_keys if crossed else frozenset())
    configs = {variant.name: _config(variant, base) for variant in variants}
    baseline = _baseline(axis, crossed, variants, configs, base)
    chosen = _chosen(variants, request.only, baseline)
    known = {name: config for name, config in configs.items() if isinstance(config, RunConfig)}
    data = StudyData(base, workspace, write)
    parts = [axis.name, *([crossed.name] if crossed else []), _base_name(request.base)]
    name = request.name or "-".join([*parts, *([base.engine] if base.engine != "vision" else [])])
    check_name(name)
    runs: list[StudyRun] = []
    pretrainings = _Pretrainings()
    folder, files = configs_folder(workspace, name).relative_to(workspace.root), _file_names(variants)
    sizes = {v.name: data.size(known[v.name].model) for v in chosen if v.name in known}
    for variant in chosen:
        for seed in request.seeds or (base.seed,):
            config = known.get(variant.name)
            one = None if config is None else with_changes(config, {"seed": seed})
            training, evaluation = ("", "") if one is None else data.identities(one)
            first = () if one is None or not evaluation else pretrainings.needed(variant.name, one, data.weights(one))
            runs.append(
                StudyRun(
                    variant=variant.name,
                    seed=seed,
                    changes=dict(variant.changes),
                    config_path=(folder / f"{files[variant.name]}-seed{seed}.yaml").as_posix(),
                    config=one,
                    training=training,
                    evaluation=evaluation,
                    needs=(*variant.needs, *first),
                    blocked=None if one is not None else variant.blocked or str(configs[variant.name]),
                    note=_note(variant, config),
                    uncontrolled=() if config is None else changed_outside_axis(known[baseline], config, allowed_keys),
                    levels=variant.levels,
                    number=variant.number,
                    size=sizes.get(variant.name),
                )
            )
    sources = dict.fromkeys([axis.source, *([crossed.source] if crossed else [])])
    return Study(
        name=name,
        axis=axis.name,
        title=axis.title + (f", and {crossed.title[0].lower()}{crossed.title[1:]}" if crossed else ""),
        source="; ".join(sources),
        allowed_keys=tuple(sorted(allowed_keys)),
        baseline=baseline,
        base=_base_address(request.base),
        settings=settings,
        seeds=tuple(request.seeds) or (base.seed,),
        synthetic=isinstance(base.data.train, Shapes) or isinstance(base.data.validation, Shapes),
        training_data=data.digests[0],
        validation_data=data.digests[1],
        product=crossed.name if crossed else None,
        unit=axis.unit or (crossed.unit if crossed else ""),
        runs=tuple(runs),
        pretrainings=pretrainings.runs,
        planned=now(),
    )


def changed_outside_axis(baseline: RunConfig, config: RunConfig, allowed_keys: frozenset[str]) -> tuple[str, ...]:
    """The keys in which two configs differ although the axis does not touch them; the seed may."""
    first, second = leaves(msgspec.to_builtins(baseline)), leaves(msgspec.to_builtins(config))
    differing = (key for key in dict.fromkeys([*first, *second]) if first.get(key) != second.get(key))
    return tuple(key for key in differing if key != "seed" and not is_within(key, allowed_keys))


class _Level(Variant, frozen=True, kw_only=True):
    """A variant that knows its place on each axis."""

    levels: tuple[str, ...]


def _variants(axis: Axis, crossed: Axis | None, base: RunConfig, options: AxisOptions) -> list[_Level]:
    def level(variant: Variant, *names: str) -> _Level:
        changes = dict(variant.changes)
        anchor_weights(changes, Path().absolute())
        return _Level(**{**msgspec.structs.asdict(variant), "levels": names, "changes": changes})

    first = axis.variants(base, options)
    if crossed is None:
        return [level(variant, variant.name) for variant in first]
    if crossed.name == axis.name:
        raise BadInput(f"--product {crossed.name} is the axis itself; choose another one")
    made = []
    for one, other in product(first, crossed.variants(base, options)):
        for key in one.changes:
            clash = next((key for theirs in other.changes if is_within(key, frozenset({theirs}))), None) or next(
                (theirs for theirs in other.changes if is_within(theirs, frozenset({key}))), None
            )
            if clash:
                raise BadInput(f"axes {axis.name} and {crossed.name} both change {clash}, so they cannot be crossed")
        joined = Variant(
            name=f"{one.name} x {other.name}",
            changes={**one.changes, **other.changes},
            note="; ".join(note for note in (one.note, other.note) if note),
            needs=(*one.needs, *other.needs),
            blocked=one.blocked or other.blocked,
            number=one.number if axis.unit else other.number,
        )
        made.append(level(joined, one.name, other.name))
    return made


def _config(variant: Variant, base: RunConfig) -> RunConfig | str:
    """The config of a variant, or why there is none."""
    if variant.blocked is not None:
        return variant.blocked
    try:
        config = with_changes(base, dict(variant.changes))
    except BadInput as error:
        return str(error).removeprefix("the changed config: ")
    if config.init.weights == "none" or variant.needs:  # what it needs will write them
        return config
    from ablate.weights.convert import check_weights

    try:
        check_weights(config)
    except BadInput as error:
        if variant.changes.get("init.weights") == config.init.weights:
            raise  # named for this very variant
        return str(error)
    return config


def _note(variant: Variant, config: RunConfig | None) -> str:
    """What a reader should know of a variant and of the weights that it starts from."""
    if config is None or config.init.weights == "none" or variant.needs:
        return variant.note
    from ablate.weights.convert import cautions
    from ablate.weights.source import read_facts

    careful = [f"{CAREFUL}{one}" for one in cautions(read_facts(config.init.weights), config.model)]
    return "; ".join(note for note in (variant.note, *careful) if note)


def _baseline(
    axis: Axis,
    crossed: Axis | None,
    variants: Sequence[_Level],
    configs: Mapping[str, RunConfig | str],
    base: RunConfig,
) -> str:
    """The variant to compare with: the axes' own, else the one that is the base, else the first that can run."""
    runnable = [variant for variant in variants if isinstance(configs[variant.name], RunConfig)]
    if not runnable:
        reasons: dict[str, list[str]] = {}
        for variant in variants:
            reasons.setdefault(str(configs[variant.name]), []).append(variant.name)
        told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
        raise BadInput(f"axis {axis.name}: no variant can run ({next(iter(reasons)) if len(reasons) == 1 else told})")
    wanted = [axis.baseline, *([crossed.baseline] if crossed else [])]

    def fitness(variant: _Level) -> tuple[bool, bool]:
        named = all(name in (None, level) for name, level in zip(wanted, variant.levels, strict=True))
        return named, configs[variant.name] == base

    # max takes the first of equals; what an axis names counts before what equals the base
    return max(runnable, key=fitness).name


def _chosen(variants: Sequence[_Level], only: Sequence[str], baseline: str) -> list[_Level]:
    names = [variant.name for variant in variants]
    for name in only:
        if name not in names and not any(name in variant.levels for variant in variants):
            raise BadInput(f"--only {name}: no such variant; there are: {'; '.join(names)}")
    return [v for v in variants if not only or v.name == baseline or v.name in only or set(v.levels) & set(only)]


def _settings(request: Request) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for change in request.settings:
        key, sign, text = (part.strip() for part in change.partition("="))
        if not key or not sign:
            raise BadInput(f"'{change}' is no change: write key=value, for example train.lr=8e-5")
        settings[key] = parse_yaml(text, f"the value of {key}")
    if request.data:
        from ablate.data.sources import data_from

        data = data_from(request.data)
        settings["data"] = {name: msgspec.to_builtins(getattr(data, name)) for name in ("train", "validation")}
    return leaves(nested(settings))


def _resolved_precision(base: RunConfig, device: str) -> dict[str, Any]:
    recipe = base.init.pretraining
    wanted = {"train.precision": base.train.precision}
    wanted |= {"init.pretraining.precision": recipe.precision} if isinstance(recipe, Pretrain) else {}
    if "auto" not in wanted.values():
        return {}
    from ablate.train.distributed import device_of
    from ablate.train.optim import resolve

    return {key: resolve("auto", device_of(device)) for key, precision in wanted.items() if precision == "auto"}


def _located(base: RunConfig) -> dict[str, Any]:
    """Absolute paths of the data and the weights, since a study's files lie elsewhere."""
    found: dict[str, Any] = {}
    for name in ("train", "validation"):
        source = getattr(base.data, name)
        if isinstance(source, Coco):
            found[f"data.{name}.type"] = "coco"
            for key in ("annotations", "images"):
                found[f"data.{name}.{key}"] = str(Path(getattr(source, key)).expanduser().absolute())
    if base.init.weights != "none":
        found["init.weights"] = str(Path(base.init.weights).expanduser().absolute())
    recipe = base.init.pretraining
    if isinstance(recipe, Pretrain) and isinstance(recipe.images, Folder):
        found["init.pretraining.images.type"] = "folder"
        found["init.pretraining.images.path"] = str(Path(recipe.images.path).expanduser().absolute())
    return found


def _held(weights: Mapping[str, str], base: RunConfig, axis: Axis) -> dict[str, Any]:
    """What all variants start from, where the axis studies something else; what the person set is put on top."""
    from ablate.axes.init import check_options
    from ablate.weights.settings import KINDS, init_settings

    check_options(AxisOptions(weights=weights), KINDS)
    if len(weights) > 1:
        given = ", ".join(weights)
        raise BadInput(f"axis {axis.name} holds one initialisation for all: give one --weights, not {given}")
    ((kind, file),) = weights.items()
    return init_settings(kind, base, file)


def _base_address(base: str) -> str:
    return base if base in preset_names() and not Path(base).is_file() else str(Path(base).expanduser().absolute())


def _base_name(base: str) -> str:
    return Path(base).stem if Path(base).is_file() else base


def _file_names(variants: Sequence[Variant]) -> dict[str, str]:
    """A name for the configs of each variant, that tells it from the others."""
    plain = [legible(variant.name) for variant in variants]
    clear = len(set(plain)) == len(plain) and all(plain)
    return {variant.name: legible(variant.name) if clear else slug(variant.name) for variant in variants}


class _Pretrainings:
    """The pre-trainings that runs need, each once, with the epochs that are asked of it."""

    def __init__(self) -> None:
        self._found: dict[str, PretrainingRun] = {}

    @property
    def runs(self) -> tuple[PretrainingRun, ...]:
        """In the order in which they were needed first."""
        return tuple(self._found.values())

    def needed(self, variant: str, config: RunConfig, identity: str) -> tuple[str, ...]:
        """The names of what a run of a variant needs first.

        Args:
            variant: its name.
            config: its config.
            identity: of its pre-training.
        """
        if config.init.pretraining == "none":
            return ()
        before = self._found.get(identity)
        self._found[identity] = PretrainingRun(
            variant=f"pre-training of {variant}" if before is None else before.variant,
            pretraining=pretraining_of(config),
            training=identity,
            epochs=tuple(sorted({epoch_of(config.init), *(before.epochs if before else ())})),
        )
        return (pretraining_name(identity),)
