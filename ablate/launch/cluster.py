"""What jobs request from a cluster: the defaults of a YAML file, and the options of the command line."""

import re
from pathlib import Path

import msgspec

from ablate.config.schema import Part
from ablate.config.yaml import parse, read_yaml
from ablate.runs.folder import Workspace
from ablate.slurm import seconds_of_limit
from analysis.exceptions import BadInput

PACKAGE = Path(__file__).resolve().parents[1]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
# Options of sbatch that this program sets itself, and the option of this program that sets each.
OURS = {
    "array": "--max-parallel",
    "comment": "nothing: the jobs of a study are found by it",
    "dependency": "nothing: runs wait for what they need",
    "error": "nothing: the logs are kept with the study",
    "output": "nothing: the logs are kept with the study",
    "job-name": "nothing: the study decides it",
    "kill-on-invalid-dep": "nothing: a run that needs a failed run is not kept in the queue",
    "nodes": "--nodes",
    "ntasks": "--gpus-per-run",
    "ntasks-per-node": "--gpus-per-run",
    "gpus": "--gpus-per-run",
    "gpus-per-node": "--gpus-per-run",
    "requeue": "nothing: an interrupted run continues by itself",
    "no-requeue": "nothing: an interrupted run continues by itself",
    "signal": "signal_seconds of the YAML file of --cluster",
    "time": "--time",
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "constraint": "--constraint",
    "wrap": "nothing: this program writes the job script",
}


class Cluster(Part, frozen=True, kw_only=True):
    """A YAML file of ``configs/clusters``; every key may be left out.

    Attributes:
        partition: of the jobs; empty: the cluster's default. So are account, qos and constraint.
        account: that pays.
        qos: the quality of service.
        constraint: features that the nodes must have.
        time: the limit of a job as Slurm takes it; a longer run is requeued and continues. Empty: the partition's.
        gpus_per_run: GPUs that train one run together, on all its nodes; none: 1, or 0 with ``--device cpu``.
        nodes: of a run.
        processes_per_node: that train one run together; none: one for each GPU of a node.
        cpus_per_node: cores of a run on each node; none: the cluster's default.
        max_parallel: runs at a time; None: as many as the cluster allows.
        signal_seconds: before the limit, when a job is asked to save what it has and to requeue itself.
        setup: lines of shell before everything else, such as ``module load``.
        sbatch: further options of sbatch, without their dashes; true for one without a value.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str | int = ""
    gpus_per_run: int | None = None
    nodes: int = 1
    processes_per_node: int | None = None
    cpus_per_node: int | None = None
    max_parallel: int | None = None
    signal_seconds: int = 120
    setup: tuple[str, ...] = ()
    sbatch: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)

    def limit_seconds(self) -> float | None:
        """The time limit of a job; none where it has none, or the partition's.

        Raises:
            BadInput: ``time`` is not a time limit.
        """
        if self.time == "":
            return None
        try:
            return seconds_of_limit(str(self.time))
        except ValueError:
            raise BadInput(
                f"--time {self.time}: must be a time limit in Slurm's format: minutes, H:MM:SS or D-HH:MM:SS"
            ) from None

    def gpus(self, device: str) -> int:
        """GPUs of a run, on all its nodes."""
        return 0 if device == "cpu" else self.gpus_per_run if self.gpus_per_run is not None else 1

    def processes(self, device: str) -> int:
        """Processes that train a run together on each node."""
        return self.processes_per_node or max(1, self.gpus(device) // self.nodes)

    def check(self, device: str, checkpoint_minutes: float) -> None:
        """Check that the settings fit together.

        Raises:
            BadInput: with the option that is to be changed.
        """
        for key, low in (
            *(("nodes", 1), ("gpus_per_run", 0), ("max_parallel", 1), ("signal_seconds", 1)),
            *(("processes_per_node", 1), ("cpus_per_node", 1)),
        ):
            value = getattr(self, key)
            if value is not None and value < low:
                raise BadInput(f"{key} {value}: must be at least {low}")
        for key, text in [*msgspec.structs.asdict(self).items(), *self.sbatch.items()]:
            if isinstance(text, str) and not text.isprintable():
                option = f"--sbatch {key}" if key in self.sbatch else f"--{key}"
                raise BadInput(f"{option}: has a line break or another character that sbatch options cannot have")
        gpus, limit = self.gpus(device), self.limit_seconds()
        if gpus % self.nodes:
            raise BadInput(
                f"--gpus-per-run {gpus} --nodes {self.nodes}: each node must have the same number of GPUs of a run"
            )
        if limit is not None and limit <= 60 * checkpoint_minutes:
            raise BadInput(
                f"--time {self.time}: is not longer than --checkpoint-minutes {checkpoint_minutes:g}, so a killed job "
                "would always start again from the same point; choose "
                "a longer limit or a shorter interval"
            )
        if limit is not None and limit <= self.signal_seconds:
            raise BadInput(
                f"--time {self.time}: is not longer than the {self.signal_seconds} s before the limit in which a job "
                "saves what it has; choose a longer limit, or a smaller signal_seconds in the YAML file of --cluster"
            )
        for name in self.sbatch:
            if not NAME.fullmatch(name):
                raise BadInput(
                    f"--sbatch {name}: is not an option of sbatch; write it without its dashes, such as mem=64G"
                )
            if name in OURS:
                raise BadInput(f"--sbatch {name}: is set by {OURS[name]}")


def clusters_folder() -> Path:
    """The folder of the examples, in a source tree or in an installed package."""
    installed = PACKAGE / "clusters"
    return installed if installed.is_dir() else PACKAGE.parent / "configs" / "clusters"


def read_cluster(workspace: Workspace, name: str) -> Cluster:
    """The defaults of a cluster.

    Args:
        workspace: its ``configs/clusters/default.yaml`` is taken where no name is given, if it is there.
        name: a file, or the name of one in ``configs/clusters`` of the root or of this program.

    Raises:
        BadInput: there is none, or something in it is wrong.
    """
    folders = (workspace.root / "configs" / "clusters", clusters_folder())
    if not name:
        path = folders[0] / "default.yaml"
        return parse(read_yaml(path), Cluster, str(path)) if path.exists() else Cluster()
    candidates = [Path(name), *(folder / f"{name}.yaml" for folder in folders)]
    for path in candidates:
        if path.is_file():
            return parse(read_yaml(path), Cluster, str(path))
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise BadInput(f"--cluster {name}: there is no such file and no such name; the names are {', '.join(known)}")


def sbatch_options(given: list[str]) -> dict[str, str | int | float | bool]:
    """The options of ``--sbatch KEY=VALUE``; KEY alone is an option without a value.

    >>> sbatch_options(["mem=64G", "exclusive"])
    {'mem': '64G', 'exclusive': True}
    """
    pairs = (one.lstrip("-").partition("=") for one in given)
    return {name.strip(): value.strip() if equals else True for name, equals, value in pairs}
