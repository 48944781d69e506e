"""The Slurm jobs of a study after submission: list, follow and cancel them."""

import logging
import time
from collections.abc import Iterator, Sequence

from ablate import slurm
from ablate.launch.base import SomeFailed
from ablate.launch.finish import status_command
from ablate.launch.slurm import Submission
from ablate.launch.slurm_jobs import live_jobs, read_batches, slurm_folder
from ablate.launch.status import DONE, RunStatus, StatusReader, counts, read_statuses, request_cancel
from ablate.launch.view import view_for
from ablate.runs.folder import FAILURES, Workspace
from ablate.studies.study import Study
from analysis.files import write_bytes
from analysis.shell import shell_command

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
ASKED = "asked-to-end"  # the jobs that the last cancel asked


def submission_lines(workspace: Workspace, study: Study, submission: Submission) -> Iterator[str]:
    """Lines on the runs that were submitted, were in the queue already, or cannot be submitted."""
    labels = {job.run_id: job.label for job in study.jobs if job.run_id}
    for batch in submission.batches:
        if batch.kind == "end":
            yield f"job {batch.job}: costs, table and report, when all other jobs have ended"
        elif len(batch.runs) == 1:
            yield f"job {batch.job}: {labels[batch.runs[0]]}"
        else:
            shown = "; ".join(labels[run_id] for run_id in batch.runs[:3])
            more = f"; and {len(batch.runs) - 3} more" if len(batch.runs) > 3 else ""
            yield f"job {batch.job}, an array of {len(batch.runs)}: {shown}{more}"
    if submission.queued:
        yield f"{len(submission.queued)} runs are already in the queue and are not submitted again"
    for run_id, why in submission.unsatisfiable.items():
        yield f"not submitted: {labels[run_id]}: {why}"
    if not submission.batches and not submission.queued:
        yield f"study {study.name}: there is no run left to submit"
        numbers = counts(read_statuses(workspace, study))
        if any(numbers.get(state) for state in FAILURES):
            again = shell_command("ablate", "launch", "--on", "slurm", "--retry", root=workspace.root, study=study.name)
            yield f"submit the failed runs again: {again}"
        return
    if submission.batches and submission.batches[0].options.device != "cpu" and _is_planned_for_a_cpu(study):
        yield (
            "note: the study was planned in fp32, since the planning machine has no GPU; for mixed precision plan it "
            "with --set train.precision=bf16 under another name"
        )
    yield f"see: {status_command(workspace, study)}"


def _is_planned_for_a_cpu(study: Study) -> bool:
    """Whether all runs train in fp32, which a plan on a login node without a GPU makes of ``auto``."""
    return all(run.config is None or run.config.train.precision == "fp32" for run in study.runs) and any(
        run.config for run in study.runs
    )


def follow_jobs(workspace: Workspace, study: Study) -> None:
    """Show the status of a study until none of its jobs is in the queue any more; Ctrl-C leaves them there.

    Raises:
        SomeFailed: not every run has a result.
    """
    reader = StatusReader(workspace, study)
    try:
        with view_for(workspace, study) as view:
            while True:
                statuses = reader.look()
                view.update(statuses, "")
                if not any(status.queue is not None and status.queue.is_live for status in statuses):
                    break
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        logger.info("the jobs continue; see: %s", status_command(workspace, study))
        return
    _check_all_done(statuses)


def _check_all_done(statuses: Sequence[RunStatus]) -> None:
    numbers = counts(statuses)
    done, total = sum(numbers.get(state, 0) for state in DONE), sum(numbers.values())
    if done < total:
        for status in statuses:
            if status.state not in DONE:
                queue = "" if status.queue is None else status.queue.words
                logger.error("%s: %s", status.label, status.message or queue or status.state)
        raise SomeFailed(f"{total - done} of {total} runs have no result; the others are not affected")


def cancel_jobs(workspace: Workspace, study: str) -> tuple[list[str], list[str]]:
    """Remove waiting jobs from the queue, and ask running ones to save and end; a second call ends them at once.

    Returns:
        The jobs that waited, and those that ran.

    Raises:
        BadInput: there are such jobs and Slurm cannot be asked.
    """
    batches = read_batches(workspace, study)
    if not batches or not slurm.is_here():
        return [], []
    live = live_jobs(batches)
    pending = [job.job for job in live.values() if job.state == "PENDING"]
    running = [job.job for job in live.values() if job.state != "PENDING"]
    slurm.cancel(pending)
    if running:
        memory = slurm_folder(workspace, study) / ASKED
        asked = memory.read_text(encoding="utf-8").split() if memory.exists() else []
        slurm.cancel([job for job in running if job in asked])
        request_cancel(workspace, study)
        write_bytes(memory, " ".join(running).encode())
    return pending, running
