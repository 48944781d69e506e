"""Finished runs from elsewhere become a study: prediction files under names, measured on one ground truth.

All that is known of such a run is its predictions, which decide its identity together with the ground truth. What a
user states about it is shown in the tables as given. No setting was held fixed here, and no table claims so.
"""

import csv
import hashlib
import io
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ablate.config.foreign import NOTHING, AdoptedConfig
from ablate.config.identity import adopted_identities, data_digest, short_id
from ablate.config.yaml import parse_yaml, read_yaml
from ablate.execute.evaluation import evaluate
from ablate.execute.finished import find_fault
from ablate.execute.recording import write_status
from ablate.runs.folder import RunFolder, Workspace, absolute, now, replacing
from ablate.runs.lock import holding, sweep_locks
from ablate.runs.manifest import make_manifest
from ablate.studies.study import Study, StudyRun, check_free, write_study
from analysis.coco.detections import read_detections
from analysis.coco.ground_truth import GroundTruth, read_ground_truth
from analysis.exceptions import BadInput
from analysis.files import open_regular
from analysis.io import read_bytes

AXIS = "adopted"
FORM = "NAME=PREDICTIONS, or NAME,seed=N=PREDICTIONS"
WITH_SEED = re.compile(r"(?P<name>.+),seed=(?P<seed>[^=]*)=(?P<path>.+)", re.DOTALL)
MOST_FACTS = 2**20  # bytes of a CSV file


class AdoptedRun(NamedTuple):
    """One finished run, as a person names it."""

    variant: str
    seed: int
    predictions: Path

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.variant}, seed {self.seed}"


Facts = dict[str, dict[str, Any]]


def parse_run(argument: str) -> AdoptedRun:
    """The run of ``NAME=PREDICTIONS`` or ``NAME,seed=N=PREDICTIONS``; only the latter takes a name with ``=`` in it.

    >>> parse_run("lr=0.1,seed=2=runs/a.json")
    AdoptedRun(variant='lr=0.1', seed=2, predictions=PosixPath('runs/a.json'))

    Raises:
        BadInput: it has another form.
    """
    found = WITH_SEED.fullmatch(argument)
    name, seed, path = found.groups() if found else (argument.partition("=")[0], "0", argument.partition("=")[2])
    if not (name.strip() and path.strip()):
        raise BadInput(f"--variant {argument}: write {FORM}")
    if not (seed.isdecimal() and seed.isascii() and int(seed) < 2**32):
        raise BadInput(f"--variant {argument}: the seed must be a whole number from 0, not {seed!r}")
    if not name.isprintable():
        raise BadInput(f"--variant {argument!r}: the name must be one line of printable characters")
    return AdoptedRun(name.strip(), int(seed), Path(path.strip()).expanduser())


def read_facts(path: Path, variants: Sequence[str]) -> Facts:
    """Facts that a user gives of variants: a CSV whose first column names them, or a YAML mapping of names to facts.

    Raises:
        BadInput: the file cannot be read or names an unknown variant, or a fact is neither a number nor a text.
    """
    facts = _facts_of_yaml(path) if path.suffix in (".yaml", ".yml") else _facts_of_csv(path)
    for variant, told in facts.items():
        if variant not in variants:
            raise BadInput(
                f"{path}: names variant {variant!r}, which is not one of the variants: {', '.join(variants)}"
            )
        for name, value in told.items():
            is_finite = not isinstance(value, float) or math.isfinite(value)
            if not isinstance(value, str | int | float) or not is_finite or not name.strip():
                raise BadInput(
                    f"{path}: {variant}: {name or 'a fact'}: must be a name and a value that is a number or text"
                )
    return facts


def _facts_of_yaml(path: Path) -> Facts:
    tree = read_yaml(path)
    for variant, told in tree.items():
        if not isinstance(told, dict):
            raise BadInput(
                f"{path}: {variant}: must be a mapping of facts to values, such as {{epochs: 300, GPU hours: 12.5}}"
            )
    return {str(variant): {str(name): value for name, value in told.items()} for variant, told in tree.items()}


def _facts_of_csv(path: Path) -> Facts:
    try:
        with open_regular(path) as file:
            content = file.read(MOST_FACTS + 1)
        if len(content) > MOST_FACTS:
            raise BadInput(f"{path}: is larger than {MOST_FACTS:,} bytes; give a CSV with one line per variant")
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True) if row]
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{path}: is not a CSV file in UTF-8 ({error}); give a header line and one line per variant"
        ) from None
    if len(rows) < 2 or len(rows[0]) < 2:
        raise BadInput(f"{path}: needs a header line (variant, then the names of the facts) and one line per variant")
    head, *lines = ([cell.strip() for cell in row] for row in rows)
    facts: Facts = {}
    for number, line in enumerate(lines, 2):
        if len(line) != len(head):
            raise BadInput(
                f"{path}: line {number} has {len(line)} cells, but the header has {len(head)}; give each column a value"
            )
        if line[0] in facts:
            raise BadInput(f"{path}: line {number} names {line[0]!r} a second time; give each variant one line")
        facts[line[0]] = {name: _value(cell) for name, cell in zip(head[1:], line[1:], strict=True) if cell}
    return facts


def _value(cell: str) -> int | float | str:
    """A cell as a number where its text is that of one."""
    with suppress(BadInput):
        value = parse_yaml(cell, "a cell")
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) == cell:
            return value
    return cell


