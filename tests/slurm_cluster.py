"""A Slurm of two nodes on this machine for tests: munged, slurmctld and two slurmd, on the loopback interface alone."""

import ctypes
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ablate.launch.ranks import PR_SET_PDEATHSIG

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
START_SECONDS = 60.0

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
# A requeued job is held for as long as a credential lasts.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2,max_rpc_cnt=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
SlurmdTimeout={slurmd_timeout}
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{second}] CPUs=2 RealMemory=1000
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n[1-2] MaxTime=60 State=UP PriorityTier=10
"""


@dataclass
class SlurmCluster:
    """The running daemons; their environment is that of the commands that talk to them."""

    folder: Path
    slurmd_timeout: int = 300
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        controller, first = free_ports()
        text = CONFIG.format(
            host=socket.gethostname(),
            folder=self.folder,
            controller=controller,
            first=first,
            second=first + 1,
            slurmd_timeout=self.slurmd_timeout,
        )
        (self.folder / "slurm.conf").write_text(text)
        where = [
            f"--{name}={self.folder}/munge.{name.partition('-')[0]}" for name in ("pid-file", "log-file", "seed-file")
        ]
        socket_of = f"--socket={self.folder}/munge.sock"
        self.launch("munged", "--force", "--foreground", socket_of, f"--key-file={key}", *where)
        self.wait_for((self.folder / "munge.sock").exists)
        self.start_controller(clean=True)
        for node in NODES:
            self.start_node(node)
        self.wait_for(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D") == "2")

    def start_controller(self, *, clean: bool = False) -> None:
        self.launch("slurmctld", "-D", "-i", *(["-c"] if clean else []))

    def start_node(self, node: str, *prefix: str) -> None:
        self.launch("slurmd", "-D", "-N", node, name=node, prefix=prefix)

    def launch(self, program: str, *arguments: str, name: str = "", prefix: tuple[str, ...] = ()) -> None:
        with (self.folder / f"{name or program}.out").open("ab") as out:
            self.processes[name or program] = subprocess.Popen(
                [*prefix, program, *arguments],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_end_with_tests,
            )

    def kill(self, name: str) -> None:
        """One daemon alone: what it has started runs on."""
        self.processes[name].kill()
        self.processes[name].wait()

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def wait_for(self, condition: Callable[[], object], seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"{', '.join(dead) or 'the cluster'} does not work: {self.said()}")
            time.sleep(0.05)

    def said(self) -> str:
        """States of nodes and jobs, and the ends of all logs."""
        states = [self.ask("sinfo", "--Node", "--long"), self.ask("squeue", "--long")]
        logs = sorted(self.folder.glob("*.out")) + sorted(self.folder.glob("*.log"))
        return "\n".join([*states, *(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in logs)])

    def stop(self) -> None:
        """End the jobs, then the daemons, each by its own number."""
        with suppress(subprocess.TimeoutExpired, OSError):
            if self.ask("squeue", "-h"):
                self.ask("scancel", "--signal=KILL", "--full", "--state=RUNNING", "--user=root")
                self.ask("scancel", "--user=root")
        for name in ("n1", "n2", "slurmctld", "munged"):
            process = self.processes.get(name)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.left_over():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def left_over(self) -> list[int]:
        """What a slurmd that was killed has started and nobody ends: known by the configuration in its environment."""
        own = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if own in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found


def _end_with_tests() -> None:
    """In a daemon: have the kernel end it when the tests are killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_ports() -> tuple[int, int]:
    """A port, and the first of two in a row."""
    while True:
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            first = two.getsockname()[1]
            with suppress(OSError, OverflowError):
                three.bind(("127.0.0.1", first + 1))
                return one.getsockname()[1], first


def why_not() -> str:
    """Why there can be no such cluster here; empty where there can."""
    if os.name != "posix" or not hasattr(os, "getuid") or os.getuid() != 0:
        return "slurmctld and slurmd are started as root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm munge)"
    return "" if find_spec("submitit") else "submitit is not installed"


def must_work() -> bool:
    """Root on Debian 12 with the packages installed: there a skip would hide a fault."""
    with suppress(OSError):
        release = platform.freedesktop_os_release()
        installed = all(shutil.which(program) for program in PROGRAMS)
        return os.getuid() == 0 and (release.get("ID"), release.get("VERSION_ID")) == ("debian", "12") and installed
    return False


@contextmanager
def running(folder: Path, slurmd_timeout: int = 300) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(folder, slurmd_timeout)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
