"""A study that grows: the paper's tuning protocol over run folders, from its results so far to the runs that come next.

`plan_tuning` may be asked again at any time: it reads what has finished and plans what the protocol
(`ablate.studies.tuning`) asks for then. Runs that were asked for once stay in the study.
"""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.backbone import model_size, vit_of
from ablate.config.schema import RunConfig, Shapes
from ablate.config.yaml import load_config, scalar, with_changes
from ablate.data.sources import locate, shapes_folder
from ablate.data.split import hold_out
from ablate.execute.evaluation import read_evaluation
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, base_of, plan
from ablate.studies.study import Study, free_name, leaves, nested, read_study, study_folder, tree_lines
from ablate.studies.tuning import Point, Protocol, Results, Step, Tuning, next_step
from ablate.weights.settings import TITLES, best_epochs, init_settings, initialisation_of, own_initialisation
from analysis.exceptions import BadInput
from analysis.render.table import one_line

AXIS = "tune"
PROTOCOL = "the protocol of arXiv 2111.11429"
TITLE = f"Learning rate, weight decay and drop path, tuned by {PROTOCOL}"
SOURCE = "arXiv 2111.11429, appendix"
PAPER_CENTRE = (1.6e-4, 0.1)  # learning rate, weight decay
RANDOM_LENGTHS, PRETRAINED_LENGTHS = (100.0, 100.0), (25.0, 50.0)  # epochs of the grid, of drop path
ENDED_WITHOUT_RESULT = ("diverged", "out_of_memory")
FIRST_GRID = 9
CHOSEN = ("train.lr", "train.weight_decay", "model.backbone.drop_path")
TUNED = frozenset({*CHOSEN, "train.epochs", "train.iterations"})
OF_A_MODEL = frozenset({"model", "init", "train.layer_decay"})  # what a larger model brings along
PINNED = ("train.images_per_norm", "train.precision")  # found once, and the same in every run that comes later
NO_POINTS = Axis(name=AXIS, title=TITLE, source=SOURCE, allowed_keys=TUNED, variants=lambda _base, _options: ())


class TuneRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a tuning, besides those of every study.

    Attributes:
        centre: of the first grid: the paper's, or the base's own learning rate and weight decay.
        held_out: share of the training images to choose settings on; 0: the validation images.
        larger: a config whose model is tuned too, for drop path alone; empty: none.
        larger_weights: what it starts from; empty: what its config says.
        most_runs: in all, over all seeds.
    """

    centre: Literal["paper", "base"] = "paper"
    held_out: float = 0.0
    larger: str = ""
    larger_weights: str = ""
    most_runs: int = 60


class PlannedTuning(NamedTuple):
    """The present state of a tuning.

    Attributes:
        study: of everything that was asked for.
        step: what the protocol asks for next.
        results: so far.
        base: the config that all settings are applied to.
        larger: the keys that turn the base into the larger model.
    """

    study: Study
    step: Step
    results: Results
    base: RunConfig
    larger: Mapping[str, Any]

    @property
    def tuning(self) -> Tuning:
        """The record of the tuning in the study."""
        assert self.study.tuning is not None
        return self.study.tuning


def plan_tuning(request: Request, tune: TuneRequest, workspace: Workspace, *, write: bool = True) -> PlannedTuning:
    """The study of a tuning with everything that is asked for by now.

    Args:
        request: as of any study.
        tune: the rest of what is asked for.
        workspace: above `results/`.
        write: see `ablate.studies.plan.plan`; without it no training set is split either.

    Raises:
        BadInput: an option names something that does not exist or does not fit.
    """
    name = request.name or _default_name(request, tune)
    request = msgspec.structs.replace(request, name=name, schedule="best" if request.weights else "same")
    seeds = max(1, len(request.seeds))
    if tune.most_runs < FIRST_GRID * seeds:
        times = f" x {seeds} seeds" if seeds > 1 else ""
        raise BadInput(
            f"--max-runs {tune.most_runs}: the first grid alone has 3 x 3{times} = {FIRST_GRID * seeds} runs; "
            "allow at least this number"
        )
    tuned = {"model.backbone.drop_path", *(("train.lr", "train.weight_decay") if tune.centre == "paper" else ())}
    for change in request.settings:
        key = change.partition("=")[0].strip()
        if key in tuned:
            remedy = "leave it out" if key.startswith("model") else "leave it out, or start from it with --centre base"
            raise BadInput(f"--set {change}: has no effect, every run of a tuning sets {key} itself; {remedy}")
    if not 0 <= tune.held_out < 1:
        raise BadInput(f"--tune-split {tune.held_out:g}: must be a share of the training images, from 0 to below 1")
    base = base_of(NO_POINTS, request)
    vit_of(base, AXIS)
    synthetic = isinstance(base.data.train, Shapes) or isinstance(base.data.validation, Shapes)
    if tune.held_out and (files := _split(base, tune.held_out, workspace, write)):
        # What was set of the sets that are split is in their files already.
        kept = [
            change for change in request.settings if not change.strip().startswith(("data.train", "data.validation"))
        ]
        request = msgspec.structs.replace(request, data=files, settings=kept)
    larger = _larger_model(base, tune)
    old = _old_study(workspace, name)
    request = _pinned(request, base, tune, larger, old, workspace)
    tuning = Tuning(
        protocol=_protocol(base, tune, _size_of(base, larger)),
        initialisation=TITLES.get(own_initialisation(base), own_initialisation(base)),
        held_out=tune.held_out,
    )
    before = old.tuning if old is not None else None
    if before is not None and not before.same_as(tuning):
        raise BadInput(
            f"a tuning {name!r} with another {_difference(before, tuning)} exists; give the new one another name, such "
            f"as --name {free_name(workspace, name)}"
        )
    results = {} if old is None else read_results(workspace, old)
    step = next_step(tuning.protocol, results, tune.most_runs // seeds)
    points = tuple(dict.fromkeys([*(before.points if before else ()), *step.points]))
    tuning = msgspec.structs.replace(tuning, points=points)
    study = plan(_axis(tuning, larger, tune), request, workspace, write=write)
    centre = Point(False, 0, 0, 0.0, tuning.protocol.grid_length).name(tuning.protocol)
    study = msgspec.structs.replace(study, tuning=tuning, synthetic=synthetic, baseline=centre)
    return PlannedTuning(study, step, results, base, larger)


def read_results(workspace: Workspace, study: Study) -> dict[Point, float | None]:
    """The mean box AP over the seeds of every point that is through; none where a seed diverged or ran out of memory.

    Raises:
        BadInput: an evaluation is damaged.
    """
    if study.tuning is None:
        return {}
    found: dict[Point, float | None] = {}
    for point in study.tuning.points:
        runs = study.runs_of(point.name(study.tuning.protocol))
        values: list[float] = []
        states = []
        for run in runs:
            folder = workspace.run(run.run_id)
            status = folder.read_status() if run.run_id else None
            states.append("prepared" if status is None else status.state)
            if states[-1] == "finished":
                values.append(read_evaluation(folder.evaluation).box.metrics["AP"])
        if any(state in ENDED_WITHOUT_RESULT for state in states) or any(math.isnan(value) for value in values):
            found[point] = None
        elif runs and len(values) == len(runs):
            found[point] = sum(values) / len(values)
    return found


def chosen_config(planned: PlannedTuning, point: Point) -> RunConfig:
    """The base with the settings of a point; how long it trains is the base's own matter."""
    return with_changes(planned.base, _settings(point, planned.tuning.protocol, planned.larger, with_length=False))


