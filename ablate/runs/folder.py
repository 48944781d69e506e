"""The run folder: the whole contract between the commands, which prepare and read it, and an engine, which fills it.

``<root>/results/runs/<run id>/`` (``root``: ``--root``, default the current directory, see `Workspace`; run id: the
first digits of the run's evaluation identity, `ablate.config.identity`) holds

==================== ================================================================================================
``config.yaml``      the resolved ``RunConfig``, every field written out, paths absolute; written once, before all
``manifest.json``    what it ran on and from (``ablate.runs.manifest.Manifest``); written once; holds both identities,
                     the digests of annotations and images, and the revisions of the rules by which it was named
``status.json``      ``Status``, rewritten whole at every step of the run; the last word on how it went. Of a finished
                     run it holds the fingerprints of the files that must not change any more
``events.jsonl``     one object a line: ``time`` (UTC), ``event`` and its fields; what a person wants to be told later
``metrics.jsonl``    one object a line: ``iteration`` and numbers; the training curves. ``seconds_per_iteration`` is of
                     the run, a batch and its loading; that of ``probe.json`` is per training step of one image
``checkpoints/``     ``<iteration, 8 digits>.pt``; a file with this name is complete
``tensorboard/``     the training curves again, for TensorBoard
``lease-*.json``     who is at the run now (``ablate.runs.lock``); only its holder writes here
``predictions.json`` COCO results, a list: ``image_id, category_id, bbox`` (xywh, pixels), ``score``, ``segmentation``
                     (compressed RLE; absent for a detector without masks)
``evaluation.json``  metrics and error breakdown of these predictions, with ``schema``
``output/``          of a command: what it writes, its ``{run}``; emptied before it begins anew
``outside.json``     of a command: the seconds and the GPU memory that it took, measured from outside
==================== ================================================================================================

Identities change when the rules behind them do (``ablate.config.identity``). A folder of an older rule stays readable
and is shown as such (``ablate.runs.manifest.older_rule``); no config has its name any more, so nothing takes it over.
Manifests from before the images entered the identity have no digest of them.

An engine gets the folder, reads ``config.yaml``, continues from the newest checkpoint that can be read, and leaves with
a status in a final state. Every file but the two ``.jsonl`` appears whole or not at all; a line that a kill cut short
is skipped by the reader and ended by the next writer.

All of it is read here, by one rule: a line of a ``.jsonl`` that is not what it should be is skipped, any other file
that is not is refused with its remedy (`read_json`), and only regular files are opened.

The folder of a pre-training, ``<root>/results/pretraining/<id>/``, is a run's folder but for what comes out:
``config.yaml`` is a ``Pretraining``, and in place of predictions and evaluation there are

======================== ============================================================================================
``weights/NNNN.pth``     the encoder after NNNN epochs, as the official MAE files hold it: ``["model"]``
``weights/NNNN_full.pth``  the same with the decoder
``pictures/NNNN.png``    a few images after NNNN epochs: original, what the encoder saw, what the decoder made of it
======================== ============================================================================================

It is named by the hash of the config and of the images, so studies that need the same weights share it. Where a
name must tell the one from the other (what a run of a study needs, what a worker is told), a run is named by its run id
and a pre-training by ``pretraining/<id>``; `kind_of` and `Workspace.job_folder` alone read such a name.
"""

import fcntl
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from ablate.config.foreign import KINDS, AnyConfig, ForeignConfig
from ablate.config.identity import short_id
from ablate.config.schema import Coco, Folder, Part, Pretrain, Pretraining, RunConfig, Shapes
from ablate.config.yaml import dump_config, parse, read_yaml, with_changes
from ablate.runs.fingerprint import Fingerprint
from analysis.exceptions import BadInput
from analysis.files import NotAFile, sweep_parts
from analysis.files import open_regular as open_regular
from analysis.files import replacing as replacing  # of every file of the store

SCHEMA = 1
AFRESH = "launch creates it again"
LOCK_SECONDS = 5.0  # to wait for another process that is writing the status
TAIL = 4096  # bytes of the curves that hold their last line
CHECKPOINT = re.compile(r"[0-9]{8,}\.pt")
FAILURES = ("failed", "out_of_memory", "diverged")  # final states without a result
FINAL = ("finished", *FAILURES)
State = Literal["prepared", "running", "interrupted", "finished", "failed", "out_of_memory", "diverged", "damaged"]
S = TypeVar("S", bound=msgspec.Struct)


