"""The process that a launcher starts for each run: it runs it on its own devices, and stops with the launcher."""

import logging
import os
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from ablate.launch.base import BUSY, WorkerJob, holding_devices, is_cpu
from ablate.runs.folder import FINAL, Status, Workspace
from ablate.runs.lock import LockHeld, Owner, owners, start_time
from ablate.runs.signals import ask_to_stop, obey_launcher
from ablate.studies.study import PretrainingRun, StudyRun, read_study
from ablate.train.logging import show_messages
from analysis.exceptions import BadInput, DetablateError

logger = logging.getLogger("ablate.launch.worker")  # __name__ is __main__ here

LOOK_SECONDS = 1.0  # between two looks at the launcher
STOPPED = 130  # exit code of a worker that was asked to stop beside its training


def carry_out(job: WorkerJob) -> int:
    """Run a job to its end -> the exit code: 0 for a result, `BUSY` where others are at it, else the refusal's.

    What stopped it stands in the status of the run folder, if that can be written.
    """
    first = os.environ.get("RANK", "0") == "0"  # of the processes of a run, one speaks and locks
    try:
        with ExitStack() as stack:
            if first:
                stack.enter_context(holding_devices(job.devices))
                if job.launcher is not None:
                    _stop_with(job.launcher)
            _execute(job)
    except LockHeld as held:
        logger.info(str(held))
        return BUSY
    except DetablateError as refusal:
        logger.error(str(refusal))
        if first and isinstance(refusal, BadInput):
            _note_failure(job, str(refusal))
        return refusal.exit_code
    except KeyboardInterrupt:
        logger.info("stopped; run the same command to continue")
        return STOPPED
    except OSError as error:
        logger.error(f"{error.filename or Workspace(Path(job.root)).job_folder(job.run).path}: {error.strerror}")
        return 3
    return 0


def _execute(job: WorkerJob) -> None:
    workspace = Workspace(Path(job.root))
    run = next((run for run in read_study(workspace, job.study).jobs if run.run_id == job.run), None)
    if run is None:
        raise BadInput(f"study {job.study} has no run {job.run} any more; launch it again")
    if isinstance(run, StudyRun) and (run.command or run.adopted):
        from ablate.execute.command import execute_foreign

        gpus = [device for device in job.devices if not is_cpu(device)]
        if not job.devices and job.options.device != "cpu":  # a scheduler has chosen them
            gpus = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        foreign = run.command or run.adopted
        assert foreign is not None
        execute_foreign(foreign, workspace, name=run.file_name, gpus=gpus, run_id=run.run_id, again=job.again)
        return
    from ablate.execute.pretraining import pretrain
    from ablate.execute.run import execute
    from ablate.train.outcome import RuntimeOptions

    runtime = RuntimeOptions(
        device=job.options.device,
        workers=job.options.loaders,
        checkpoint_seconds=60 * job.options.checkpoint_minutes,
    )
    if isinstance(run, PretrainingRun):
        pretrain(run.pretraining, workspace, runtime, keep=run.epochs, name=run.run_id, again=job.again)
    elif run.config is None:
        raise BadInput(f"{run.variant}: {run.blocked or 'has no config'}")
    else:
        execute(run.config, workspace, runtime, run_id=run.run_id, again=job.again)


def _note_failure(job: WorkerJob, message: str) -> None:
    """Write the reason into the status of a run that failed before it could do so itself."""
    folder = Workspace(Path(job.root)).job_folder(job.run)
    status = folder.read_status()
    if (status is None or status.state not in FINAL) and not owners(folder.path):
        with suppress(OSError):
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_status(Status(state="failed", message=message))


def _stop_with(launcher: Owner) -> None:
    """Ask this process to stop when another one of this machine has ended."""

    def watch() -> None:
        while start_time(launcher.pid) == launcher.start_time:
            time.sleep(LOOK_SECONDS)
        logger.info("the launcher has ended: stopping; run the same command to continue")
        ask_to_stop(os.getpid())

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()


if __name__ == "__main__":
    obey_launcher()
    show_messages()
    code = carry_out(msgspec.json.decode(sys.argv[1], type=WorkerJob))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is written and closed; taking torch's modules apart would take another second or two
