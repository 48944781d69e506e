"""Show the plan of a study, and an axis, on a terminal and as documents for ``--json``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.text import Text

from ablate.axes.base import Axis, Variant
from ablate.config.yaml import scalar
from ablate.data.sources import why_missing
from ablate.runs.folder import Workspace
from ablate.studies.published import findings_of, published_of
from ablate.studies.results import Published
from ablate.studies.study import NOTE, Study, StudyMemory, StudyRun, configs_folder, leaves, nested, state_in_words
from ablate.studies.tables import findings_table, not_controlled, published_cost_table, seeds_in_words, size_columns
from analysis.render.screen import dimmed, fact_list
from analysis.render.table import Cell, Column, Table
from analysis.shell import shell_command

DRY_RUN = "nothing is written (--dry-run); to run the study, type --launch instead"
COUNTS = "Parameters and multiply-adds (GMAC, the paper's GFLOPs) of the detector, for one image."


def plan_screen(study: Study, workspace: Workspace, *, written: bool) -> list[RenderableType]:
    """The variants of a study: their differences from the baseline, their cost, and the states of their runs."""
    settings, data = _without_paths(study.settings)
    facts = [
        ("study", f"{study.name}: {study.title}"),
        ("source", study.source),
        ("base", f"{study.base}, everything else fixed; {seeds_in_words(study.seeds)}"),
        ("for all", "; ".join(f"{key}: {scalar(value)}" for key, value in settings.items())),
        ("memory", _memory_in_words(study.memory)),
        *(("data", line) for line in data),
        ("data", _missing_data(study, workspace)),
        ("plan", f"{configs_folder(workspace, study.name)}" if written else DRY_RUN),
        *(
            (
                "needs",
                f"{job.variant}: MAE, {job.pretraining.pretrain.epochs:g} epochs, {job.run_id} "
                f"({state_in_words(workspace.pretraining(job.training).read_status())})",
            )
            for job in study.pretrainings
        ),
    ]
    firsts = [study.runs_of(variant)[0] for variant in study.variants]
    notes = [not_controlled(run.variant, run.confounders) for run in firsts if run.confounders]
    notes += [f"{run.variant}: {run.note[run.note.index(NOTE) :]}" for run in firsts if NOTE in run.note]
    left_out = [
        dimmed(
            f"Left out, because they give the results of another variant at another cost: "
            f"{' / '.join(study.left_out)}. To include them, name every variant with --only."
        )
    ] * bool(study.left_out)
    return [
        fact_list([(name, fact) for name, fact in facts if fact]),
        Text(""),
        plan_table(study, workspace),
        *(Text(text, style="yellow") for text in notes),
        *left_out,
        *([] if study.is_foreign else [dimmed(COUNTS)]),
    ]


def _without_paths(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings of all runs without those that name COCO data; and this data, a line for each of the two sets."""
    names = [name for name in ("train", "validation") if f"data.{name}.annotations" in settings]
    hidden = {f"data.{name}.{key}" for name in names for key in ("type", "annotations", "images")}
    lines = [f"{name}: {_from_here(settings[f'data.{name}.annotations'])}" for name in names]
    return {key: value for key, value in settings.items() if key not in hidden}, lines


def _from_here(path: str) -> str:
    """A path, relative to the current folder where it lies below it."""
    whole, here = Path(path), Path().absolute()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _missing_data(study: Study, workspace: Workspace) -> str:
    """The sentence on missing data, without which the runs have no ids yet; empty if nothing is missing."""
    configs = [run.config for run in study.runs if run.config is not None and not run.run_id]
    sources = dict.fromkeys(source for config in configs for source in (config.data.train, config.data.validation))
    why = next(filter(None, (why_missing(source, workspace) for source in sources)), "")
    return f"not found, so the runs have no ids yet: {why}" if why else ""