def adopt(
    workspace: Workspace,
    name: str,
    runs: Sequence[AdoptedRun],
    ground_truth: Path,
    *,
    baseline: str,
    images: Path | None = None,
    facts: Facts | None = None,
    link: bool = False,
) -> Study:
    """Make a study of finished runs: everything is checked before anything is written, and the study is written last.

    Args:
        workspace: above `results/`.
        name: of the study.
        runs: two variants or more, each with one seed or several.
        ground_truth: that all are measured on.
        baseline: the variant that the others are compared with.
        images: of the ground truth, for the gallery of the report.
        facts: see `read_facts`.
        link: refer to the prediction files instead of copying them.

    Raises:
        BadInput: a file cannot be used, two runs are the same, or the name is taken by another study.
    """
    _check_runs(runs, baseline)
    if images is not None and not images.is_dir():
        raise BadInput(f"{images}: there is no such folder of images")
    truth = read_ground_truth(ground_truth)
    configs = {run: _config(run, truth, ground_truth, images) for run in runs}
    _check_contents(configs)
    validation = data_digest(truth.digest, "")
    identities = {run: adopted_identities(config, validation) for run, config in configs.items()}
    variants = tuple(dict.fromkeys(run.variant for run in runs))
    study = Study(
        name=name,
        axis=AXIS,
        title="Finished runs, trained elsewhere",
        source="",
        allowed_keys=(),
        baseline=baseline,
        base="",
        settings={},
        seeds=tuple(sorted({run.seed for run in runs})),
        synthetic=False,
        training_data="",
        validation_data=truth.digest,
        runs=tuple(
            StudyRun(
                variant=run.variant,
                seed=run.seed,
                changes={},
                config_path="",
                adopted=configs[run],
                training=identities[run][0],
                evaluation=identities[run][1],
                levels=(run.variant,),
            )
            for variant in variants
            for run in runs
            if run.variant == variant
        ),
        facts=facts or {},
        planned=now(),
    )
    check_free(workspace, study)
    for run, config in configs.items():
        _adopt(workspace.run(short_id(identities[run][1])), config, identities[run], truth, link=link)
    write_study(workspace, study)
    return study


def _check_runs(runs: Sequence[AdoptedRun], baseline: str) -> None:
    variants = list(dict.fromkeys(run.variant for run in runs))
    if len(variants) < 2:
        raise BadInput(f"a study compares two variants or more: give --variant {FORM} for each")
    if baseline not in variants:
        raise BadInput(f"--baseline {baseline}: is not one of the variants; choose one of {', '.join(variants)}")
    labels = [(run.variant, run.seed) for run in runs]
    for run in runs:
        if labels.count((run.variant, run.seed)) > 1:
            raise BadInput(
                f"--variant {run.variant}: seed {run.seed} is given twice; give each run its own seed with ,seed=N"
            )
        if not run.predictions.exists():
            hint = "" if "=" not in str(run.predictions) else f" (a name with = needs a seed: {FORM.split(', or ')[1]})"
            raise BadInput(f"{run.predictions}: prediction file of {run.variant} not found; check the path{hint}")


def _config(run: AdoptedRun, truth: GroundTruth, ground_truth: Path, images: Path | None) -> AdoptedConfig:
    """The config of a run whose predictions can be used."""
    read_detections(run.predictions, truth)
    return AdoptedConfig(
        engine="adopted",
        predictions=absolute(str(run.predictions)),
        sha256=hashlib.sha256(read_bytes(run.predictions)).hexdigest(),
        annotations=absolute(str(ground_truth)),
        images=NOTHING if images is None else absolute(str(images)),
        seed=run.seed,
    )


def _check_contents(configs: Mapping[AdoptedRun, AdoptedConfig]) -> None:
    first: dict[str, AdoptedRun] = {}
    for run, config in configs.items():
        other = first.setdefault(config.sha256, run)
        if other is not run:
            raise BadInput(
                f"{other.predictions} ({other.label}) and {run.predictions} ({run.label}) have the same content, so "
                "they are the same run; give the right file"
            )


def _adopt(
    folder: RunFolder, config: AdoptedConfig, identities: tuple[str, str], truth: GroundTruth, *, link: bool
) -> None:
    """The finished folder of a run; one that is there and whole stays."""
    manifest = make_manifest(
        training=identities[0],
        evaluation=identities[1],
        seed=config.seed,
        training_data="",
        validation_data=truth.digest,
        training_images="",
        validation_images="",
        training_revision=0,
        initialisation="",
        kind="adopted",
        gpus=False,
    )
    sweep_locks(folder.path)
    status = folder.read_status()
    if status is not None and status.state == "finished" and find_fault(folder) is None:
        return
    folder.prepare_foreign(config, manifest)
    with holding(folder.path, str(folder.path)):
        folder.sweep()
        source = Path(config.predictions)
        if link:
            part = folder.path / f".{folder.predictions.name}.{secrets.token_hex(4)}"
            part.symlink_to(source)
            os.replace(part, folder.predictions)
        else:
            folder.predictions.unlink(missing_ok=True)  # else a link would be written through
            with replacing(folder.predictions) as file:
                file.write(read_bytes(source))
        write_status(folder, "running", phase="analysing")
        evaluate(folder)
        folder.append_event("adopted", predictions=config.predictions, linked=link)
        write_status(folder, "finished")