def now() -> str:
    """The time, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands. ``damaged`` is never written: it is what an unreadable status is read as."""

    state: State
    phase: Literal["training", "predicting", "analysing"] | None = None
    iteration: int = 0  # optimizer steps done
    iterations: int = 0  # of the whole schedule
    loss: float | None = None  # of the last step of training; the curves hold means
    phase_done: int = 0  # images that are predicted
    phase_total: int = 0  # images to predict; 0: not known yet, or another phase
    message: str = ""  # for a person: the reason of a failure, the peak memory reached
    updated: str = msgspec.field(default_factory=now)
    pid: int = msgspec.field(default_factory=os.getpid)
    host: str = msgspec.field(default_factory=socket.gethostname)
    files: dict[str, Fingerprint] = {}  # of a finished run: of its config and of what came out, by their names
    schema: int = SCHEMA


def state_words(state: str) -> str:
    """A state in words for people: finished, out of memory; not started for a run that has not begun.

    >>> state_words("out_of_memory"), state_words("prepared"), state_words("waiting")
    ('out of memory', 'not started', 'not started')
    """
    return "not started" if state in ("prepared", "waiting") else state.replace("_", " ")


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, atomically."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically."""
    with replacing(path) as file:
        file.write(text.encode())


def read_json(path: Path, into: type[S], remedy: str = AFRESH) -> S:
    """A file of this store as a struct that has a ``schema`` field.

    Args:
        path: of the file.
        into: what it should be.
        remedy: what to do where it is damaged.

    Raises:
        BadInput: the file is missing, torn, not what it should be, or written by a newer version.
    """
    content = _read(path)
    if content is None:
        raise BadInput(f"{path}: cannot be read (no such file); {remedy}")
    schema = _decoded(path, content, _Versioned, remedy).schema
    if schema > SCHEMA:
        raise BadInput(f"{path}: has schema {schema}, this version reads up to {SCHEMA}; update detablate to read it")
    return _decoded(path, content, into, remedy)


