"""The program of a Slurm job on each of its nodes: `python -m ablate.launch.slurm_task BATCH`.

It starts the processes that train there, waits for them, and hands on what Slurm sends: before the time limit, at a
preemption or a cancel they save what they have. Then the job requeues itself (the lines behind this in its script), or
ends. The task of the first node writes down what became of the job, in the folder of the study.

Where another process is at the run, it waits: after a node was lost Slurm may have started the job anew while the old
one runs on, and the lock of the run lets one of them write.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from ablate import slurm
from ablate.engines.command import CommandRun
from ablate.engines.environment import package_environment
from ablate.launch.base import BUSY, LOG, WorkerJob, module_command
from ablate.launch.slurm import REQUEUE
from ablate.launch.slurm_jobs import Batch, Requeue, RunRecord, read_record, record_path
from ablate.launch.status import DONE, Cancelled
from ablate.runs.folder import (
    FINAL,
    RunFolder,
    Status,
    Workspace,
    now,
    open_regular,
    read_json,
    state_words,
    write_json,
)
from ablate.runs.lock import LockHeld, holding
from ablate.runs.signals import WARNINGS, ignore_scheduler
from ablate.studies.study import Job, StudyRun, ranks_of, read_study
from ablate.train.logging import show_messages
from ablate.train.rendezvous import Machines
from analysis.exceptions import BadInput, DetablateError

logger = logging.getLogger("ablate.launch.slurm_task")  # __name__ is __main__ here

TICK_SECONDS = 0.1
LOOK_SECONDS = 2.0  # between two looks for a cancel
PATIENCE_SECONDS = 5.0  # before a run at which another process is is tried again
CANCEL = "ablate cancel"
MOST_IN_VAIN = 3  # starts in a row with nothing saved between them
CLOCK_SECONDS = 60.0  # by which a node's clock may differ from that of the shared disk
CANCELLED = 84  # exit code; beyond 128 tasks were killed, and the job goes on later


class Stop:
    """Whether, and by whom, this task was asked to save its state and end."""

    def __init__(self) -> None:
        self.why = ""
        for number in (signal.SIGTERM, signal.SIGINT, *WARNINGS):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.why = self.why or ("time limit or preemption" if number in WARNINGS else signal.Signals(number).name)


class Task:
    """One node's share of a job.

    Args:
        batch: of which the job is a part.
        run_id: of the job.
        python: the interpreter of the workers; empty: this one.
        stop: what was asked of this task.
    """

    def __init__(self, batch: Batch, run_id: str, python: str, stop: Stop) -> None:
        self.batch, self.run_id, self.python, self.stop = batch, run_id, python, stop
        self.workspace = Workspace(Path(batch.root))
        self.folder: RunFolder = self.workspace.job_folder(run_id)
        self.node = int(os.environ.get("SLURM_NODEID", 0))
        self.first = self.node == 0
        self.raw_job = os.environ.get("SLURM_JOB_ID", "0")
        self.restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        self.name = os.environ.get("SLURMD_NODENAME", "this node")
        self._cancelled = Cancelled(self.workspace, batch.study)

    def carry_out(self) -> int:
        """Work until the run has a result or has to stop -> the exit code of the task."""
        clock = self._clock()
        if clock:
            logger.warning("%s", clock)
        try:
            if self.first:
                self._begin(clock)
            self._wait_for_needs()
        except BadInput as refusal:
            if self.first:
                self._note_interrupted(str(refusal))
            raise
        attempt, code = 0, BUSY
        while code == BUSY and not self.stop.why:
            if attempt:
                self._pause(PATIENCE_SECONDS)
            code = self._work(attempt)
            attempt += 1
        if not self.first:
            return 0  # the first node's task knows what became of the run
        return self._end(code)

    def _begin(self, clock: str) -> None:
        """Record that the job has begun, and how many times in a row it has begun without progress.

        Raises:
            BadInput: it has begun too often without progress.
        """
        before, iteration, saved_at = read_record(self.batch.folder, self.run_id), self._iteration(), self._saved_at()
        job = self._job_name()
        again = before is not None and before.job == job and self.restarts > 0
        further = before is None or iteration > before.iteration or saved_at > before.saved_at
        in_vain = before.in_vain + 1 if again and before is not None and not further else 0
        self._record = RunRecord(
            job=job,
            nodes=os.environ.get("SLURM_JOB_NODELIST", self.name),
            restarts=self.restarts,
            started=now(),
            iteration=iteration,
            saved_at=saved_at,
            in_vain=in_vain,
            requeued=before.requeued if again and before is not None else (),
            clock=clock,
        )
        self._write()
        if in_vain >= MOST_IN_VAIN and not self._is_final():
            raise BadInput(
                f"job {job} started {in_vain + 1} times and saved nothing between two starts, so it is not requeued "
                f"again; see {self.folder.path / LOG}, give it a longer --time, and launch again"
            )

    def _wait_for_needs(self) -> None:
        """Until what the run needs is finished; another launcher may be at it.

        Raises:
            BadInput: it has no result.
        """
        for need in self._job().needs:
            folder = self.workspace.job_folder(need)
            while not self.stop.why:
                status = folder.read_status()
                if status is not None and status.state == "finished":
                    break
                if status is None or status.state in FINAL:
                    what = "was not started" if status is None else f"is {state_words(status.state)}"
                    raise BadInput(f"needs {need}, which {what}")
                self._pause(PATIENCE_SECONDS)

    def _job(self) -> Job:
        found = {job.run_id: job for job in read_study(self.workspace, self.batch.study).jobs}
        if self.run_id not in found:
            raise BadInput(
                f"study {self.batch.study} has no run {self.run_id} any more: the study was planned again after this "
                "job was submitted; launch it again"
            )
        return found[self.run_id]

    def _work(self, attempt: int) -> int:
        """Let the workers of this node carry the run out -> the exit code of the first that failed, else 0."""
        store = self.batch.folder / "stores" / f"{self.raw_job}-{self.restarts}-{attempt}"
        machines = Machines(self.batch.nodes, self.node, str(store))
        job = WorkerJob(
            root=self.batch.root,
            study=self.batch.study,
            run=self.run_id,
            again=self.run_id in self.batch.again,
            options=self.batch.options,
            python=self.python,
        )
        processes = ranks_of(self._job(), self.batch.processes)
        command = module_command("ablate.launch.worker", job, processes, self.python, together=self.batch.nodes > 1)
        environment = package_environment() | {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
        environment |= {"LOCAL_WORLD_SIZE": "1"} | machines.environment
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with open_regular(self.folder.path / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as log:
            log.write(f"{now()} {self.batch.study}: job {self._job_name()} on {self.name}\n".encode())
            log.flush()
            worker = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_before_worker,
            )
            try:
                self._wait(worker)
            finally:
                if self.first:
                    store.unlink(missing_ok=True)
        return worker.returncode

    def _wait(self, worker: "subprocess.Popen[bytes]") -> None:
        asked, looked = False, time.monotonic()
        while worker.poll() is None:
            if self.stop.why and not asked:
                asked = True
                logger.info("%s: saving the run", self.stop.why)
                worker.send_signal(signal.SIGINT)
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self._look_for_cancel()
            time.sleep(TICK_SECONDS)

    def _look_for_cancel(self) -> None:
        if self._cancelled():
            self.stop.why = CANCEL

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stop.why:
            self._look_for_cancel()
            time.sleep(TICK_SECONDS)

    def _end(self, code: int) -> int:
        """Record why the run has no result, if it has none -> the exit code of the task."""
        status = self.folder.read_status() or Status(state="prepared")
        if status.state in DONE:
            is_needed = any(self.run_id in job.needs for job in read_study(self.workspace, self.batch.study).jobs)
            return 0 if status.state == "finished" or not is_needed else 3
        if status.state in FINAL:
            logger.error("%s", status.message)
            return code if 0 < code < REQUEUE else 3
        why = self.stop.why or (f"a worker was killed by {_signal_name(code)}" if _killed(code) else "interrupted")
        if not self.stop.why and status.state == "running":
            self._note_interrupted(why)
        if self.stop.why == CANCEL or (self.stop.why == "SIGTERM" and not self._is_wanted()):
            logger.info("%s: everything is saved after iteration %d", why, self._iteration())
            return CANCELLED
        requeue = Requeue(time=now(), why=why, node=self.name, iteration=self._iteration())
        self._record = msgspec.structs.replace(self._record, requeued=(*self._record.requeued, requeue))
        self._write()
        logger.info("%s: requeued, continues after iteration %d", why, requeue.iteration)
        return REQUEUE

    def _is_wanted(self) -> bool:
        """Whether Slurm keeps the job, which it asked to stop: preempted, and not cancelled."""
        try:
            state = slurm.ask("squeue", "-h", "-t", "all", "-j", self.raw_job, "-o", "%T").strip()
        except BadInput:
            return True  # the script behind this asks again
        return state == "RUNNING"

    def _note_interrupted(self, why: str) -> None:
        """Say of a run whose worker could not say it why it is interrupted."""
        with suppress(OSError, LockHeld, BadInput), holding(self.folder.path, str(self.folder.path)):
            last = self.folder.read_status() or Status(state="prepared")
            if last.state in FINAL:
                return
            self.folder.write_status(msgspec.structs.replace(last, state="interrupted", phase=None, message=why))
            self.folder.append_event("interrupted", message=why)

    def _is_final(self) -> bool:
        status = self.folder.read_status()
        return status is not None and status.state in FINAL

    def _iteration(self) -> int:
        """To which the run goes back when it begins again."""
        checkpoints = self.folder.checkpoints_newest_first()
        return int(checkpoints[0].stem) if checkpoints else 0

    def _saved_at(self) -> float:
        """When the command of a run wrote the file by which it resumes; 0 where there is none."""
        job = self._job()
        if not isinstance(job, StudyRun) or job.command is None:
            return 0.0
        try:
            path = CommandRun(job.command, self.folder, job.file_name, ()).checkpoint
            return path.stat().st_mtime if path is not None else 0.0
        except (OSError, BadInput):
            return 0.0

    def _job_name(self) -> str:
        array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        return f"{array}_{index}" if array and index else self.raw_job

    def _write(self) -> None:
        path = record_path(self.batch.folder, self.run_id)
        path.parent.mkdir(exist_ok=True)
        write_json(path, self._record)

    def _clock(self) -> str:
        """A sentence where this node's clock differs from that of the shared disk."""
        probe = self.batch.folder / "stores" / f"clock-{self.raw_job}-{self.restarts}-{self.node}"
        try:
            probe.touch()
            difference = time.time() - probe.stat().st_mtime
            probe.unlink()
        except OSError as error:
            return f"{probe.parent}: cannot be written on {self.name} ({error.strerror})"
        if abs(difference) <= CLOCK_SECONDS:
            return ""
        return (
            f"the clock of {self.name} is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} that of "
            "the shared disk: times in files differ by this much, results are not affected; synchronise the clocks "
            "(NTP)"
        )


