"""A run of a command of the user, or of adopted predictions, from its config to its evaluation.

The counterpart of `ablate.execute.run`, without torch: the same folder, lock, states and way of continuing. A command
starts from the beginning in an emptied ``output/``, or continues with its ``resume`` if its checkpoint exists; then
its predictions are checked against the validation images and copied.
"""

import glob
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ablate.config.foreign import AdoptedConfig, CommandConfig, ForeignConfig
from ablate.config.identity import COMMAND_REVISION, adopted_identities, command_identities, data_digest, short_id
from ablate.data.fingerprint import read_data_set
from ablate.data.source_code import sources_digest
from ablate.data.sources import annotations_of
from ablate.engines.command import CommandRun, Ended
from ablate.execute.evaluation import evaluate
from ablate.execute.finished import are_predictions_kept
from ablate.execute.outside import Attempt, add_attempt
from ablate.execute.recording import check_planned, is_done, record_end, write_status
from ablate.runs.fingerprint import fingerprint_of
from ablate.runs.folder import FAILURES, RunFolder, Workspace, read_json, replacing
from ablate.runs.lock import holding, sweep_locks
from ablate.runs.manifest import Manifest, make_manifest
from ablate.train.outcome import Interrupted
from analysis.coco.containers import open_container
from analysis.coco.detections import DROP_UNKNOWN, read_detections
from analysis.coco.ground_truth import GroundTruth, read_ground_truth
from analysis.exceptions import BadInput, DetablateError
from analysis.io import read_bytes

logger = logging.getLogger(__name__)

Stamps = dict[str, tuple[int, int, int]]  # of files: size, modification time in ns, inode


class CommandFailed(DetablateError):
    """The command ended without usable predictions."""

    exit_code = 3


def execute_foreign(
    config: ForeignConfig,
    workspace: Workspace,
    *,
    name: str,
    gpus: Sequence[str] = (),
    run_id: str = "",
    again: bool = True,
) -> RunFolder:
    """Prepare the folder of a run, run its command, collect and evaluate the predictions; finished stages are skipped.

    Args:
        config: of the run, its paths absolute.
        workspace: above `results/`.
        name: of the run, for the command.
        gpus: that it has, as CUDA_VISIBLE_DEVICES names them.
        run_id: the name that the folder must have, where a study has planned the run.
        again: run it again if it failed before.

    Raises:
        BadInput: config, data or predictions that cannot be used, or others than were planned with.
        CommandFailed: the command failed.
        Interrupted: this process was asked to stop.
        LockHeld: another process works on this run.
    """
    if isinstance(config, CommandConfig):
        folder = prepare_command(config, workspace, run_id, look_for_gpus=bool(gpus))
    else:
        folder = workspace.run(run_id or short_id(adopted_identities(config, validation_digest(config, workspace))[1]))
    sweep_locks(folder.path)
    if is_done(folder, again):
        return folder
    with holding(folder.path, str(folder.path)):
        folder.sweep()
        if is_done(folder, again):
            return folder
        with _recorded(folder):
            if isinstance(config, CommandConfig) and not (are_predictions_kept(folder) or _are_collected(folder)):
                _train_and_collect(CommandRun(config, folder, name, gpus))
            write_status(folder, "running", phase="analysing")
            evaluate(folder)
    return folder


def prepare_command(
    config: CommandConfig, workspace: Workspace, run_id: str = "", *, look_for_gpus: bool = False
) -> RunFolder:
    """The folder of a command's run, with its config and manifest.

    Args:
        config: of the run.
        workspace: above `results/`.
        run_id: the name that the folder must have; empty for any name.
        look_for_gpus: write down the GPUs of this machine.

    Raises:
        BadInput: data or sources that cannot be used, or others than were planned with.
    """
    validation, sources = read_data_set(config.validation, workspace), sources_digest(config.sources)
    training, evaluation = command_identities(config, sources, validation.digest)
    check_planned(run_id, short_id(evaluation), "sources, its validation data")
    folder = workspace.run(short_id(evaluation))
    folder.prepare_foreign(
        config,
        make_manifest(
            training=training,
            evaluation=evaluation,
            seed=config.seed,
            training_data="",
            validation_data=validation.truth.digest,
            training_images="",
            validation_images=validation.images,
            training_revision=COMMAND_REVISION,
            initialisation="",
            kind="command",
            sources=sources,
            gpus=look_for_gpus,
        ),
    )
    return folder


def validation_digest(config: AdoptedConfig, workspace: Workspace) -> str:
    """How the validation data of adopted predictions enters an identity; images that are not known do not."""
    return data_digest(read_ground_truth(annotations_of(config, workspace)).digest, "")


def _train_and_collect(run: CommandRun) -> None:
    folder, config = run.folder, run.config
    checkpoint = run.checkpoint
    write_status(folder, "running", phase="training")
    folder.append_event("started", resumed_from=None if checkpoint is None else str(checkpoint))
    if checkpoint is None:
        _empty(folder.output)
        folder.metrics.unlink(missing_ok=True)
    else:
        logger.info("continuing from %s", checkpoint)
    pattern = str(run.path(config.predictions, glob.escape))
    before = _stamps(pattern)
    ended = run.carry_out(config.command if checkpoint is None else config.resume)
    _note_cost(folder, ended, resumed=checkpoint is not None)
    if ended.stopped:
        found = run.checkpoint
        how = "starts from the beginning, since there is no checkpoint" if found is None else f"continues from {found}"
        raise Interrupted(f"{folder.path}: stopped by {ended.stopped}; run the same command again: it {how}")
    if ended.code:
        raise CommandFailed(f"{folder.path}: {_failure(run, ended, checkpoint)}")
    paths = _written(folder, pattern, before, run.path(config.predictions))
    truth = read_ground_truth(annotations_of(config, folder.workspace))
    content = _checked(paths, truth)
    with replacing(folder.predictions) as file:
        file.write(content)
    sha256 = fingerprint_of(folder.predictions).sha256
    folder.append_event("predicted", files=[str(path) for path in paths], sha256=sha256)
    if _are_sources_changed(folder, config):
        folder.append_event("warning", message="the sources were changed while the command ran")
        logger.warning(
            "%s: the sources were changed while the command ran; it is not known which version it used", folder.path
        )