def _read(path: Path, tail: int | None = None) -> bytes | None:
    """The content of a regular file, or so many of its last bytes; None where there is none.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            if tail is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - tail))
            return file.read()
    except FileNotFoundError:
        return None
    except NotAFile as error:
        raise BadInput(f"{path}: {error.strerror}; move it away") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); fix this, or move it away") from None


def _decoded(path: Path, content: bytes, into: type[S], remedy: str) -> S:
    try:
        return msgspec.json.decode(content, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nests too deep" if isinstance(error, RecursionError) else str(error) if content else "it is empty"
        raise BadInput(f"{path}: is damaged ({reason}); {remedy}") from None


class _Versioned(msgspec.Struct):
    schema: int


class _Identified(_Versioned):
    training: str


class RunFolder:
    """The files of one run; see the module for what they hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.status = path / "status.json"
        self.events = path / "events.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.predictions = path / "predictions.json"
        self.evaluation = path / "evaluation.json"
        self.output = path / "output"

    @property
    def workspace(self) -> "Workspace":
        """The root under which the run lies, and beside it the embedded data set."""
        return Workspace(self.path.parents[2])

    def prepare(self, config: RunConfig, manifest: msgspec.Struct) -> None:
        """Make the folder and its first files; where they are already, check that they are of the same config.

        Raises:
            BadInput: the folder holds another config, or cannot be written.
        """
        if self._begin(with_changes(config, absolute_paths(config)), manifest):
            return
        # Data and weights enter the identity by their content, so moved files continue the same run.
        stored = msgspec.structs.replace(self.read_config(), data=config.data)
        init, recipe = stored.init, config.init.pretraining
        if "none" not in (init.weights, config.init.weights):
            init = config.init
        elif isinstance(init.pretraining, Pretrain) and isinstance(recipe, Pretrain):
            init = msgspec.structs.replace(
                init, pretraining=msgspec.structs.replace(init.pretraining, images=recipe.images)
            )
        self._check_same(msgspec.structs.replace(stored, init=init), config, "run")

    def prepare_foreign(self, config: ForeignConfig, manifest: msgspec.Struct) -> None:
        """Likewise of a run that is not trained here, of which more may change while it is not finished.

        What does not decide its result (paths, how to resume, what is handed on) is taken from ``config``.

        Raises:
            BadInput: the run has finished and its predictions were taken from elsewhere, or the folder cannot be
                written.
        """
        if self._begin(config, manifest) or (stored := self.read_any_config()) == config:
            return
        status = self.read_status()
        if status is None or status.state != "finished":
            write_text(self.config, dump_config(config))
        elif stored.engine != config.engine or getattr(stored, "predictions", "") != config.predictions:
            self._check_same(stored, config, "run")

    def _begin(self, config: Part, manifest: msgspec.Struct) -> bool:
        """Make the folder and its first files; False where they are there already."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            if self.manifest.exists() and self.config.exists():
                damaged = [path.name for path, whole in self._first_files() if not whole]
                if not damaged:
                    return False
                self.append_event("warning", message=f"{' and '.join(damaged)} was damaged and is created again")
            write_text(self.config, dump_config(config))
            write_json(self.manifest, manifest)  # last: with it the folder counts as prepared
            status = self.read_status()
            if status is None:
                self.write_status(Status(state="prepared"))
            elif self.manifest.name in status.files:  # it is another now
                files = {name: known for name, known in status.files.items() if name != self.manifest.name}
                self.write_status(msgspec.structs.replace(status, files=files))
        except OSError as error:
            raise BadInput(
                f"{self.path}: cannot be written ({error.strerror}); free space or choose another --root"
            ) from None
        return True

    def _first_files(self) -> Iterator[tuple[Path, bool]]:
        """The files that `_begin` makes, and whether each can be read."""
        for path, read in ((self.config, read_yaml), (self.manifest, partial(read_json, into=_Identified))):
            try:
                read(path)
                yield path, True
            except BadInput:
                yield path, False

    def _check_same(self, stored: msgspec.Struct, config: msgspec.Struct, verb: str) -> None:
        if stored != config:
            raise BadInput(f"{self.config}: differs from the given config; move this folder away to {verb} again")

    def read_config(self) -> RunConfig:
        """The config of this run, of a detector that is trained here."""
        return parse(read_yaml(self.config), RunConfig, str(self.config))

    def read_any_config(self) -> AnyConfig:
        """The config of this run, of any kind."""
        tree = read_yaml(self.config)
        kind = KINDS.get(str(tree.get("engine")))
        return self.read_config() if kind is None else parse(tree, kind, str(self.config))

    def write_status(self, status: Status) -> None:
        """Replace the status."""
        write_json(self.status, status)

    def update_status(self, change: Callable[[Status], Status | None]) -> None:
        """Replace the status by what ``change`` makes of the last one, None to leave it, with no other update between.

        So a process that writes progress never replaces the failure that another one writes meanwhile.
        """
        with self._status_locked():
            status = change(self.read_status() or Status(state="prepared"))
            if status is not None:
                self.write_status(status)

    @contextmanager
    def _status_locked(self) -> Iterator[None]:
        """By one process at a time; waits at most `LOCK_SECONDS`, and not at all on a file system without locks."""
        try:
            file = open_regular(self.config, os.O_RDWR)  # network file systems lock only what is open for writing
        except OSError:
            yield
            return
        with file:
            until = time.monotonic() + LOCK_SECONDS
            while time.monotonic() < until:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
                except OSError:
                    break
            yield

    def read_status(self) -> Status | None:
        """The status; None before there is one, state ``damaged`` with the reason where it cannot be read."""
        try:
            return read_json(self.status, Status, "the run itself is not damaged: launch continues it")
        except BadInput as error:
            missing = not os.path.lexists(self.status)
            return None if missing else Status(state="damaged", message=str(error), updated="", pid=0, host="")

    def append_event(self, event: str, **fields: object) -> None:
        """Add a line to the events."""
        _append(self.events, {"time": now(), "event": event, **fields})

    def append_metrics(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a line to the training curves."""
        _append(self.metrics, {"iteration": iteration, **values})

    def read_events(self) -> list[dict[str, Any]]:
        """The events in order, each with its ``time`` and ``event``."""
        return [line for line in json_lines(_read(self.events) or b"") if is_event(line)]

    def read_metrics(self) -> list[dict[str, Any]]:
        """The training curves in order, each line with its ``iteration``; values that were not finite are None."""
        return [line for line in json_lines(_read(self.metrics) or b"") if is_measurement(line)]

    def newest_losses(self) -> dict[str, Any]:
        """The last line of the training curves with a loss, where it is near the end; empty without one."""
        try:
            lines = list(json_lines(_read(self.metrics, TAIL) or b""))
        except BadInput:
            return {}
        return next((line for line in reversed(lines) if "loss" in line and is_measurement(line)), {})

    def rewind_metrics(self, iteration: int) -> None:
        """Drop what was measured after ``iteration``, from which a resumed run trains again."""
        with replacing(self.metrics) as file:
            for line in self.read_metrics():
                file.write(msgspec.json.encode(line) + b"\n" if line["iteration"] <= iteration else b"")

    def checkpoint(self, iteration: int) -> Path:
        """Where the checkpoint taken after ``iteration`` steps belongs (write it through ``replacing``)."""
        return self.checkpoints / f"{iteration:08d}.pt"

    def checkpoints_newest_first(self) -> list[Path]:
        """The complete checkpoints."""
        named = (path for path in self.checkpoints.glob("*.pt") if CHECKPOINT.fullmatch(path.name))
        return sorted(filter(Path.is_file, named), key=lambda path: int(path.stem), reverse=True)

    def sweep(self) -> None:
        """Remove what kills left of half-written files; only for who holds the lock."""
        own = (path for path in self.path.iterdir() if path.is_dir() and path != self.output)
        for folder in (self.path, *own):
            sweep_parts(folder)

    def write_predictions(self, records: Sequence[Mapping[str, object]]) -> None:
        """Write COCO results, one record a line."""
        with replacing(self.predictions) as file:
            file.write(b"[\n" + b",\n".join(map(msgspec.json.encode, records)) + b"\n]\n")


