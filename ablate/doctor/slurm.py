"""Check what `ablate launch --on slurm` needs: the queue, its partitions and limits, the disk and clocks of nodes.

Only a job can tell whether nodes see the disk; because it may wait in the queue, it is submitted on request only.
"""

import secrets
import shlex
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ablate import slurm
from ablate.doctor.check import Check
from analysis.exceptions import BadInput
from analysis.shell import install_command

AREA = "Slurm"
CLOCK_SECONDS = 60.0  # by which clocks may differ
SETTINGS = ("MaxArraySize", "KillWait", "JobRequeue", "PreemptMode")
TICK_SECONDS = 0.2


def check_slurm(root: Path, job_seconds: float | None = None) -> list[Check]:
    """Everything about Slurm, quickly, but for a job.

    Args:
        root: above `results/`, that all nodes must see.
        job_seconds: submit a job, and wait so long for it; none: submit none.
    """
    if not slurm.is_here():
        found = "no sbatch on the PATH: runs start on this machine only, or in jobs of your own (launch --drain)"
        return [Check("optional", "Slurm", "absent", found, "if you have a cluster, run doctor on its login node")]
    try:
        version, settings, partitions = slurm.ask("sbatch", "--version"), slurm.settings(), slurm.partitions()
    except BadInput as error:
        remedy = "ask the administrator of the cluster, or try: scontrol ping"
        return [Check(AREA, "sbatch", "warning", f"does not answer: {error}", remedy)]
    shown = "; ".join(
        f"{one.name}{' (default)' * one.is_default}: {one.nodes.rpartition('/')[2]} nodes, limit {one.limit}"
        + (f", {one.gpus}" if one.gpus else "")
        for one in partitions
    )
    limits = ", ".join(f"{name} {settings[name]}" for name in SETTINGS if name in settings)
    requeue = settings.get("JobRequeue") != "0"
    return [
        Check(AREA, "sbatch", "ok", f"{version.strip()}, cluster {settings.get('ClusterName', '?')}"),
        Check.unless(
            find_spec("submitit") is not None,
            AREA,
            "submitit",
            "installed" if find_spec("submitit") else "not installed",
            f"{install_command('cluster')}, or pip install submitit",
        ),
        Check.unless(bool(partitions), AREA, "partitions", shown or "none", "ask the administrator of the cluster"),
        Check.unless(
            requeue, AREA, "limits", limits, "JobRequeue is 0: Slurm does not restart a job after a node failure"
        ),
        *([] if job_seconds is None else _check_job(root, job_seconds)),
    ]


def _check_job(root: Path, seconds: float) -> list[Check]:
    """A job on a node: does it see the folder and this Python, and how far are the clocks from each other?"""
    folder = (root / "results").absolute()
    name = f"doctor-{secrets.token_hex(4)}"
    script, answer, output = (folder / f".{name}.{suffix}" for suffix in ("sh", "txt", "out"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        script.write_text(
            "#!/bin/bash\n"
            f"#SBATCH --job-name=detablate-doctor --ntasks=1 --time=5 --output={shlex.quote(str(output))}\n"
            f"cd {shlex.quote(str(folder))} || exit 1\n"
            f"[ -x {shlex.quote(sys.executable)} ] && python=yes || python=no\n"
            f'echo "$SLURMD_NODENAME $(date +%s.%N) $python" > {answer.name}.part\n'
            f"mv {answer.name}.part {answer.name}\n"
        )
        try:
            job = slurm.submit(script)
        except BadInput as error:
            return [
                Check(AREA, "a job", "warning", str(error), "add the options that the job needs; see: sbatch --help")
            ]
        return _answer(job, answer, seconds)
    except OSError as error:
        return [Check(AREA, "a job", "warning", f"{folder}: {error.strerror}", "choose another --root")]
    finally:
        for path in (script, answer, output):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _answer(job: str, path: Path, seconds: float) -> list[Check]:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(TICK_SECONDS)
    if not path.exists():
        with suppress(BadInput):
            state = slurm.ended([job]).get(job, slurm.EndedJob("", ""))
            slurm.cancel([job])
            if state.state == "PENDING":
                found = f"job {job} did not start within {seconds:g} s ({state.reason}), and was cancelled"
                return [Check(AREA, "shared disk", "warning", found, "try again when nodes are free")]
        found = f"job {job} wrote no file that is visible here within {seconds:g} s"
        return [
            Check(
                AREA, "shared disk", "warning", found, f"choose a --root that all nodes share; it is now {path.parent}"
            )
        ]
    node, clock, python = path.read_text(encoding="utf-8").split()
    difference = float(clock) - path.stat().st_mtime
    here = path.stat().st_mtime - time.time()
    worst = max(abs(difference), abs(here))
    return [
        Check(AREA, "shared disk", "ok", f"a file that job {job} wrote on {node} is visible here"),
        Check.unless(
            python == "yes",
            AREA,
            "Python",
            f"{node} {'has' if python == 'yes' else 'lacks'} {sys.executable}",
            "install this program on a disk that all nodes share",
        ),
        Check.unless(
            worst <= CLOCK_SECONDS,
            AREA,
            "clocks",
            f"of this machine, {node} and the disk differ by {worst:.0f} s at most",
            "synchronise the clocks (NTP): times in files differ, and Slurm may reject its own messages",
        ),
    ]
