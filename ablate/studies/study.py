"""A study: one factor varied, everything else held; which runs it is made of, and where that is written down.

``<root>/results/studies/<slug>/study.json`` is what programs read, ``<root>/configs/studies/<slug>/`` what people read
and start: ``plan.yaml`` and one commented config a run. A study holds names and identities, the results lie with the
runs: studies share runs that are the same, and a deleted study takes no result with it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ablate.config import Pretraining, RunConfig
from ablate.hints import command
from ablate.identity import short
from ablate.pretraining_folder import pretraining_name
from ablate.store import SCHEMA, read_json, replacing, write_json
from analysis.refusal import BadInput

LONGEST_SLUG = 48
CAREFUL = "careful: "  # begins what a reader of a note must not miss


class Size(msgspec.Struct, frozen=True):
    """Of a detector, for one image at inference (``ablate.complexity``)."""

    parameters: int
    macs: int  # multiply-adds: the FLOPs of the papers
    activations: int  # elements


class StudyRun(msgspec.Struct, frozen=True, kw_only=True):
    """One variant under one seed. A blocked one has no config and no identity, and is not run."""

    variant: str
    seed: int
    changes: dict[str, Any]  # dotted keys that the variant sets on top of the study's base
    config_path: str  # of its YAML, relative to the root
    config: RunConfig | None = None  # resolved
    training: str = ""  # identities, 64 hex digits
    evaluation: str = ""
    needs: tuple[str, ...] = ()  # names of folders that must be finished before
    blocked: str | None = None  # what is missing, as advice: pass --weights mae=FILE
    note: str = ""
    uncontrolled: tuple[str, ...] = ()  # keys it changes although its axis does not study them
    levels: tuple[str, ...] = ()  # its variant on each axis of the study
    number: float | None = None  # where it stands on a numeric axis
    size: Size | None = None

    @property
    def identity(self) -> str:
        """The name of its run folder; empty where it is blocked."""
        return short(self.evaluation)


class PretrainingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A pre-training that runs of a study start from; to a launcher a run like them, which they need."""

    variant: str  # what it is called beside them
    pretraining: Pretraining
    training: str  # identity, 64 hex digits
    epochs: tuple[int, ...]  # after which the weights are kept
    needs: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """The name of its folder."""
        return pretraining_name(self.training)

    @property
    def seed(self) -> int:
        """Its own, not that of the runs."""
        return self.pretraining.pretrain.seed


Job = StudyRun | PretrainingRun


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """``study.json``."""

    name: str
    axis: str
    title: str
    source: str
    touches: tuple[str, ...]  # keys, or groups of keys, that may differ between its runs; the seed beside them
    baseline: str  # the variant that the others are compared with
    base: str  # a preset's name or a file
    settings: dict[str, Any]  # dotted keys set for all runs on top of the base
    seeds: tuple[int, ...]
    synthetic: bool  # runs on the embedded data
    training_data: str  # digests
    validation_data: str
    product: str | None = None  # a second axis, crossed with the first
    unit: str = ""  # of a numeric axis
    runs: tuple[StudyRun, ...]
    pretrainings: tuple[PretrainingRun, ...] = ()  # that its runs need
    planned: str  # when it was asked for last, UTC
    schema: int = SCHEMA

    @property
    def variants(self) -> tuple[str, ...]:
        """Their names, in the order of the axis."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What there is to do, what is needed first."""
        return (*self.pretrainings, *self.runs)


def _ignore(_: str) -> None:
    """Say nothing."""


def slug(name: str) -> str:
    """A folder name for a study's name: lower-case ASCII, and a few digits of a hash where that lost something.

    >>> slug("attention-tiny"), slug("Müller's 2nd try")
    ('attention-tiny', 'muller-s-2nd-try-b1b19b')
    """
    safe = legible(name)
    if safe == name:
        return safe
    return "-".join(
        part for part in (safe, hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]) if part
    )


def legible(name: str) -> str:
    """What of a name can stand in a file's name everywhere; two names may come to the same.

    >>> legible("global, naive kernel")
    'global-naive-kernel'
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._=]+", "-", ascii_name).strip("-.")[:LONGEST_SLUG].strip("-.")


def study_folder(root: Path, name: str) -> Path:
    """Where a study's ``study.json`` lies, and what its launcher keeps."""
    return root / "results" / "studies" / slug(name)


