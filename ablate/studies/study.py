"""A study: one factor varied, everything else fixed; its runs, and the files that describe it.

``<root>/results/studies/<slug>/study.json`` is what programs read, ``<root>/configs/studies/<slug>/`` what people read
and start: ``plan.yaml`` and one short commented config a run. A study holds names and identities, the results lie with
the runs: studies share runs that are the same, and a deleted study takes no result with it.
"""

import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ablate.axes import AXES
from ablate.config.foreign import AdoptedConfig, AnyConfig, CommandConfig
from ablate.config.identity import short_id
from ablate.config.schema import Pretraining, RunConfig
from ablate.config.yaml import Tree, changed, merge, scalar
from ablate.detector.memory import MemoryForecast
from ablate.execute.finished import is_finished
from ablate.runs.folder import (
    SCHEMA,
    Status,
    Workspace,
    pretraining_name,
    read_json,
    replacing,
    state_words,
    write_json,
)
from ablate.studies.tuning import Tuning
from analysis.exceptions import BadInput
from analysis.shell import shell_command

logger = logging.getLogger(__name__)

LONGEST_SLUG = 48
NOTE = "note: "  # begins a sentence that must always be shown


class DetectorSize(msgspec.Struct, frozen=True):
    """Size of a detector, for one image at inference (``ablate.detector.flops``)."""

    parameters: int
    macs: int  # multiply-adds: the FLOPs of the papers
    activations: int  # elements


class StudyMemory(msgspec.Struct, frozen=True):
    """The GPUs for which a study is planned, and how its batches are cut for them.

    Attributes:
        device_gib: memory of each GPU; none: not known when the study was planned.
        gpus: that train one run together.
        batch_size: images of an optimizer step.
        images_per_norm: images that share a BatchNorm statistic: of one forward pass, on all GPUs of a run together.
        chosen: whether ``images_per_norm`` was ``auto`` and follows from the memory.
    """

    device_gib: float | None
    gpus: int
    batch_size: int
    images_per_norm: int
    chosen: bool

    @property
    def images_per_gpu(self) -> int:
        """Images of one forward pass on one GPU."""
        return -(-self.images_per_norm // self.gpus)


class StudyRun(msgspec.Struct, frozen=True, kw_only=True):
    """One variant under one seed. A blocked one has no config and no identity, and is not run."""

    variant: str
    seed: int
    changes: dict[str, Any]  # dotted keys that the variant sets on top of the study's base
    config_path: str  # of its YAML, relative to the root
    config: RunConfig | None = None  # of a detector that is trained here, resolved
    command: CommandConfig | None = None  # of a command of the user
    adopted: AdoptedConfig | None = None  # of finished predictions from elsewhere
    training: str = ""  # identities, 64 hex digits
    evaluation: str = ""
    needs: tuple[str, ...] = ()  # names of folders that must be finished before
    blocked: str | None = None  # what is missing, as advice: pass --weights mae=FILE
    note: str = ""
    # Keys it changes although its axis does not study them.
    confounders: tuple[str, ...] = msgspec.field(name="uncontrolled", default=())
    levels: tuple[str, ...] = ()  # its variant on each axis of the study
    number: float | None = None  # where it stands on a numeric axis
    size: DetectorSize | None = None
    memory: MemoryForecast | None = None  # of training on a GPU; none where no GPU is known
    images_that_fit: int | None = None  # in one forward pass on a GPU of the study's; 0: it will run out of memory

    @property
    def any_config(self) -> AnyConfig | None:
        """Its config, of any kind; None if it is blocked."""
        return self.config or self.command or self.adopted

    @property
    def run_id(self) -> str:
        """The name of its run folder; empty where it is blocked."""
        return short_id(self.evaluation)

    @property
    def file_name(self) -> str:
        """Its name without spaces and special characters: the unique stem of its YAML file."""
        return self.config_path.rpartition("/")[2].removesuffix(".yaml") or self.run_id

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.variant}, seed {self.seed}"


class PretrainingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A pre-training that runs of a study start from; to a launcher a run like them, which they need."""

    variant: str  # its name among the runs
    pretraining: Pretraining
    training: str  # identity, 64 hex digits
    epochs: tuple[int, ...]  # after which the weights are kept
    needs: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return pretraining_name(self.training)

    @property
    def seed(self) -> int:
        """The seed of the pre-training, not of the runs."""
        return self.pretraining.pretrain.seed

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.variant}, seed {self.seed}"


Job = StudyRun | PretrainingRun


def ranks_of(job: Job, gpus: int) -> int:
    """How many workers train a job together on so many GPUs: a command starts processes of its own."""
    return 1 if isinstance(job, StudyRun) and job.command is not None else gpus


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """``study.json``."""

    name: str
    axis: str
    title: str
    source: str
    # Keys, or groups of keys, that may differ between its runs; the seed beside them.
    allowed_keys: tuple[str, ...] = msgspec.field(name="touches")
    baseline: str  # the variant that the others are compared with
    base: str  # a preset's name or a file
    settings: dict[str, Any]  # dotted keys set for all runs on top of the base
    seeds: tuple[int, ...]
    synthetic: bool  # runs on the embedded data
    training_data: str  # digests
    validation_data: str
    product: str | None = None  # a second axis, crossed with the first
    unit: str = ""  # of a numeric axis
    left_out: tuple[str, ...] = ()  # variants of the axis whose results are those of others
    memory: StudyMemory | None = None  # none: planned by an older version
    runs: tuple[StudyRun, ...]
    pretrainings: tuple[PretrainingRun, ...] = ()  # that its runs need
    tuning: Tuning | None = None  # of a study that grows by its results
    facts: dict[str, dict[str, Any]] = {}  # that a person gave of each variant of an adopted study
    planned: str  # when it was last planned, UTC
    schema: int = SCHEMA

    @property
    def is_foreign(self) -> bool:
        """Whether other programs train its detectors, so that only their outputs are known."""
        return any(run.command or run.adopted for run in self.runs)

    @property
    def is_adopted(self) -> bool:
        """Whether it consists of adopted runs, for which no setting was held fixed here."""
        return any(run.adopted for run in self.runs)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants, in the order of the axis."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All runs and pre-trainings, needed ones first."""
        return (*self.pretrainings, *self.runs)

    def runs_of(self, variant: str) -> list[StudyRun]:
        """The runs of a variant, one a seed."""
        return [run for run in self.runs if run.variant == variant]


def slug(name: str) -> str:
    """A folder name for a study's name: lower-case ASCII, and a few digits of a hash where that lost something.

    >>> slug("attention-tiny"), slug("Müller's 2nd try")
    ('attention-tiny', 'muller-s-2nd-try-b1b19b')
    """
    safe = legible(name)
    digits = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]
    return safe if safe == name else "-".join(filter(None, (safe, digits)))


def legible(name: str) -> str:
    """The part of a name that is valid in file names everywhere; two names may give the same.

    >>> legible("global, naive kernel")
    'global-naive-kernel'
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._=]+", "-", ascii_name).strip("-.")[:LONGEST_SLUG].strip("-.")


def state_in_words(status: Status | None) -> str:
    """The state of a run by the status of its folder, for a person."""
    return state_words("prepared" if status is None else status.state)


def study_folder(workspace: Workspace, name: str) -> Path:
    """The folder of a study's ``study.json`` and of its launcher's files."""
    return workspace.studies / slug(name)


def configs_folder(workspace: Workspace, name: str) -> Path:
    """The folder of a study's YAML files."""
    return workspace.configs / slug(name)


