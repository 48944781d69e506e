"""Job files for any scheduler: each starts drains (`ablate launch STUDY --drain`), which together finish a study.

A file is printed with comments, to be looked through and completed; nothing is submitted.
"""

import shlex
import sys
from dataclasses import dataclass
from typing import Literal, get_args

from ablate.launch.snapshot import SOURCE
from ablate.runs.folder import Workspace
from ablate.studies.study import Study, legible

Scheduler = Literal["sbatch-array", "qsub", "bsub", "pbs", "kubernetes", "skypilot"]
SCHEDULERS = get_args(Scheduler)
HOURS = 24  # that a drain lasts at most


@dataclass(frozen=True, slots=True)
class JobFile:
    """The values that a job file is filled with.

    Attributes:
        name: of the job.
        command: the drain, in one line of shell.
        drains: to be started, one a job; each takes run after run.
        gpus: of a drain; 0 for the CPU alone.
        root: the folder that all hosts share.
    """

    name: str
    command: str
    drains: int
    gpus: int
    root: str


def job_file(workspace: Workspace, study: Study, scheduler: Scheduler, *, drains: int, gpus: int, device: str) -> str:
    """The text of a job file.

    Args:
        workspace: above `results/`, on a disk that all hosts share.
        study: that the drains finish.
        scheduler: whose file.
        drains: to be started.
        gpus: that train one run together, on one host.
        device: auto, cpu or cuda.
    """
    name = f"detablate-{legible(study.name)[:24].rstrip('-.')}"
    root = str(workspace.root.absolute())
    words = [
        *(sys.executable, *_program(), "ablate", "launch", "--drain", "--stop-after", f"{HOURS - 1}h45m"),
        *(["--gpus-per-run", str(gpus)] if gpus > 1 else []),
        *(["--device", device] if device != "auto" else []),
        *("--root", root, "--", study.name),
    ]
    return WRITERS[scheduler](JobFile(name, shlex.join(words), drains, gpus, root))


def _program() -> tuple[str, ...]:
    """This program for a Python in any folder: that of the clone, or the installed one."""
    clone = SOURCE / "cli.py"
    return (str(clone),) if clone.is_file() else ("-m", "detablate")


def _shell(job: JobFile, lines: list[str], submit: str) -> str:
    head = [
        "#!/bin/bash",
        f"# {_drains(job)}",
        f"# Submit:  {submit}",
        "# To continue after a time limit or a kill: submit it again. The folder must be on a disk that all hosts "
        "share.",
    ]
    body = [
        "",
        "# Put here what the command needs, such as module load.",
        f"cd {shlex.quote(job.root)} || exit 1",
        f"exec {job.command}",
        "",
    ]
    return "\n".join([*head, *lines, *body])


def _drains(job: JobFile) -> str:
    gpus = f"{job.gpus} GPU{'s' * (job.gpus != 1)}" if job.gpus else "a CPU"
    if job.drains == 1:
        return f"A drain of a study, with {gpus}: it starts one run after the other."
    return f"{job.drains} drains of a study, each with {gpus}: they share the runs of the study."


def _sbatch_array(job: JobFile) -> str:
    lines = [
        f"#SBATCH --job-name={job.name}",
        f"#SBATCH --array=1-{job.drains}",
        "#SBATCH --nodes=1 --ntasks=1",
        *([f"#SBATCH --gpus-per-node={job.gpus}"] if job.gpus else []),
        "#SBATCH --cpus-per-task=8",
        f"#SBATCH --time={HOURS}:00:00",
        "# A drain saves its runs before the time limit; a preempted one starts again.",
        "#SBATCH --signal=B:USR2@300",
        "#SBATCH --requeue",
        "#SBATCH --output=%x-%A_%a.out",
        "##SBATCH --partition=... --account=...",
    ]
    return _shell(job, lines, "sbatch FILE")


def _grid_engine(job: JobFile) -> str:
    lines = [
        f"#$ -N {job.name}",
        f"#$ -t 1-{job.drains}",
        "#$ -S /bin/bash -cwd -V -j y",
        "# The names of the resources are those of your cluster: qconf -spl, qconf -sc",
        *([f"#$ -l gpu={job.gpus}"] if job.gpus else []),
        "##$ -pe smp 8",
        f"#$ -l h_rt={HOURS}:00:00",
        "# A warning (SIGUSR2) before a kill: the drain saves its runs.",
        "#$ -notify",
        "#$ -r y",
    ]
    return _shell(job, lines, "qsub FILE")