def chosen_text(planned: PlannedTuning, point: Point, path: Path) -> str:
    """The settings of a point as the YAML of a base for studies: what was chosen, on what, and how good it was."""
    study, tuning = planned.study, planned.tuning
    config = chosen_config(planned, point)
    own, theirs = (leaves(msgspec.to_builtins(one)) for one in (config, load_config(study.base)))
    changes = {
        key: value
        for key, value in own.items()
        if key in CHOSEN or (theirs.get(key) != value and not key.startswith("data.") and key not in PINNED)
    }
    value = planned.results[point]
    images = "held-out training images" if tuning.held_out else "the validation images"
    caution = "" if tuning.held_out else "; chosen and measured on the same images, so it is optimistic"
    head = [
        ("What", f"{Path(study.base).stem} with learning rate, weight decay and drop path of the study {study.name}"),
        ("Why", f"Best of {len(planned.results)} settings from {tuning.initialisation} weights, by {PROTOCOL}"),
        ("Command", f"detablate ablate run {shlex.quote(str(path))}"),
        ("Expected", f"box AP {value:.1f} on {images} after {point.length:g} {tuning.protocol.unit}{caution}"),
    ]
    if study.synthetic:
        head.append(("Careful", "synthetic data: demonstration only, not evidence"))
    lines = [*(f"# {key + ':':9} {one_line(text)}" for key, text in head), "", f"base: {scalar(study.base)}", ""]
    return "".join(line + "\n" for line in [*lines, *tree_lines(nested(changes), studied=set())])


def _axis(tuning: Tuning, larger: Mapping[str, Any], tune: TuneRequest) -> Axis:
    """The points that are asked for as variants of an axis."""

    def variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
        protocol = _protocol(base, tune, tuning.protocol.larger)
        return tuple(
            Variant(name=point.name(tuning.protocol), changes=_settings(point, protocol, larger))
            for point in tuning.points
        )

    return Axis(
        name=AXIS,
        title=TITLE,
        source=SOURCE,
        allowed_keys=TUNED | (OF_A_MODEL if larger else frozenset()),
        variants=variants,
    )


def _settings(
    point: Point, protocol: Protocol, larger: Mapping[str, Any], *, with_length: bool = True
) -> dict[str, Any]:
    """The keys of a point."""
    length = int(point.length) if point.length == int(point.length) else point.length
    return {
        **(larger if point.larger else {}),
        "train.lr": point.lr(protocol),
        "train.weight_decay": point.weight_decay(protocol),
        "model.backbone.drop_path": point.drop_path,
        **({f"train.{protocol.unit}": length} if with_length else {}),
    }


