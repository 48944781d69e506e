"""Deleting: a study with the runs that only it has, and the runs of studies that are gone.

First it is found what can go (`of_study`, `unused`), as a value that can be shown; then it is deleted (`delete`). A run
that another study has or needs, and one at which a process is, is never deleted. Each run is locked while its files are
deleted, its status first; what a kill leaves over is a run without a status, which `unused` finds again.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from ablate.launch.base import LOG
from ablate.launch.status import StatusReader, launchers_folder
from ablate.runs.folder import PRETRAINING, Workspace, open_regular
from ablate.runs.lock import LockHeld, holding, owners
from ablate.studies.study import Study, configs_folder, read_study, study_folder
from analysis.exceptions import BadInput
from analysis.shell import shell_command

logger = logging.getLogger(__name__)

RUN_ID = re.compile(r"[0-9a-f]{12}")
MOST_OF_A_LINE = 1000  # bytes
STUDY_FILE = "study.json"
DELETED = "study.json.deleted"  # its name while the rest of the study is deleted


class Kept(msgspec.Struct, frozen=True):
    """A run that is not deleted, and why not."""

    run: str
    why: str


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The files and runs to delete.

    Attributes:
        study: its name; empty where no study is deleted.
        runs: names of runs and pre-trainings.
        labels: what those that a study launched are called there: run id -> study, variant and seed.
        folders: of the study, and what killed deletions have left.
        kept: runs that were looked at and stay.
        bytes: that become free.
    """

    study: str = ""
    runs: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    folders: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to delete."""
        return not (self.study or self.runs or self.folders)


def of_study(workspace: Workspace, name: str, *, keep_runs: bool = False) -> Removal:
    """The removal of a study: its plan, its configs, and the runs that no other study has.

    Args:
        workspace: above `results/`.
        name: of the study.
        keep_runs: delete the plan and the configs alone.

    Raises:
        BadInput: there is no such study, it is being launched or in a queue, or another study cannot be read.
    """
    study = read_study(workspace, name)
    _check_idle(workspace, study)
    runs: list[str] = []
    kept: list[Kept] = []
    if not keep_runs:
        users = _users(workspace, without=study.name)
        for run_id in dict.fromkeys(job.run_id for job in study.jobs if job.run_id):
            _sort(workspace, run_id, f"study {users[run_id]} uses it too" if run_id in users else "", runs, kept)
    folders = [configs_folder(workspace, study.name), study_folder(workspace, study.name)]
    return _removal(workspace, study.name, runs, [path for path in folders if path.is_dir()], kept)


def unused(workspace: Workspace, *, single_runs: bool = False) -> Removal:
    """Runs and pre-trainings that studies have made and no study has any more, and what killed deletions have left.

    Args:
        workspace: above `results/`.
        single_runs: also those that were started alone, by `ablate run` or `weights pretrain`.

    Raises:
        BadInput: a study cannot be read, so its runs are not known.
    """
    users = _users(workspace)
    runs: list[str] = []
    kept: list[Kept] = []
    for prefix, folder in (("", workspace.results / "runs"), (f"{PRETRAINING}/", workspace.results / PRETRAINING)):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            run_id = prefix + path.name
            if not (RUN_ID.fullmatch(path.name) and path.is_dir()) or run_id in users:
                continue
            single = not ((path / LOG).exists() or _is_left_over(path) or single_runs)
            _sort(workspace, run_id, "no study launched it (ablate run, adopt, pretrain)" * single, runs, kept)
    left = sorted(path.parent for path in workspace.studies.glob(f"*/{DELETED}"))
    return _removal(workspace, "", runs, left, kept)


def delete(workspace: Workspace, removal: Removal) -> list[Kept]:
    """Delete what was found; the study first, so that nothing launches its runs again.

    Returns:
        Runs that another process has taken meanwhile, which stay.

    Raises:
        BadInput: something cannot be deleted; the same command continues.
    """
    kept: list[Kept] = []
    try:
        if removal.study:
            _check_idle(workspace, read_study(workspace, removal.study))
            folder = study_folder(workspace, removal.study)
            (folder / STUDY_FILE).rename(folder / DELETED)
        for path in removal.folders:
            shutil.rmtree(path)
        users = _users(workspace)  # a study may have been planned meanwhile
        for run_id in removal.runs:
            why = f"study {users[run_id]} uses it" if run_id in users else _delete_run(workspace, run_id)
            kept += [Kept(run_id, why)] if why else []
    except OSError as error:
        raise BadInput(
            f"{error.filename}: cannot be deleted ({error.strerror}); fix this, then delete the rest with: "
            f"{shell_command('ablate', 'gc', root=workspace.root)}"
        ) from None
    return kept


def removal_lines(removal: Removal, *, done: bool) -> list[str]:
    """A removal for a person: what is deleted, or would be, and what stays."""
    lines = [f"study {removal.study}"] if removal.study else []
    lines += [f"folder {folder}" for folder in removal.folders]
    lines += [f"run {run_id}  {removal.labels.get(run_id, '')}".rstrip() for run_id in removal.runs]
    reasons: dict[str, list[str]] = {}
    for one in removal.kept:
        reasons.setdefault(one.why, []).append(one.run)
    verb = "deleted" if done else "to delete"
    stays = [f"kept: {', '.join(runs)}: {why}" for why, runs in reasons.items()]
    number = f"{len(removal.runs)} run{'s' * (len(removal.runs) != 1)}"
    total = [f"{removal.bytes / 2**20:,.1f} MiB in {number}"] if removal.runs else []
    return [*(f"{verb}: {line}" for line in (*lines, *total)), *stays]


def _users(workspace: Workspace, without: str = "") -> dict[str, str]:
    """The runs that studies have or need: run id -> the name of a study."""
    found: dict[str, str] = {}
    for path in sorted(workspace.studies.glob(f"*/{STUDY_FILE}")):
        try:
            study = read_study(workspace, path.parent.name)
        except BadInput as error:
            raise BadInput(f"nothing is deleted, because the runs of this study are not known: {error}") from None
        if study.name == without:
            continue
        for job in study.jobs:
            for run_id in (job.run_id, *job.needs):
                found.setdefault(run_id, study.name)
    return found


def _check_idle(workspace: Workspace, study: Study) -> None:
    """Refuse a study that has a running launcher or jobs in the queue of a cluster.

    Raises:
        BadInput: it is, or it has.
    """
    stop = shell_command("ablate", "cancel", root=workspace.root, study=study.name)
    for owner in owners(launchers_folder(workspace, study.name))[:1]:
        raise BadInput(f"a launcher of study {study.name} is running ({owner}); stop it first: {stop}")
    for status in StatusReader(workspace, study).look():
        if status.queue is not None and status.queue.is_live:
            raise BadInput(f"study {study.name}: {status.label} is {status.queue.words}; stop it first: {stop}")


def _sort(workspace: Workspace, run_id: str, why: str, runs: list[str], kept: list[Kept]) -> None:
    """Add an existing run to those that are deleted, or to those that are kept."""
    path = workspace.job_folder(run_id).path
    if path.is_symlink():
        why = f"is a link to {path.readlink()}; delete both by hand"
    if not path.is_dir():
        return
    for owner in owners(path)[:1]:
        why = f"{owner} is working on it"
    if why:
        kept.append(Kept(run_id, why))
    else:
        runs.append(run_id)


def _is_left_over(path: Path) -> bool:
    """Whether a deletion of a run was killed: its status and its manifest were the first to go."""
    return not any(os.path.lexists(path / name) for name in ("status.json", "manifest.json"))


def _delete_run(workspace: Workspace, run_id: str) -> str:
    """Delete the folder of a run -> why it stays; empty where it is gone."""
    folder = workspace.job_folder(run_id)
    if not folder.path.is_dir():
        return ""
    try:
        with holding(folder.path, str(folder.path), lost=lambda: None):
            for path in (folder.status, folder.manifest):
                path.unlink(missing_ok=True)
            for path in folder.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif not path.name.startswith("lease-"):
                    path.unlink(missing_ok=True)
    except LockHeld as held:
        return str(held)
    with suppress(OSError):  # another process has begun it anew
        folder.path.rmdir()
    return ""


def _removal(
    workspace: Workspace, study: str, runs: Sequence[str], folders: Iterable[Path], kept: Iterable[Kept]
) -> Removal:
    paths = [workspace.job_folder(run_id).path for run_id in runs]
    return Removal(
        study=study,
        runs=tuple(runs),
        labels={run_id: label for run_id, path in zip(runs, paths, strict=True) if (label := _label(path))},
        folders=tuple(map(str, folders)),
        kept=tuple(kept),
        bytes=sum(map(_bytes, paths)),
    )


def _label(folder: Path) -> str:
    """The name that a launcher gave a run, from the first line of its log; empty if there is none."""
    try:
        with open_regular(folder / LOG) as file:
            line = file.readline(MOST_OF_A_LINE).decode("utf-8", "replace")
    except OSError:
        return ""
    found = re.match(r"\S+ (.+), on ", line)
    return found[1] if found else ""


def _bytes(folder: Path) -> int:
    """The bytes of the files in a folder, without hard links that other folders share."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found = os.lstat(os.path.join(place, name))
                total += found.st_size if found.st_nlink == 1 else 0
    return total