def write_study(workspace: Workspace, study: Study) -> None:
    """Write the plan, the configs, and last ``study.json``; the same plan again only becomes the newest.

    Raises:
        BadInput: another plan has this name, or the folders cannot be written.
    """
    check_free(workspace, study)
    path = _file(workspace, study.name)
    texts = {} if study.is_adopted else {configs_folder(workspace, study.name) / "plan.yaml": plan_text(study)}
    written = [run for run in study.runs if run.config_path and run.blocked is None]
    texts |= {workspace.root / run.config_path: run_text(study, run) for run in written}
    try:
        for file, text in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as stream:
                stream.write(text.encode())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, study)
    except OSError as error:
        raise BadInput(
            f"{error.filename or path}: cannot be written ({error.strerror}); choose another --root"
        ) from None


def check_name(name: str, option: str = "--name") -> None:
    """Refuse the name of a study that cannot be read.

    Args:
        name: of the study.
        option: by which it was given, for the sentence.

    Raises:
        BadInput: it is empty, or no line of printable characters.
    """
    if not name.strip() or not name.isprintable():
        raise BadInput(
            f"{option} {name!r}: must be one line of printable characters"
            if name.strip()
            else f"{option} {name!r}: is empty; give the study a name"
        )


def check_free(workspace: Workspace, study: Study) -> None:
    """A study's name is free, or this study's already.

    A variant whose missing weights are there now does not make it another study.

    Raises:
        BadInput: another plan has it, or the file that would say so is damaged.
    """
    path = _file(workspace, study.name)
    if not path.exists():
        return
    old, remedy = _read(path), f"give the new one another name, such as --name {free_name(workspace, study.name)}"
    if old.name != study.name:
        raise BadInput(f"study {study.name!r} would use the folder of study {old.name!r}; {remedy}")
    parts = [name for name in ("axis", "product", "baseline", "seeds") if getattr(old, name) != getattr(study, name)]
    if parts:
        raise BadInput(f"a study {study.name!r} with another {' and '.join(parts)} exists; {remedy}")
    before, now = ({(run.variant, run.seed): run for run in one.runs} for one in (old, study))
    either = dict.fromkeys([*before, *now])
    in_one = [variant for variant, seed in either if ((variant, seed) in before) != ((variant, seed) in now)]
    if old.tuning is not None and study.tuning is not None and study.tuning.same_as(old.tuning):
        in_one = [variant for variant, seed in before if (variant, seed) not in now]  # it may have grown
    changed = [
        variant
        for (variant, seed), run in now.items()
        if (old_run := before.get((variant, seed))) and old_run.blocked is None and old_run.evaluation != run.evaluation
    ]
    if in_one or changed:
        why = [
            key
            for key in dict.fromkeys([*old.settings, *study.settings])
            if old.settings.get(key) != study.settings.get(key)
        ]
        listed = "; ".join([*["base"] * (old.base != study.base), *why] or dict.fromkeys([*in_one, *changed]))
        if changed and old.base == study.base and not (why or in_one):
            listed += ", whose images, annotations, weights or rules in this program have changed"
        raise BadInput(f"a study {study.name!r} with another plan exists (it differs in {listed}); {remedy}")


def free_name(workspace: Workspace, name: str) -> str:
    """The next name like this one that no study has, quoted for a shell.

    >>> free_name(Workspace(Path("nowhere")), "lr-2"), free_name(Workspace(Path("nowhere")), "my study")
    ('lr-3', "'my study-2'")
    """
    stem, number = name, 2
    if numbered := re.fullmatch(r"(.+)-(\d{1,6})", name, re.ASCII):
        stem, number = numbered[1], int(numbered[2]) + 1
    while (
        study_folder(workspace, f"{stem}-{number}").exists() or configs_folder(workspace, f"{stem}-{number}").exists()
    ):
        number += 1
    return _quoted(f"{stem}-{number}").removeprefix("-- ")