def configs_folder(root: Path, name: str) -> Path:
    """Where a study's YAML files lie."""
    return root / "configs" / "studies" / slug(name)


def write_study(root: Path, study: Study) -> None:
    """Write the plan, the configs, and last ``study.json``; the same plan again only becomes the newest.

    Raises:
        BadInput: another plan has this name, or the folders cannot be written.
    """
    from ablate.studies.text import plan_text, run_text

    check_free(root, study)
    path = study_folder(root, study.name) / "study.json"
    texts = {configs_folder(root, study.name) / "plan.yaml": plan_text(study)}
    texts |= {root / run.config_path: run_text(study, run) for run in study.runs if run.blocked is None}
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


def check_free(root: Path, study: Study) -> None:
    """A study's name is free, or this study's already.

    Raises:
        BadInput: another plan has it, or the file that would say so is damaged.
    """
    path = study_folder(root, study.name) / "study.json"
    if path.exists():
        _check_same(_read(path), study)


def read_study(root: Path, name: str) -> Study:
    """A study by its name or the name of its folder.

    Raises:
        BadInput: there is none of this name (the sentence lists those there are), or its file is damaged.
    """
    folders = [study_folder(root, name), root / "results" / "studies" / name]
    for folder in folders:
        if name and folder.parent == folders[0].parent and (folder / "study.json").exists():
            return _read(folder / "study.json")
    names = [study.name for study in list_studies(root)]
    there = f"there are: {', '.join(names)}" if names else _make_one(root)
    raise BadInput(f"there is no study {name!r} under {root.absolute()}; {there}")


def list_studies(root: Path, warn: Callable[[str], None] = _ignore) -> list[Study]:
    """All studies under a root, the newest last; a damaged one is left out, with a sentence to ``warn``."""
    found = []
    for path in sorted((root / "results" / "studies").glob("*/study.json")):
        try:
            found.append(_read(path))
        except BadInput as error:
            warn(str(error))
    return sorted(found, key=lambda study: study.planned)


def newest_study(root: Path, warn: Callable[[str], None] = _ignore) -> Study:
    """The study asked for last.

    Raises:
        BadInput: there is none.
    """
    studies = list_studies(root, warn)
    if not studies:
        raise BadInput(f"there is no study under {root.absolute()}; {_make_one(root)}")
    return studies[-1]


def _make_one(root: Path) -> str:
    return f"make one: {command('ablate', 'attention', root=root)}"


def _read(path: Path) -> Study:
    try:
        return read_json(path, Study)
    except BadInput as error:
        reason = str(error).rpartition("; ")[0]
        raise BadInput(f"{reason}; delete {path.parent} and plan the study again, its runs are kept") from None


def _check_same(old: Study, new: Study) -> None:
    """Refuse another plan; a variant whose missing weights are there now does not make it another one."""
    remedy = "give the new one another name with --name"
    if old.name != new.name:
        raise BadInput(f"study {new.name!r} would lie where {old.name!r} lies; {remedy}")
    parts = [name for name in ("axis", "product", "baseline", "seeds") if getattr(old, name) != getattr(new, name)]
    if parts:
        raise BadInput(f"a study {new.name!r} with another {' and '.join(parts)} exists; {remedy}")
    before = {(run.variant, run.seed): run for run in old.runs}
    now = {(run.variant, run.seed): run for run in new.runs}
    changed = [
        variant
        for variant, seed in dict.fromkeys([*before, *now])
        if (variant, seed) not in before
        or (variant, seed) not in now
        or (before[variant, seed].blocked is None and before[variant, seed].evaluation != now[variant, seed].evaluation)
    ]
    if changed:
        why = [
            key
            for key in dict.fromkeys([*old.settings, *new.settings])
            if old.settings.get(key) != new.settings.get(key)
        ]
        listed = "; ".join([*(["base"] if old.base != new.base else []), *why] or dict.fromkeys(changed))
        raise BadInput(f"a study {new.name!r} with another plan exists (it differs in {listed}); {remedy}")
