"""Real, very small studies in the queue of the test cluster."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate.launch import slurm
from ablate.launch.base import LaunchOptions
from ablate.launch.cluster import Cluster
from ablate.launch.slurm import Submission
from ablate.launch.status import RunStatus, read_statuses
from ablate.runs.folder import Workspace
from ablate.studies.study import Study
from tests.slurm_cluster import SlurmCluster

LIMIT = 300.0  # seconds for a job on a busy machine


def enter(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work on the login node of the cluster; its nodes are this machine, which needs no other interface."""
    loopback = {"GLOO_SOCKET_IFNAME": "lo"}
    for name, value in (cluster.environment | loopback).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm, "scheduler_job", lambda: "")


def submit(root: Path, study: Study, cluster: Cluster | None = None, **options: object) -> Submission:
    given = {"device": "cpu", "checkpoint_minutes": 0.0, "loaders": 0} | options
    launch = LaunchOptions(**given)  # type: ignore[arg-type]
    submission, _ = slurm.submit_study(Workspace(root), study, launch, cluster or Cluster(signal_seconds=30))
    return submission


def states(root: Path, study: Study) -> list[str]:
    return [status.state for status in read_statuses(Workspace(root), study)]


def status_of(root: Path, study: Study, place: int = 0) -> RunStatus:
    return read_statuses(Workspace(root), study)[place]


def queue(cluster: SlurmCluster) -> dict[str, str]:
    """The state of every job that has not ended."""
    lines = cluster.ask("squeue", "-h", "-r", "-o", "%i %T").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def until(condition: Callable[[], object], seconds: float = LIMIT) -> None:
    """Look for something at a pace that leaves the machine to the jobs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.25)


def said(root: Path) -> str:
    """What the tasks and the runs of all studies of a root said, for a failure."""
    logs = [*root.glob("results/studies/*/slurm/logs/*"), *root.glob("results/runs/*/log.txt")]
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-3000:]}" for path in logs)


def one_thread() -> Callable[[], None]:
    """As all processes of tests; -> what restores the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    return lambda: torch.set_num_threads(before)