def read_study(workspace: Workspace, name: str) -> Study:
    """A study by its name or the name of its folder.

    Raises:
        BadInput: there is none of this name (the sentence lists those there are), or its file is damaged.
    """
    for path in (_file(workspace, name), workspace.studies / name / "study.json"):
        if name and path.parent.parent == workspace.studies and path.exists():
            return _read(path)
    names = ", ".join(study.name for study in list_studies(workspace, quiet=True))
    there = f"there are: {names}" if names else make_one(workspace)
    raise BadInput(f"there is no study {name!r} under {workspace.root.absolute()}; {there}")


def list_studies(workspace: Workspace, *, quiet: bool = False) -> list[Study]:
    """All studies under a root, the newest last; a damaged one is left out, with a warning unless ``quiet``."""
    found = []
    for path in sorted(workspace.studies.glob("*/study.json")):
        try:
            found.append(_read(path))
        except BadInput as error:
            logger.log(logging.DEBUG if quiet else logging.WARNING, "%s", error)
    return sorted(found, key=lambda study: study.planned)


def newest_study(workspace: Workspace) -> Study:
    """The study that was planned last.

    Raises:
        BadInput: there is none.
    """
    studies = list_studies(workspace)
    if not studies:
        raise BadInput(f"there is no study under {workspace.root.absolute()}; {make_one(workspace)}")
    return studies[-1]


def finished_runs(workspace: Workspace, study: Study) -> list[StudyRun]:
    """The runs of a study that have ended well and whose predictions are there, in its order."""
    return [run for run in study.runs if run.run_id and run.blocked is None and is_finished(workspace.run(run.run_id))]


def more_seeds(workspace: Workspace, study: Study) -> str:
    """The command that gives every variant several seeds; by its options where the study was not planned by default."""
    root = workspace.root
    if study.is_adopted:
        return "adopt more of them, with --variant NAME,seed=N=PREDICTIONS"
    if len(study.seeds) > 1:
        return launch_command(workspace, study)
    options = ["--seeds", "0,1,2", "--name", f"{study.name}-3-seeds", "--launch"]
    chosen = [key for key in study.settings if not key.endswith(".precision")]  # which planning sets by itself
    if study.axis not in AXES or AXES[study.axis].takes_weights or study.product or chosen:
        return f"the command that planned it, with {' '.join(options)}"
    return shell_command("ablate", study.axis, "--base", study.base, *options, root=root)


def launch_command(workspace: Workspace, study: Study) -> str:
    """The command that runs the unfinished runs of a study."""
    return shell_command("ablate", "launch", root=workspace.root, study=study.name)


def make_one(workspace: Workspace) -> str:
    """The hint that is shown if there is no study."""
    return f"make one: {shell_command('ablate', 'attention', root=workspace.root)}"


def _file(workspace: Workspace, name: str) -> Path:
    return study_folder(workspace, name) / "study.json"


def _read(path: Path) -> Study:
    return read_json(path, Study, f"delete {path.parent} and plan the study again; its runs are kept")


def run_text(study: Study, run: StudyRun) -> str:
    """The YAML of a run: its purpose, how to start it, and its difference from the base."""
    from analysis.render.table import one_line  # rich: not for those who list studies or complete their names

    head = [
        ("What", f"{study.title}: {run.variant}, seed {run.seed}"),
        ("Study", f"{study.name}; baseline {study.baseline}{' (this one)' * (run.variant == study.baseline)}"),
        ("Note", run.note),
        ("Not controlled", f"also changes {', '.join(run.confounders)}" if run.confounders else ""),
        ("Source", study.source),
        (
            "Command",
            f"detablate ablate run {json.dumps(run.config_path) if ' ' in run.config_path else run.config_path}",
        ),
        ("Results", f"results/runs/{run.run_id}" if run.run_id else ""),
    ]
    tree = merge(nested(study.settings), nested(run.changes))
    lines = [
        *(f"# {key + ':':9} {one_line(' '.join(text.split()))}" for key, text in head if text),
        *("", f"base: {scalar(study.base)}", ""),
        *tree_lines(tree, studied=set(leaves(nested(run.changes)))),
        *([""] if tree else []),
        f"seed: {run.seed}",
    ]
    return "".join(line + "\n" for line in lines)