def _lsf(job: JobFile) -> str:
    lines = [
        f"#BSUB -J {job.name}[1-{job.drains}]",
        "#BSUB -n 8",
        '#BSUB -R "span[hosts=1]"',
        *([f'#BSUB -gpu "num={job.gpus}"'] if job.gpus else []),
        f"#BSUB -W {HOURS}:00",
        "# A warning before the time limit: the drain saves its runs.",
        "#BSUB -wa USR2 -wt 5",
        "#BSUB -r",
        "#BSUB -o %J_%I.out",
        "##BSUB -q ... -P ...",
    ]
    return _shell(job, lines, "bsub < FILE")


def _pbs(job: JobFile) -> str:
    lines = [
        f"#PBS -N {job.name[:15]}",
        f"#PBS -J 1-{job.drains}",
        f"#PBS -l select=1:ncpus=8{f':ngpus={job.gpus}' if job.gpus else ''}",
        f"#PBS -l walltime={HOURS}:00:00",
        "#PBS -r y",
        "#PBS -j oe",
        "##PBS -q ... -A ...",
        "# Torque writes #PBS -t in place of -J, and -l nodes=1:ppn=8 in place of select.",
    ]
    return _shell(job, lines, "qsub FILE")


def _kubernetes(job: JobFile) -> str:
    limits = f'\n              nvidia.com/gpu: "{job.gpus}"' if job.gpus else ""
    return f"""\
# {_drains(job)}
# Submit:  kubectl apply -f FILE
# To continue after a time limit or a kill: kubectl delete job {_label(job)}, then submit it again.
apiVersion: batch/v1
kind: Job
metadata:
  name: {_label(job)}
spec:
  completions: {job.drains}
  parallelism: {job.drains}
  completionMode: Indexed
  backoffLimit: {10 * job.drains}  # an evicted pod starts again
  template:
    spec:
      restartPolicy: OnFailure
      terminationGracePeriodSeconds: 300  # to save its runs
      containers:
        - name: drain
          image: YOUR-IMAGE  # with this program and its extra "train"
          workingDir: {_yaml(job.root)}
          # exec: the drain itself must get the signals of the pod.
          command: ["/bin/bash", "-c", {_yaml("exec " + job.command)}]
          resources:
            limits:
              cpu: "8"
              memory: 64Gi{limits}
          volumeMounts:
            - name: shared
              mountPath: {_yaml(job.root)}
            - name: memory  # processes that load images share them through it
              mountPath: /dev/shm
      volumes:
        - name: shared
          persistentVolumeClaim:
            claimName: YOUR-CLAIM  # ReadWriteMany: all pods share one disk
        - name: memory
          emptyDir:
            medium: Memory
"""


def _skypilot(job: JobFile) -> str:
    gpus = f"  accelerators: A100:{job.gpus}  # any model, but the same for all drains\n" if job.gpus else ""
    return f"""\
# {_drains(job)}
# Submit:  for i in $(seq {job.drains}); do sky jobs launch -y -d -n {_label(job)}-$i FILE; done
# SkyPilot starts a preempted job again, and it continues.
name: {_label(job)}
resources:
{gpus}  cpus: 8+
  use_spot: true
file_mounts:
  # One disk for all: a mounted bucket does not give the guarantees of a file system that the locks need;
  # take a network file system (Filestore, EFS, Lustre), for example as a volume.
  # {job.root}: ...
setup: |
  # Install this program and its extra "train".
run: |
  cd {shlex.quote(job.root)} || exit 1
  exec {job.command}
"""


def _label(job: JobFile) -> str:
    """A name that Kubernetes takes: letters, digits and dashes."""
    return "".join(letter if letter.isalnum() else "-" for letter in job.name).strip("-")


def _yaml(text: str) -> str:
    """A string in double quotes, as YAML takes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


WRITERS = {
    "sbatch-array": _sbatch_array,
    "qsub": _grid_engine,
    "bsub": _lsf,
    "pbs": _pbs,
    "kubernetes": _kubernetes,
    "skypilot": _skypilot,
}