def _protocol(base: RunConfig, tune: TuneRequest, larger: str) -> Protocol:
    """The protocol on a base: the paper's epochs, or where it counts in iterations their share of its own length."""
    lr, weight_decay = PAPER_CENTRE if tune.centre == "paper" else (base.train.lr, base.train.weight_decay)
    kind = own_initialisation(base)
    grid, drop_path = RANDOM_LENGTHS if kind == "random" else PRETRAINED_LENGTHS
    iterations = base.train.iterations
    if isinstance(iterations, int):
        whole = best_epochs(kind, base)  # which the length of the base is taken for
        grid, drop_path = (float(max(1, round(iterations * length / whole))) for length in (grid, drop_path))
    return Protocol(
        lr=lr,
        weight_decay=weight_decay,
        unit="iterations" if isinstance(iterations, int) else "epochs",
        grid_length=grid,
        drop_path_length=drop_path,
        larger=larger,
    )


def _split(base: RunConfig, share: float, workspace: Workspace, write: bool) -> tuple[str, ...]:
    """The files of a training set of which a part is held out, as ``--data`` takes four; none where there are none."""
    source = base.data.train
    if not write and isinstance(source, Shapes) and not shapes_folder(workspace).exists():
        return ()
    parts = hold_out(locate(source, workspace), share, workspace.results.absolute() / "data", write=write)
    return tuple(path for part in parts for path in (part.annotations, part.images))


def _larger_model(base: RunConfig, tune: TuneRequest) -> dict[str, Any]:
    """The keys in which the model of ``--larger`` and its weights differ from the base's; nothing without one.

    Raises:
        BadInput: it is no ViT, starts from something else than the base, or is the base's own model.
    """
    if not tune.larger:
        return {}
    config = load_config(tune.larger)
    vit_of(config, AXIS)
    if tune.larger_weights:
        kind = initialisation_of(tune.larger_weights)
        config = with_changes(config, init_settings(kind, config, tune.larger_weights))
    first, second = own_initialisation(base), own_initialisation(config)
    if first != second:
        raise BadInput(
            f"--larger {tune.larger}: starts from {TITLES.get(second, second)} weights and the base from "
            f"{TITLES.get(first, first)}; name its weights with --larger-weights"
        )
    own, theirs = (leaves(msgspec.to_builtins(one)) for one in (base, config))
    found = {
        key: value
        for key, value in theirs.items()
        if own.get(key) != value and (key.startswith(("model.", "init.")) or key == "train.layer_decay")
    }
    if not any(key.startswith("model.") for key in found):
        raise BadInput(f"--larger {tune.larger}: has the same model as the base; name a config with a larger model")
    return found


def _size_of(base: RunConfig, larger: Mapping[str, Any]) -> str:
    """The name of the larger model's size; empty if there is none."""
    return model_size(with_changes(base, dict(larger)).model) if larger else ""


def _pinned(
    request: Request,
    base: RunConfig,
    tune: TuneRequest,
    larger: Mapping[str, Any],
    old: Study | None,
    workspace: Workspace,
) -> Request:
    """A request whose runs all have the precision and the images of a BatchNorm statistic that the first had.

    Both may follow from the machine and from the memory of all models, and runs are asked for again later, elsewhere.
    """
    asked = {change.partition("=")[0].strip() for change in request.settings}
    if old is not None:
        found = {key: value for key, value in old.settings.items() if key in PINNED and key not in asked}
    elif base.train.images_per_norm == "auto" and larger:
        protocol = _protocol(base, tune, _size_of(base, larger))
        points = tuple(Point(one, 0, 0, 0.0, protocol.grid_length) for one in (False, True))
        probe = Tuning(protocol=protocol, initialisation="", held_out=0.0, points=points)
        study = plan(_axis(probe, larger, tune), request, workspace, write=False)
        found = {key: value for key, value in study.settings.items() if key == "train.images_per_norm"}
    else:
        found = {}
    settings = [*request.settings, *(f"{key}={scalar(value)}" for key, value in found.items())]
    return msgspec.structs.replace(request, settings=settings)


def _old_study(workspace: Workspace, name: str) -> Study | None:
    """The study of this name, where there is one.

    Raises:
        BadInput: it is no tuning.
    """
    if not (study_folder(workspace, name) / "study.json").exists():
        return None
    study = read_study(workspace, name)
    if study.tuning is None:
        raise BadInput(
            f"study {name!r} exists and is not a tuning; give the new one another name, such as "
            f"--name {free_name(workspace, name)}"
        )
    return study


def _difference(before: Tuning, now: Tuning) -> str:
    """In which parts two tunings differ."""
    old, new = (leaves(msgspec.to_builtins(msgspec.structs.replace(one, points=()))) for one in (before, now))
    return ", ".join(key.removeprefix("protocol.") for key in old if old[key] != new[key])


def _default_name(request: Request, tune: TuneRequest) -> str:
    base = Path(request.base).stem if Path(request.base).is_file() else request.base
    larger = Path(tune.larger).stem if tune.larger else ""
    return "-".join(filter(None, [AXIS, base, *request.weights, larger, "held-out" if tune.held_out else ""]))