def plan_text(study: Study) -> str:
    """The text of ``plan.yaml``: the question, the fixed and the varied settings, and the runs."""
    from analysis.render.table import one_line  # rich: not for those who list studies or complete their names

    head = {
        "study": study.name,
        "axis": study.axis,
        "product": study.product,
        "title": study.title,
        "source": study.source,
        "touches": study.allowed_keys,
        "base": study.base,
        "seeds": study.seeds,
        "baseline": study.baseline,
        "training_data": study.training_data,
        "validation_data": study.validation_data,
    }
    lines = [
        "# The plan of a study, for people; programs read results/studies. Each run is one config in this folder.",
        f"# Run it:  detablate ablate launch {one_line(_quoted(study.name))}",
        f"# Read it: detablate ablate table {one_line(_quoted(study.name))}",
        "",
        *_pairs({key: value for key, value in head.items() if value is not None}),
    ]
    if study.settings:
        lines += ["settings:", *(f"  {line}" for line in _pairs(study.settings))]
    if study.pretrainings:
        lines += [
            "",
            "pretrainings:  # they run before the runs that start from them; every length is a separate cosine "
            "schedule",
        ]
    for job in study.pretrainings:
        about = {"epochs": job.pretraining.pretrain.epochs, "results": f"results/{job.run_id}"}
        lines.append(f"  {scalar(job.variant)}: {scalar(about)}")
    lines += ["", "variants:"]
    for variant in study.variants:
        lines += [f"  {scalar(variant)}:", *(f"    {line}" for line in _variant_lines(study.runs_of(variant)))]
    return "".join(line + "\n" for line in lines)


def _variant_lines(runs: Sequence[StudyRun]) -> Iterator[str]:
    """The lines of a variant in ``plan.yaml``: its notes, changes and runs."""
    first = runs[0]
    about = {"note": first.note, "blocked": first.blocked, "not_controlled": first.confounders}
    yield from _pairs({key: value for key, value in about.items() if value})
    if first.size is not None:
        yield f"parameters: {first.size.parameters}"
        yield f"macs: {first.size.macs}  # one image, multiply-adds"
    if first.changes:
        yield from ("changes:", *(f"  {line}" for line in _pairs(first.changes)))
    if first.blocked is None:
        yield "runs:"
    for run in runs if first.blocked is None else ():
        file = {"seed": run.seed, "config": run.config_path.rpartition("/")[2]}
        yield f"  - {scalar(file | ({'results': f'results/runs/{run.run_id}'} if run.run_id else {}))}"


def nested(changes: Mapping[str, Any]) -> Tree:
    """Dotted keys as a tree.

    >>> nested({"train.lr": 0.1, "train.betas": [0.9, 0.99], "seed": 1})
    {'train': {'lr': 0.1, 'betas': [0.9, 0.99]}, 'seed': 1}
    """
    return changed({}, changes.items())


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as dotted keys; what is no mapping is a leaf."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    return (f"{scalar(key)}: {scalar(value)}" for key, value in values.items())


def tree_lines(tree: Mapping[str, Any], studied: set[str], path: str = "", indent: str = "") -> Iterator[str]:
    """A tree as YAML; the dotted keys that are studied are marked."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"{indent}{scalar(key)}:"
            yield from tree_lines(value, studied, f"{path}{key}.", indent + "  ")
        else:
            yield f"{indent}{scalar(key)}: {scalar(value)}{'  # varied' * (path + key in studied)}"


def _quoted(name: str) -> str:
    plain = re.fullmatch(r"[\w.-]+", name, re.ASCII)
    quoted = name if plain else "'" + name.replace("'", "'\\''") + "'"
    return f"-- {quoted}" if name.startswith("-") else quoted
