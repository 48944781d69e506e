"""Slurm's own commands, asked with a time limit: what is queued, what has ended, and what a cluster allows."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import msgspec

from analysis.exceptions import BadInput

SECONDS = 60  # a controller that is restarted answers again in less
LIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "RESIZING", "STOPPED", "SIGNALING")
QUEUE_FORMAT = "%A|%i|%T|%r|%N|%k"
MANY = 200  # jobs that are asked for in one command


class QueuedJob(msgspec.Struct, frozen=True):
    """A job, or one task of an array, that Slurm still knows as not ended.

    Attributes:
        job: as people write it: 12, or 12_3 for a task of an array.
        raw: the number that Slurm has for it alone.
        state: such as PENDING or RUNNING.
        reason: why it is pending.
        nodes: on which it runs.
        comment: that it was submitted with.
    """

    job: str
    raw: str
    state: str
    reason: str
    nodes: str
    comment: str


class EndedJob(msgspec.Struct, frozen=True):
    """How Slurm says that a job ended: such as COMPLETED, FAILED, TIMEOUT, CANCELLED or NODE_FAIL."""

    state: str
    reason: str


class Partition(msgspec.Struct, frozen=True):
    """A partition, as ``sinfo`` reports it."""

    name: str
    is_default: bool
    limit: str  # of time, as Slurm writes it
    nodes: str  # allocated/idle/other/all
    gpus: str  # generic resources of its nodes, empty without


def is_here() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def ask(program: str, *arguments: str, seconds: float = SECONDS) -> str:
    """Run one of Slurm's commands -> its output.

    Raises:
        BadInput: it is not here, does not answer in time, or refuses; with its own message.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )
    except FileNotFoundError:
        raise BadInput(
            f"there is no {program} on the PATH, so Slurm cannot be asked; work on a login node of the cluster"
        ) from None
    except (OSError, subprocess.SubprocessError) as error:
        said = f"gave no answer in {seconds:g} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise BadInput(f"{program} {said}; is the controller of the cluster up (scontrol ping)?") from None
    if done.returncode:
        raise BadInput(f"{program}: {message_of(done.stderr or done.stdout) or f'exit code {done.returncode}'}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours, without what changes the answers of the commands."""
    formats = ("SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SINFO_FORMAT", "SACCT_FORMAT", "SLURM_TIME_FORMAT")
    return {name: value for name, value in os.environ.items() if name not in formats}


def message_of(text: str) -> str:
    r"""Slurm's message in one line, without the prefixes of its lines.

    >>> message_of("sbatch: error: no such thing\nsbatch: error: Batch job submission failed: no such thing\n")
    'no such thing; Batch job submission failed: no such thing'
    """
    lines = [re.sub(r"^\w+: ((error|fatal): )?", "", line).strip() for line in text.splitlines()]
    return "; ".join(dict.fromkeys(filter(None, lines)))


def queued() -> list[QueuedJob]:
    """This user's jobs that have not ended, each task of an array by itself.

    Raises:
        BadInput: Slurm cannot be asked.
    """
    lines = ask("squeue", "-h", "-r", "-a", "--me", "-t", "all", "-o", QUEUE_FORMAT).splitlines()
    jobs = []
    for line in lines:
        raw, job, state, reason, nodes, comment = [part.strip() for part in line.split("|", 5)]
        if state in LIVE:
            jobs.append(QueuedJob(job, raw, state, reason, nodes, comment))
    return jobs


def ended(jobs: Collection[str]) -> dict[str, EndedJob]:
    """How jobs ended, of those that Slurm still knows: from the accounting where there is one, else for some minutes.

    Args:
        jobs: as people write them, 12 or 12_3.
    """
    found: dict[str, EndedJob] = {}
    if not jobs:
        return found
    try:
        for line in ask("sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", ",".join(jobs)).splitlines():
            job, _, state = line.partition("|")
            if job in jobs and state:
                found[job] = EndedJob(state.split()[0], "")
    except BadInput:
        pass  # without accounting
    for job in list(jobs)[:MANY]:
        if job not in found:
            try:
                fields = dict(re.findall(r"(\w+)=(\S*)", ask("scontrol", "show", "job", "-o", job)))
            except BadInput:
                continue  # forgotten
            found[job] = EndedJob(fields.get("JobState", ""), fields.get("Reason", ""))
    return found


def submit(script: Path) -> str:
    """Hand a script to ``sbatch`` -> the number of the job.

    Raises:
        BadInput: it is refused; with its own message.
    """
    answer = ask("sbatch", "--parsable", str(script))
    return answer.strip().splitlines()[-1].partition(";")[0]


def cancel(jobs: Collection[str]) -> None:
    """End jobs; those that have ended already are left alone.

    Raises:
        BadInput: Slurm cannot be asked.
    """
    if jobs:
        ask("scancel", "--quiet", *jobs)


def partitions() -> list[Partition]:
    """Those to which jobs can go from here.

    Raises:
        BadInput: Slurm cannot be asked.
    """
    found = []
    for line in ask("sinfo", "-h", "-o", "%P|%l|%F|%G").splitlines():
        name, limit, nodes, gpus = [part.strip() for part in line.split("|", 3)]
        found.append(Partition(name.rstrip("*"), name.endswith("*"), limit, nodes, gpus.replace("(null)", "")))
    return found


def settings() -> dict[str, str]:
    """The settings of the cluster by their names, such as ``MaxArraySize``.

    Raises:
        BadInput: Slurm cannot be asked.
    """
    return dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", ask("scontrol", "show", "config"), re.M))


def seconds_of_limit(text: str) -> float | None:
    """A time limit as Slurm takes it: minutes, MM:SS, H:MM:SS, D-H, D-H:MM or D-H:MM:SS; none where it is no limit.

    >>> seconds_of_limit("90"), seconds_of_limit("1:30:00"), seconds_of_limit("2-12"), seconds_of_limit("infinite")
    (5400.0, 5400.0, 216000.0, None)

    Raises:
        ValueError: it is no time.
    """
    if text.strip().upper() in ("INFINITE", "UNLIMITED"):
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not found:
        raise ValueError(text)
    days, *rest = found.groups()
    first, second, third = (None if part is None else int(part) for part in rest)
    assert first is not None
    if days is not None:
        return 86400.0 * int(days) + 3600 * first + 60 * (second or 0) + (third or 0)
    if third is not None:
        return 3600.0 * first + 60 * (second or 0) + third
    return 60.0 * first + (second or 0)