def _are_sources_changed(folder: RunFolder, config: CommandConfig) -> bool:
    """Whether the sources are others than when the run was prepared, or gone."""
    try:
        return sources_digest(config.sources) != read_json(folder.manifest, Manifest).sources
    except BadInput:
        return True


def _are_collected(folder: RunFolder) -> bool:
    """Whether the last attempt was stopped behind its command, so that the evaluation alone is missing."""
    status = folder.read_status()
    if status is None or status.state in FAILURES or not folder.predictions.is_file():
        return False
    told = [one for one in folder.read_events() if one["event"] in ("started", "predicted")]
    last = told[-1] if told else {}
    return last.get("event") == "predicted" and last.get("sha256") == fingerprint_of(folder.predictions).sha256


def _failure(run: CommandRun, ended: Ended, checkpoint: Path | None) -> str:
    """Why a command failed, as far as it says."""
    code = f"{ended.code}{f' (signal {ended.code - 128})' if ended.code > 128 else ''}"
    said = f"; its last line: {run.redacted(ended.last_line)[-300:]}" if ended.last_line else ", without a message"
    anew = (
        "" if checkpoint is None else f"; it continued from {checkpoint}: delete that file to start from the beginning"
    )
    return f"the command ended with exit code {code}{said}{anew}"


def _empty(output: Path) -> None:
    """An empty folder for what the command writes: what an attempt left that cannot be continued is removed."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise BadInput(f"{output}: is not a folder; move it away")
    with suppress(FileNotFoundError):
        shutil.rmtree(output)
    output.mkdir(parents=True)


def _note_cost(folder: RunFolder, ended: Ended, *, resumed: bool) -> None:
    place = ended.gpu or read_json(folder.manifest, Manifest).hardware.processor
    attempt = Attempt(seconds=round(ended.seconds, 1), resumed=resumed, peak_gpu_gib=ended.peak_gpu_gib, place=place)
    add_attempt(folder, attempt)


def _stamps(pattern: str) -> Stamps:
    found: Stamps = {}
    for path in glob.glob(pattern, recursive=True):
        with suppress(OSError):
            stat = Path(path).stat()
            found[path] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def _written(folder: RunFolder, pattern: str, before: Stamps, named: Path) -> list[Path]:
    """The prediction files that the command has written.

    Raises:
        CommandFailed: there is none, or none that was written since the command began.
    """
    after = _stamps(pattern)
    found = sorted(Path(path) for path, stamp in after.items() if before.get(path) != stamp)
    if found:
        return found
    if after:
        raise CommandFailed(
            f"{folder.path}: the command succeeded, but {next(iter(after))} is older than its start; make the command "
            "write its predictions every time"
        )
    raise CommandFailed(
        f"{folder.path}: the command succeeded, but wrote no predictions: no file matches {named}; correct "
        "`predictions` in the config, or make the command write this file"
    )


def _checked(paths: Sequence[Path], truth: GroundTruth) -> bytes:
    """The records of prediction files, which are of the validation images, as one list in JSON.

    Raises:
        BadInput: they cannot be used, are of other images, or two files hold detections of one image.
    """
    parts, owners = [], dict[int, Path]()
    for path in paths:
        try:
            found = read_detections(path, truth)
        except BadInput as error:
            raise BadInput(str(error).replace(DROP_UNKNOWN, "")) from None  # here the command has to be right
        container = open_container(path, read_bytes(path))
        if len(paths) > 1 and (container.file_names or container.category_names):
            raise BadInput(
                f"{path}: is one of {len(paths)} parts but not a plain list of records; write the parts as lists"
            )
        for image in dict.fromkeys(found.image.tolist()):
            if image in owners:
                raise BadInput(
                    f"{owners[image]} and {path} both hold detections of image {truth.image_id[image]}, so they are "
                    "not parts of one result; set `predictions` to one of them"
                )
            owners[image] = path
        parts.append(container.records if len(paths) > 1 else read_bytes(path))
    if len(parts) == 1:
        return parts[0]
    inside = (part.strip()[1:-1].strip() for part in parts)
    return b"[\n" + b",\n".join(part for part in inside if part) + b"\n]\n"


@contextmanager
def _recorded(folder: RunFolder) -> Iterator[None]:
    """Write into the status of a folder how the stages inside ended.

    Raises:
        Interrupted: this process was asked to stop, or the system had no room.
        DetablateError: the run failed; its status says so too.
    """
    began = time.monotonic()
    try:
        yield
    except Interrupted as error:
        record_end(folder, began, "interrupted", str(error))
        raise
    except KeyboardInterrupt:
        record_end(folder, began, "interrupted", "stopped by SIGINT; run the same command to continue")
        raise
    except DetablateError as error:
        record_end(folder, began, "failed", str(error))
        raise
    except OSError as error:
        sentence = f"{error.filename or folder.path}: {error.strerror or error}; fix this, and launch again"
        with suppress(OSError):
            record_end(folder, began, "interrupted", sentence)
        raise Interrupted(sentence) from error
    except BaseException as error:
        record_end(folder, began, "failed", f"{type(error).__name__}: {error}")
        raise
    else:
        record_end(folder, began, "finished")