def absolute(path: str) -> str:
    """A path as it is found from any folder."""
    return str(Path(path).expanduser().absolute())


def absolute_paths(config: RunConfig) -> dict[str, str]:
    """The dotted keys that make the paths of a config's data and weights absolute; a run's files lie elsewhere."""
    found: dict[str, str] = {}
    for name, source in (("train", config.data.train), ("validation", config.data.validation)):
        if isinstance(source, Coco):
            found |= {
                f"data.{name}.type": "coco",
                f"data.{name}.annotations": absolute(source.annotations),
                f"data.{name}.images": absolute(source.images),
            }
        if source.limit_list != "none":
            found[f"data.{name}.limit_list"] = absolute(source.limit_list)
    if config.init.weights != "none":
        found["init.weights"] = absolute(config.init.weights)
    recipe = config.init.pretraining
    if isinstance(recipe, Pretrain) and isinstance(recipe.images, Folder):
        path = absolute(recipe.images.path)
        found |= {"init.pretraining.images.type": "folder", "init.pretraining.images.path": path}
    if isinstance(recipe, Pretrain) and recipe.images.limit_list != "none":
        found["init.pretraining.images.limit_list"] = absolute(recipe.images.limit_list)
    return found


def _append(path: Path, value: Mapping[str, object]) -> None:
    """One line in one write; begins a new line where a kill cut the last one short."""
    line = msgspec.json.encode(value) + b"\n"
    with open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            line = b"\n" + line
        file.write(line)


def json_lines(content: bytes) -> Iterator[dict[str, Any]]:
    r"""The objects in lines of JSON; a line that was cut short or is damaged otherwise is skipped.

    >>> list(json_lines(b'{"iteration": 1}\n{"itera'))
    [{'iteration': 1}]
    """
    for line in content.split(b"\n"):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = msgspec.json.decode(line)
            if isinstance(value, dict):
                yield value


def is_event(line: Mapping[str, Any]) -> bool:
    """Whether a line of ``events.jsonl`` is what `RunFolder.append_event` writes."""
    return isinstance(line.get("time"), str) and isinstance(line.get("event"), str)


