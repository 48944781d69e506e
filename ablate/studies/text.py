"""A study as text for people: the plan, and a short commented config for every run."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablate.config_yaml import merge, parse_yaml
from ablate.studies.study import Study, StudyRun

Tree = dict[str, Any]


def run_text(study: Study, run: StudyRun) -> str:
    """The config of a run: what, why, how to start it, and its difference from the base."""
    this = " (this one)" if run.variant == study.baseline else ""
    head = [
        ("What", f"{study.title}: {run.variant}, seed {run.seed}"),
        ("Study", f"{study.name}; baseline {study.baseline}{this}"),
        ("Note", run.note),
        ("Careful", f"not controlled, it also changes {', '.join(run.uncontrolled)}" if run.uncontrolled else ""),
        ("Source", study.source),
        ("Command", f"cli.py ablate run {json.dumps(run.config_path) if ' ' in run.config_path else run.config_path}"),
        ("Results", f"results/runs/{run.identity}" if run.identity else ""),
    ]
    lines = [f"# {key + ':':9} {_one_line(text)}" for key, text in head if text]
    lines += ["", f"base: {scalar(study.base)}", ""]
    tree = merge(nested(study.settings), nested(run.changes))
    lines += [*_lines(tree, studied=set(leaves(nested(run.changes)))), *([""] if tree else []), f"seed: {run.seed}"]
    return "".join(line + "\n" for line in lines)


def plan_text(study: Study) -> str:
    """The plan: the question, what is held, what is varied, which runs answer it."""
    lines = [
        "# The plan of a study, for reading; programs read results/studies. Every run is one config in this folder.",
        f"# Run it:  cli.py ablate launch {_quoted(study.name)}",
        f"# Read it: cli.py ablate table {_quoted(study.name)}",
        "",
        *_pairs({"study": study.name, "axis": study.axis}),
        *(_pairs({"product": study.product}) if study.product else []),
        *_pairs({"title": study.title, "source": study.source}),
        *_pairs({"touches": study.touches, "base": study.base, "seeds": study.seeds}),
        *_pairs({"baseline": study.baseline}),
        *_pairs({"training_data": study.training_data, "validation_data": study.validation_data}),
    ]
    if study.settings:
        lines += ["settings:", *(f"  {line}" for line in _pairs(study.settings))]
    if study.pretrainings:
        lines += ["", "pretrainings:  # before the runs that start from them; every length is a full cosine of its own"]
    for job in study.pretrainings:
        about = {"epochs": job.pretraining.pretrain.epochs, "results": f"results/{job.identity}"}
        lines.append(f"  {scalar(job.variant)}: {scalar(about)}")
    lines += ["", "variants:"]
    for variant in study.variants:
        run = next(run for run in study.runs if run.variant == variant)
        lines.append(f"  {scalar(variant)}:")
        if run.note:
            lines.append(f"    note: {scalar(run.note)}")
        if run.blocked is not None:
            lines.append(f"    blocked: {scalar(run.blocked)}")
        if run.uncontrolled:
            lines.append(f"    not_controlled: {scalar(run.uncontrolled)}")
        if run.size is not None:
            lines.append(f"    parameters: {run.size.parameters}")
            lines.append(f"    macs: {run.size.macs}  # one image, multiply-adds")
        if run.changes:
            lines += ["    changes:", *(f"      {line}" for line in _pairs(run.changes))]
        own = [run for run in study.runs if run.variant == variant and run.blocked is None]
        if own:
            lines.append("    runs:")
            lines += [f"      - {scalar(_run(run))}" for run in own]
    return "".join(line + "\n" for line in lines)


def _run(run: StudyRun) -> dict[str, object]:
    file = {"seed": run.seed, "config": run.config_path.rpartition("/")[2]}
    return {**file, "results": f"results/runs/{run.identity}"} if run.identity else file


def nested(changes: Mapping[str, Any]) -> Tree:
    """Dotted keys as a tree.

    >>> nested({"train.lr": 0.1, "train.betas": [0.9, 0.99], "seed": 1})
    {'train': {'lr': 0.1, 'betas': [0.9, 0.99]}, 'seed': 1}
    """
    tree: Tree = {}
    for key, value in changes.items():
        branch: Tree = {}
        leaf = branch
        *parents, last = key.split(".")
        for parent in parents:
            leaf[parent] = {}
            leaf = leaf[parent]
        leaf[last] = value
        tree = merge(tree, branch)
    return tree


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as dotted keys; what is no mapping is a leaf."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def scalar(value: object) -> str:
    """A value as YAML 1.2 in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, float):
        return re.sub(r"e([+-])0+", r"e\1", json.dumps(value))
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./+ -]*[\w+]|[A-Za-z]", value, re.ASCII)
    if isinstance(value, str) and plain and parse_yaml(value, "a value") == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    return (f"{scalar(key)}: {scalar(value)}" for key, value in values.items())


def _lines(tree: Mapping[str, Any], studied: set[str], path: str = "", indent: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"{indent}{scalar(key)}:"
            yield from _lines(value, studied, f"{path}{key}.", indent + "  ")
        else:
            mark = "  # varied" if path + key in studied else ""
            yield f"{indent}{scalar(key)}: {scalar(value)}{mark}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(name: str) -> str:
    plain = re.fullmatch(r"[\w.-]+", name, re.ASCII)
    quoted = name if plain else "'" + name.replace("'", "'\\''") + "'"
    return f"-- {quoted}" if name.startswith("-") else quoted