def _memory_in_words(memory: StudyMemory | None) -> str:
    """How batches are cut for the GPUs; empty where the config says it and no GPU is known."""
    if memory is None or not (memory.chosen or memory.device_gib):
        return ""
    images, gpus = memory.images_per_norm, "one GPU" if memory.gpus == 1 else f"{memory.gpus} GPUs"
    covered = f"BatchNorm statistics cover {images} of the {memory.batch_size} images of a batch"
    paper = "as in the paper" if images == memory.batch_size else "in the paper they cover all"
    if memory.device_gib is None:
        return (
            f"{covered}, {paper}; no GPU is visible here: for a forecast for another machine give --device-memory GIB"
        )
    where = f"forecast for {gpus} of {memory.device_gib:.4g} GiB for each run"
    if memory.chosen:
        where += (
            f"; {images} is the largest number that fits in one forward pass of every variant that can hold at least "
            "one image"
        )
    return f"{covered}, {paper}; {where}"


def plan_table(study: Study, workspace: Workspace) -> Table:
    """One row per variant: its differences from the baseline, the size of its detector, the states of its runs."""
    columns = [Column("variant", kind="text"), Column("differs from the baseline in", kind="text")]
    (_, parameters), (_, macs), *_ = counts = list(size_columns([study.runs_of(v)[0].size for v in study.variants]))
    columns += [column for column, _ in counts[: 0 if study.is_foreign else 2]]
    memory = study.memory if study.memory is not None and study.memory.device_gib else None
    if memory is not None:
        columns.append(Column(f"images that fit {memory.device_gib:.4g} GiB", kind="text"))
    base = study.baseline
    rows = tuple(
        (
            Cell(variant, style="bold" * (variant == base)),
            Cell("(the baseline)", style="dim") if variant == base else _differences(study, study.runs_of(variant)[0]),
            *([] if study.is_foreign else sizes),
            *([] if memory is None else [_fit_in_words(study.runs_of(variant)[0], memory)]),
            _standing(study.runs_of(variant), workspace),
        )
        for variant, *sizes in zip(study.variants, parameters, macs, strict=True)
    )
    return Table("", (*columns, Column("runs", kind="text")), rows)


def _fit_in_words(run: StudyRun, memory: StudyMemory) -> Cell:
    """How many images fit in one forward pass, or what runs out of memory."""
    if run.memory is None or run.images_that_fit is None:
        return Cell("")
    if run.images_that_fit >= memory.images_per_gpu:
        return Cell(str(run.images_that_fit))
    need = f"{run.memory.peak_gib(memory.images_per_gpu):.1f} GiB for {memory.images_per_gpu}"
    return Cell(f"{run.images_that_fit or 'none'}: will run out of memory ({need})", style="yellow")


def plan_document(study: Study) -> dict[str, Any]:
    """The study for ``--json``."""
    document: dict[str, Any] = msgspec.to_builtins(study)
    for record, run in zip(document["runs"], study.runs, strict=True):
        record["identity"] = run.run_id
        for kind in ("config", "command", "adopted"):
            del record[kind]
    return document


def axis_document(axis: Axis, variants: Sequence[Variant] | str) -> dict[str, Any]:
    """An axis for ``--json``; variants on some base, or why there are none."""
    return {
        "name": axis.name,
        "title": axis.title,
        "source": axis.source,
        "touches": sorted(axis.allowed_keys),
        "baseline": axis.baseline,
        "variants": [] if isinstance(variants, str) else [msgspec.to_builtins(variant) for variant in variants],
        "refused": variants if isinstance(variants, str) else None,
        "published": [msgspec.to_builtins(finding) for finding in findings_of(axis.name)],
        "published_costs": [msgspec.to_builtins(cost) for cost in published_of(axis.name).costs],
        "published_cautions": list(published_of(axis.name).cautions),
    }