def is_measurement(line: Mapping[str, Any]) -> bool:
    """Whether a line of ``metrics.jsonl`` is what `RunFolder.append_metrics` writes.

    >>> is_measurement({"iteration": 20, "loss": None}), is_measurement({"loss": 0.5})
    (True, False)
    """
    values = dict(line)
    iteration = values.pop("iteration", None)
    numbers = all(value is None or (type(value) in (int, float) and abs(value) < math.inf) for value in values.values())
    return type(iteration) is int and 0 <= iteration < 2**63 and numbers


def _with_images(pretraining: Pretraining, images: Folder | Shapes) -> Pretraining:
    recipe = msgspec.structs.replace(pretraining.pretrain, images=images)
    return msgspec.structs.replace(pretraining, pretrain=recipe)


class PretrainingFolder(RunFolder):
    """The files of one pre-training."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.weights = path / "weights"
        self.pictures = path / "pictures"

    def prepare_for(self, pretraining: Pretraining, manifest: msgspec.Struct) -> None:
        """Make the folder and its first files; where they are already, check that they are of the same config.

        Raises:
            BadInput: the folder holds another config, or cannot be written.
        """
        images = pretraining.pretrain.images
        found = Folder(path=absolute(images.path)) if isinstance(images, Folder) else images
        if not self._begin(_with_images(pretraining, found), manifest):
            stored = _with_images(self.read_pretraining(), images)  # they may lie elsewhere
            self._check_same(stored, pretraining, "begin")

    def read_pretraining(self) -> Pretraining:
        """The config of this pre-training."""
        return parse(read_yaml(self.config), Pretraining, str(self.config))

    def weights_after(self, epochs: int) -> Path:
        """The file of the encoder after this many epochs."""
        return self.weights / f"{epochs:04d}.pth"

    def full_weights_after(self, epochs: int) -> Path:
        """The file of encoder and decoder after this many epochs."""
        return self.weights / f"{epochs:04d}_full.pth"

    def pictures_after(self, epochs: int) -> Path:
        """The file of the reconstructions after this many epochs."""
        return self.pictures / f"{epochs:04d}.png"


PRETRAINING: Literal["pretraining"] = "pretraining"  # the folder in results/, and how names of what lies there begin


def pretraining_name(identity: str) -> str:
    """The name under which runs need a pre-training, ``pretraining/<id>``, from its identity of 64 hex digits."""
    return f"{PRETRAINING}/{short_id(identity)}"


def kind_of(job_id: str) -> Literal["run", "pretraining"]:
    """The kind of a job, run or pre-training, by its name in a study's plan.

    >>> kind_of("20c16ee46a4d"), kind_of("pretraining/20c16ee46a4d")
    ('run', 'pretraining')
    """
    return PRETRAINING if job_id.startswith(f"{PRETRAINING}/") else "run"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder under which a person's runs, studies and embedded data lie: ``--root``.

    Made once, where a verb begins.

    Attributes:
        root: above ``results/`` and ``configs/``; as it was given, so that messages name it as the person did.
    """

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    @property
    def results(self) -> Path:
        """Everything that is made."""
        return self.root / "results"

    @property
    def studies(self) -> Path:
        """A folder a study, with its ``study.json``."""
        return self.results / "studies"

    @property
    def configs(self) -> Path:
        """A folder a study, with its plan and the config of each run."""
        return self.root / "configs" / "studies"

    @property
    def cache(self) -> Path:
        """The folder of files that can be deleted at any time."""
        return self.results / "cache"

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run, whether it exists or not."""
        return RunFolder(self.results / "runs" / run_id)

    def runs(self, training: str | None = None) -> list[RunFolder]:
        """The prepared runs, by name; with ``training`` (64 digits), those that share this training.

        Runs that differ in evaluation alone share their training: the weights of one serve the others.
        """
        found = []
        for path in sorted((self.results / "runs").glob("*/manifest.json")):
            with suppress(BadInput):  # damaged: of no known training
                if training is None or read_json(path, _Identified).training == training:
                    found.append(RunFolder(path.parent))
        return found

    def pretraining(self, identity: str) -> PretrainingFolder:
        """The folder of a pre-training, from its identity of 64 hex digits, whether it exists or not."""
        return PretrainingFolder(self.results / pretraining_name(identity))

    def job_folder(self, job_id: str) -> RunFolder:
        """The folder of a run or a pre-training, whichever the name says (see `kind_of`)."""
        return self.run(job_id) if kind_of(job_id) == "run" else PretrainingFolder(self.results / job_id)
