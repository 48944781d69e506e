"""Whether a finished run is whole: its files are there, can be read, and are what the run wrote.

`launch` restores what can be restored: the manifest, the evaluation from the predictions, the predictions and the
last weights of a pre-training from the last checkpoint. A file that may have been changed on purpose is not
overwritten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.runs.fingerprint import Fingerprint, fingerprint_of
from ablate.runs.folder import PretrainingFolder, RunFolder, Status, read_json
from ablate.runs.manifest import Manifest
from analysis.exceptions import BadInput


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem of a finished run.

    Attributes:
        sentence: names the file and the remedy.
        repairable: whether launching again makes the file again.
    """

    sentence: str
    repairable: bool


def is_finished(folder: RunFolder) -> bool:
    """Whether a run has ended well, and everything that it wrote is there and unchanged."""
    status = folder.read_status()
    return status is not None and status.state == "finished" and find_fault(folder) is None


def find_fault(folder: RunFolder) -> Fault | None:
    """The worst problem of a run whose status is finished; None if there is none."""
    status = folder.read_status() or Status(state="prepared")
    found = list(_faults(folder, status))
    return min(found, key=lambda fault: fault.repairable, default=None)


def fingerprints(folder: RunFolder) -> dict[str, Fingerprint]:
    """The fingerprints of what must not change once a run is finished."""
    paths = [folder.config, folder.manifest, *_results(folder)]
    return {path.relative_to(folder.path).as_posix(): fingerprint_of(path) for path in paths if path.is_file()}


def are_predictions_kept(folder: RunFolder) -> bool:
    """Whether the predictions are those that the finished run wrote, so that the evaluation alone is missing."""
    status = folder.read_status()
    if status is None or isinstance(folder, PretrainingFolder) or not folder.predictions.is_file():
        return False
    known = status.files.get(folder.predictions.name)
    return status.state == "finished" if known is None else known.fits(folder.predictions)


def _results(folder: RunFolder) -> list[Path]:
    if isinstance(folder, PretrainingFolder):
        return sorted(folder.weights.glob("*.pth"))
    return [folder.predictions, folder.evaluation]


def _faults(folder: RunFolder, status: Status) -> Iterator[Fault]:
    names = dict.fromkeys([*(path.relative_to(folder.path).as_posix() for path in _results(folder)), *status.files])
    try:
        read_json(folder.manifest, Manifest)
    except BadInput as error:
        yield Fault(str(error), repairable=True)
        names.pop(folder.manifest.name, None)
    for name in names:
        what = _what_happened(folder.path / name, status.files.get(name))
        if what:
            yield _fault(folder, name, what)
    if not isinstance(folder, PretrainingFolder) and folder.evaluation.is_file():
        from ablate.execute.evaluation import read_evaluation  # numpy: not for those who list studies or ask for help

        try:
            read_evaluation(folder.evaluation)
        except BadInput as error:
            yield Fault(str(error), repairable=True)


def _what_happened(path: Path, known: Fingerprint | None) -> str:
    try:
        if not path.is_file():
            return "is missing"
        return "" if known is None or known.fits(path) else "was changed after the run finished"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _fault(folder: RunFolder, name: str, what: str) -> Fault:
    path, missing = folder.path / name, what == "is missing"
    if path == folder.evaluation:
        return Fault(f"{path}: {what}; launch creates it again from the predictions", repairable=True)
    if path in (folder.manifest, folder.config):
        remedy = "launch creates it again" if missing else "restore it, or delete it and launch creates it again"
        return Fault(f"{path}: {what}; {remedy}", repairable=missing)
    last = not isinstance(folder, PretrainingFolder) or path.stem.removesuffix("_full") == _last_epoch(folder)
    if not (last and folder.checkpoints_newest_first()):
        again = "restore it, or move the folder away to run again"
        return Fault(f"{path}: {what}, and there is no checkpoint to create it from; {again}", repairable=False)
    remedy = "launch creates it again from the last checkpoint"
    return Fault(f"{path}: {what}; {'' if missing else 'restore it, or delete it and '}{remedy}", repairable=missing)


def _last_epoch(folder: PretrainingFolder) -> str:
    """The name of the last weights, without its ending; their epochs are in the names of the files that are known."""
    status = folder.read_status()
    names = [Path(name).stem for name in (status.files if status else {}) if name.endswith(".pth")]
    return max((name.removesuffix("_full") for name in names), default="")