def _before_worker() -> None:
    """In the child: what Slurm sends to every process of the job is the task's, which asks once; see `runs.signals`."""
    ignore_scheduler()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _killed(code: int) -> bool:
    return code < 0 or code > 128


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return f"exit code {code}"


def end_study(batch: Batch, stop: Stop) -> int:
    """The last job of a study: costs, table and report, each although another one failed -> the exit code."""
    workspace = Workspace(Path(batch.root))
    out = workspace.studies / batch.folder.parent.name / "tables"
    where = ("--root", batch.root)
    foreign = read_study(workspace, batch.study).is_foreign  # what it costs was measured while it ran
    commands = (
        *(() if foreign else (("ablate", "probe", *where, "--device", batch.options.device),)),
        ("ablate", "table", *where, "--out", str(out)),
        ("ablate", "report", *where, "--out", str(out / "report.html")),
    )
    codes = []
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "detablate", *command, "--", batch.study], env=package_environment(), check=False
        )
        codes.append(done.returncode)
    if any(codes) and stop.why and int(os.environ.get("SLURM_RESTART_COUNT", 0)) < MOST_IN_VAIN:
        return REQUEUE
    return 3 if any(codes) else 0


def main(path: Path) -> int:
    """Carry out the share of this node of a job."""
    stop = Stop()
    show_messages()
    try:
        batch = read_json(path, Batch, "submit the study again")
        if batch.kind == "end":
            return end_study(batch, stop)
        index = int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)) if len(batch.runs) > 1 else 0
        return Task(batch, batch.runs[index], batch.pythons[index], stop).carry_out()
    except DetablateError as refusal:
        logger.error("%s", refusal)
        return refusal.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