def axes_screen(axes: Sequence[tuple[Axis, tuple[Variant, ...] | str]]) -> list[RenderableType]:
    """All axes, a row each; variants on some base, or why there are none."""
    rows = tuple(
        (
            Cell(axis.name, style="bold"),
            axis.title,
            variants if isinstance(variants, str) else " | ".join(variant.name for variant in variants),
            Cell(axis.source, style="dim"),
        )
        for axis, variants in axes
    )
    return [
        Table("", tuple(Column(name, kind="text") for name in ("axis", "what is varied", "variants", "source")), rows),
        Text(
            f"\nOne axis:      {shell_command('ablate', 'axes', 'AXIS')}\nRun one:       "
            f"{shell_command('ablate', 'AXIS', '--launch')}\nAny other key: "
            f"{shell_command('ablate', 'vary', '--vary', 'KEY=VALUE,VALUE')}\nAll keys:      "
            f"{shell_command('ablate', 'describe', 'tiny-shapes')}"
        ),
    ]


def axis_screen(axis: Axis, variants: Sequence[Variant], base: str) -> list[RenderableType]:
    """One axis: its variants on a base, and what was published of it."""
    facts = [
        ("axis", f"{axis.name}: {axis.title}"),
        ("source", axis.source),
        ("touches", ", ".join(sorted(axis.allowed_keys))),
    ]
    short = _short_names([key for variant in variants for key in _shown(variant.changes)])
    rows = tuple(
        (
            Cell(variant.name, style="bold" * (variant.name == axis.baseline)),
            ", ".join(f"{short[key]} {scalar(value)}" for key, value in _shown(variant.changes).items()),
            Cell("; ".join(_remarks(variant)), style="yellow" * bool(variant.blocked)),
        )
        for variant in variants
    )
    columns = tuple(Column(name, kind="text") for name in (f"variant (base {base})", "sets", "note"))
    findings = [
        Published(finding=finding, box_difference=None, mask_difference=None) for finding in findings_of(axis.name)
    ]
    none_shipped = dimmed("The program has no published numbers for this axis.")
    published: list[RenderableType] = [none_shipped]
    if findings:
        published = [Text(""), findings_table(findings, [one.name for one in variants])]
    known = published_of(axis.name)
    costs = published_cost_table(known.costs)
    published += [Text(""), costs] if costs.rows else []
    return [fact_list(facts), Text(""), Table("", columns, rows), *published, *map(dimmed, known.cautions)]


def _remarks(variant: Variant) -> list[str]:
    same = f"same results as {variant.same_result_as}, at another cost" if variant.same_result_as else ""
    return [remark for remark in (variant.note, same, variant.blocked) if remark]


def _differences(study: Study, run: StudyRun) -> str:
    """The settings of a run that differ from the baseline's, with keys as short as possible."""
    reference = study.runs_of(study.baseline)[0]
    theirs = leaves(msgspec.to_builtins(reference.any_config)) | leaves(nested(reference.changes))
    short = _short_names([key for other in study.runs for key in _shown(other.changes)])
    differing = {key: value for key, value in _shown(run.changes).items() if _plain(theirs.get(key)) != _plain(value)}
    return ", ".join(f"{short[key]} {scalar(value)}" for key, value in differing.items()) or "nothing"


def _shown(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by dotted keys; of a whole recipe of pre-training how long it is, the rest is in the config."""
    recipe = changes.get("init.pretraining")
    short = {"init.pretraining": {"epochs": recipe["epochs"]}} if isinstance(recipe, Mapping) else {}
    return leaves(nested({**changes, **short}))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Dotted keys -> as few of their last parts as tell them apart.

    >>> _short_names(["train.lr", "model.head.type"])
    {'train.lr': 'lr', 'model.head.type': 'head.type'}
    """
    last = Counter(key.rpartition(".")[2] for key in dict.fromkeys(keys))
    parts = {key: key.split(".") for key in keys}
    return {key: of[-1] if last[of[-1]] == 1 and of[-1] != "type" else ".".join(of[-2:]) for key, of in parts.items()}


def _standing(runs: Sequence[StudyRun], workspace: Workspace) -> Cell:
    if runs[0].blocked is not None:
        return Cell(runs[0].blocked, style="yellow")
    states = Counter(state_in_words(workspace.run(run.run_id).read_status() if run.run_id else None) for run in runs)
    words = ", ".join(state if len(runs) == 1 else f"{count} {state}" for state, count in states.items())
    return Cell(words, style="green" * (set(states) == {"finished"}))
